//! Generates the gRPC services from `src/api/proto`; for a simulated world it also compiles RocksDB's environment.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from("src/api/proto");
    let files = [
        "kv.proto",
        "rpc.proto",
        "auth.proto",
        "auth_rpc.proto",
        "raft_internal.proto",
        "peer.proto",
        "lock.proto",
        "election.proto",
        "health.proto",
    ];
    println!("cargo::rerun-if-changed={}", folder.display());
    let descriptors = protox::compile(files, [&folder])?;
    // The JSON gateway and the conformance suite speak the API from its description, not through generated code.
    let api = PathBuf::from(std::env::var("OUT_DIR")?).join("api.descriptors");
    #[allow(clippy::disallowed_methods, reason = "a build script has no host")]
    std::fs::write(api, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    // Cargo tells build scripts every `--cfg` of the target; the server as shipped needs no shim.
    if std::env::var_os("CARGO_CFG_MADSIM").is_some() {
        compile_rocks_shim()?;
    }
    Ok(())
}

/// Compiles `sim/world/rocks/shim.cc` with the flags that RocksDB itself was compiled with: its classes must
/// have the same layout on both sides.
fn compile_rocks_shim() -> Result<(), Box<dyn std::error::Error>> {
    let shim = Path::new("sim/world/rocks/shim.cc");
    println!("cargo::rerun-if-changed={}", shim.display());
    let sources = std::env::var("DEP_ROCKSDB_CARGO_MANIFEST_DIR")
        .map_err(|_| "librocksdb-sys did not say where RocksDB's headers are")?;
    let sources = Path::new(&sources).join("rocksdb");
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .opt_level(3)
        .warnings(false)
        .flag("-include")
        .flag("cstdint")
        .define("NDEBUG", "1")
        .define("HAVE_ALIGNED_NEW", None)
        .define("HAVE_UINT128_EXTENSION", None)
        .define("OS_LINUX", None)
        .define("ROCKSDB_PLATFORM_POSIX", None)
        .define("ROCKSDB_LIB_IO_POSIX", None)
        .include(sources.join("include"))
        .include(&sources)
        .file(shim)
        .try_compile("sim_rocks")?;
    Ok(())
}
