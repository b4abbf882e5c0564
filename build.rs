//! Generates the gRPC services from `src/api/proto`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from("src/api/proto");
    let files = ["kv.proto", "rpc.proto", "raft_internal.proto", "peer.proto"];
    println!("cargo::rerun-if-changed={}", folder.display());
    let descriptors = protox::compile(files, [&folder])?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
