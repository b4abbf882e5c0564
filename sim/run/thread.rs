//! One run in an OS thread of its own, timed, with panics caught and kept.

use std::cell::RefCell;
use std::sync::Once;

use super::Finished;
use crate::outcome::Verdict;
use crate::scenario::plan::Plan;

/// Runs `plan` in a fresh thread and waits for it.
#[must_use]
pub fn alone(plan: &Plan, trace_lines: usize) -> Finished {
    catch_panics();
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name(format!("{}-{}", plan.scenario, plan.seed))
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || timed(plan, trace_lines))
            .expect("the machine can make one more thread")
            .join()
            .unwrap_or_else(|_| panicked("the run's thread died".into()))
    })
}

/// RocksDB and deep futures share it.
const STACK_BYTES: usize = 16 << 20;

#[allow(
    clippy::disallowed_methods,
    reason = "the wall time of this machine, outside of any simulation"
)]
fn timed(plan: &Plan, trace_lines: usize) -> Finished {
    QUIET.set(true);
    let (wall, cpu_s) = (std::time::Instant::now(), cpu_seconds());
    let mut finished = run(plan, trace_lines);
    finished.wall_s = wall.elapsed().as_secs_f64();
    finished.cpu_s = cpu_seconds() - cpu_s;
    finished
}

#[cfg(madsim)]
fn run(plan: &Plan, trace_lines: usize) -> Finished {
    let recorder = super::recorder::Recorder::new(trace_lines);
    let run = std::panic::AssertUnwindSafe(|| super::phases::run(plan, &recorder));
    match std::panic::catch_unwind(run) {
        Ok(ended) => super::judge::judge(&recorder, ended),
        Err(_) => {
            let message = PANIC.take().unwrap_or_else(|| "a panic without words".into());
            super::judge::after_panic(&recorder, panicked(message))
        }
    }
}

#[cfg(not(madsim))]
fn run(_plan: &Plan, _trace_lines: usize) -> Finished {
    panicked(super::UNAVAILABLE.into())
}

fn panicked(message: String) -> Finished {
    Finished {
        verdict: Verdict::Crashed,
        rule: Some("no-panic".into()),
        message: Some(message),
        proof: Vec::new(),
        trace_hash: 0,
        trace: Vec::new(),
        history: Vec::new(),
        faults: Default::default(),
        met: Default::default(),
        simulated_s: 0.0,
        wall_s: 0.0,
        cpu_s: 0.0,
    }
}

thread_local! {
    /// Whether panics of this thread are kept rather than printed.
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
    /// The first panic of this thread, with its place.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the words and the place of a panic in a run's thread; other threads panic as ever.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.with_borrow(|quiet| *quiet) {
                return usual(info);
            }
            let words = info.payload_as_str().unwrap_or("a panic without words");
            let place = info
                .location()
                .map(|at| format!(" ({}:{})", at.file(), at.line()))
                .unwrap_or_default();
            // The first one is the cause; those of destructors follow from it.
            PANIC.with_borrow_mut(|kept| {
                kept.get_or_insert_with(|| format!("panicked: {words}{place}"));
            });
            if std::env::var_os("RUST_BACKTRACE").is_some() {
                usual(info);
            }
        }));
    });
}

/// Time that this thread has spent on the processor.
#[allow(unsafe_code, reason = "one call into libc, into memory that it fills")]
fn cpu_seconds() -> f64 {
    // SAFETY: `usage` is plain numbers, for which zeros are a value, and getrusage only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
