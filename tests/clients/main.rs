//! Clients that others wrote, against members of this build: the crate `etcd-client`, Python's etcd3, etcdctl.
//!
//! The last two run where they are installed, and say so where they are not.
#![cfg(not(madsim))] // The simulated build has no processes; the plain build runs all of this.
#![allow(clippy::unwrap_used, reason = "a panic is a test's way to say no")]
#![allow(clippy::disallowed_methods, reason = "real processes need real files and real time")]

#[allow(dead_code, reason = "shared with the tests in tests/server, which use all of it")]
#[path = "../server/certificates.rs"]
mod certificates;
#[allow(dead_code, reason = "shared with the tests in tests/server, which use all of it")]
#[path = "../server/member.rs"]
mod member;
mod rust;

use std::path::Path;
use std::process::Command;

use member::{Folder, Member};

/// What `python.py` ends with where its package is missing.
const PACKAGE_MISSING: i32 = 77;

fn in_tree(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Python's etcd3 gets the answers that it gets from etcd. `PYTHON` says which python to use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python() {
    let program = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = in_tree("tests/clients/python.py");
    let folder = Folder::new("python");
    let members = Member::serving(&folder.0, 3, &[]).await;
    let endpoint = format!("127.0.0.1:{}", members[1].client_port());
    let output = match Command::new(&program).arg(&script).arg(endpoint).output() {
        Ok(output) => output,
        Err(error) => return println!("SKIPPED: {program} cannot be run: {error}"),
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if output.status.code() == Some(PACKAGE_MISSING) {
        return println!("SKIPPED: {said}");
    }
    assert!(output.status.success(), "{said}");
    println!("{said}");
}

/// etcdctl prints what is kept.
#[test]
fn etcdctl() {
    if Command::new("etcdctl").arg("version").output().is_err() {
        return println!("SKIPPED: there is no etcdctl in PATH");
    }
    let mut check = Command::new(in_tree("scripts/etcdctl-check"));
    check.env("SNOWGLOBE", env!("CARGO_BIN_EXE_snowglobe")).env_remove("ETCD");
    let output = check.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    println!("{said}");
}
