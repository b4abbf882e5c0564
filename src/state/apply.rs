//! Applying a slice of the log: each entry in turn, then one atomic write of all of it.

use crate::error::{Error, Refusal, Result};
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, InternalRaftRequest, PutRequest, PutResponse,
    TxnRequest, TxnResponse,
};

use super::compaction::Compaction;
use super::mvcc::{Write, header};
use super::{Applied, Entry, Response, State, Verdict, meta, validate};

/// Whether a request was meant for another term than its entry is of: who proposed it may have
/// been deposed before it was written down.
fn is_void(entry: &Entry, request: &InternalRaftRequest) -> bool {
    let only_in_term = request.header.as_ref().map_or(0, |header| header.only_in_term);
    only_in_term != 0 && only_in_term != entry.term
}

impl State {
    /// Applies committed entries, the next ones of the log; those that are applied already are
    /// skipped. Gives one [`Applied`] per applied entry with a request, in order; a request that was
    /// meant for another term is void, and has none.
    ///
    /// All changes, the consistent index and the configuration reach the database in one atomic
    /// batch, durable after [`sync`](Self::sync).
    ///
    /// # Errors
    /// Never a verdict on a request: those are in [`Applied`]. The system's, a row that is missing,
    /// or entries that are not the next ones; all fatal, the state must not be used any more.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Applied>> {
        let mut applied = Vec::with_capacity(entries.len());
        let first = entries.partition_point(|entry| entry.index <= self.applied.index);
        self.leases.forget_changes();
        self.auth.forget_changes();
        for entry in &entries[first..] {
            if entry.index != self.applied.index + 1 || entry.term < self.applied.term {
                return Err(Error::Fatal(format!(
                    "entry {} of term {} cannot follow the applied entry {} of term {}",
                    entry.index, entry.term, self.applied.index, self.applied.term
                )));
            }
            if let Some(request) = entry.request.as_ref().filter(|request| !is_void(entry, request))
            {
                let id = request.header.as_ref().map_or(0, |header| header.id);
                applied.push(Applied { id, result: self.answer(request)? });
            }
            if let Some(conf_state) = &entry.conf_state {
                meta::put_conf_state(&mut self.pending.batch, conf_state);
                self.conf_state = Some(conf_state.clone());
            }
            self.applied.index = entry.index;
            self.applied.term = entry.term;
        }
        if first < entries.len() {
            meta::put_applied(&mut self.pending.batch, self.applied, self.current_revision);
        }
        let (batch, changes) = self.pending.take(self.storage.batch());
        self.changes = changes;
        if first < entries.len() {
            self.storage.write(batch)?;
        }
        Ok(applied)
    }

    /// Carries out one request: an answer, a refusal (which is an answer too), or a failure of this
    /// member.
    fn answer(&mut self, request: &InternalRaftRequest) -> Result<Verdict<Response>> {
        match self.dispatch(request) {
            Ok(response) => Ok(Ok(response)),
            Err(Error::Refused(refusal)) => {
                assert!(
                    refusal.is_deterministic(),
                    "{refusal:?} is not a verdict on request and state"
                );
                Ok(Err(refusal))
            }
            Err(error) => Err(error),
        }
    }

    fn dispatch(&mut self, request: &InternalRaftRequest) -> Result<Response> {
        self.check_alarms(request)?;
        self.authorize(request)?;
        let mut write = Write::at(self.current_revision);
        let response = if let Some(put) = &request.put {
            Response::Put(self.apply_put(&mut write, put)?)
        } else if let Some(txn) = &request.txn {
            Response::Txn(self.apply_txn(&mut write, txn)?)
        } else if let Some(delete) = &request.delete_range {
            validate::delete_range(delete)?;
            Response::DeleteRange(self.delete_range(&mut write, delete)?)
        } else if let Some(range) = &request.range {
            Response::Range(self.range(range)?)
        } else if let Some(compaction) = request.compaction {
            Response::Compact(self.schedule_compaction(compaction)?)
        } else if let Some(grant) = &request.lease_grant {
            Response::LeaseGrant(self.lease_grant(grant)?)
        } else if let Some(revoke) = &request.lease_revoke {
            Response::LeaseRevoke(self.lease_revoke(&mut write, revoke)?)
        } else if let Some(checkpoint) = &request.lease_checkpoint {
            Response::LeaseCheckpoint(self.lease_checkpoint(checkpoint))
        } else if let Some(attributes) = &request.cluster_member_attr_set {
            self.set_member(attributes);
            Response::Attributes
        } else if let Some(alarm) = request.alarm {
            Response::Alarm(self.apply_alarm(alarm))
        } else if let Some(change) = &request.member_change {
            Response::Members(self.change_member(change)?)
        } else if let Some(answer) = self.apply_auth(request) {
            Response::Auth { revision: self.current_revision, answer: answer? }
        } else {
            // An entry of a newer version, or an empty one: the same answer on every member of this
            // version.
            return Err(Refusal::KeyNotFound.into());
        };
        self.current_revision = write.revision();
        Ok(response)
    }

    fn apply_put(&mut self, write: &mut Write, put: &PutRequest) -> Result<PutResponse> {
        validate::put(put)?;
        self.check_put(write.revision(), put)?;
        self.put(write, put)
    }

    fn apply_txn(&mut self, write: &mut Write, txn: &TxnRequest) -> Result<TxnResponse> {
        validate::txn(txn, usize::MAX)?;
        self.txn(write, txn)
    }

    /// Puts a compaction in force; its rows are removed by [`compact_step`](Self::compact_step).
    fn schedule_compaction(&mut self, request: CompactionRequest) -> Result<CompactionResponse> {
        let revision = request.revision;
        if revision <= self.compact_revision {
            return Err(Refusal::Compacted.into());
        }
        if revision > self.current_revision {
            return Err(Refusal::FutureRevision.into());
        }
        self.compact_revision = revision;
        self.compaction = Compaction::finished_at(self.compaction.finished());
        meta::put_scheduled_compact(&mut self.pending.batch, revision);
        Ok(CompactionResponse { header: header(self.current_revision) })
    }
}
