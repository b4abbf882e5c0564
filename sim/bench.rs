//! The cost model: what idling, an operation, a seed and a check cost on one core.
//!
//! Each figure is a whole run of the real thing, so that it can be held against the aims in the README.
//! Machines are noisy: each figure is the median of a few runs, and the spread is printed beside it.
//!
//! Not here: parts measured alone.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::check::{self, timed};
use crate::checker;
use crate::checker::generic::Limits;
use crate::history::Operation;
use crate::run;
use crate::scenario::{draw, library, plan::Plan};

/// Runs for each figure; odd, so that the median is a run that was.
const RUNS: usize = 5;
/// Virtual seconds that an idle cluster is watched.
const IDLE_S: u64 = 600;
/// Operations each virtual second when the cost of one is wanted: far above what idling costs.
const BUSY_RATE: usize = 200;

/// One figure.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    /// What it should be at most (at least, where `more_is_better`).
    aim: f64,
    more_is_better: bool,
    median: f64,
    low: f64,
    high: f64,
}

impl Figure {
    fn met(&self) -> bool {
        if self.more_is_better { self.median >= self.aim } else { self.median <= self.aim }
    }
}

/// Runs `sim bench`. Always 0 when it could measure: figures are for people, tests for machines.
pub fn main_bench(json: bool) -> ExitCode {
    let figures = match measure() {
        Ok(figures) => figures,
        Err(message) => {
            eprintln!("sim bench: {message}");
            return ExitCode::from(crate::outcome::EXIT_USAGE);
        }
    };
    if json {
        for figure in &figures {
            say(&serde_json::to_string(figure).expect("a figure has only text keys"));
        }
    } else {
        say(&table(&figures));
    }
    ExitCode::SUCCESS
}

fn measure() -> Result<Vec<Figure>, String> {
    let smoke = library::find("smoke")?;
    eprintln!("an idle cluster …");
    let idle = repeated(|seed| idle_ms_per_s(&draw::plan(&smoke, seed)))?;
    let idle_ms = median(&idle);
    eprintln!("an operation …");
    let operation = repeated(|seed| operation_us(&draw::plan(&smoke, seed), idle_ms))?;
    eprintln!("smoke …");
    let runs = repeated_runs(|seed| draw::plan(&smoke, seed))?;
    let speed: Vec<f64> = runs.iter().map(|run| run.simulated_s / run.wall_s).collect();
    let per_minute: Vec<f64> = runs.iter().map(|run| run.wall_s * 60.0 / run.simulated_s).collect();
    let memory = vec![peak_memory_mb()];
    eprintln!("the checker …");
    let history = checker::bench::history(checker::bench::MILLION);
    let check_memory = vec![check_bytes(&history)];
    let checks = repeated(|_| Ok(check_s(&history)))?;
    drop(history);
    let failing = repeated(|_| Ok(failing_ms()))?;
    let mut figures = vec![
        figure("an idle three-member cluster", "ms of CPU / simulated s", 1.0, false, idle),
        figure("a client operation, everything on", "µs of CPU", 150.0, false, operation),
        figure("smoke", "simulated s / wall s", 300.0, true, speed),
        figure("a seed of 60 simulated seconds", "wall s", 0.3, false, per_minute),
        figure("peak memory of one job", "MB", 300.0, false, memory),
        figure("a million operations checked", "s", 0.5, false, checks),
        figure("memory of that check", "bytes / operation", 150.0, false, check_memory),
        figure("3,000 operations, 10 unknown, one stale read", "ms", 1.0, false, failing),
    ];
    figures.extend(recorded_figures()?);
    Ok(figures)
}

/// What it takes to judge the histories that others recorded, where they are: verdicts without explanations, on one
/// thread, without reading the files.
fn recorded_figures() -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    let kinds: [(&'static str, &str, &str, check::Model, f64); 2] = [
        ("all recorded register logs judged", "register", ".log", check::Model::CasRegister, 3.0),
        ("the recorded text log c10-ok judged", "kv", "c10-ok.txt", check::Model::Kv, 0.2),
    ];
    for (name, kind, ending, model, aim) in kinds {
        match check::recorded(kind) {
            Ok(folder) => {
                let once = |_| judge_recorded_ms(&folder, ending, model);
                figures.push(figure(name, "ms", aim, false, repeated(once)?));
            }
            Err(reason) => eprintln!("{name}: skipped, {reason}"),
        }
    }
    Ok(figures)
}

/// Milliseconds to judge every file of a folder with this ending.
fn judge_recorded_ms(folder: &Path, ending: &str, model: check::Model) -> Result<f64, String> {
    let limits = Limits { explain: false, ..Limits::default() };
    let mut all_s = 0.0;
    for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())? {
        let file = entry.map_err(|error| error.to_string())?.path();
        if !file.to_string_lossy().ends_with(ending) {
            continue;
        }
        let refuse = |refusal: check::Refusal| format!("{}: {refusal}", file.display());
        if let check::Read::Other(entries) = check::read(&file, None).map_err(refuse)? {
            let (_, wall_s) = check::judge_entries(&entries, model, limits).map_err(refuse)?;
            all_s += wall_s;
        }
    }
    Ok(all_s * 1e3)
}

/// Runs `once` for a few seeds.
fn repeated(once: impl Fn(u64) -> Result<f64, String>) -> Result<Vec<f64>, String> {
    (0..RUNS as u64).map(once).collect()
}

fn repeated_runs(plan: impl Fn(u64) -> Plan) -> Result<Vec<run::Finished>, String> {
    (0..RUNS as u64).map(|seed| kept(&plan(seed))).collect()
}

/// Runs a plan that must be kept: the cost of a failing run says nothing.
fn kept(plan: &Plan) -> Result<run::Finished, String> {
    let finished = run::execute(plan, &run::Manner::default());
    if finished.verdict == crate::outcome::Verdict::Kept {
        return Ok(finished);
    }
    let message = finished.message.unwrap_or_default();
    Err(format!("{} seed {} is {}: {message}", plan.scenario, plan.seed, finished.verdict.name()))
}

/// CPU of a cluster that nobody talks to: the difference between a long and a short run of it.
fn idle_ms_per_s(plan: &Plan) -> Result<f64, String> {
    let quiet = |seconds: u64| {
        let mut plan = plan.clone();
        plan.operations.clear();
        plan.safety_us = seconds * 1_000_000;
        kept(&plan)
    };
    let (short, long) = (quiet(10)?, quiet(10 + IDLE_S)?);
    Ok((long.cpu_s - short.cpu_s) * 1000.0 / (long.simulated_s - short.simulated_s))
}

/// CPU of one operation: what a busy run costs beyond idling as long, start and end included.
fn operation_us(plan: &Plan, idle_ms: f64) -> Result<f64, String> {
    let rate = plan.operations.len() as u64 * 1_000_000 / plan.safety_us.max(1);
    let mut busy = plan.clone();
    // The same operations, closer together.
    let closer = (BUSY_RATE as u64 / rate.max(1)).max(1);
    busy.safety_us /= closer;
    for operation in &mut busy.operations {
        operation.at_us /= closer;
    }
    let finished = kept(&busy)?;
    let idle_s = finished.simulated_s * idle_ms / 1000.0;
    Ok((finished.cpu_s - idle_s) * 1e6 / finished.history.len() as f64)
}

/// Wall time to judge a generated history of a million operations, one in a hundred of them unknown.
fn check_s(history: &[Operation]) -> f64 {
    let (report, wall_s) = timed(|| checker::etcd::check(history));
    assert_eq!(report.verdict, checker::Verdict::Kept, "the sample keeps every promise");
    wall_s
}

/// Memory that a check needs beside its history, for each operation; 0 where the kernel does not tell.
#[expect(clippy::disallowed_methods, reason = "a tool asking the kernel, not a member's disk")]
fn check_bytes(history: &[Operation]) -> f64 {
    // The kernel forgets the peak so far.
    let is_reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = memory_kb("VmRSS:");
    check_s(history);
    let kilobytes = memory_kb("VmHWM:") - before;
    if is_reset { kilobytes * 1024.0 / history.len() as f64 } else { 0.0 }
}

/// Wall time to name the stale read in a short history with unknown writes, the median of a few.
fn failing_ms() -> f64 {
    let history = checker::bench::with_stale_read();
    let once = |_| {
        let (report, wall_s) = timed(|| checker::etcd::check(&history));
        assert_eq!(report.violations[0].rule, "stale-read", "the sample has one stale read");
        wall_s * 1e3
    };
    median(&(0..2 * RUNS).map(once).collect::<Vec<_>>())
}

/// The most memory that this process ever held; 0 where the kernel does not tell.
fn peak_memory_mb() -> f64 {
    memory_kb("VmHWM:") / 1024.0
}

/// One figure of the kernel's accounting of this process, in kilobytes; 0 where it does not tell.
#[expect(clippy::disallowed_methods, reason = "a tool asking the kernel, not a member's disk")]
fn memory_kb(name: &str) -> f64 {
    let status = std::fs::read("/proc/self/status").unwrap_or_default();
    String::from_utf8_lossy(&status)
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0.0)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn figure(
    name: &'static str,
    unit: &'static str,
    aim: f64,
    more_is_better: bool,
    values: Vec<f64>,
) -> Figure {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    Figure { name, unit, aim, more_is_better, median: median(&values), low, high }
}

fn table(figures: &[Figure]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["what", "median", "low .. high", "unit", "aim", "met"]);
    for figure in figures {
        let sign = if figure.more_is_better { "≥" } else { "≤" };
        table.add_row([
            figure.name.to_string(),
            short(figure.median),
            format!("{} .. {}", short(figure.low), short(figure.high)),
            figure.unit.to_string(),
            format!("{sign} {}", short(figure.aim)),
            (if figure.met() { "yes" } else { "no" }).to_string(),
        ]);
    }
    table.to_string()
}

/// Three significant digits, more or less.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn say(text: &str) {
    println!("{text}");
}
