//! The generated protobuf messages and gRPC services; the sources are in `src/api/proto`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated code"
)]

/// The description of all of it: messages and services can be found and spoken by their names alone.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.descriptors"));

/// Keys, values and events.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// etcd's services and messages, and what a raft entry carries.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// Users, roles and permissions, as they are kept.
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// Health, as gRPC has it.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// Locks.
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// Elections.
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// What members say to each other.
pub mod peer {
    tonic::include_proto!("snowglobe.peer");
}
