//! Does a plan's faults, each at its time, and undoes them.
//!
//! Invariants:
//! * What a fault did, and nothing else, is undone at its end: a member that another fault holds down stays down.
//! * Whom a fault met is decided once, at its start.
//! * A member that ended by itself because of its disk is buried and started again until it stays up: operators do that.
//! * Disks are damaged as far as the [`atlas`](super::atlas) allows it.
//!
//! Watches one rule of its own, `leader-moved`: leadership that is said to have moved has.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::atlas::Atlas;
use super::cluster::Cluster;
use super::crash_states::CrashStates;
use super::exchanges::Exchanges;
use super::links::{Links, is_about_links};
use super::meddling;
use super::recorder::Recorder;
use super::troubles::{self, Clocks};
use crate::scenario::FaultKind;
use crate::scenario::plan::{Fault, Survival, Target};
use crate::world::{self, Disk, NodeId};

/// After so long a member that ended by itself is started again: shorter than most faults last.
const RESTART_AFTER_NS: u64 = 300_000_000;

/// A fault that waits for a write that long has missed its moment.
const STRIKE_PATIENCE_NS: u64 = 5_000_000_000;

/// Something that is due.
enum Due {
    /// All disks are copied for a fault that is to come.
    Copy(u32),
    Start(Fault),
    End(u32),
    /// The moment that a fault waited for has come, and its further delay is over.
    Strike(u32),
    /// It never came.
    GiveUp(u32),
    /// A member that ended by itself is started again.
    Restart(usize),
}

/// The faults of a run and what they hold at the moment.
pub struct Agenda {
    cluster: Cluster,
    recorder: Recorder,
    atlas: Atlas,
    links: Links,
    clocks: Clocks,
    /// Disks with troubles, by the fault that made them.
    disks: BTreeMap<u32, Vec<usize>>,
    crash_states: CrashStates,
    exchanges: Exchanges,
    /// Members that are down, by the fault that holds them; `None`: they ended by themselves.
    down: BTreeMap<usize, Option<u32>>,
    /// Members that stand still, by the fault that holds them.
    paused: BTreeMap<usize, u32>,
    /// Faults that wait for a moment, and whom they are to meet.
    armed: BTreeMap<u32, (Fault, Vec<usize>)>,
    /// By time, then by the order in which they were set.
    due: BTreeMap<(u64, u64), Due>,
    next_due: u64,
    strikes: (mpsc::UnboundedSender<u32>, mpsc::UnboundedReceiver<u32>),
    deaths: mpsc::UnboundedReceiver<usize>,
}

impl Agenda {
    /// Nothing is broken yet. `deaths`: members that end by themselves.
    #[must_use]
    pub fn new(
        cluster: &Cluster,
        atlas: Atlas,
        clients: &[NodeId],
        recorder: &Recorder,
        deaths: mpsc::UnboundedReceiver<usize>,
    ) -> Self {
        Self {
            cluster: cluster.clone(),
            recorder: recorder.clone(),
            atlas,
            links: Links::new(cluster, clients),
            clocks: Clocks::default(),
            disks: BTreeMap::new(),
            crash_states: CrashStates::new(cluster, recorder),
            exchanges: Exchanges::new(cluster, recorder),
            down: BTreeMap::new(),
            paused: BTreeMap::new(),
            armed: BTreeMap::new(),
            due: BTreeMap::new(),
            next_due: 0,
            strikes: mpsc::unbounded_channel(),
            deaths,
        }
    }

    fn set_due(&mut self, at_ns: u64, what: Due) {
        self.due.insert((at_ns, self.next_due), what);
        self.next_due += 1;
    }

    /// Does all faults, each at its time, and goes on until `until_ns`.
    pub async fn run(&mut self, faults: &[Fault], until_ns: u64) {
        let mut steps: Vec<(u64, bool, &Fault)> = Vec::new();
        for fault in faults {
            if fault.what == FaultKind::OldDisk {
                let age_us = fault.amount.map_or(0, i64::unsigned_abs) * 1000;
                self.set_due(fault.at_us.saturating_sub(age_us) * 1000, Due::Copy(fault.id));
            }
            steps.push((fault.at_us, true, fault));
            if fault.strike.is_none() {
                steps.push((fault.until_us, false, fault));
            }
        }
        // At one moment, ends come before starts; a fault of no length still starts before it ends.
        steps.sort_by_key(|(at_us, starts, fault)| {
            (*at_us, *starts && fault.at_us < fault.until_us, fault.id)
        });
        for (at_us, starts, fault) in steps {
            let what = if starts { Due::Start(fault.clone()) } else { Due::End(fault.id) };
            self.set_due(at_us * 1000, what);
        }
        self.go_on(until_ns).await;
    }

    /// Goes on with what is due until `until_ns`.
    async fn go_on(&mut self, until_ns: u64) {
        loop {
            self.crash_states.examine().await;
            let next_ns = self.due.keys().next().map_or(until_ns, |key| key.0.min(until_ns));
            let world = self.cluster.world.clone();
            tokio::select! {
                biased;
                Some(id) = self.strikes.1.recv() => self.on_strike(id),
                Some(member) = self.deaths.recv() => self.on_death(member),
                () = world.sleep_until(next_ns) => match self.due.first_entry() {
                    Some(entry) if entry.key().0 <= world.now_ns() => {
                        let what = entry.remove();
                        if matches!(&what, Due::Start(fault) if fault.what == FaultKind::CrashStates) {
                            self.crash_states.sample().await;
                        }
                        self.carry_out(what);
                    }
                    _ if world.now_ns() >= until_ns => return,
                    _ => {}
                },
            }
        }
    }

    /// Starts members again that end by themselves, for ever: in the liveness phase too somebody must.
    pub async fn supervise(&mut self) {
        self.go_on(u64::MAX).await;
    }

    fn carry_out(&mut self, what: Due) {
        match what {
            Due::Copy(fault) => self.exchanges.copy(fault),
            Due::Start(fault) => self.start(fault),
            Due::End(id) => self.end(id),
            Due::Strike(id) => self.strike(id),
            Due::GiveUp(id) => {
                if self.armed.remove(&id).is_some() {
                    self.recorder.fault("without-effect");
                    self.end(id);
                }
            }
            Due::Restart(member) => {
                if self.down.get(&member) == Some(&None) {
                    self.down.remove(&member);
                    self.cluster.restart(member);
                }
            }
        }
    }

    /// Whom the fault meets, now.
    fn targets(&self, target: &Target) -> Vec<usize> {
        let index = |name: &String| self.cluster.index(name);
        match target {
            Target::Leader { otherwise } => {
                self.cluster.leader().or_else(|| index(otherwise)).into_iter().collect()
            }
            Target::Follower { first_of } => {
                let leader = self.cluster.leader();
                first_of
                    .iter()
                    .filter_map(index)
                    .find(|member| Some(*member) != leader)
                    .into_iter()
                    .collect()
            }
            Target::Members(names) => names.iter().filter_map(index).collect(),
        }
    }

    fn start(&mut self, fault: Fault) {
        let targets = self.targets(&fault.whom);
        let Some(strike) = fault.strike else { return self.act(&fault, targets) };
        let ends_process = strike.then_us == 0
            && matches!(
                fault.what,
                FaultKind::Crash | FaultKind::PowerLoss | FaultKind::CrashStates
            )
            && targets.len() == 1;
        for member in &targets {
            let disk = self.disk(*member);
            let files = troubles::files(fault.files);
            let word = self.strikes.0.clone();
            disk.arm((fault.id, files), strike.operations, ends_process, word);
        }
        self.disks.insert(fault.id, targets.clone());
        self.set_due(self.cluster.world.now_ns() + STRIKE_PATIENCE_NS, Due::GiveUp(fault.id));
        self.armed.insert(fault.id, (fault, targets));
    }

    /// The moment that a fault waited for has come.
    fn on_strike(&mut self, id: u32) {
        let Some((fault, _)) = self.armed.get(&id) else { return };
        match fault.strike.map_or(0, |strike| strike.then_us) {
            0 => self.strike(id),
            then_us => self.set_due(self.cluster.world.now_ns() + then_us * 1000, Due::Strike(id)),
        }
    }

    fn strike(&mut self, id: u32) {
        let Some((fault, targets)) = self.armed.remove(&id) else { return };
        self.end(id);
        self.recorder.met("struck_with_writes_in_flight", 1);
        self.act(&fault, targets);
        let lasts_ns = (fault.until_us - fault.at_us) * 1000;
        self.set_due(self.cluster.world.now_ns() + lasts_ns, Due::End(id));
    }

    /// Does a fault to its targets.
    fn act(&mut self, fault: &Fault, targets: Vec<usize>) {
        let leader = self.cluster.leader();
        let role = if targets.iter().any(|member| Some(*member) == leader) {
            "leader"
        } else {
            "follower"
        };
        let met = match fault.what {
            what if is_about_links(what) => {
                self.links.begin(fault.id, what, targets, &fault.links, fault.amount)
            }
            what if meddling::meddling(what).is_some() => {
                meddling::begin(&self.cluster, fault, &targets)
            }
            FaultKind::Crash => self.each(&targets, |it, member| it.crash(member, fault.id)),
            FaultKind::PowerLoss | FaultKind::CrashStates => {
                let are_most = 2 * targets.len() > self.cluster.current().len();
                self.each(&targets, |it, member| it.cut_power(member, fault, are_most))
            }
            FaultKind::Pause | FaultKind::Stutter => {
                self.each(&targets, |it, member| it.pause(member, fault.id))
            }
            FaultKind::OldDisk | FaultKind::ForeignDisk => {
                self.each(&targets, |it, member| it.exchange(member, fault))
            }
            FaultKind::MoveLeader => self.each(&targets, |it, member| it.move_leader(member)),
            FaultKind::ClockStep | FaultKind::ClockDrift | FaultKind::ClockFreeze => {
                self.clocks.begin(&self.cluster, fault, &targets)
            }
            _ => {
                let met = troubles::begin(&self.cluster, self.atlas, fault, &targets);
                self.disks.insert(fault.id, targets);
                met
            }
        };
        if !met {
            return self.recorder.fault("without-effect");
        }
        self.recorder.fault(fault.what.name());
        self.note_how_many();
        if !is_about_links(fault.what) && meddling::meddling(fault.what).is_none() {
            self.recorder.met(&format!("{}_on_{role}", fault.what.name().replace('-', "_")), 1);
        }
    }

    /// Counts what only several faults at once can bring about, or one of many members.
    fn note_how_many(&self) {
        let members = self.cluster.current();
        let count = |is: &dyn Fn(usize) -> bool| members.iter().filter(|it| is(**it)).count();
        let (all, most) = (members.len(), members.len() / 2 + 1);
        let down = count(&|member| self.down.contains_key(&member));
        let paused = count(&|member| self.paused.contains_key(&member));
        self.recorder.met("majority_down", u64::from(down >= most));
        self.recorder.met("all_down", u64::from(down == all));
        self.recorder.met("majority_paused", u64::from(paused >= most));
        self.recorder.met("all_paused", u64::from(paused == all));
        let Some(leader) = self.cluster.leader() else { return };
        let node = |member| self.cluster.node(member);
        let net = self.cluster.world.net();
        let is_reached = |member| {
            member == leader
                || (net.is_open(node(leader), node(member))
                    && net.is_open(node(member), node(leader)))
        };
        let is_cut = members.contains(&leader) && count(&is_reached) < most;
        self.recorder.met("leader_cut_from_majority", u64::from(is_cut));
    }

    fn disk(&self, member: usize) -> Arc<Disk> {
        self.cluster.world.disk(self.cluster.node(member))
    }

    fn each(&mut self, members: &[usize], mut act: impl FnMut(&mut Self, usize) -> bool) -> bool {
        let mut met = false;
        for member in members {
            met |= act(self, *member);
        }
        met
    }

    fn crash(&mut self, member: usize, fault: u32) -> bool {
        if self.down.contains_key(&member) {
            return false;
        }
        self.wake(member);
        self.cluster.kill(member);
        self.disk(member).tally_crash();
        self.down.insert(member, Some(fault));
        true
    }

    fn cut_power(&mut self, member: usize, fault: &Fault, with_most: bool) -> bool {
        if fault.what == FaultKind::CrashStates {
            let states_max = fault.amount.and_then(|max| usize::try_from(max).ok()).unwrap_or(0);
            self.crash_states.keep(member, states_max);
        }
        let met = self.power_off(member, fault.id, fault.survival);
        if with_most {
            self.disk(member).tally_power_loss_of_all();
        }
        met
    }

    /// A member that is down already loses its page cache, and stays down for as long as this fault lasts.
    fn power_off(&mut self, member: usize, fault: u32, survival: Option<Survival>) -> bool {
        self.wake(member);
        self.cluster.forget(member);
        let survival = match survival {
            None | Some(Survival::Nothing) => world::Survival::Nothing,
            Some(Survival::Part) => world::Survival::Part,
            Some(Survival::Everything) => world::Survival::Everything,
        };
        let loss = self.cluster.world.power_off(self.cluster.node(member), survival);
        self.recorder.met("power_loss_took_writes", u64::from(loss.writes > 0));
        self.recorder.met("power_loss_tore_a_write", u64::from(loss.torn > 0));
        self.recorder.met("power_loss_reordered_writes", u64::from(loss.reordered > 0));
        self.recorder.met("power_loss_took_dropped_pages", u64::from(loss.dropped > 0));
        self.recorder.met("power_loss_took_directory_entries", u64::from(loss.entries > 0));
        self.down.insert(member, Some(fault));
        true
    }

    fn exchange(&mut self, member: usize, fault: &Fault) -> bool {
        if self.down.contains_key(&member) || !self.atlas.allows(&self.cluster, &[member]) {
            return false;
        }
        self.wake(member);
        self.exchanges.begin(fault.id, fault.what, member)
    }

    /// Disks come back into their places.
    fn end_exchange(&mut self, fault: u32) {
        for member in self.exchanges.end(fault) {
            // Who is held down by another fault stays down.
            if self.down.get(&member).is_none_or(Option::is_none) {
                self.down.remove(&member);
                self.cluster.restart(member);
            }
        }
    }

    fn pause(&mut self, member: usize, fault: u32) -> bool {
        if self.down.contains_key(&member) || self.paused.contains_key(&member) {
            return false;
        }
        self.recorder.met("leader_paused", u64::from(self.cluster.leads(member).is_some()));
        self.cluster.world.pause(self.cluster.node(member));
        self.paused.insert(member, fault);
        true
    }

    /// Asks whoever leads to hand over. Goes on by itself: the answer may take an election, or never come.
    fn move_leader(&mut self, to: usize) -> bool {
        let Some(from) = self.cluster.leader().filter(|from| *from != to) else { return false };
        let Some(handle) = self.cluster.way_in(from) else { return false };
        let (recorder, target) = (self.recorder.clone(), self.cluster.id(to));
        let names = [from, to].map(|member| self.cluster.name(member).to_string());
        self.cluster.world.spawn(self.cluster.node(from), async move {
            let before = handle.header().term;
            if handle.move_leader(target).await.is_err() {
                return;
            }
            recorder.met("leadership_handed_over", 1);
            if handle.header().term == before {
                let [from, to] = names;
                let sentence = format!(
                    "{from} said that {to} leads now, but was still in term {before}, which it had led itself"
                );
                recorder.broken("leader-moved", sentence);
            }
        });
        true
    }

    /// A member has ended by itself, and its disk explains why.
    fn on_death(&mut self, member: usize) {
        if self.down.contains_key(&member) {
            return;
        }
        self.exchanges.ended(member);
        self.recorder.met("ended_by_a_disk_fault", 1);
        self.wake(member);
        self.cluster.kill(member);
        self.down.insert(member, None);
        self.set_due(self.cluster.world.now_ns() + RESTART_AFTER_NS, Due::Restart(member));
    }

    fn wake(&mut self, member: usize) {
        if self.paused.remove(&member).is_some() {
            self.cluster.world.resume(self.cluster.node(member));
        }
    }

    fn end(&mut self, fault: u32) {
        self.links.end(fault);
        self.cluster.wires.end(fault);
        self.clocks.end(&self.cluster, fault);
        self.end_exchange(fault);
        for member in self.disks.remove(&fault).unwrap_or_default() {
            self.disk(member).end(fault, !self.atlas.is_beyond_tolerance);
        }
        let paused: Vec<usize> =
            self.paused.iter().filter(|(_, by)| **by == fault).map(|(member, _)| *member).collect();
        for member in paused {
            self.wake(member);
        }
        let down = self.down.iter().filter(|(_, by)| **by == Some(fault));
        let down: Vec<usize> = down.map(|(member, _)| *member).collect();
        for member in down {
            self.down.remove(&member);
            self.cluster.restart(member);
        }
    }

    /// Ends everything that is still broken.
    pub fn heal(&mut self) {
        self.due.clear();
        // Whoever was struck down in this moment must be buried before it can be started again.
        while let Ok(id) = self.strikes.1.try_recv() {
            self.strike(id);
        }
        self.due.clear();
        self.armed.clear();
        self.links.heal();
        self.cluster.wires.heal();
        self.clocks.heal(&self.cluster);
        for fault in self.exchanges.faults() {
            self.end_exchange(fault);
        }
        for (fault, members) in std::mem::take(&mut self.disks) {
            for member in members {
                self.disk(member).end(fault, !self.atlas.is_beyond_tolerance);
            }
        }
        for member in 0..self.cluster.count() {
            self.wake(member);
            if self.down.remove(&member).is_some() {
                self.cluster.restart(member);
            }
        }
    }
}
