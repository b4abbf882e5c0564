//! What clients ask of the loop, answered from the state machine where that is enough.

use super::answers::Held;
use super::handle::{Header, Status};
use super::leases::LeaseRead;
use super::node::{Node, Reply, Request};
use super::propose::Proposal;
use super::read_index::Reader;
use super::waiters::Answer;
use crate::error::{Error, Refusal, Result};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use crate::state::{Caller, State};

/// A read that must be linearizable.
pub(super) enum Read {
    Range { caller: Caller, range: RangeRequest, answer: Reply<(RangeResponse, Held)> },
    Txn { caller: Caller, txn: TxnRequest, answer: Reply<(TxnResponse, Held)> },
    Barrier { answer: Reply<()> },
    Leases { caller: Caller, answer: Reply<Vec<i64>> },
    Lease(LeaseRead),
}

impl Reader for Read {
    fn is_gone(&self) -> bool {
        match self {
            Self::Range { answer, .. } => answer.is_closed(),
            Self::Txn { answer, .. } => answer.is_closed(),
            Self::Barrier { answer } => answer.is_closed(),
            Self::Leases { answer, .. } => answer.is_closed(),
            Self::Lease(read) => read.is_gone(),
        }
    }
}

impl Read {
    /// Answers with a refusal.
    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Range { answer, .. } => drop(answer.send(Err(refusal))),
            Self::Txn { answer, .. } => drop(answer.send(Err(refusal))),
            Self::Barrier { answer } => drop(answer.send(Err(refusal))),
            Self::Leases { answer, .. } => drop(answer.send(Err(refusal))),
            Self::Lease(read) => read.refuse(refusal),
        }
    }
}

/// Answers, or returns an error that is nobody's answer.
fn reply<T>(answer: Reply<T>, result: Result<T>) -> Result<()> {
    let answered = match result {
        Ok(value) => answer.send(Ok(value)),
        Err(Error::Refused(refusal)) => answer.send(Err(refusal)),
        // Dropping `answer` tells the client that the member stopped.
        Err(fatal) => return Err(fatal),
    };
    // Whoever asked may have given up.
    drop(answered);
    Ok(())
}

impl Node {
    pub(super) fn on_request(&mut self, request: Request) -> Result<()> {
        match request {
            Request::Range { caller, range, answer } => {
                self.read(answer, |state| state.range_as(&caller, &range))?;
            }
            Request::Txn { caller, txn, answer } => {
                self.read(answer, |state| state.txn_read_only_as(&caller, &txn))?;
            }
            Request::LinearizableRange { caller, range, answer } => {
                self.on_read(Read::Range { caller, range, answer });
            }
            Request::LinearizableTxn { caller, txn, answer } => {
                self.on_read(Read::Txn { caller, txn, answer });
            }
            Request::Barrier { answer } => self.on_read(Read::Barrier { answer }),
            Request::Change(change) => self.on_change(change),
            Request::Leases { caller, answer } => self.on_read(Read::Leases { caller, answer }),
            Request::Auth(question) => self.on_auth(question),
            // Here the answer could only be that another member leads.
            Request::Lease(read) if !self.is_leader() => read.refuse(Refusal::NotLeader),
            Request::Lease(read) => self.on_read(Read::Lease(read)),
            Request::History { answer } => reply(answer, Ok(self.state.history()))?,
            Request::Previous { keys, answer } => {
                let values = keys.iter().map(|(key, main)| self.state.previous(key, *main));
                let values = values.collect::<Result<Vec<_>>>();
                reply(answer, values)?;
            }
            Request::Propose { id, data, answer } => self.on_propose(id, data, answer),
            Request::Status { answer } => reply(answer, self.status())?,
            Request::HashAll { answer } => {
                let (applied, _) = self.state.applied();
                reply(answer, self.state.hash_all().map(|hash| (applied, hash)))?;
            }
            Request::Defragment { answer } => {
                let done = self.state.defragment();
                // What asks for room next should not be refused by what was seen before.
                self.look_at_size();
                reply(answer, done)?;
            }
            Request::Export { answer } => reply(answer, self.state.export())?,
            Request::HashKv { revision, answer } => reply(answer, self.state.hash_kv(revision))?,
            Request::MoveLeader { target, answer } => self.on_move_leader(target, answer),
        }
        Ok(())
    }

    fn on_propose(&mut self, id: u64, data: bytes::Bytes, answer: Answer) {
        if answer.is_closed() {
            return;
        }
        let limits = &self.config.limits;
        let committed = self.raw.raft.raft_log.committed;
        let gap = committed - self.raw.store().applied().index;
        let count = self.waiters.len() + self.proposals.len();
        let bytes = (self.proposals.bytes() + data.len()) as u64;
        if gap > limits.commit_apply_gap_max
            || count >= limits.proposals_in_flight_max
            || bytes > limits.raft_uncommitted_bytes_max
        {
            let _ = answer.send(Err(Refusal::TooManyRequests));
            return;
        }
        self.proposals.push(Proposal { id, data, answer });
    }

    /// Answers a read that is confirmed. Whoever asked may have given up: then the answer goes nowhere.
    ///
    /// An error that is not a verdict on the request is returned: the state cannot be trusted any more.
    pub(super) fn serve(&mut self, read: Read) -> Result<()> {
        let state = &self.state;
        match read {
            Read::Range { caller, range, answer } => {
                self.read(answer, |state| state.range_as(&caller, &range))
            }
            Read::Txn { caller, txn, answer } => {
                self.read(answer, |state| state.txn_read_only_as(&caller, &txn))
            }
            Read::Barrier { answer } => reply(answer, Ok(())),
            Read::Leases { caller, answer } => {
                reply(answer, state.leases_as(&caller).map_err(Error::from))
            }
            Read::Lease(read) => {
                self.serve_lease(read);
                Ok(())
            }
        }
    }

    /// Reads and answers, unless clients have too much to take already.
    fn read<T: prost::Message>(
        &self,
        answer: Reply<(T, Held)>,
        read: impl FnOnce(&State) -> Result<T>,
    ) -> Result<()> {
        let begun = self.edges.clock.monotonic();
        let held = |value: T| {
            let bytes = value.encoded_len();
            self.warn_if_slow(begun, || format!("reading {bytes} bytes"));
            let held = self.shared.answers.admit(bytes);
            held.map(|held| (value, held)).ok_or(Error::Refused(Refusal::TooManyRequests))
        };
        reply(answer, read(&self.state).and_then(held))
    }

    fn on_read(&mut self, read: Read) {
        if let Err((read, refusal)) = self.reads.push(read) {
            read.refuse(refusal);
        }
    }

    fn status(&self) -> Result<Status> {
        let raft = &self.raw.raft;
        let conf_state = self.raw.store().conf_state();
        let mut voters = conf_state.voters.clone();
        voters.sort_unstable();
        let (db_size, db_size_in_use) = self.state.db_size()?;
        Ok(Status {
            header: Header {
                cluster_id: self.shared.cluster_id,
                member_id: self.shared.member_id,
                term: raft.term,
            },
            leader: raft.leader_id,
            commit: raft.raft_log.committed,
            applied: self.raw.store().applied().index,
            revision: self.state.current_revision(),
            compact_revision: self.state.compact_revision(),
            db_size,
            db_size_in_use,
            is_learner: conf_state.learners.contains(&self.shared.member_id),
            members: self.state.members().clone(),
            alarms: self.state.alarms(),
            voters,
        })
    }
}
