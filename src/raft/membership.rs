//! Who the members are, and leadership that moves between them on request.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use protobuf::Message as _;
use raft::StateRole;
use raft::eraftpb::ConfState;
use tokio::sync::oneshot;

use super::node::{Node, Reply, Stopping};
use super::roster::Roster;
use crate::config::{Config, Url};
use crate::error::{Error, Refusal, Result};
use crate::state::{Member, Members};

/// The first members of a new cluster; all of them vote. Each works it out by itself, and all come to the same.
pub(super) fn first_members(config: &Config) -> (Members, ConfState) {
    let members = config.initial_members().into_iter().map(|(id, (_, urls))| {
        let peer_urls = urls.iter().map(Url::to_string).collect();
        (id, Member { peer_urls, ..Member::default() })
    });
    let members: Members = members.collect();
    let voters: Vec<u64> = members.keys().copied().collect();
    (members, ConfState::from((voters, vec![])))
}

/// Who votes, as it is stored.
pub(super) fn encode(conf_state: &ConfState) -> Result<Vec<u8>> {
    let bytes = conf_state.write_to_bytes();
    bytes.map_err(|e| Error::Fatal(format!("cannot encode members: {e}")))
}

/// What is said of a member that was removed, and what to do.
pub(super) fn farewell(member_id: u64, cluster_id: u64) -> String {
    format!(
        "member {member_id:x} has been removed from cluster {cluster_id:x} for good; to come back, empty its data \
         folder and add it as a new member"
    )
}

/// Leadership on its way to another member, because somebody asked.
pub(super) struct Transfer {
    target: u64,
    deadline_tick: u64,
    answer: Reply<()>,
}

impl Node {
    /// The members are others now: whoever works with them is told.
    pub(super) fn members_changed(&mut self) {
        let own = self.shared.member_id;
        let (members, removed) = (self.state.members(), self.state.removed_members());
        let roster = Roster { members: members.clone(), removed: removed.clone() };
        self.transport.update(roster.peers(own));
        self.contacts.retain(|id| roster.members.contains_key(&id));
        let is_learner = roster.members.get(&own).is_some_and(|member| member.is_learner);
        self.shared.is_learner.store(is_learner, Ordering::Relaxed);
        let voters = roster.members.iter().filter(|(_, member)| !member.is_learner);
        let voters: BTreeSet<u64> = voters.map(|(id, _)| *id).collect();
        let conf_state = self.raw.store().conf_state();
        let in_raft: BTreeSet<u64> = conf_state.voters.iter().copied().collect();
        // A member that has only been told who the others are knows of no vote.
        let knows_votes = self.raw.store().applied().index > 0;
        assert!(
            !knows_votes || voters == in_raft,
            "members {voters:x?} vote, in raft {in_raft:x?}"
        );
        let is_removed = roster.removed.contains(&own);
        self.shared.set_roster(roster);
        if is_removed {
            self.leave();
        }
    }

    /// Another member says that this one was removed; it has applied that.
    pub(super) fn on_removed(&mut self, by: u64) {
        if self.leaving.is_none() {
            tracing::info!("member {by:x} says that this one was removed");
        }
        self.leave();
    }

    /// Ends this member soon: what it has queued for others may still leave.
    fn leave(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        tracing::info!("this member was removed, and stops");
        let linger_ms = self.config.limits.removed_linger_ms;
        self.leaving = Some(self.tick + super::ticks_of(linger_ms, &self.config));
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Follower {
            // raft-rs lets a leader without a place in the configuration go on, and then looks for that place.
            let term = raft.term;
            raft.become_follower(term, 0);
        }
    }

    /// The last words of a member that was removed.
    pub(super) fn farewell(&self) -> String {
        farewell(self.shared.member_id, self.shared.cluster_id)
    }

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
    pub(super) fn successor(&self) -> Option<u64> {
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
