//! What `sim check` prints of a history: text for people, one JSON object for machines.

use std::path::Path;

use serde::Serialize;

use super::{Finding, Judged, Refusal};
use crate::checker::generic::Judgement;
use crate::checker::{Report, Verdict, render};

/// Every promise was kept.
const KEPT: u8 = 0;
/// A rule was broken, or it could not be decided: not kept either way; `verdict` tells which.
const BROKEN: u8 = 1;
/// A file cannot be read, or is not a history.
const UNREADABLE: u8 = 2;
/// Most operations of an order that are shown as text.
const ORDER_SHOWN: usize = 16;

#[derive(Default, Serialize)]
struct Line<'a> {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// The line of the file that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(flatten)]
    report: Option<&'a Report>,
    /// An order that explains everything.
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    witness: &'a [u64],
    /// The operations that break the history whatever became of all others.
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    core: &'a [u64],
    wall_s: f64,
}

/// Prints what came of a file; answers the exit code.
#[expect(clippy::print_stdout, reason = "a command's answer")]
pub fn print(file: &Path, judged: Result<Judged, Refusal>, json: bool) -> u8 {
    let name = file.display().to_string();
    let judged = match judged {
        Ok(judged) => judged,
        Err(refusal) => {
            if json {
                let line = Some(refusal.line).filter(|line| *line > 0);
                let error = Some(refusal.reason.as_str());
                println!("{}", text(&Line { file: name.clone(), error, line, ..Line::default() }));
            }
            eprintln!("{name}: {refusal}");
            return UNREADABLE;
        }
    };
    let report = judged.report();
    if json {
        println!("{}", judged.line(name));
    } else {
        match &judged.finding {
            Finding::Etcd(report, operations) => {
                print!("{name}: {}", render::report(report, operations));
            }
            Finding::Generic(judgement) => print!("{name}: {}", generic_text(judgement)),
        }
        println!("checked in {:.3} ms", judged.wall_s * 1e3);
    }
    match report.verdict {
        _ if !report.malformed.is_empty() => UNREADABLE,
        Verdict::Kept => KEPT,
        Verdict::Broken | Verdict::Undecided => BROKEN,
    }
}

impl Judged {
    /// The report, whoever made it.
    pub fn report(&self) -> &Report {
        match &self.finding {
            Finding::Etcd(report, _) => report,
            Finding::Generic(judgement) => &judgement.report,
        }
    }

    fn line(&self, file: String) -> String {
        let (witness, core) = match &self.finding {
            Finding::Etcd(..) => (&[][..], &[][..]),
            Finding::Generic(judgement) => (&judgement.witness[..], &judgement.core[..]),
        };
        let model = clap::ValueEnum::to_possible_value(&self.model);
        text(&Line {
            file,
            model: model.map(|model| model.get_name().to_owned()),
            report: Some(self.report()),
            witness,
            core,
            wall_s: self.wall_s,
            ..Line::default()
        })
    }
}

fn text(line: &Line<'_>) -> String {
    serde_json::to_string(line).expect("reports are plain data")
}

/// A judgement of the generic checker, in the layout of [`render::report`].
pub fn generic_text(judgement: &Judgement) -> String {
    let Judgement { report, witness, core, cited } = judgement;
    let mut out = String::new();
    let find =
        |op: u64| cited.iter().find(|(number, _)| *number == op).map(|(_, line)| line.clone());
    for violation in &report.violations {
        out += &format!("{}: {}\n", violation.rule, violation.sentence);
        for detail in &violation.details {
            out += &format!("  {}: {}\n", detail.what, detail.actual);
        }
        for op in &violation.operations {
            out += &format!("  {}\n", find(*op).unwrap_or_else(|| format!("#{op}")));
        }
        if core.len() > violation.operations.len() {
            out += &format!("  … {} operations in all; --json lists them\n", core.len());
        }
        out.push('\n');
    }
    for doubt in &report.doubts {
        out += &format!("undecided: {}\n", doubt.sentence);
    }
    let verdict = match report.verdict {
        Verdict::Kept => "kept",
        Verdict::Broken => "broken",
        Verdict::Undecided => "undecided",
    };
    let stats = &report.stats;
    out += &format!(
        "{verdict}: {} operations, {} of unknown outcome that may have changed something, \
         {} configurations looked at\n",
        stats.operations, stats.unknown_writes, stats.search_steps
    );
    if !witness.is_empty() {
        let shown: Vec<String> =
            witness.iter().take(ORDER_SHOWN).map(|number| format!("#{number}")).collect();
        let more = if witness.len() > ORDER_SHOWN { " …" } else { "" };
        out += &format!("an order: {}{more}\n", shown.join(" "));
    }
    out
}
