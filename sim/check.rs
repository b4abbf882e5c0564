//! `sim check`: judges recorded histories, apart from any run.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use crate::checker::{self, Report, Verdict, render};
use crate::history::Operation;

/// What a history is a history of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Model {
    /// An etcd cluster that started empty; our own `history.jsonl`.
    #[default]
    Etcd,
}

/// How to check and how to report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What the files are histories of.
    pub model: Model,
    /// One JSON object a file instead of text.
    pub json: bool,
}

/// Every promise was kept.
const KEPT: u8 = 0;
/// A rule was broken, or it could not be decided: not kept either way; `verdict` tells which.
const BROKEN: u8 = 1;
/// A file cannot be read, or is not a history.
const UNREADABLE: u8 = 2;

#[derive(Serialize)]
struct Line<'a> {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    report: Option<&'a Report>,
    wall_s: f64,
}

/// Judges each file and prints its verdict; the exit code is that of the worst file (2, else 1, else 0).
pub fn main_check(files: &[PathBuf], options: Options) -> ExitCode {
    let mut worst = KEPT;
    for file in files {
        let code = check_file(file, options);
        worst = worst.max(code);
    }
    ExitCode::from(worst)
}

#[expect(clippy::print_stdout, reason = "a command's answer")]
fn check_file(file: &Path, options: Options) -> u8 {
    let operations = match read_history(file) {
        Ok(operations) => operations,
        Err(error) => {
            if options.json {
                let line = Line {
                    file: file.display().to_string(),
                    error: Some(error.clone()),
                    report: None,
                    wall_s: 0.0,
                };
                println!("{}", json(&line));
            }
            eprintln!("{}: {error}", file.display());
            return UNREADABLE;
        }
    };
    let (report, wall_s) = timed(|| match options.model {
        Model::Etcd => checker::etcd::check(&operations),
    });
    if options.json {
        let line =
            Line { file: file.display().to_string(), error: None, report: Some(&report), wall_s };
        println!("{}", json(&line));
    } else {
        print!("{}: {}", file.display(), render::report(&report, &operations));
        println!("checked in {:.3} ms", wall_s * 1e3);
    }
    match report.verdict {
        _ if !report.malformed.is_empty() => UNREADABLE,
        Verdict::Kept => KEPT,
        Verdict::Broken | Verdict::Undecided => BROKEN,
    }
}

fn json(line: &Line<'_>) -> String {
    serde_json::to_string(line).expect("reports are plain data")
}

/// Runs something and says how many seconds of wall clock it took.
#[expect(
    clippy::disallowed_methods,
    reason = "the wall clock of a tool, outside any simulated world"
)]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64())
}

/// Reads a `history.jsonl`.
///
/// # Errors
/// Names the line that is not an operation, and why.
#[expect(clippy::disallowed_methods, reason = "a file of the user's, outside any simulated world")]
pub fn read_history(file: &Path) -> Result<Vec<Operation>, String> {
    let reader = BufReader::new(std::fs::File::open(file).map_err(|error| error.to_string())?);
    let mut operations = Vec::new();
    for (index, line) in reader.lines().enumerate() {
        let line = line.map_err(|error| format!("line {}: {error}", index + 1))?;
        let operation =
            serde_json::from_str(&line).map_err(|error| format!("line {}: {error}", index + 1))?;
        operations.push(operation);
    }
    Ok(operations)
}
