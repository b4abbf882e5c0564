//! The phases of a run: members and clients up, faults and operations, everything healed, recovery.
//!
//! A run that can no longer end well (a member died of itself, a watched rule was broken) stops there:
//! what follows would only bury the cause.

use madsim::task::JoinHandle;

use crate::grid;
use crate::history::Watch;
use crate::scenario::plan::Plan;
use crate::workload::watch::everything;
use crate::world::{Delay, NetOptions, Options, World, run_here};

use super::agenda::Agenda;
use super::atlas::Atlas;
use super::client::Client;
use super::cluster::{Cluster, Deaths};
use super::recorder::{Notes, Recorder};
use super::recovery::{self, Patience};
use super::reshape::Reshaper;
use super::watch;
use super::watcher::Goal;

/// How much longer the observer goes on: what was under way at the end of the operations has its answer by then.
const OBSERVED_AFTER_NS: u64 = 1_000_000_000;

/// What is left of a run.
pub struct Ended {
    /// What was written down.
    pub notes: Notes,
    /// A panic somewhere inside: its words and place.
    pub panic: Option<String>,
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// The trace, as far as lines were asked for.
    pub trace: Vec<String>,
}

/// Runs `plan` on this thread, which must be fresh.
pub fn run(plan: &Plan, trace_lines: usize) -> Ended {
    let recorder = Recorder::default();
    let delay = Delay {
        min_ns: plan.delay_us.0 * 1000,
        max_ns: plan.delay_us.1 * 1000,
        // Now and then a packet is late by several round trips.
        tail_ppm: 2_000,
        tail_max_ns: plan.delay_us.1 * 10_000,
    };
    let options = Options {
        net: NetOptions { delay, ..NetOptions::default() },
        sync_delay: Delay::even(plan.sync_us.0 * 1000, plan.sync_us.1 * 1000),
        trace_lines_max: trace_lines,
    };
    let ended = run_here(plan.seed, options, |world| drive(world, plan, recorder.clone()));
    let mut notes = recorder.take();
    let (mut trace_hash, mut trace) = (0, Vec::new());
    if let Some(world) = notes.world.take() {
        (trace_hash, trace) = (world.trace().hash(), world.trace().take_lines());
        let counters =
            world.counters().into_iter().map(|(name, count)| (name.replace('.', "_"), count));
        notes.met.extend(counters);
        let cells = world.grid().into_iter();
        notes.disk_faults = cells.map(|(cell, count)| (grid::name(cell), count)).collect();
    }
    let panic = ended
        .err()
        .map(|crash| format!("{} panicked: {} ({})", crash.node, crash.message, crash.location));
    Ended { notes, panic, trace_hash, trace }
}

async fn drive(world: World, plan: &Plan, recorder: Recorder) {
    recorder.notes().world = Some(world.clone());
    recorder.notes().may_stop = plan.beyond_tolerance;
    let (cluster, deaths) = match Cluster::start(&world, plan, &recorder) {
        Ok(started) => started,
        Err(error) => return recorder.died("the plan", error),
    };
    tokio::select! {
        biased;
        () = watch::until_over(&cluster, &recorder) => {}
        () = both_phases(plan, &cluster, deaths, &recorder) => {}
    }
    recorder.notes().now_ns = world.now_ns();
}

/// Safety, then liveness.
async fn both_phases(plan: &Plan, cluster: &Cluster, deaths: Deaths, recorder: &Recorder) {
    let world = &cluster.world;
    let (mut working, mut machines) = (Vec::new(), Vec::new());
    for number in 0..plan.clients {
        let octet = |n: u32| u8::try_from(n).expect("at most 500 clients");
        let ip = [10, 0, 1 + octet(number / 250), 1 + octet(number % 250)];
        let node = world.add_node(&format!("c{number}"), ip.into());
        machines.push(node);
        let mut client = Client::new(number, world.host(node), cluster, recorder);
        let operations: Vec<_> =
            plan.operations.iter().filter(|it| it.client == number).cloned().collect();
        let until_us = plan.safety_us;
        working.push(world.spawn(node, async move {
            client.work(&operations, until_us).await;
            client
        }));
    }
    let mut reshaper = None;
    if !plan.changes.is_empty() {
        let number = plan.clients + 1;
        let node = world.add_node("operator", [10, 0, 3, 1].into());
        let client = Client::new(number, world.host(node), cluster, recorder);
        let mut operator = Reshaper::new(cluster, recorder, client);
        let (changes, until_us) = (plan.changes.clone(), plan.safety_us);
        reshaper = Some(world.spawn(node, async move {
            operator.work(&changes, until_us).await;
            operator
        }));
    }
    let observer = plan.observer.then(|| observe(plan, cluster, recorder));
    let atlas = Atlas { is_beyond_tolerance: plan.beyond_tolerance };
    let mut agenda = Agenda::new(cluster, atlas, &machines, recorder, deaths);
    agenda.run(&plan.faults, plan.safety_us * 1000).await;
    agenda.heal();
    world.note("phase.liveness", "", "", &[]);
    let patience = Patience { until_ns: (plan.safety_us + plan.liveness_us) * 1000 };
    let recovery = recovery::recover(cluster, recorder, working, reshaper, observer, &patience);
    tokio::select! {
        biased;
        () = recovery => recorder.notes().stuck = None,
        () = agenda.supervise() => {}
        // Why it is stuck stands in the notes already.
        () = world.sleep_until(patience.until_ns) => {}
    }
}

/// Keeps a watch of everything up until faults and operations have ended. It is told what writes did whose answers
/// were lost, and most of what is compacted later.
fn observe(plan: &Plan, cluster: &Cluster, recorder: &Recorder) -> JoinHandle<bool> {
    let world = &cluster.world;
    let number = plan.clients + 2;
    let node = world.add_node("observer", [10, 0, 4, 1].into());
    let watcher = Client::new(number, world.host(node), cluster, recorder).watcher();
    let watch = Watch { prev_kv: true, progress_notify: true, ..everything(1) };
    let until_ns = plan.safety_us * 1000 + OBSERVED_AFTER_NS;
    let goal = Goal { until_ns, revision: i64::MAX - 1, pace_ns: 0 };
    let members: Vec<usize> = (0..plan.members.len() - plan.spares as usize).collect();
    world.spawn(node, async move { watcher.keep(watch, &members, goal).await })
}
