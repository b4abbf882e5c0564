//! What runs cost: idling, an operation, a seed, faults, and what many runs leave behind in memory.

use super::{Figure, RUNS, figure, median, memory_kb, repeated};
use crate::run;
use crate::scenario::plan::Plan;
use crate::scenario::{Scenario, draw, file, library};

/// Virtual seconds that an idle cluster is watched.
const IDLE_S: u64 = 600;
/// Operations each virtual second when the cost of one is wanted: far above what idling costs.
const BUSY_RATE: usize = 200;
/// The lower of the two rates at which a quiet cluster is measured.
const CALM_RATE: u64 = 10;
/// Runs after which memory is looked at, first and last: by the first all lists and pools have their size.
const MEMORY_RUNS: (u64, u64) = (20, 220);

/// What goes wrong where the price of faults is asked for: one thing or another every few seconds, so that the
/// cluster serves for the most part.
const FAULTS: &str = r#"
about = "Smoke with a bit of everything."
duration = "60s"
[[workload]]
kind = "kv"
rate = 20
[[fault]]
what = "partition"
whom = "leader"
every = "10s..20s"
lasts = "1s..3s"
[[fault]]
what = "crash"
whom = "random"
every = "10s..20s"
lasts = "500ms..2s"
[[fault]]
what = "power-loss"
whom = "random"
every = "10s..20s"
lasts = "500ms..2s"
[[fault]]
what = "slow"
whom = "random"
every = "10s..20s"
lasts = "1s..3s"
[[fault]]
what = "slow-disk"
whom = "random"
every = "10s..20s"
lasts = "1s..3s"
[[fault]]
what = "clock-drift"
whom = "random"
every = "10s..20s"
lasts = "1s..3s"
"#;

/// All figures of this kind. Errors: a run that was not kept.
pub(super) fn measure() -> Result<Vec<Figure>, String> {
    let smoke = library::find("smoke")?;
    eprintln!("an idle cluster …");
    let idle = repeated(|seed| idle_ms_per_s(&draw::plan(&smoke, seed)))?;
    let idle_ms = median(&idle);
    eprintln!("an operation …");
    let operation = repeated(|seed| operation_us(&draw::plan(&smoke, seed), idle_ms))?;
    eprintln!("smoke …");
    let quiet = repeated_runs(&smoke)?;
    let speed = |runs: &[run::Finished]| -> Vec<f64> {
        runs.iter().map(|run| run.simulated_s / run.wall_s).collect()
    };
    let per_minute: Vec<f64> =
        quiet.iter().map(|run| run.wall_s * 60.0 / run.simulated_s).collect();
    let mut calm = smoke.clone();
    calm.workloads[0].rate = CALM_RATE;
    let calm = repeated_runs(&calm)?;
    eprintln!("smoke with faults …");
    let faulty = repeated_runs(&faulty()?)?;
    let dearer = quiet.iter().zip(&faulty).map(|(quiet, faulty)| cost(faulty) / cost(quiet));
    eprintln!("swarm …");
    let swarm = repeated_runs(&library::find("swarm")?)?;
    let mean_s = swarm.iter().map(|run| run.cpu_s).sum::<f64>() / swarm.len() as f64;
    let memory = memory_kb("VmHWM:") / 1024.0;
    eprintln!("many runs …");
    let left = left_behind_kb(&smoke)?;
    Ok(vec![
        figure("an idle three-member cluster", "ms of CPU / simulated s", 1.0, false, idle),
        figure("a client operation, everything on", "µs of CPU", 150.0, false, operation),
        figure("smoke", "simulated s / wall s", 300.0, true, speed(&quiet)),
        figure(
            "smoke with ten operations a second",
            "simulated s / wall s",
            400.0,
            true,
            speed(&calm),
        ),
        figure("a seed of 60 simulated seconds", "wall s", 0.3, false, per_minute),
        figure(
            "smoke with faults, beside smoke",
            "CPU of an operation",
            1.2,
            false,
            dearer.collect(),
        ),
        figure("swarm", "seeds / hour and core", 2000.0, true, vec![3600.0 / mean_s]),
        figure("peak memory of one job", "MB", 300.0, false, vec![memory]),
        figure("memory that a run leaves behind", "kB", 1.0, false, vec![left]),
    ])
}

fn faulty() -> Result<Scenario, String> {
    file::parse("smoke-with-faults", "sim/bench/runs.rs", FAULTS).map_err(|error| error.to_string())
}

/// CPU seconds for each operation, start, idling and end included.
fn cost(run: &run::Finished) -> f64 {
    run.cpu_s / run.history.len() as f64
}

/// How much more memory this process holds after many runs than after some, for each run in between.
fn left_behind_kb(smoke: &Scenario) -> Result<f64, String> {
    let mut small = smoke.clone();
    small.duration_us = 1_000_000;
    let mut held_kb = 0.0;
    for seed in 0..MEMORY_RUNS.1 {
        if seed == MEMORY_RUNS.0 {
            held_kb = memory_kb("VmRSS:");
        }
        kept(&draw::plan(&small, seed))?;
    }
    Ok((memory_kb("VmRSS:") - held_kb).max(0.0) / (MEMORY_RUNS.1 - MEMORY_RUNS.0) as f64)
}

fn repeated_runs(scenario: &Scenario) -> Result<Vec<run::Finished>, String> {
    (0..RUNS as u64).map(|seed| kept(&draw::plan(scenario, seed))).collect()
}

/// Runs a plan that must be kept: the cost of a failing run says nothing.
pub(super) fn kept(plan: &Plan) -> Result<run::Finished, String> {
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
