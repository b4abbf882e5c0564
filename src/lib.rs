//! The snowglobe server: an etcd-compatible key-value store on raft, as a library.
//!
//! A map, bottom up; each layer may use only those above it in this list:
//!
//! * [`proto`]: the generated messages of the etcd API and of the peer protocol.
//! * [`error`]: what can go wrong, and which of it is part of the replicated state.
//! * [`config`]: flags and limits, each limit with its reason.
//! * [`host`]: the outside world as traits; `host::os` is the real one.
//! * [`client`]: a client of any etcd v3 cluster; needs nothing of the server.
//! * [`storage`]: RocksDB: column families, one atomic batch per apply, the consistent index.
//! * [`wal`]: the write-ahead log and snapshot files.
//! * [`state`]: the replicated state machine; a function of the log.
//! * [`raft`]: the one loop around raft-rs; transport, read index, snapshots.
//! * [`watch`]: who watches which keys, and how each is told at its own pace.
//! * [`api`]: etcd v3 over gRPC.
//! * [`server`]: puts a member together and runs it.
//!
//! To follow one put from socket to disk and back, read `ARCHITECTURE.md`, then [`raft`].

pub mod api;
pub mod client;
pub mod config;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
pub mod proto;
pub mod raft;
pub mod server;
pub mod state;
pub mod storage;
pub mod wal;
pub mod watch;
