//! Plants each known bug in a work tree of its own and measures how many seeds it takes to find it.
//!
//! `scenarios/bugs/<id>/bug.patch` puts the bug into the server; `bug.toml` beside it says what it is, where to look
//! and which rules may name it. The patched simulator is a program of its own, so the server keeps no switches.
//!
//! Not here: how a seed is run or judged (`sweep`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

use crate::cli::BugsArgs;

/// How many seeds are swept before looking at what came out; grows so that easy bugs stay cheap.
const FIRST_BATCH: u64 = 8;

/// `bug.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bug {
    /// One sentence: what is wrong.
    about: String,
    /// Where such a bug was met.
    seen: String,
    /// Scenarios to sweep.
    scenarios: Vec<String>,
    /// Rules (or verdicts, for runs that break no rule) that name it rightly.
    rules: Vec<String>,
}

/// What one bug took.
#[derive(Debug, Serialize)]
struct Finding {
    bug: String,
    about: String,
    /// Whether a run failed at all.
    found: bool,
    /// Whether the first failing run named one of the expected rules.
    named: bool,
    /// Rule, or verdict where no rule was broken, of the first failing run.
    rule: Option<String>,
    /// The sentence printed for it.
    sentence: Option<String>,
    scenario: Option<String>,
    seed: Option<u64>,
    /// Runs up to and including the first that failed.
    runs: u64,
    cpu_s: f64,
}

/// One line of `sim sweep --json`, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Run {
    scenario: String,
    seed: u64,
    verdict: String,
    rule: Option<String>,
    message: Option<String>,
    cpu_s: f64,
}

/// Runs `sim bugs`; 0 if every bug was found and rightly named.
///
/// With `--check` nothing is run: 0 if the server compiles with each bug in it.
pub fn main_bugs(options: &BugsArgs) -> ExitCode {
    if options.check {
        return match check_all(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("sim bugs: {message}");
                ExitCode::from(1)
            }
        };
    }
    match all(options) {
        Ok(findings) => {
            let good = findings.iter().all(|finding| finding.found && finding.named);
            if !options.json {
                print_table(&findings);
            }
            ExitCode::from(u8::from(!good))
        }
        Err(message) => {
            eprintln!("sim bugs: {message}");
            ExitCode::from(2)
        }
    }
}

fn all(options: &BugsArgs) -> Result<Vec<Finding>, String> {
    let root = std::env::current_dir().map_err(|error| format!("no working folder: {error}"))?;
    let bugs = load(&root, &options.ids)?;
    let mut findings = Vec::new();
    for (id, bug) in bugs {
        eprintln!("{id}: {}\n  seen: {}", bug.about, bug.seen);
        let program = build(&root, &id)?;
        let finding = hunt(&root, &program, &id, &bug, &options.seeds)?;
        if options.json {
            say(&serde_json::to_string(&finding).map_err(|error| error.to_string())?);
        } else {
            eprintln!("  {}", outcome(&finding));
        }
        findings.push(finding);
    }
    Ok(findings)
}

/// Compiles the server with each bug in it, as far as type checking.
fn check_all(options: &BugsArgs) -> Result<(), String> {
    let root = std::env::current_dir().map_err(|error| format!("no working folder: {error}"))?;
    let bugs = load(&root, &options.ids)?;
    let mut broken = Vec::new();
    for (number, id) in bugs.keys().enumerate() {
        eprint!("{}/{} {id}: ", number + 1, bugs.len());
        let checked = with_tree(&root, id, "check", |tree| compile(&root, tree, "check"));
        eprintln!("{}", checked.as_ref().map_or_else(String::as_str, |()| "compiles"));
        broken.extend(checked.err().map(|_| id.as_str()));
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!("mend these patches under scenarios/bugs: {}", broken.join(", ")))
}

/// Reads `scenarios/bugs/*/bug.toml`.
fn load(root: &Path, ids: &[String]) -> Result<BTreeMap<String, Bug>, String> {
    let folder = root.join("scenarios/bugs");
    let entries = std::fs::read_dir(&folder).map_err(|error| {
        format!("{}: {error}; run it from the project's root", folder.display())
    })?;
    let mut bugs = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !path.is_dir() || !(ids.is_empty() || ids.contains(&id)) {
            continue;
        }
        let file = path.join("bug.toml");
        let text = std::fs::read_to_string(&file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let bug = toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        bugs.insert(id, bug);
    }
    match ids.iter().find(|id| !bugs.contains_key(*id)) {
        Some(unknown) => Err(format!("no bug {unknown} under scenarios/bugs")),
        None => Ok(bugs),
    }
}

/// Builds the simulator with the bug in it and returns the program.
fn build(root: &Path, id: &str) -> Result<PathBuf, String> {
    let program = root.join("target/bugs").join(format!("sim-{id}"));
    with_tree(root, id, id, |tree| {
        compile(root, tree, "build")?;
        let from = root.join("target/sim/release/sim");
        // Moved, not copied: nobody shall take the program with the bug in it for the one of the project itself.
        #[allow(clippy::disallowed_methods, reason = "a program on the operating system's disk")]
        let moved = std::fs::rename(&from, &program);
        moved.map_err(|error| format!("{}: {error}", from.display()))
    })?;
    Ok(program)
}

/// Calls `work` with a work tree of HEAD, `target/bugs/<name>`, in which the bug is planted.
fn with_tree<T>(
    root: &Path,
    id: &str,
    name: &str,
    work: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<T, String> {
    let tree = root.join("target/bugs").join(name);
    let tree_text = tree.display().to_string();
    // Left over from an earlier, interrupted call; not there is as good as removed.
    let _ = git(root, &["worktree", "remove", "--force", &tree_text]);
    git(root, &["worktree", "prune"])?;
    git(root, &["worktree", "add", "--quiet", "--detach", &tree_text, "HEAD"])?;
    let patch = root.join("scenarios/bugs").join(id).join("bug.patch").display().to_string();
    let result = git(&tree, &["apply", &patch])
        .map_err(|error| format!("{patch} no longer applies: {error}"))
        .and_then(|()| mark(&tree, id))
        .and_then(|()| work(&tree));
    git(root, &["worktree", "remove", "--force", &tree_text])?;
    result
}

/// Gives the package of `tree` a version of its own. Cargo tells packages apart by name, version and the path below
/// their own workspace: without this it would take the server with the bug in it for the one of the project itself.
fn mark(tree: &Path, id: &str) -> Result<(), String> {
    let file = tree.join("Cargo.toml");
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(&file).map_err(|error| wrong(&error))?;
    let line = text.lines().find(|line| line.starts_with("version = \""));
    let line = line.ok_or_else(|| wrong(&"no version"))?;
    let marked = format!("{}-{id}\"", line.trim_end_matches('"'));
    #[allow(clippy::disallowed_methods, reason = "the tree of a bug is the operating system's")]
    let written = std::fs::write(&file, text.replacen(line, &marked, 1));
    written.map_err(|error| wrong(&error))
}

fn git(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .map_err(|error| format!("git: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("git {}: {}", arguments.join(" "), said.trim()))
}

/// Runs `cargo <verb>` for the simulator in `tree`.
fn compile(root: &Path, tree: &Path, verb: &str) -> Result<(), String> {
    // The same compiler by the same name for every tree: cargo then keeps the compiled RocksDB.
    let compiler = |variable: &str, name: &str| {
        std::env::var_os(variable)
            .unwrap_or_else(|| root.join("scripts").join(name).into_os_string())
    };
    let output = Command::new("cargo")
        .current_dir(tree)
        .args([verb, "--quiet", "--release", "--bin", "sim"])
        .args(["--config", "build.rustflags=['--cfg=madsim']"])
        // For one hunt it is worth more to be compiled soon than to run fast.
        .args(["--config", "profile.release.package.snowglobe.codegen-units=16"])
        .arg("--target-dir")
        .arg(root.join("target/sim"))
        .env("CC", compiler("CC", "cc"))
        .env("CXX", compiler("CXX", "cxx"))
        .env_remove("RUSTFLAGS")
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "the patched server does not compile:\n{}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Sweeps growing batches of seeds until one run fails.
fn hunt(
    root: &Path,
    program: &Path,
    id: &str,
    bug: &Bug,
    seeds: &Range<u64>,
) -> Result<Finding, String> {
    let mut finding = Finding {
        bug: id.to_owned(),
        about: bug.about.clone(),
        found: false,
        named: false,
        rule: None,
        sentence: None,
        scenario: None,
        seed: None,
        runs: 0,
        cpu_s: 0.0,
    };
    let (mut from, mut batch) = (seeds.start, FIRST_BATCH);
    while from < seeds.end && !finding.found {
        let to = (from + batch).min(seeds.end);
        let mut runs = sweep(root, program, &bug.scenarios, from, to)?;
        runs.sort_by(|a, b| (a.seed, &a.scenario).cmp(&(b.seed, &b.scenario)));
        for run in runs {
            finding.runs += 1;
            finding.cpu_s += run.cpu_s;
            if run.verdict == "kept" {
                continue;
            }
            let rule = run.rule.unwrap_or(run.verdict);
            finding.found = true;
            finding.named = bug.rules.contains(&rule);
            finding.rule = Some(rule);
            finding.sentence = run.message;
            finding.scenario = Some(run.scenario);
            finding.seed = Some(run.seed);
            break;
        }
        (from, batch) = (to, batch * 2);
    }
    Ok(finding)
}

fn sweep(
    root: &Path,
    program: &Path,
    scenarios: &[String],
    from: u64,
    to: u64,
) -> Result<Vec<Run>, String> {
    let output = Command::new(program)
        .current_dir(root)
        .arg("sweep")
        .args(scenarios)
        .args(["--seeds", &format!("{from}..{to}"), "--json"])
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains("\"seed\""))
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{error} in: {line}")))
        .collect()
}

fn outcome(finding: &Finding) -> String {
    match (&finding.rule, finding.named) {
        (None, _) => format!("not found in {} runs ({:.1} s of CPU)", finding.runs, finding.cpu_s),
        (Some(rule), named) => format!(
            "{rule}{} after {} runs ({:.1} s of CPU): {}",
            if named { "" } else { " (not among the expected rules)" },
            finding.runs,
            finding.cpu_s,
            finding.sentence.as_deref().unwrap_or("no sentence"),
        ),
    }
}

fn print_table(findings: &[Finding]) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["bug", "found by", "scenario", "seed", "runs", "CPU s"]);
    for finding in findings {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        table.add_row([
            finding.bug.clone(),
            text(&finding.rule),
            text(&finding.scenario),
            text(&finding.seed.map(|seed| seed.to_string())),
            finding.runs.to_string(),
            format!("{:.1}", finding.cpu_s),
        ]);
    }
    say(&table.to_string());
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn say(text: &str) {
    println!("{text}");
}
