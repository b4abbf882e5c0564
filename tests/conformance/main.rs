//! What etcd answers, as data, and whether an endpoint answers the same.
//!
//! `cases/*.case` hold requests and the answers that a real etcd 3.6 gave to them. The suite starts one member of its
//! own and asks it. Three variables change that:
//!
//! * `CONFORMANCE_ENDPOINT=http://host:port` asks that endpoint instead. **Its keys, leases, users and roles are deleted.**
//! * `CONFORMANCE_ETCD=path` asks an etcd as well and prints where it differs (an `etcd` in `PATH` is asked unbidden).
//! * `CONFORMANCE_RECORD=http://host:port` writes that endpoint's answers into the files.
//!
//! Answers are compared without what differs from cluster to cluster: ids, ports, hashes, sizes; revisions are counted
//! from where a case began.
#![cfg(not(madsim))] // The simulated build has no processes; the plain build runs all of this.
#![allow(clippy::unwrap_used, reason = "a panic is a test's way to say no")]
#![allow(clippy::disallowed_methods, reason = "real processes need real files and real time")]

mod call;
mod endpoint;
mod perform;
mod script;
mod words;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::endpoint::{Endpoint, Kind};
use crate::perform::perform;
use crate::script::{Case, Step};

/// Fewest requests with an answer that the files must hold.
const REQUESTS_MIN: usize = 300;

/// All case files with their texts parsed, in order of their names.
fn files() -> Vec<(PathBuf, Vec<Case>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let parse = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let cases =
            script::parse(&text).unwrap_or_else(|error| panic!("{}:{error}", path.display()));
        (path, cases)
    };
    paths.into_iter().map(parse).collect()
}

/// Runs every case against an endpoint and returns what differs, in words.
async fn differences(endpoint: &Endpoint, files: &[(PathBuf, Vec<Case>)]) -> Vec<String> {
    let mut differences = Vec::new();
    for (path, cases) in files {
        let file = path.file_stem().unwrap().to_string_lossy();
        for case in cases {
            if endpoint.kind == Kind::Snowglobe && case.differs.is_some() {
                continue;
            }
            let answered = perform(endpoint, case, false).await;
            for (step, answer) in case.steps.iter().zip(&answered) {
                if step.expected() != *answer {
                    differences.push(difference(&file, case, step, answer));
                    break;
                }
            }
        }
    }
    differences
}

fn difference(file: &str, case: &Case, step: &Step, answer: &[String]) -> String {
    let mut text = format!("{file}: {}\n    {}\n", case.name, step.line());
    for line in step.expected() {
        let _ = writeln!(text, "  - {line}");
    }
    for line in answer {
        let _ = writeln!(text, "  + {line}");
    }
    text
}

/// The member answers every request of the suite as etcd did, but for the differences that the files themselves list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_etcds() {
    let files = files();
    let cases = files.iter().flat_map(|(_, cases)| cases);
    let requests: usize =
        cases.map(|case| case.steps.iter().filter(|step| step.asks()).count()).sum();
    assert!(requests >= REQUESTS_MIN, "only {requests} requests in the suite");
    if let Ok(url) = std::env::var("CONFORMANCE_RECORD") {
        return record(&Endpoint::at(&url), files).await;
    }
    let endpoint = match std::env::var("CONFORMANCE_ENDPOINT") {
        Ok(url) => Endpoint::at(&url),
        Err(_) => Endpoint::snowglobe().await,
    };
    let found = differences(&endpoint, &files).await;
    if let Some(etcd) = Endpoint::etcd().await {
        let others = differences(&etcd, &files).await;
        println!("etcd differs from what was recorded in {} cases", others.len());
        others.iter().for_each(|text| println!("{text}"));
    }
    println!("{requests} requests, {} differences", found.len());
    assert!(found.is_empty(), "{} of {requests}:\n{}", found.len(), found.concat());
}

/// A case that is listed as different really is: a difference that was mended must leave the list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_differences_differ() {
    let endpoint = Endpoint::snowglobe().await;
    let mut listed = 0;
    for (path, cases) in files() {
        for case in cases.iter().filter(|case| case.differs.is_some()) {
            let answered = perform(&endpoint, case, false).await;
            let equal =
                case.steps.iter().zip(&answered).all(|(step, answer)| step.expected() == *answer);
            assert!(!equal, "{}: {} answers as etcd does", path.display(), case.name);
            listed += 1;
        }
    }
    println!("{listed} listed differences");
}

/// Writes what an endpoint answers into the files.
async fn record(endpoint: &Endpoint, files: Vec<(PathBuf, Vec<Case>)>) {
    for (path, mut cases) in files {
        for case in &mut cases {
            let answered = perform(endpoint, case, true).await;
            for (step, answer) in case.steps.iter_mut().zip(answered) {
                step.set_expected(answer);
            }
        }
        let head = script::head(&std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, head + &script::print(&cases)).unwrap();
    }
}
