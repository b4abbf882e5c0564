//! Executes a plan in the world and judges it.
//!
//! ```text
//! plan ─▶ world up, members and clients started ─▶ safety phase: operations and faults
//!      ─▶ everything healed, the dead restarted ─▶ liveness phase: recover within a deadline
//!      ─▶ final reads on every member, hashes compared ─▶ checker ─▶ verdict
//! ```
//!
//! Invariants:
//! * Each run has an OS thread of its own, made outside any simulation: thread-locals of earlier runs cannot leak in.
//! * A run is a function of the plan: `execute` twice gives the same trace hash and the same history.
//!
//! Not here: threads for several runs at once (`sweep`), files (`folder`).

#[cfg(madsim)]
mod agenda;
#[cfg(madsim)]
mod atlas;
pub mod classify;
#[cfg(madsim)]
mod client;
#[cfg(madsim)]
mod cluster;
pub mod convert;
#[cfg(madsim)]
mod crash_states;
#[cfg(madsim)]
mod exchanges;
#[cfg(madsim)]
mod judge;
#[cfg(madsim)]
mod links;
#[cfg(madsim)]
mod logs;
#[cfg(madsim)]
mod meddling;
#[cfg(madsim)]
mod phases;
#[cfg(madsim)]
mod recorder;
#[cfg(madsim)]
mod recovery;
#[cfg(madsim)]
mod reshape;
mod thread;
#[cfg(madsim)]
mod troubles;
#[cfg(madsim)]
mod watch;
#[cfg(madsim)]
mod watcher;

use std::collections::BTreeMap;

use crate::grid::Count;
use crate::history::{Operation, Outcome};
use crate::outcome::{Summary, Verdict};
use crate::scenario::plan::Plan;

/// Whether this program can run plans: only a simulated build can.
pub const AVAILABLE: bool = cfg!(madsim);

/// What a program that cannot run plans says.
pub const UNAVAILABLE: &str = "sim: built without --cfg madsim; use `cargo sim`";

/// Everything that is known of a run.
pub struct Finished {
    /// How it ended.
    pub verdict: Verdict,
    /// A short name of what went wrong.
    pub rule: Option<String>,
    /// What went wrong, in words.
    pub message: Option<String>,
    /// The operations that prove it.
    pub proof: Vec<u64>,
    /// Why a cluster whose disks were damaged beyond tolerance has stopped, as it may.
    pub stopped: Option<String>,
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// The trace, one JSON object a line, as far as lines were asked for.
    pub trace: Vec<String>,
    /// What clients saw.
    pub history: Vec<Operation>,
    /// Faults that were done, by kind.
    pub faults: BTreeMap<String, u64>,
    /// What the code met of them, and other situations.
    pub met: BTreeMap<String, u64>,
    /// Disk faults by kind, role of the member and class of file.
    pub disk_faults: BTreeMap<String, Count>,
    /// Length of the run in virtual time.
    pub simulated_s: f64,
    /// Length of the run on the wall.
    pub wall_s: f64,
    /// Time on the processor.
    pub cpu_s: f64,
}

impl Finished {
    /// What is printed of it; `repeat` is the command that repeats it.
    #[must_use]
    pub fn summary(&self, plan: &Plan, repeat: String) -> Summary {
        let mut outcomes = BTreeMap::new();
        for operation in &self.history {
            let name = match operation.outcome {
                Outcome::Ok => "ok",
                Outcome::Failed => "failed",
                Outcome::Unknown => "unknown",
            };
            *outcomes.entry(name.to_string()).or_default() += 1;
        }
        Summary {
            scenario: plan.scenario.clone(),
            seed: plan.seed,
            verdict: self.verdict,
            rule: self.rule.clone(),
            message: self.message.clone(),
            proof: self.proof.clone(),
            stopped: self.stopped.clone(),
            trace_hash: format!("{:016x}", self.trace_hash),
            simulated_s: self.simulated_s,
            wall_s: self.wall_s,
            cpu_s: self.cpu_s,
            ops: self.history.len() as u64,
            outcomes,
            faults: self.faults.clone(),
            met: self.met.clone(),
            disk_faults: self.disk_faults.clone(),
            repeat,
        }
    }
}

/// How a plan is run, apart from the plan; none of it changes what happens.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Keep up to so many lines of the trace.
    pub trace_lines: usize,
    /// Run it a second time, to compare.
    pub twice: bool,
    /// Print the server's log lines that this filter lets through.
    pub log: Option<String>,
}

/// Runs `plan`.
#[must_use]
pub fn execute(plan: &Plan, manner: &Manner) -> Finished {
    let first = thread::alone(plan, manner);
    if !manner.twice {
        return first;
    }
    let second = thread::alone(plan, manner);
    if first.trace_hash == second.trace_hash && first.history == second.history {
        return first;
    }
    // Only now are lines worth their cost: where did the two part?
    let again = Manner { trace_lines: TRACE_LINES, ..Manner::default() };
    let lines = [thread::alone(plan, &again).trace, thread::alone(plan, &again).trace];
    Finished {
        verdict: Verdict::Differs,
        rule: Some("same-plan-same-run".into()),
        message: Some(parting(&lines[0], &lines[1])),
        proof: Vec::new(),
        ..second
    }
}

/// Enough for a run of minutes; a bound on memory.
pub const TRACE_LINES: usize = 2_000_000;

/// Where two traces part, in words.
fn parting(first: &[String], second: &[String]) -> String {
    let same = first.iter().zip(second).take_while(|(a, b)| a == b).count();
    let at =
        |lines: &[String]| lines.get(same).map_or("(the trace ends)", String::as_str).to_string();
    if same == first.len() && same == second.len() {
        return "two runs of one plan differed, but two further runs did not".to_string();
    }
    format!(
        "two runs of one plan parted after {same} events of the trace:\nfirst:  {}\nsecond: {}",
        at(first),
        at(second)
    )
}

#[cfg(test)]
mod tests {
    use super::parting;

    /// The first line in which two traces differ is shown from both.
    #[test]
    fn partings_are_shown() {
        let lines = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let text = parting(&lines("a b c"), &lines("a x c"));
        assert!(
            text.contains("after 1 events")
                && text.contains("first:  b")
                && text.contains("second: x")
        );
        assert!(parting(&lines("a b"), &lines("a")).contains("second: (the trace ends)"));
    }
}
