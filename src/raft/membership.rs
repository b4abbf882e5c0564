//! Who the members are, and leadership that moves between them on request.

use std::collections::BTreeMap;

use raft::eraftpb::ConfState;
use tokio::sync::oneshot;

use super::node::{Node, Reply, Stopping};
use crate::config::Config;
use crate::error::Refusal;

/// The first configuration of a new cluster: all of its members vote. Each member works it out by itself, and
/// all come to the same.
pub(super) fn initial_conf_state(config: &Config) -> ConfState {
    ConfState::from((config.initial_members().into_keys().collect::<Vec<u64>>(), vec![]))
}

/// Where the other members are reached (the first of their peer URLs).
pub(super) fn peers(config: &Config) -> BTreeMap<u64, String> {
    let members = config.initial_members().into_iter();
    let others = members.filter(|(id, _)| *id != config.member_id());
    others.filter_map(|(id, (_, urls))| urls.first().map(|url| (id, url.authority()))).collect()
}

/// Leadership on its way to another member, because somebody asked.
pub(super) struct Transfer {
    target: u64,
    deadline_tick: u64,
    answer: Reply<()>,
}

impl Node {
    /// Ticks after which a handover has failed: raft gives up after one election timeout, and the new leader
    /// needs some time to be heard.
    fn handover_ticks(&self) -> u64 {
        2 * self.config.election_ticks() as u64
    }

    pub(super) fn on_move_leader(&mut self, target: u64, answer: Reply<()>) {
        let refusal = if !self.is_leader() {
            Some(Refusal::NotLeader)
        } else if !self.raw.raft.prs().conf().voters().contains(target) {
            Some(Refusal::BadLeaderTransferee)
        } else if self.transfer.is_some() || self.stopping.is_some() {
            Some(Refusal::TooManyRequests)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let _ = answer.send(Err(refusal));
            return;
        }
        tracing::info!("handing leadership to member {target:x}");
        self.raw.transfer_leader(target);
        let deadline_tick = self.tick + self.handover_ticks();
        self.transfer = Some(Transfer { target, deadline_tick, answer });
    }

    /// Answers a request to move leadership once it is clear how it went.
    pub(super) fn settle_transfer(&mut self) {
        let (leader, tick) = (self.leadership.leader, self.tick);
        let over =
            |transfer: &mut Transfer| leader == transfer.target || tick >= transfer.deadline_tick;
        if let Some(Transfer { target, answer, .. }) = self.transfer.take_if(over) {
            let moved = leader == target;
            let _ = answer.send(if moved { Ok(()) } else { Err(Refusal::TimeoutLeaderTransfer) });
        }
    }

    pub(super) fn on_stop(&mut self, answer: oneshot::Sender<()>) {
        if let Some(stopping) = &mut self.stopping {
            stopping.answers.push(answer);
            return;
        }
        let mut deadline_tick = self.tick;
        if let Some(successor) = self.successor() {
            tracing::info!("stopping: handing leadership to member {successor:x}");
            self.raw.transfer_leader(successor);
            deadline_tick += self.handover_ticks();
        }
        self.stopping = Some(Stopping { deadline_tick, answers: vec![answer] });
    }

    /// The most up-to-date voter heard of lately, where this member leads.
    fn successor(&self) -> Option<u64> {
        if !self.is_leader() {
            return None;
        }
        let mut voters = self.raw.store().conf_state().voters.clone();
        voters.sort_unstable();
        let progress = |id: &u64| {
            let progress = self.raw.raft.prs().get(*id)?;
            (*id != self.raw.raft.id && progress.recent_active).then_some((progress.matched, *id))
        };
        voters.iter().filter_map(progress).max().map(|(_, id)| id)
    }

    /// Whether a stopping member has nothing more to wait for: another one leads, or it took too long.
    pub(super) fn may_stop(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            let another = ![0, self.raw.raft.id].contains(&self.leadership.leader);
            another || self.tick >= stopping.deadline_tick
        })
    }
}
