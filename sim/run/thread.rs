//! One run in an OS thread of its own, timed.

use super::{Finished, Manner};
use crate::scenario::plan::Plan;

/// Runs `plan` in a fresh thread and waits for it.
#[must_use]
pub fn alone(plan: &Plan, manner: &Manner) -> Finished {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name(format!("{}-{}", plan.scenario, plan.seed))
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || timed(plan, manner))
            .expect("the machine can make one more thread")
            .join()
            .expect("panics inside a run are caught there")
    })
}

/// RocksDB and deep futures share it.
const STACK_BYTES: usize = 16 << 20;

#[allow(
    clippy::disallowed_methods,
    reason = "the wall time of this machine, outside of any simulation"
)]
fn timed(plan: &Plan, manner: &Manner) -> Finished {
    let (wall, cpu_s) = (std::time::Instant::now(), cpu_seconds());
    let mut finished = run(plan, manner);
    finished.wall_s = wall.elapsed().as_secs_f64();
    finished.cpu_s = cpu_seconds() - cpu_s;
    finished
}

#[cfg(madsim)]
fn run(plan: &Plan, manner: &Manner) -> Finished {
    let (listener, counts) = super::logs::listener(manner.log.as_deref()).unwrap_or_else(|error| {
        eprintln!("sim: {error}");
        super::logs::listener(None).expect("without a filter nothing can be wrong with it")
    });
    let listening = tracing::dispatcher::set_default(&listener);
    let mut ended = super::phases::run(plan, manner.trace_lines);
    drop(listening);
    // The restart of all that ends every run is no fault that a scenario may boast of.
    let own = ended.notes.met.get("final_restarts").copied().unwrap_or(0);
    let counts = counts.get().into_iter().map(|(name, count)| match name {
        "recoveries" => (name.to_string(), count.saturating_sub(own)),
        _ => (name.to_string(), count),
    });
    ended.notes.met.extend(counts);
    super::judge::judge(ended)
}

#[cfg(not(madsim))]
fn run(_plan: &Plan, _manner: &Manner) -> Finished {
    unreachable!("{}", super::UNAVAILABLE)
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
