//! Does a plan's faults, each at its time, and undoes them.
//!
//! Invariants:
//! * What a fault did, and nothing else, is undone at its end: a member that another fault holds down stays down.
//! * Of several partitions at once, a link is cut while any of them cuts it.
//! * A link is slow while any fault makes it so.
//! * Whom a fault met is decided once, at its start.
//!
//! Watches one rule of its own, `leader-moved`: leadership that is said to have moved has.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::Cluster;
use super::recorder::Recorder;
use crate::scenario::FaultKind;
use crate::scenario::plan::{Fault, Survival, Target};
use crate::world::{self, Delay};

/// A slow link: several times what clients' bytes need, so that much happens while one message is under way; short
/// enough for heartbeats to come in time.
const SLOW: Delay = Delay { min_ns: 5_000_000, max_ns: 250_000_000, tail_ppm: 0, tail_max_ns: 0 };

/// The faults of a run and what they hold at the moment.
pub struct Agenda {
    cluster: Cluster,
    recorder: Recorder,
    /// Faults that cut links: what, and whom.
    partitions: BTreeMap<u32, (FaultKind, Vec<usize>)>,
    /// Members with slow links, by the fault that slows them.
    slow: BTreeMap<u32, Vec<usize>>,
    /// Links that are cut now.
    cut: BTreeSet<(usize, usize)>,
    /// Members that are down, by the fault that holds them.
    down: BTreeMap<usize, u32>,
    /// Members that stand still, by the fault that holds them.
    paused: BTreeMap<usize, u32>,
}

impl Agenda {
    /// Nothing is broken yet.
    #[must_use]
    pub fn new(cluster: &Cluster, recorder: &Recorder) -> Self {
        Self {
            cluster: cluster.clone(),
            recorder: recorder.clone(),
            partitions: BTreeMap::new(),
            slow: BTreeMap::new(),
            cut: BTreeSet::new(),
            down: BTreeMap::new(),
            paused: BTreeMap::new(),
        }
    }

    /// Does all faults, each at its time.
    pub async fn run(&mut self, faults: &[Fault]) {
        let mut steps: Vec<(u64, bool, &Fault)> = Vec::new();
        for fault in faults {
            steps.push((fault.at_us, true, fault));
            steps.push((fault.until_us, false, fault));
        }
        // At one moment, ends come before starts; a fault of no length still starts before it ends.
        steps.sort_by_key(|(at_us, starts, fault)| {
            (*at_us, *starts && fault.at_us < fault.until_us, fault.id)
        });
        for (at_us, starts, fault) in steps {
            let wait_ns = (at_us * 1000).saturating_sub(self.cluster.world.now_ns());
            if wait_ns > 0 {
                self.cluster.world.sleep(wait_ns).await;
            }
            if starts {
                self.start(fault);
            } else {
                self.end(fault.id);
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

    fn start(&mut self, fault: &Fault) {
        let targets = self.targets(&fault.whom);
        let met = match fault.what {
            FaultKind::Partition | FaultKind::Deaf | FaultKind::Mute => {
                self.partitions.insert(fault.id, (fault.what, targets));
                self.recut() > 0
            }
            FaultKind::Crash => self.each(&targets, |it, member| it.crash(member, fault.id)),
            FaultKind::PowerLoss => {
                self.each(&targets, |it, member| it.power_off(member, fault.id, fault.survival))
            }
            FaultKind::Pause => self.each(&targets, |it, member| it.pause(member, fault.id)),
            FaultKind::Slow => {
                self.slow.insert(fault.id, targets);
                self.set_delays();
                true
            }
            FaultKind::MoveLeader => self.each(&targets, |it, member| it.move_leader(member)),
        };
        self.recorder.fault(if met { fault.what.name() } else { "without-effect" });
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
        self.down.insert(member, fault);
        true
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
        self.recorder.met("power_loss_took_directory_entries", u64::from(loss.entries > 0));
        self.down.insert(member, fault);
        true
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

    /// Makes links as slow as faults want them.
    fn set_delays(&self) {
        let net = self.cluster.world.net();
        let is_slow = |member: &usize| self.slow.values().any(|inside| inside.contains(member));
        for from in 0..self.cluster.count() {
            for to in (0..self.cluster.count()).filter(|to| *to != from) {
                let (one, other) = (self.cluster.node(from), self.cluster.node(to));
                if is_slow(&from) || is_slow(&to) {
                    net.set_delay(one, other, SLOW);
                } else {
                    net.reset_delay(one, other);
                }
            }
        }
    }

    fn wake(&mut self, member: usize) {
        if self.paused.remove(&member).is_some() {
            self.cluster.world.resume(self.cluster.node(member));
        }
    }

    fn end(&mut self, fault: u32) {
        if self.partitions.remove(&fault).is_some() {
            self.recut();
        }
        if self.slow.remove(&fault).is_some() {
            self.set_delays();
        }
        let held = |map: &BTreeMap<usize, u32>| -> Vec<usize> {
            map.iter().filter(|(_, by)| **by == fault).map(|(member, _)| *member).collect()
        };
        for member in held(&self.paused) {
            self.wake(member);
        }
        for member in held(&self.down) {
            self.down.remove(&member);
            self.cluster.restart(member);
        }
    }

    /// Ends everything that is still broken.
    pub fn heal(&mut self) {
        self.partitions.clear();
        self.slow.clear();
        self.recut();
        for member in 0..self.cluster.count() {
            self.wake(member);
            if self.down.remove(&member).is_some() {
                self.cluster.restart(member);
            }
        }
        self.cluster.world.net().heal_all();
    }

    /// Cuts and heals links until they are as the partitions want them; how many were newly cut.
    fn recut(&mut self) -> usize {
        let mut wanted = BTreeSet::new();
        for (what, inside) in self.partitions.values() {
            for from in 0..self.cluster.count() {
                for to in (0..self.cluster.count()).filter(|to| *to != from) {
                    let (leaves, enters) = (inside.contains(&from), inside.contains(&to));
                    let cuts = match what {
                        FaultKind::Deaf => enters && !leaves,
                        FaultKind::Mute => leaves && !enters,
                        // Where everybody is named, everybody is alone.
                        _ => leaves != enters || inside.len() == self.cluster.count(),
                    };
                    if cuts {
                        wanted.insert((from, to));
                    }
                }
            }
        }
        let net = self.cluster.world.net();
        let fresh: Vec<(usize, usize)> = wanted.difference(&self.cut).copied().collect();
        for (from, to) in &fresh {
            net.cut(self.cluster.node(*from), self.cluster.node(*to));
        }
        for (from, to) in self.cut.difference(&wanted) {
            net.heal(self.cluster.node(*from), self.cluster.node(*to));
        }
        self.cut = wanted;
        fresh.len()
    }
}
