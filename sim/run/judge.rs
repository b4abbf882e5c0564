//! From what was written down to a verdict.
//!
//! The gravest that can be proved comes first: what clients saw, what the runner saw inside, a death,
//! no recovery, and doubt.

use super::Finished;
use super::phases::Ended;
use super::recorder::Notes;
use crate::checker;
use crate::outcome::Verdict;

/// What is wrong, if anything: verdict, rule, words, and the operations that prove it.
type Finding = (Verdict, Option<String>, Option<String>, Vec<u64>);

/// Judges a run.
#[must_use]
pub fn judge(ended: Ended) -> Finished {
    let (verdict, rule, message, proof) = finding(&ended);
    let stopped = stopped(&ended).filter(|_| verdict == Verdict::Kept);
    let Ended { mut notes, trace_hash, trace, .. } = ended;
    if stopped.is_some() {
        notes.met.insert("stopped_beyond_tolerance".into(), 1);
    }
    Finished {
        verdict,
        rule,
        message,
        proof,
        stopped,
        trace_hash,
        trace,
        history: notes.history,
        faults: notes.faults,
        met: notes.met,
        disk_faults: notes.disk_faults,
        simulated_s: notes.now_ns as f64 / 1e9,
        wall_s: 0.0,
        cpu_s: 0.0,
    }
}

/// Why a cluster that may stop has stopped, if it has.
fn stopped(ended: &Ended) -> Option<String> {
    let Notes { may_stop, stuck, last_words, .. } = &ended.notes;
    let stage = stuck.as_ref().filter(|_| *may_stop)?;
    let words = last_words.iter().map(|(member, words)| format!("; {member}: {words}"));
    Some(stage.clone() + &words.collect::<String>())
}

fn finding(ended: &Ended) -> Finding {
    let notes = &ended.notes;
    let report = checker::check(&notes.history, notes.rest.as_ref());
    let found = |verdict, rule: &str, message: String, proof: Vec<u64>| {
        (verdict, Some(rule.to_string()), Some(message), proof)
    };
    if let Some(violation) = report.violations.first() {
        let proof = violation.operations.clone();
        return found(Verdict::Broken, violation.rule, violation.sentence.clone(), proof);
    }
    if let Some(malformed) = report.malformed.first() {
        return found(Verdict::Broken, "well-formed", malformed.sentence.clone(), Vec::new());
    }
    if let Some((rule, sentence)) = notes.broken.first() {
        return found(Verdict::Broken, rule, sentence.clone(), Vec::new());
    }
    if let Some(panic) = &ended.panic {
        return found(Verdict::Crashed, "no-panic", panic.clone(), Vec::new());
    }
    if let Some((member, words)) = notes.deaths.first() {
        return found(Verdict::Crashed, "no-death", format!("{member} died: {words}"), Vec::new());
    }
    if let Some(reason) = notes.stuck.as_ref().filter(|_| !notes.may_stop) {
        return found(Verdict::Stuck, "recovers", reason.clone(), Vec::new());
    }
    if let Some(doubt) = report.doubts.first() {
        return found(
            Verdict::Undecided,
            "decidable",
            format!("{}\n{}", doubt.sentence, checker::render::open_ends(&report)),
            doubt.operations.clone(),
        );
    }
    (Verdict::Kept, None, None, Vec::new())
}
