//! `sim check`: judges recorded histories, apart from any run, whoever recorded them.
//!
//! A file is read by its [format](Format), which its content tells, and judged by a [model](Model), which its
//! operations tell. Whatever cannot be read is refused with file, line and reason; nothing is judged in part.

mod edn;
mod events;
mod jepsen;
mod maps;
mod objects;
mod print;
mod report;
mod smallest;
#[cfg(test)]
mod tests;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;

use self::events::Entries;
use crate::checker::generic::{self, Judgement, Limits};
use crate::checker::{self, Report};
use crate::history::Operation;

/// What a history is a history of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// An etcd cluster that started empty
    Etcd,
    /// One value: read, write
    Register,
    /// One value: read, write, compare and set
    CasRegister,
    /// Keys with text: get, put, append
    Kv,
    /// Elements: add, remove, contains, read
    Set,
    /// First in, first out: enqueue, dequeue
    Queue,
    /// Held by one at a time: acquire, release
    Lock,
    /// Values by key, several at once: txn of reads and writes
    MultiRegister,
}

/// How a history is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Our own: a JSON object for each operation
    Jsonl,
    /// Jepsen's log of a register: a line for each event
    Jepsen,
    /// Maps with :process, :type, :f, :value, as of Knossos and Porcupine
    Edn,
    /// A folder of etcd's robustness tests, or one operations.json of it
    Report,
}

/// How to check and how to report.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the files are histories of; told by their operations if absent.
    pub model: Option<Model>,
    /// How they are written; told by their content if absent.
    pub format: Option<Format>,
    /// One JSON object a file instead of text.
    pub json: bool,
    /// Where to write the smallest history that still breaks the same rule.
    pub shrink: Option<PathBuf>,
}

/// Why a file is not a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The line at fault, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Refusal {
    fn whole(reason: impl Into<String>) -> Self {
        Self { line: 0, reason: reason.into() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.reason),
            line => write!(f, "line {line}: {}", self.reason),
        }
    }
}

/// A history that was read, but not judged.
pub enum Read {
    /// Of an etcd cluster.
    Etcd(Vec<Operation>),
    /// Of some other object.
    Other(Entries),
}

/// What a history was judged as, and how.
pub struct Judged {
    /// What it was taken for.
    pub model: Model,
    /// What was found.
    pub finding: Finding,
    /// Seconds that judging took, without reading.
    pub wall_s: f64,
}

/// What was found in a history.
pub enum Finding {
    /// By the etcd checker, which needs the operations to show them.
    Etcd(Box<Report>, Vec<Operation>),
    /// By the generic checker.
    Generic(Box<Judgement>),
}

/// Judges each file and prints its verdict; the exit code is that of the worst file (2, else 1, else 0).
pub fn main_check(files: &[PathBuf], options: &Options) -> ExitCode {
    let mut worst = 0;
    for file in files {
        let judged = read(file, options.format).and_then(|read| judge(read, options.model));
        if let (Some(into), Ok(judged)) = (&options.shrink, &judged) {
            worst = worst.max(smallest::shrink(judged, into));
        }
        worst = worst.max(print::print(file, judged, options.json));
    }
    ExitCode::from(worst)
}

/// Reads a history.
///
/// # Errors
/// Names the line that has no place in one.
#[expect(clippy::disallowed_methods, reason = "a file of the user's, outside any simulated world")]
pub fn read(file: &Path, format: Option<Format>) -> Result<Read, Refusal> {
    if file.is_dir() {
        return report::read(file).and_then(not_empty);
    }
    let bytes = std::fs::read(file).map_err(|error| Refusal::whole(error.to_string()))?;
    read_bytes(bytes, format)
}

/// Reads a history from its bytes.
///
/// # Errors
/// Names the line that has no place in one.
pub fn read_bytes(bytes: Vec<u8>, format: Option<Format>) -> Result<Read, Refusal> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Refusal { line, reason: "not text in UTF-8".to_owned() }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim().is_empty() {
        return Err(Refusal { line: 1, reason: "the file is empty".to_owned() });
    }
    let read = match format.map_or_else(|| guess(text), Ok)? {
        Format::Jsonl => Read::Etcd(operations(text.as_bytes())?),
        Format::Jepsen => Read::Other(jepsen::read(text)?),
        Format::Edn => Read::Other(maps::read(text)?),
        Format::Report => {
            return report::operations(text).map(report::finish).and_then(not_empty);
        }
    };
    let is_empty = match &read {
        Read::Etcd(operations) => operations.is_empty(),
        Read::Other(entries) => entries.list.is_empty() && entries.passed_over == 0,
    };
    if is_empty {
        return Err(Refusal::whole("there is no operation in it"));
    }
    Ok(read)
}

fn not_empty(operations: Vec<Operation>) -> Result<Read, Refusal> {
    if operations.is_empty() {
        return Err(Refusal::whole("there is no operation in it"));
    }
    Ok(Read::Etcd(operations))
}

/// The format that a text looks like.
fn guess(text: &str) -> Result<Format, Refusal> {
    let first = text.trim_start();
    let rest = first.get(1..).unwrap_or_default().trim_start();
    let line = 1 + text[..text.len() - first.len()].matches('\n').count();
    if first.starts_with('{') && rest.starts_with('"') {
        let is_report = first.contains("\"ClientId\"") && first.contains("\"Input\"");
        return Ok(if is_report { Format::Report } else { Format::Jsonl });
    }
    if jepsen::is_like(text) {
        return Ok(Format::Jepsen);
    }
    if first.starts_with(['{', '[', '(', ';', '#']) {
        return Ok(Format::Edn);
    }
    let start = edn::clip(first.lines().next().unwrap_or_default());
    let reason = format!("`{start}` begins no history: neither JSON nor EDN nor a Jepsen log");
    Err(Refusal { line, reason })
}

/// Judges a history by a model.
///
/// # Errors
/// If its operations are not the model's.
pub fn judge(read: Read, model: Option<Model>) -> Result<Judged, Refusal> {
    let entries = match (read, model) {
        (Read::Etcd(operations), None | Some(Model::Etcd)) => {
            let (report, wall_s) = timed(|| checker::check(&operations, None));
            let finding = Finding::Etcd(Box::new(report), operations);
            return Ok(Judged { model: Model::Etcd, finding, wall_s });
        }
        (Read::Etcd(_), Some(_)) => {
            return Err(Refusal::whole("a history of etcd can only be judged with --model etcd"));
        }
        (Read::Other(_), Some(Model::Etcd)) => {
            return Err(Refusal::whole("this is no history of etcd: leave --model out"));
        }
        (Read::Other(entries), _) => entries,
    };
    let model = model.map_or_else(|| likely_model(&entries), Ok)?;
    let (judgement, wall_s) = judge_entries(&entries, model, Limits::default())?;
    Ok(Judged { model, finding: Finding::Generic(Box::new(judgement)), wall_s })
}

/// The model whose operations the first ones are.
fn likely_model(entries: &Entries) -> Result<Model, Refusal> {
    let has = |f: &str| entries.list.iter().any(|entry| *entry.f == *f);
    // Where nothing but the nemesis did anything, every model is as good.
    let Some(first) = entries.list.first() else { return Ok(Model::CasRegister) };
    match &*first.f {
        "acquire" | "release" => Ok(Model::Lock),
        "enqueue" | "dequeue" => Ok(Model::Queue),
        "add" | "remove" | "contains" => Ok(Model::Set),
        "txn" => Ok(Model::MultiRegister),
        "get" | "put" | "append" => Ok(Model::Kv),
        "read" if has("add") => Ok(Model::Set),
        "read" | "write" if first.key.is_some() => Ok(Model::Kv),
        "read" | "write" | "cas" if has("cas") => Ok(Model::CasRegister),
        "read" | "write" => Ok(Model::Register),
        other => {
            let reason = format!("unknown :f :{}; no model has it", edn::clip(other));
            Err(Refusal { line: first.lines.0 as usize, reason })
        }
    }
}

/// Judges a history of another object than etcd; answers the seconds that it took, too.
///
/// # Errors
/// If its operations are not the model's.
pub fn judge_entries(
    entries: &Entries,
    model: Model,
    limits: Limits,
) -> Result<(Judgement, f64), Refusal> {
    fn run<M: generic::model::Model>(
        (model, history): (M, generic::History<M::Op>),
        limits: Limits,
    ) -> (Judgement, f64) {
        timed(|| generic::judge(&model, &history, limits))
    }
    Ok(match model {
        Model::Etcd => unreachable!("judged by its own checker"),
        Model::Register => run(objects::register(entries, false)?, limits),
        Model::CasRegister => run(objects::register(entries, true)?, limits),
        Model::Kv => run(objects::kv(entries)?, limits),
        Model::Set => run(objects::set(entries)?, limits),
        Model::Queue => run(objects::queue(entries)?, limits),
        Model::Lock => run(objects::lock(entries)?, limits),
        Model::MultiRegister => run(objects::multi(entries)?, limits),
    })
}

/// The folder of recorded histories of a kind, if it is there: below `HISTORIES_DIR`, else beside the project.
pub fn recorded(kind: &str) -> Result<PathBuf, String> {
    let root = std::env::var_os("HISTORIES_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/histories"),
        PathBuf::from,
    );
    let folder = root.join(kind);
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(format!("no recorded histories in {}; set HISTORIES_DIR", folder.display()))
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

/// What is wrong with a piece of JSON, and in which column; the line is told apart.
fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]);
    format!("{what} (column {})", error.column())
}

/// Reads operations, one a line.
fn operations(text: impl std::io::Read) -> Result<Vec<Operation>, Refusal> {
    let mut operations = Vec::new();
    for (index, line) in BufReader::new(text).lines().enumerate() {
        let refuse = |reason: String| Refusal { line: index + 1, reason };
        let line = line.map_err(|error| refuse(error.to_string()))?;
        let operation = serde_json::from_str(&line).map_err(|error| refuse(json_reason(&error)))?;
        operations.push(operation);
    }
    Ok(operations)
}
