//! Changes who the members are, as an operator would: by the cluster's own API, one change after the other.
//!
//! The operator looks before it acts: it asks who the members are, starts those that nobody has started yet, and
//! removes those whose disk is lost. What it asks for goes into the history as operations of a client of its own.
//!
//! Invariants:
//! * A machine's process is started as a member at most once with an empty disk: one whose disk is lost is removed
//!   before the machine comes back.
//! * A member that was removed is left alone: it has to notice by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::client::Client;
use super::cluster::{Cluster, Role};
use super::recorder::Recorder;
use crate::history::{Body, Member, Request};
use crate::scenario::change::{ChangeKind, Planned};

/// A member more than so many voters is removed again.
const VOTERS_WANTED: usize = 3;

/// As long as the server's own patience with a change, in microseconds.
const TIMEOUT_US: u64 = 8_000_000;

/// Between two looks at what has to become true.
const LOOK_EVERY_NS: u64 = 100_000_000;

/// See the module.
pub struct Reshaper {
    cluster: Cluster,
    recorder: Recorder,
    client: Client,
    /// The member that a machine was started as.
    started: BTreeMap<usize, u64>,
    /// Every member that was ever started somewhere.
    used: BTreeSet<u64>,
    /// The machine asked last with success.
    liked: usize,
}

impl Reshaper {
    /// An operator that works through `client`.
    #[must_use]
    pub fn new(cluster: &Cluster, recorder: &Recorder, client: Client) -> Self {
        let started: BTreeMap<usize, u64> =
            cluster.current().into_iter().map(|machine| (machine, cluster.id(machine))).collect();
        let used = started.values().copied().collect();
        let (cluster, recorder) = (cluster.clone(), recorder.clone());
        Self { cluster, recorder, client, started, used, liked: 0 }
    }

    /// Makes all changes, each not before its time; what has not begun by `until_us` is left out.
    pub async fn work(&mut self, changes: &[Planned], until_us: u64) {
        for change in changes {
            let now_ns = self.cluster.world.now_ns();
            if now_ns >= until_us * 1000 {
                return;
            }
            self.cluster.world.sleep((change.at_us * 1000).saturating_sub(now_ns)).await;
            if let Some(members) = self.list(true).await {
                self.tend(&members).await;
                self.change(change, &members).await;
            }
        }
    }

    /// Once everything is healed: until all members vote, are started, and have a disk.
    pub async fn settle(&mut self) {
        loop {
            match self.list(true).await {
                None => {
                    // The cluster may wait for a member that only one of the others knows of.
                    if let Some(members) = self.list(false).await {
                        self.start_new(&members).await;
                    }
                }
                Some(members) => {
                    let is_settled = |member: &Member| {
                        let machine = self.machine(member);
                        let id = machine.and_then(|machine| self.started.get(&machine));
                        !member.learner && id == Some(&member.id)
                    };
                    if members.iter().all(is_settled) {
                        let machines = members.iter().filter_map(|member| self.machine(member));
                        self.cluster.set_current(machines.collect());
                        return;
                    }
                    self.tend(&members).await;
                    if let Some(learner) = members.iter().find(|member| member.learner) {
                        self.ask(&Request::MemberPromote { id: learner.id }).await;
                    }
                }
            }
            self.cluster.world.sleep(LOOK_EVERY_NS).await;
        }
    }

    async fn change(&mut self, change: &Planned, members: &[Member]) {
        let voters: Vec<&Member> = members.iter().filter(|member| !member.learner).collect();
        let pick = |count: usize| usize::try_from(change.pick).unwrap_or(0) % count.max(1);
        match change.what {
            ChangeKind::Add | ChangeKind::AddLearner => {
                let is_free = |machine: &usize| {
                    members.iter().all(|member| self.machine(member) != Some(*machine))
                };
                let free: Vec<usize> = (0..self.cluster.count()).filter(is_free).collect();
                if !free.is_empty() {
                    let learner = change.what == ChangeKind::AddLearner;
                    self.add(free[pick(free.len())], learner).await;
                }
            }
            ChangeKind::Promote => {
                if let Some(learner) = members.iter().find(|member| member.learner)
                    && self.ask(&Request::MemberPromote { id: learner.id }).await.is_some()
                {
                    self.recorder.met("members_promoted", 1);
                }
            }
            ChangeKind::Remove => {
                let candidates = if voters.len() > VOTERS_WANTED {
                    voters
                } else {
                    members.iter().filter(|member| member.learner).collect()
                };
                if !candidates.is_empty() {
                    self.remove(candidates[pick(candidates.len())].id).await;
                }
            }
            ChangeKind::Replace => {
                let member = voters[pick(voters.len())];
                let Some(machine) = self.machine(member) else { return };
                if voters.len() < VOTERS_WANTED || self.started.get(&machine) != Some(&member.id) {
                    return;
                }
                let disk = self.cluster.world.disk(self.cluster.node(machine));
                disk.tally_loss_of_all();
                self.cluster.lose_disk(machine).await;
                self.started.remove(&machine);
                self.recorder.met("disks_lost", 1);
                if self.remove(member.id).await {
                    self.add(machine, change.pick.is_multiple_of(2)).await;
                }
            }
        }
    }

    /// Removes members whose disk is lost, and starts those that were added and never started.
    async fn tend(&mut self, members: &[Member]) {
        for member in members {
            let machine = self.machine(member);
            let runs = machine.is_some_and(|it| self.started.get(&it) == Some(&member.id));
            if self.used.contains(&member.id) && !runs {
                self.remove(member.id).await;
            }
        }
        self.start_new(members).await;
    }

    async fn start_new(&mut self, members: &[Member]) {
        for member in members {
            if let Some(machine) = self.machine(member)
                && !self.used.contains(&member.id)
            {
                self.start(machine, member.id).await;
            }
        }
    }

    async fn start(&mut self, machine: usize, id: u64) {
        self.cluster.lose_disk(machine).await;
        self.cluster.set_role(machine, Role::Joining);
        self.cluster.restart(machine);
        self.started.insert(machine, id);
        self.used.insert(id);
    }

    async fn add(&mut self, machine: usize, learner: bool) {
        let peer_urls = vec![self.cluster.peer_url(machine)];
        let Some(body) = self.ask(&Request::MemberAdd { peer_urls, learner }).await else { return };
        if let Body::Members { member: Some(member), .. } = body {
            self.recorder.met(if learner { "learners_added" } else { "members_added" }, 1);
            self.start(machine, member.id).await;
        }
    }

    async fn remove(&mut self, id: u64) -> bool {
        let removed = self.ask(&Request::MemberRemove { id }).await.is_some();
        self.recorder.met("members_removed", u64::from(removed));
        removed
    }

    /// Who the members are, as the leader says, or as any member does.
    async fn list(&mut self, linearizable: bool) -> Option<Vec<Member>> {
        match self.ask(&Request::MemberList { linearizable }).await? {
            Body::Members { members, .. } => Some(members),
            _ => None,
        }
    }

    /// Asks one machine after the other until one says yes or no. A change is asked of one alone.
    async fn ask(&mut self, request: &Request) -> Option<Body> {
        let is_list = matches!(request, Request::MemberList { .. });
        let count = self.cluster.count();
        let machines: Vec<usize> = (0..count).map(|n| (self.liked + n) % count).collect();
        for machine in machines {
            if self.cluster.way_in(machine).is_none() {
                continue;
            }
            let timeout_us = if is_list { TIMEOUT_US / 8 } else { TIMEOUT_US };
            match self.client.call(machine, request, timeout_us).await {
                Ok(response) => {
                    self.liked = machine;
                    return Some(response.body);
                }
                Err(_) if !is_list => {
                    self.liked = (machine + 1) % count;
                    return None;
                }
                Err(_) => {}
            }
        }
        None
    }

    fn machine(&self, member: &Member) -> Option<usize> {
        let url = member.peer_urls.first()?;
        (0..self.cluster.count()).find(|machine| self.cluster.peer_url(*machine) == *url)
    }
}
