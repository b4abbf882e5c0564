//! etcd v3 over gRPC: translate, validate, hand over to the one loop.
