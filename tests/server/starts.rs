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
    insta::assert_snapshot!(refused(&folder, &["--heartbeat-intervall=5"], &[]), @"2 snowglobe: unexpected argument '--heartbeat-intervall' found; a similar argument exists: '--heartbeat-interval'; see `snowglobe serve --help`");
    insta::assert_snapshot!(refused(&folder, &["--election-timeout=300"], &[]), @"2 snowglobe: --election-timeout 300 is below five times --heartbeat-interval 100; set it to at least 500");
    insta::assert_snapshot!(refused(&folder, &["--listen-peer-urls=localhost:1"], &[]), @"2 snowglobe: invalid value 'localhost:1' for '--listen-peer-urls <URLS>': `localhost:1` is not a URL; write http://HOST:PORT; see `snowglobe serve --help`");
    insta::assert_snapshot!(refused(&folder, &["--log-level=a=b=c"], &[]), @r#"2 snowglobe: --log-level a=b=c: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5; try info or info,snowglobe=debug"#);
}

/// A key that does not exist in a file is refused with file, line and the likely name.
#[test]
fn config_file() {
    let folder = Folder::new("file");
    let path = folder.0.join("n1.toml");
    fs::write(&path, "name = \"n1\"\nheartbeat-intervall = 5\n").unwrap();
    let flag = format!("--config-file={}", path.display());
    insta::assert_snapshot!(refused(&folder, &[&flag], &[]), @"2 snowglobe: DIR/n1.toml, line 2: unknown key `heartbeat-intervall`; did you mean `heartbeat-interval`?");
}

/// A folder with files of another program is refused and left as it was.
#[test]
fn foreign_folder() {
    let folder = Folder::new("foreign");
    fs::create_dir_all(folder.0.join("member/wal")).unwrap();
    let flag = format!("--data-dir={}", folder.0.display());
    insta::assert_snapshot!(refused(&folder, &[&flag], &[]), @"2 snowglobe: data folder DIR is not snowglobe's (it holds `member`); choose an empty folder for --data-dir");
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
    insta::assert_snapshot!(refused(&folder, &flags, &[]), @"2 snowglobe: data folder DIR/n1 is in use by another process; stop it, or choose another --data-dir");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let flags = [
        format!("--data-dir={}", folder.0.join("n2").display()),
        format!("--listen-client-urls={url}"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    insta::assert_snapshot!(refused(&folder, &flags, &[(&url, "URL")]), @"2 snowglobe: cannot listen on URL: Address already in use (os error 98); stop the program that uses it, or change --listen-client-urls");
}
