//! Drives the built `sim`: scenarios keep their promises, runs repeat to the last byte, the command line keeps its word.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().expect("sim can be started")
}

/// The objects that `--json` printed, one a line, and nothing else.
fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("stdout is text");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

fn hashes(output: &Output) -> Vec<String> {
    objects(output)
        .iter()
        .map(|run| run["trace_hash"].as_str().expect("a hash is text").to_string())
        .collect()
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("snowglobe-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// Every scenario, two seeds, each run twice: all kept, no two runs of one plan different.
#[test]
#[cfg_attr(not(madsim), ignore = "needs the simulated build: cargo sim-test")]
fn every_scenario_twice() {
    let output = sim(&["sweep", "--seeds", "1000..1002", "--jobs", "2", "--twice", "--json"]);
    let runs = objects(&output);
    let bad: Vec<&Value> = runs.iter().filter(|run| run["verdict"] != "kept").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(runs.len() >= 16, "every scenario was run: {}", runs.len());
}

/// Every seed that once showed a bug is kept now: the scenario as it was then, the seed in the file's name.
#[test]
#[cfg_attr(not(madsim), ignore = "needs the simulated build: cargo sim-test")]
fn found_seeds() {
    let found = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios/found");
    let mut count = 0;
    for file in found.read_dir().expect("the folder of found seeds") {
        let path = file.expect("an entry").path();
        let path = path.to_str().expect("text");
        let (_, seed) = path.trim_end_matches(".toml").rsplit_once('-').expect("name-seed.toml");
        let run = sim(&["run", path, "--seed", seed, "--json"]);
        assert_eq!(objects(&run)[0]["verdict"], "kept", "{path}: {run:?}");
        count += 1;
    }
    assert!(count > 0, "nothing was run");
}

/// The same seeds give the same hashes in another process and with another number of jobs; other seeds give others.
#[test]
#[cfg_attr(not(madsim), ignore = "needs the simulated build: cargo sim-test")]
fn runs_repeat_across_processes_and_jobs() {
    let sweep = |jobs, seeds| {
        hashes(&sim(&[
            "sweep",
            "smoke",
            "power-loss-all",
            "--seeds",
            seeds,
            "--jobs",
            jobs,
            "--json",
        ]))
    };
    let first = sweep("1", "5..8");
    assert_eq!(first.len(), 6);
    assert_eq!(first, sweep("2", "5..8"));
    let mut all = [first, sweep("1", "8..10")].concat();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "every run is another one");
}

/// A run's folder holds enough to do the same run again, with the same trace, and its history can be judged alone.
#[test]
#[cfg_attr(not(madsim), ignore = "needs the simulated build: cargo sim-test")]
fn folders_replay() {
    let dir = folder("replay");
    let path = dir.to_str().expect("a temporary folder's name is text");
    let first = sim(&["run", "partition-leader", "--seed", "3", "--out", path, "--json"]);
    assert_eq!(code(&first), 0, "{first:?}");
    assert_eq!(hashes(&first), hashes(&sim(&["replay", path, "--json"])));
    let plan = dir.join("plan.json");
    assert_eq!(hashes(&first), hashes(&sim(&["replay", plan.to_str().expect("text"), "--json"])));
    assert_eq!(code(&sim(&["check", dir.join("history.jsonl").to_str().expect("text")])), 0);
    for file in ["scenario.toml", "plan.json", "history.jsonl", "trace.jsonl", "verdict.json"] {
        assert!(dir.join(file).metadata().expect(file).len() > 0, "{file}");
    }
    std::fs::remove_dir_all(&dir).expect("the folder is ours");
}

/// A run's object has all fields that the design promises, and names the command that repeats it.
#[test]
#[cfg_attr(not(madsim), ignore = "needs the simulated build: cargo sim-test")]
fn json_fields() {
    let output = sim(&["run", "smoke", "--seed", "42", "--json"]);
    let run = objects(&output).remove(0);
    let fields = "scenario seed verdict rule trace_hash simulated_s wall_s cpu_s ops faults repeat";
    for field in fields.split(' ') {
        assert!(run.get(field).is_some(), "{field} is missing: {run}");
    }
    assert_eq!(run["repeat"], "cargo sim run smoke --seed 42");
    assert_eq!(run["trace_hash"].as_str().map(str::len), Some(16));
}

/// Wrong usage and unreadable files end with 2 and a sentence on stderr, in either build.
#[test]
fn wrong_usage() {
    let check = |arguments: &[&str], words: &str| {
        let output = sim(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 2, "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed to stdout");
    };
    check(&["run", "smok"], "did you mean `smoke`?");
    check(&["run", "no/such/file.toml"], "cannot read no/such/file.toml");
    check(&["replay", "no-such-folder"], "cannot read no-such-folder");
    check(&["sweep", "--seeds", "9..3"], "the range is empty");
    check(&[], "Usage: sim <COMMAND>");
}

/// What there is can be listed by people and programs.
#[test]
fn lists() {
    let rows = objects(&sim(&["list", "--json"]));
    let count = |kind: &str| rows.iter().filter(|row| row["kind"] == kind).count();
    assert!(count("scenario") >= 8 && count("fault") >= 31 && count("workload") >= 3);
    let text = String::from_utf8(sim(&["list"]).stdout).expect("stdout is text");
    assert!(text.contains("smoke") && text.contains("power-loss"));
}

/// A build without the simulated runtime says so, and does not pretend to have run anything.
#[test]
#[cfg(not(madsim))]
fn the_plain_build_refuses_to_run() {
    for arguments in [&["run", "smoke"][..], &["sweep"]] {
        let output = sim(arguments);
        assert_eq!(code(&output), 2);
        assert!(String::from_utf8_lossy(&output.stderr).contains("use `cargo sim`"));
    }
}
