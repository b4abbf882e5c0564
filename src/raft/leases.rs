//! Leases between clients, the leader's [`Lessor`](super::lessor::Lessor) and the log.
//!
//! Renewals and questions about the time left are served by the leader as linearizable reads: a quorum
//! has confirmed it after they were asked. Another member passes them on and asks again for as long as
//! the client may wait: leaders change.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tonic::transport::Channel;

use super::handle::{Handle, Shared};
use super::lessor::Renewal;
use super::node::{Node, Reply, Request};
use super::roster::Roster;
use super::transport::Edges;
use crate::error::Refusal;
use crate::proto::etcdserverpb::{
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest, RequestHeader,
};
use crate::proto::peer::peer_client::PeerClient;
use crate::proto::peer::{LeaseRenewRequest, LeaseTimeToLiveRequest};
use crate::state::{Caller, LeaseChange};

/// What a lease has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeToLive {
    /// Whole seconds.
    pub ttl_s: i64,
    /// What was granted.
    pub granted_ttl_s: i64,
    /// The keys that hang on it, where asked for.
    pub keys: Vec<Bytes>,
}

/// Something that only the leader can say of a lease.
pub(super) enum LeaseRead {
    /// Renews it; the seconds it has then, 0 where there is no such lease.
    Renew {
        id: i64,
        answer: Reply<i64>,
    },
    TimeToLive {
        id: i64,
        keys: bool,
        answer: Reply<Option<TimeToLive>>,
    },
}

impl LeaseRead {
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Renew { answer, .. } => answer.is_closed(),
            Self::TimeToLive { answer, .. } => answer.is_closed(),
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Renew { answer, .. } => {
                let _ = answer.send(Err(refusal));
            }
            Self::TimeToLive { answer, .. } => drop(answer.send(Err(refusal))),
        }
    }
}

/// Renewals that wait for an entry about their lease.
#[derive(Default)]
pub(super) struct Renewals {
    waiting: BTreeMap<i64, Vec<Reply<i64>>>,
    count: usize,
}

impl Renewals {
    fn push(&mut self, id: i64, answer: Reply<i64>, limit: usize) {
        if self.count >= limit {
            let _ = answer.send(Err(Refusal::TooManyRequests));
            return;
        }
        self.count += 1;
        self.waiting.entry(id).or_default().push(answer);
    }

    fn take(&mut self, id: i64) -> Vec<Reply<i64>> {
        let taken = self.waiting.remove(&id).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    fn take_all(&mut self) -> impl Iterator<Item = Reply<i64>> + use<> {
        self.count = 0;
        std::mem::take(&mut self.waiting).into_values().flatten()
    }

    fn forget_gone(&mut self) {
        self.waiting.retain(|_, answers| {
            answers.retain(|answer| !answer.is_closed());
            !answers.is_empty()
        });
        self.count = self.waiting.values().map(Vec::len).sum();
    }
}

impl Node {
    fn now(&self) -> Duration {
        self.edges.clock.monotonic()
    }

    /// Answers what only the leader can, once the read is confirmed.
    pub(super) fn serve_lease(&mut self, read: LeaseRead) {
        if self.lessor.term() != Some(self.raw.raft.term) || !self.is_leader() {
            return read.refuse(Refusal::NotLeader);
        }
        let now = self.now();
        match read {
            LeaseRead::Renew { id, answer } => match self.lessor.renew(id, now) {
                Renewal::Renewed(ttl_s) => {
                    let _ = answer.send(Ok(ttl_s));
                }
                Renewal::Unknown => {
                    let _ = answer.send(Ok(0));
                }
                wait @ (Renewal::Due | Renewal::Checkpointed) => {
                    let limit = self.config.limits.lease_renewals_waiting_max;
                    self.renewals.push(id, answer, limit);
                    if wait == Renewal::Checkpointed {
                        self.propose_checkpoint(&[(id, 0)]);
                    }
                }
            },
            LeaseRead::TimeToLive { id, keys, answer } => {
                let lease = self.state.lease(id);
                let ttl_s = self.lessor.remaining_s(id, now);
                let found = lease.zip(ttl_s).map(|(lease, ttl_s)| TimeToLive {
                    ttl_s,
                    granted_ttl_s: lease.granted_ttl_s,
                    keys: if keys { lease.keys().cloned().collect() } else { Vec::new() },
                });
                drop(answer.send(Ok(found)));
            }
        }
    }

    /// What entries did to leases reaches the lessor, and those who waited for it.
    pub(super) fn settle_applied_leases(&mut self) {
        let changes = self.state.take_lease_changes();
        if self.lessor.term().is_none() || changes.is_empty() {
            return;
        }
        let now = self.now();
        for change in changes {
            self.lessor.applied(change, now);
            let (LeaseChange::Revoked { id }
            | LeaseChange::Checkpointed { id, remaining_ttl_s: 0 }) = change
            else {
                continue;
            };
            for answer in self.renewals.take(id) {
                self.serve_lease(LeaseRead::Renew { id, answer });
            }
        }
    }

    /// Leadership over leases follows that over the log, once all from before it is applied.
    pub(super) fn settle_lessor(&mut self) {
        let term = self.raw.raft.term;
        if !self.is_leader() || self.lessor.term().is_some_and(|of| of != term) {
            if self.lessor.term().is_some() {
                self.lessor.demote();
            }
            for answer in self.renewals.take_all() {
                // Whoever asked may have given up.
                let _ = answer.send(Err(Refusal::NotLeader));
            }
        }
        if self.is_leader()
            && self.lessor.term().is_none()
            && self.raw.store().applied().term == term
        {
            let extra = Duration::from_millis(self.config.election_timeout_ms);
            let now = self.now();
            self.lessor.promote(term, self.state.leases(), now, extra);
        }
    }

    /// Time passes: proposes what is due.
    pub(super) fn tick_leases(&mut self) {
        self.renewals.forget_gone();
        if self.lessor.term() != Some(self.raw.raft.term) || !self.is_leader() {
            return;
        }
        let wanted = self.lessor.tick(self.now());
        for id in wanted.revoke {
            tracing::debug!("lease {id:x} is due");
            let lease_revoke = Some(LeaseRevokeRequest { id });
            self.propose_in_term(InternalRaftRequest { lease_revoke, ..Default::default() });
        }
        if !wanted.checkpoint.is_empty() {
            self.propose_checkpoint(&wanted.checkpoint);
        }
    }

    fn propose_checkpoint(&mut self, leases: &[(i64, i64)]) {
        let checkpoints = leases
            .iter()
            .map(|&(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl })
            .collect();
        let lease_checkpoint = Some(LeaseCheckpointRequest { checkpoints });
        self.propose_in_term(InternalRaftRequest { lease_checkpoint, ..Default::default() });
    }

    /// Proposes what this leader has decided alone; void in any other term. What raft does not take is
    /// asked for again by the lessor, or by the client.
    fn propose_in_term(&mut self, mut request: InternalRaftRequest) {
        // Nobody but the member itself asks for it.
        let Caller { user: username, auth_revision } = Caller::root();
        let only_in_term = self.raw.raft.term;
        request.header = Some(RequestHeader { id: 0, username, auth_revision, only_in_term });
        if let Err(error) = self.raw.propose(Vec::new(), request.encode_to_vec()) {
            tracing::debug!("raft refused a proposal about leases: {error}");
        }
    }
}

/// The way to the other members, for what only the leader can say.
pub(super) struct Forward {
    pub(super) edges: Edges,
    /// Channels that have worked so far, by member.
    pub(super) channels: Mutex<BTreeMap<u64, Channel>>,
}

impl Forward {
    fn client(&self, id: u64, roster: &Roster) -> Option<PeerClient<Channel>> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&id) {
            return Some(PeerClient::new(channel.clone()));
        }
        let channel = self.edges.connect(&roster.url(id)?).ok()?;
        channels.insert(id, channel.clone());
        Some(PeerClient::new(channel))
    }

    fn forget(&self, id: u64) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// What is asked of the leader, to be asked more than once.
#[derive(Clone, Copy)]
enum Question {
    Renew { id: i64 },
    TimeToLive { id: i64, keys: bool },
}

impl Handle {
    /// Renews a lease; how many seconds it has then, 0 where there is no such lease.
    ///
    /// # Errors
    /// [`Refusal::Timeout`], [`Refusal::TooManyRequests`], [`Refusal::Stopped`].
    pub async fn lease_renew(&self, id: i64) -> Result<i64, Refusal> {
        let answer = self.ask_leader(Question::Renew { id }).await?;
        Ok(answer.map_or(0, |answer| answer.ttl_s))
    }

    /// What a lease has left; `None` where there is no such lease.
    ///
    /// # Errors
    /// As [`Handle::lease_renew`].
    pub async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<Option<TimeToLive>, Refusal> {
        self.ask_leader(Question::TimeToLive { id, keys }).await
    }

    /// [`Handle::lease_renew`], if this member leads.
    pub(super) async fn lease_renew_here(&self, id: i64) -> Result<i64, Refusal> {
        self.ask(|answer| Request::Lease(LeaseRead::Renew { id, answer })).await
    }

    /// [`Handle::lease_time_to_live`], if this member leads.
    pub(super) async fn lease_time_to_live_here(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<Option<TimeToLive>, Refusal> {
        self.ask(|answer| Request::Lease(LeaseRead::TimeToLive { id, keys, answer })).await
    }

    async fn ask_leader(&self, question: Question) -> Result<Option<TimeToLive>, Refusal> {
        let clock = &self.forward().edges.clock;
        let retry = Duration::from_millis(self.forward().edges.limits.lease_forward_retry_ms);
        let asking = async {
            loop {
                match self.ask_leader_once(question).await {
                    Err(Refusal::NotLeader | Refusal::NoLeader | Refusal::LeaderChanged) => {}
                    answer => return answer,
                }
                clock.sleep(retry).await;
            }
        };
        tokio::select! {
            biased;
            answer = asking => answer,
            () = clock.sleep(self.request_timeout()) => Err(Refusal::Timeout),
        }
    }

    async fn ask_leader_once(&self, question: Question) -> Result<Option<TimeToLive>, Refusal> {
        let Shared { cluster_id, member_id: from, .. } = *self.shared();
        let to = self.leader();
        if to == 0 {
            return Err(Refusal::NoLeader);
        }
        if to == from {
            return match question {
                Question::Renew { id } => self.lease_renew_here(id).await.map(renewed),
                Question::TimeToLive { id, keys } => self.lease_time_to_live_here(id, keys).await,
            };
        }
        let forward = self.forward();
        // A lease may have any number of keys.
        let client = forward.client(to, &self.shared().roster()).ok_or(Refusal::NoLeader)?;
        let mut client = client.max_decoding_message_size(usize::MAX);
        let asking = async {
            Ok::<_, tonic::Status>(match question {
                Question::Renew { id } => {
                    let request = LeaseRenewRequest { cluster_id, from, to, id };
                    renewed(client.lease_renew(request).await?.into_inner().ttl_s)
                }
                Question::TimeToLive { id, keys } => {
                    let request = LeaseTimeToLiveRequest { cluster_id, from, to, id, keys };
                    let answer = client.lease_time_to_live(request).await?.into_inner();
                    let (ttl_s, granted_ttl_s) = (answer.ttl_s, answer.granted_ttl_s);
                    answer.found.then_some(TimeToLive { ttl_s, granted_ttl_s, keys: answer.keys })
                }
            })
        };
        let timeout = Duration::from_millis(forward.edges.limits.lease_forward_timeout_ms);
        let answer = tokio::select! {
            biased;
            answer = asking => answer.map_err(|status| status.message().to_owned()),
            () = forward.edges.clock.sleep(timeout) => Err("no answer".to_owned()),
        };
        answer.map_err(|error| {
            tracing::debug!("member {to:x} did not speak of a lease: {error}");
            forward.forget(to);
            Refusal::NotLeader
        })
    }
}

fn renewed(ttl_s: i64) -> Option<TimeToLive> {
    (ttl_s > 0).then_some(TimeToLive { ttl_s, ..TimeToLive::default() })
}
