//! Starts that must be refused: exit code 2 and one line that says what and how to mend it.

use std::fs;
use std::net::TcpListener;

use crate::member::{Folder, Member, snowglobe};

/// Runs `serve` with these flags to its end; paths and ports of this run are replaced by names.
fn refused(folder: &Folder, flags: &[&str], names: &[(&str, &str)]) -> String {
    let output = snowglobe().arg("serve").args(flags).output().unwrap();
    let mut text = String::from_utf8(output.stderr).unwrap();
    text = text.replace(folder.0.to_str().unwrap(), "DIR");
    for (value, name) in names {
        text = text.replace(value, name);
    }
    assert_eq!(text.lines().count(), 1, "one line, not: {text}");
    assert!(output.stdout.is_empty());
    format!("{} {text}", output.status.code().unwrap())
}

/// A flag that does not exist, or cannot be read, is refused with a way out.
#[test]
fn flags() {
    let folder = Folder::new("flags");
    let lines = [
        "heartbeat-intervall=5",
        "election-timeout=300",
        "listen-peer-urls=localhost:1",
        "log-level=a=b=c",
    ]
    .map(|flag| refused(&folder, &[&format!("--{flag}")], &[]));
    insta::assert_snapshot!(lines.concat());
}

/// A key that does not exist in a file is refused with file, line and the likely name.
#[test]
fn config_file() {
    let folder = Folder::new("file");
    let path = folder.0.join("n1.toml");
    fs::write(&path, "name = \"n1\"\nheartbeat-intervall = 5\n").unwrap();
    let flag = format!("--config-file={}", path.display());
    insta::assert_snapshot!(refused(&folder, &[&flag], &[]));
}

/// A folder with files of another program is refused and left as it was.
#[test]
fn foreign_folder() {
    let folder = Folder::new("foreign");
    fs::create_dir_all(folder.0.join("member/wal")).unwrap();
    let flag = format!("--data-dir={}", folder.0.display());
    insta::assert_snapshot!(refused(&folder, &[&flag], &[]));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

/// A folder of another cluster's member is refused.
#[tokio::test]
async fn folder_of_another_cluster() {
    let folder = Folder::new("other");
    let mut members = Member::cluster(&folder.0, 1, &["--initial-cluster-token=one"]);
    members[0].start();
    members[0].ready().await;
    members[0].kill();
    let data_dir = format!("--data-dir={}", folder.0.join("n1").display());
    let line = refused(&folder, &[&data_dir, "--initial-cluster-token=two"], &[]);
    let (before, after) = line.split_once(" belongs to ").expect(&line);
    assert_eq!(before, "2 snowglobe: data folder DIR/n1");
    assert!(after.contains("choose another --data-dir"), "{line}");
}

/// A data folder that a running member holds is refused, and so is a port that is taken.
#[tokio::test]
async fn in_use() {
    let folder = Folder::new("in-use");
    let mut members = Member::cluster(&folder.0, 1, &[]);
    members[0].start();
    members[0].ready().await;
    let flags: Vec<String> = members[0].flags().to_vec();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    insta::assert_snapshot!(refused(&folder, &flags, &[]));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let flags = [
        format!("--data-dir={}", folder.0.join("n2").display()),
        format!("--listen-client-urls={url}"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    insta::assert_snapshot!("port_taken", refused(&folder, &flags, &[(&url, "URL")]));
}
