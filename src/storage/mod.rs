//! RocksDB: column families, one atomic batch per apply, the consistent index.
