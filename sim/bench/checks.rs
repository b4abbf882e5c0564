//! What checks cost, and how much memory they take.

use std::path::Path;

use super::{Figure, RUNS, figure, median, memory_kb, repeated};
use crate::check::{self, timed};
use crate::checker;
use crate::checker::generic::Limits;
use crate::history::Operation;

/// All figures of this kind. Errors: recorded histories that cannot be read.
pub(super) fn measure() -> Result<Vec<Figure>, String> {
    eprintln!("the checker …");
    let history = checker::bench::history(checker::bench::MILLION);
    let check_memory = vec![check_bytes(&history)];
    let checks = repeated(|_| Ok(check_s(&history)))?;
    drop(history);
    let failing = repeated(|_| Ok(failing_ms()))?;
    let mut figures = vec![
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
