//! The index by the examples that etcd documents for its own.

