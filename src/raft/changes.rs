//! Changes of who the members are: asked of the leader, checked, and proposed one at a time.
//!
//! Only the leader knows who answers and how far learners are, so it alone checks; other members pass changes on
//! to it. A change of who votes travels as raft's own kind of entry, with the request in its context; a change of
//! URLs is an entry like any other. Whether it can be made is decided once more where it is applied, by the state
//! machine (`state/members.rs`).
//!
//! Invariants:
//! * One change of who votes is under way at a time: the next one waits until it is applied here.
//! * Nothing is proposed twice: what may have reached the log is answered as unknown, never asked again.
//! * A leader that is to be removed first hands leadership over, and the next leader removes it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, Message, MessageType,
};

use super::handle::{Handle, Shared};
use super::node::{Node, Request};
use super::waiters::Answer;
use crate::error::Refusal;
use crate::proto::etcdserverpb::member_change::Kind;
use crate::proto::etcdserverpb::{self as pb, InternalRaftRequest, MemberChange, RequestHeader};
use crate::proto::peer::ChangeMembersRequest;
use crate::proto::peer::peer_client::PeerClient;
use crate::state::Response;

/// Of what the leader has, what a learner must have to be given a vote, in tenths (etcd's 90 %).
const READY_TENTHS: u64 = 9;

/// A change of who votes that raft was not given yet.
pub(super) struct Change {
    pub(super) id: u64,
    pub(super) change: MemberChange,
    pub(super) answer: Answer,
}

/// Since when, and when last, each member was heard of, in ticks.
#[derive(Default)]
pub(super) struct Contacts {
    heard: BTreeMap<u64, (u64, u64)>,
}

impl Contacts {
    /// Member `id` was heard of; a silence of more than `silence_ticks` breaks the contact.
    pub(super) fn heard(&mut self, id: u64, tick: u64, silence_ticks: u64) {
        let (since, last) = self.heard.entry(id).or_insert((tick, tick));
        if tick - *last > silence_ticks {
            *since = tick;
        }
        *last = tick;
    }

    /// For how many ticks there has been contact with a member; `None` where there is none.
    fn lasting(&self, id: u64, tick: u64, silence_ticks: u64) -> Option<u64> {
        let (since, last) = self.heard.get(&id)?;
        (tick - last <= silence_ticks).then(|| tick - since)
    }

    /// Forgets the members that are none any more.
    pub(super) fn retain(&mut self, is_member: impl Fn(u64) -> bool) {
        self.heard.retain(|id, _| is_member(*id));
    }
}

/// The entry that carries a change.
pub(super) fn entry(id: u64, change: &MemberChange) -> Entry {
    let header = Some(RequestHeader { id, ..RequestHeader::default() });
    let member_change = Some(change.clone());
    let request = InternalRaftRequest { header, member_change, ..Default::default() };
    let mut single = ConfChangeSingle { node_id: change.id, ..ConfChangeSingle::default() };
    single.set_change_type(match change.kind() {
        Kind::Add if change.is_learner => ConfChangeType::AddLearnerNode,
        Kind::Add | Kind::Promote => ConfChangeType::AddNode,
        Kind::Remove => ConfChangeType::RemoveNode,
        Kind::Update => unreachable!("new URLs do not change who votes"),
    });
    let mut change = ConfChangeV2 { context: request.encode_to_vec().into(), ..Default::default() };
    change.set_changes(vec![single].into());
    let data = change.write_to_bytes().expect("a message with all its fields can be encoded");
    let mut entry = Entry { data: data.into(), ..Entry::default() };
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    entry
}

impl Node {
    /// Takes a change in, to be proposed when its turn comes.
    pub(super) fn on_change(&mut self, change: Change) {
        if self.changes.len() >= self.config.limits.member_changes_waiting_max {
            let _ = change.answer.send(Err(Refusal::TooManyRequests));
            return;
        }
        self.changes.push_back(change);
    }

    /// Proposes the next change, where the one before is applied.
    pub(super) fn propose_change(&mut self) {
        self.changes.retain(|change| !change.answer.is_closed());
        while let Some(Change { change, .. }) = self.changes.front() {
            let raft = &self.raw.raft;
            let verdict = if !self.is_leader() || !self.can_propose() {
                Err(Refusal::NotLeader)
            } else if raft.has_pending_conf() || !raft.commit_to_current_term() {
                return;
            } else {
                self.may_change(change)
            };
            let is_own_removal = change.kind() == Kind::Remove && change.id == self.raw.raft.id;
            let verdict = verdict.and_then(|()| match self.successor() {
                Some(successor) if is_own_removal => {
                    tracing::info!("to be removed: handing leadership to member {successor:x}");
                    self.raw.transfer_leader(successor);
                    Err(Refusal::NotLeader)
                }
                _ => Ok(()),
            });
            let Some(Change { id, change, answer }) = self.changes.pop_front() else { return };
            if let Err(refusal) = verdict {
                // Whoever asked may have given up.
                let _ = answer.send(Err(refusal));
                continue;
            }
            let mut message = Message { from: self.raw.raft.id, ..Message::default() };
            message.set_msg_type(MessageType::MsgPropose);
            message.set_entries(vec![entry(id, &change)].into());
            match self.raw.step(message) {
                Ok(()) => self.waiters.insert(id, answer),
                Err(error) => {
                    tracing::debug!("raft refused a change of members: {error}");
                    let _ = answer.send(Err(Refusal::TooManyRequests));
                }
            }
            return;
        }
    }

    /// etcd's checks before a change is proposed: the cluster must live on with it.
    fn may_change(&self, change: &MemberChange) -> Result<(), Refusal> {
        let enough = |is_enough: bool, refusal| if is_enough { Ok(()) } else { Err(refusal) };
        if change.kind() == Kind::Promote {
            self.learner_ready(change.id)?;
        }
        if !self.config.strict_reconfig_check {
            return Ok(());
        }
        let (not_started, unhealthy) = (Refusal::MemberNotEnoughStarted, Refusal::Unhealthy);
        let (voters, started) = self.voters_started(0);
        match change.kind() {
            Kind::Add => {
                let is_second = started == 1 && voters == 1;
                let is_enough = change.is_learner || is_second || started > voters.div_ceil(2);
                enough(is_enough, not_started)?;
                // The new member counts as one that is down.
                enough(voters == 1 || self.connected() > voters.div_ceil(2), unhealthy)
            }
            Kind::Promote => enough(started + 1 > voters.div_ceil(2), not_started),
            Kind::Remove => {
                let id = change.id;
                if self.state.members().get(&id).is_some_and(|member| member.is_learner) {
                    return Ok(());
                }
                let (left, left_started) = self.voters_started(id);
                enough(left_started > left / 2, not_started)?;
                if id != self.raw.raft.id && self.contact(id).is_none() {
                    // One that is down takes nothing from those that work.
                    return Ok(());
                }
                enough(self.connected() > 1 + voters.saturating_sub(1) / 2, unhealthy)
            }
            Kind::Update => Ok(()),
        }
    }

    /// Voters other than `without`, and how many of them have started.
    fn voters_started(&self, without: u64) -> (usize, usize) {
        let members = self.state.members().iter();
        let voters = members.filter(|(id, member)| !member.is_learner && **id != without);
        let started = voters.clone().filter(|(_, member)| member.is_started()).count();
        (voters.count(), started)
    }

    fn contact(&self, id: u64) -> Option<u64> {
        self.contacts.lasting(id, self.tick, self.config.election_ticks() as u64)
    }

    /// How many voters have been in contact for a while, this one among them.
    fn connected(&self) -> usize {
        let needed_ticks = super::ticks_of(self.config.limits.member_health_ms, &self.config);
        let is_connected = |id: u64| {
            id == self.raw.raft.id || self.contact(id).is_some_and(|ticks| ticks >= needed_ticks)
        };
        let members = self.state.members().iter();
        members.filter(|(id, member)| !member.is_learner && is_connected(**id)).count()
    }

    fn learner_ready(&self, id: u64) -> Result<(), Refusal> {
        let progress = self.raw.raft.prs();
        let own = progress.get(self.raw.raft.id).map_or(0, |own| own.matched);
        match progress.get(id) {
            None => Err(Refusal::MemberNotFound),
            Some(learner) if learner.matched * 10 < own * READY_TENTHS => {
                Err(Refusal::LearnerNotReady)
            }
            Some(_) => Ok(()),
        }
    }
}

impl Handle {
    /// Changes the members, and gives them as they are then.
    ///
    /// # Errors
    /// etcd's words for what speaks against it; [`Refusal::Timeout`] and [`Refusal::TimeoutLeaderFail`] with an
    /// unknown outcome.
    pub async fn change_members(&self, change: MemberChange) -> Result<Vec<pb::Member>, Refusal> {
        if change.kind() == Kind::Update {
            let member_change = Some(change);
            let request = InternalRaftRequest { member_change, ..Default::default() };
            return members(self.propose(request).await?);
        }
        let edges = &self.forward().edges;
        let retry = Duration::from_millis(edges.limits.lease_forward_retry_ms);
        let asking = async {
            loop {
                match self.change_members_once(&change).await {
                    // Certain: nothing was proposed.
                    Err(Refusal::NotLeader | Refusal::NoLeader) => {}
                    answer => return answer,
                }
                edges.clock.sleep(retry).await;
            }
        };
        tokio::select! {
            biased;
            answer = asking => answer,
            () = edges.clock.sleep(self.request_timeout()) => Err(Refusal::Timeout),
        }
    }

    /// [`Handle::change_members`], if this member leads.
    pub(super) async fn change_members_here(
        &self,
        change: MemberChange,
    ) -> Result<Vec<pb::Member>, Refusal> {
        let id = self.unused_id();
        members(self.ask(|answer| Request::Change(Change { id, change, answer })).await?)
    }

    async fn change_members_once(&self, change: &MemberChange) -> Result<Vec<pb::Member>, Refusal> {
        let Shared { cluster_id, member_id: from, .. } = *self.shared();
        let to = self.leader();
        if to == from {
            return self.change_members_here(change.clone()).await;
        }
        let url = self.shared().roster().url(to).ok_or(Refusal::NoLeader)?;
        // A connection of its own: an old one that broke would leave it open whether the change was heard.
        let channel = self.forward().edges.connect(&url).map_err(|_| Refusal::NoLeader)?;
        let change = change.encode_to_vec().into();
        let request = ChangeMembersRequest { cluster_id, from, to, change };
        match PeerClient::new(channel).change_members(request).await {
            Ok(answer) => Ok(super::join::decode(answer.into_inner().members)),
            Err(status) => {
                let known = Refusal::ALL.iter().find(|refusal| refusal.text() == status.message());
                Err(known.copied().unwrap_or(Refusal::TimeoutLeaderFail))
            }
        }
    }
}

fn members(response: Response) -> Result<Vec<pb::Member>, Refusal> {
    match response {
        Response::Members(members) => Ok(members),
        _ => unreachable!("a change of members is answered with the members"),
    }
}

/// Changes that wait for their turn.
pub(super) type Changes = VecDeque<Change>;

#[cfg(test)]
mod tests {
    use super::*;

    /// Contact lasts from the first word to the first long silence.
    #[test]
    fn contacts() {
        let check = |words: &[u64], tick, expected| {
            let mut contacts = Contacts::default();
            words.iter().for_each(|tick| contacts.heard(7, *tick, 10));
            assert_eq!(contacts.lasting(7, tick, 10), expected, "{words:?} at {tick}");
        };
        check(&[], 5, None);
        check(&[5], 5, Some(0));
        check(&[5, 15, 25], 30, Some(25));
        check(&[5, 16], 20, Some(4));
        check(&[5], 16, None);
    }
}
