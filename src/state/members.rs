//! Who the members are: the record of each, changed by entries, and the ids of those that were removed.
//!
//! raft keeps who votes; this keeps everything else, and the verdict on every change. A change is judged where it
//! is applied, by what is here alone, so that all members agree on it; raft's own configuration follows the
//! verdict (`raft/ready.rs`), and both reach the database in one batch.
//!
//! Invariants:
//! * The members without a vote here are raft's learners, the others its voters.
//! * An id is given once: one that was removed never comes back.
//! * There is always a voter.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::meta::Position;
use super::{State, Verdict, meta};
use crate::error::{Refusal, Result};
use crate::proto::etcdserverpb::member_change::Kind;
use crate::proto::etcdserverpb::{self as pb, ClusterMemberAttrSetRequest, MemberChange};

/// Learners that a cluster may have at once, etcd's default.
const LEARNERS_MAX: usize = 1;

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name; empty until it has started.
    pub name: String,
    /// Where the other members find it.
    pub peer_urls: Vec<String>,
    /// Where clients find it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub is_learner: bool,
}

impl Member {
    /// Whether it has ever told the cluster its name.
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The member in etcd's words.
    #[must_use]
    pub fn to_message(&self, id: u64) -> pb::Member {
        pb::Member {
            id,
            name: self.name.clone(),
            peer_ur_ls: self.peer_urls.clone(),
            client_ur_ls: self.client_urls.clone(),
            is_learner: self.is_learner,
        }
    }

    /// Id and member from etcd's words.
    #[must_use]
    pub fn from_message(message: pb::Member) -> (u64, Self) {
        let pb::Member { id, name, peer_ur_ls, client_ur_ls, is_learner } = message;
        (id, Self { name, peer_urls: peer_ur_ls, client_urls: client_ur_ls, is_learner })
    }
}

/// All members of a cluster, by id.
pub type Members = BTreeMap<u64, Member>;

impl State {
    /// The members, by id.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The ids of members that were removed.
    #[must_use]
    pub fn removed_members(&self) -> &BTreeSet<u64> {
        &self.removed_members
    }

    /// Gives a state in which nothing was applied its first members, in place of any that it was given before,
    /// and makes that durable.
    ///
    /// # Errors
    /// The system's; fatal.
    pub fn bootstrap(&mut self, members: Members, conf_state: Vec<u8>) -> Result<()> {
        assert_eq!(self.applied(), (0, 0), "only a new state is given its first members");
        let mut batch = self.storage.batch();
        meta::delete_all(&mut batch);
        for (id, member) in &members {
            meta::put_member(&mut batch, *id, &member.to_message(*id).encode_to_vec());
        }
        meta::put_conf_state(&mut batch, &conf_state);
        self.storage.write(batch)?;
        self.storage.sync()?;
        (self.members, self.conf_state) = (members, Some(conf_state));
        Ok(())
    }

    /// Makes a whole state that of a new cluster, at another place of another log, and makes that durable. Alarms
    /// and the members so far are forgotten.
    ///
    /// # Errors
    /// The system's; fatal.
    pub fn found(
        &mut self,
        members: Members,
        conf_state: Vec<u8>,
        place: (u64, u64),
    ) -> Result<()> {
        let mut batch = self.storage.batch();
        for id in self.members.keys().chain(&self.removed_members) {
            meta::forget_member(&mut batch, *id);
        }
        for (member, _) in &self.alarms {
            meta::put_alarms(&mut batch, *member, &[]);
        }
        for (id, member) in &members {
            meta::put_member(&mut batch, *id, &member.to_message(*id).encode_to_vec());
        }
        meta::put_conf_state(&mut batch, &conf_state);
        let (index, term) = place;
        meta::put_applied(&mut batch, Position { index, term }, self.current_revision);
        self.storage.write(batch)?;
        self.storage.sync()
    }

    /// Whether a change can be made to the members as they are now; applying it comes to the same.
    ///
    /// # Errors
    /// etcd's words for what speaks against it.
    pub fn member_verdict(&self, change: &MemberChange) -> Verdict<()> {
        if self.removed_members.contains(&change.id) {
            return Err(Refusal::MemberNotFound);
        }
        let known = self.members.get(&change.id);
        let taken = |url: &String| {
            let mut others = self.members.iter().filter(|(id, _)| **id != change.id);
            others.any(|(_, member)| member.peer_urls.contains(url))
        };
        let is_taken = change.peer_urls.iter().any(taken);
        match (change.kind(), known) {
            (Kind::Add, Some(_)) => Err(Refusal::MemberExists),
            (Kind::Add, None) if change.id == 0 || change.peer_urls.is_empty() => {
                Err(Refusal::MemberBadUrls)
            }
            (Kind::Add, None) if is_taken => Err(Refusal::PeerUrlExists),
            (Kind::Add, None) if change.is_learner && self.learners() >= LEARNERS_MAX => {
                Err(Refusal::TooManyLearners)
            }
            (Kind::Add, None) => Ok(()),
            (_, None) => Err(Refusal::MemberNotFound),
            (Kind::Promote, Some(member)) if !member.is_learner => Err(Refusal::MemberNotLearner),
            (Kind::Remove, Some(member)) if !member.is_learner && self.voters() == 1 => {
                Err(Refusal::MemberNotEnoughStarted)
            }
            (Kind::Update, Some(_)) if is_taken => Err(Refusal::PeerUrlExists),
            (Kind::Promote | Kind::Remove | Kind::Update, Some(_)) => Ok(()),
        }
    }

    fn learners(&self) -> usize {
        self.members.values().filter(|member| member.is_learner).count()
    }

    fn voters(&self) -> usize {
        self.members.len() - self.learners()
    }

    /// Makes a change, and gives the members as they are then; no revision of its own.
    pub(super) fn change_member(&mut self, change: &MemberChange) -> Result<Vec<pb::Member>> {
        self.member_verdict(change)?;
        let id = change.id;
        match change.kind() {
            Kind::Add => {
                let (peer_urls, is_learner) = (change.peer_urls.clone(), change.is_learner);
                self.keep_member(id, Member { peer_urls, is_learner, ..Member::default() });
            }
            Kind::Remove => {
                self.members.remove(&id);
                self.removed_members.insert(id);
                meta::remove_member(&mut self.pending.batch, id);
            }
            Kind::Update => {
                let member = self.members.get(&id).cloned().unwrap_or_default();
                self.keep_member(id, Member { peer_urls: change.peer_urls.clone(), ..member });
            }
            Kind::Promote => {
                let member = self.members.get(&id).cloned().unwrap_or_default();
                self.keep_member(id, Member { is_learner: false, ..member });
            }
        }
        Ok(self.members.iter().map(|(id, member)| member.to_message(*id)).collect())
    }

    /// Keeps what a member published; no revision of its own. One that was removed has nothing to say.
    pub(super) fn set_member(&mut self, request: &ClusterMemberAttrSetRequest) {
        let id = request.member_id;
        if self.removed_members.contains(&id) {
            return;
        }
        let member = self.members.get(&id).cloned().unwrap_or_default();
        let (name, client_urls) = (request.name.clone(), request.client_urls.clone());
        self.keep_member(id, Member { name, client_urls, ..member });
    }

    fn keep_member(&mut self, id: u64, member: Member) {
        let encoded = member.to_message(id).encode_to_vec();
        meta::put_member(&mut self.pending.batch, id, &encoded);
        self.members.insert(id, member);
    }

    /// Reads all members back.
    pub(super) fn restore_members(&mut self) -> Result<()> {
        let storage = self.storage.clone();
        meta::read_members(&storage, |id, encoded| {
            let message = pb::Member::decode(encoded)
                .map_err(|cause| self.corrupt(format!("the record of member {id:x}: {cause}")))?;
            self.members.insert(id, Member::from_message(message).1);
            Ok(())
        })?;
        meta::read_removed_members(&storage, |id| {
            self.removed_members.insert(id);
        })
    }
}
