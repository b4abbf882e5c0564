//! The cost model: what idling, an operation, a seed, faults, size and a check cost on one core.
//!
//! Each figure is a whole run of the real thing, so that it can be held against the aims in the README.
//! Machines are noisy: each figure is the median of a few runs, and the spread is printed beside it.
//!
//! Not here: parts measured alone.

mod checks;
mod growth;
mod runs;

use std::process::ExitCode;

use serde::Serialize;

/// Runs for each figure; odd, so that the median is a run that was.
const RUNS: usize = 5;

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
    let (figures, sizes) = match measure() {
        Ok(measured) => measured,
        Err(message) => {
            eprintln!("sim bench: {message}");
            return ExitCode::from(crate::outcome::EXIT_USAGE);
        }
    };
    if json {
        figures.iter().for_each(print_json);
        sizes.iter().for_each(print_json);
    } else {
        say(&table(&figures));
        say(&growth::table(&sizes));
    }
    ExitCode::SUCCESS
}

fn measure() -> Result<(Vec<Figure>, Vec<growth::Size>), String> {
    let mut figures = runs::measure()?;
    let sizes = growth::measure()?;
    figures.extend(checks::measure()?);
    Ok((figures, sizes))
}

fn print_json(row: &impl Serialize) {
    say(&serde_json::to_string(row).expect("a row has only text keys"));
}

/// Runs `once` for a few seeds.
fn repeated(once: impl Fn(u64) -> Result<f64, String>) -> Result<Vec<f64>, String> {
    (0..RUNS as u64).map(once).collect()
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
