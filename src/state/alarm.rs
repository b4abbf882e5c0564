//! Alarms: what a member has raised, for all to heed, until somebody takes it back.
//!
//! While there is a NOSPACE alarm, whoever raised it, nothing is written that takes space; deletes and compactions
//! go on, so that there can be space again. While there is a CORRUPT alarm, nothing is read or written through
//! the log at all.

use std::collections::BTreeSet;

use super::{State, Verdict, meta};
use crate::error::{Refusal, Result};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, InternalRaftRequest, RequestOp,
    TxnRequest, request_op,
};

/// All alarms: the member that raised each, and what.
pub(super) type Alarms = BTreeSet<(u64, i32)>;

impl State {
    /// The alarms that are raised, by member.
    #[must_use]
    pub fn alarms(&self) -> Vec<AlarmMember> {
        let alarms = self.alarms.iter();
        alarms.map(|&(member_id, alarm)| AlarmMember { member_id, alarm }).collect()
    }

    /// Whether somebody has raised such an alarm.
    #[must_use]
    pub fn has_alarm(&self, alarm: AlarmType) -> bool {
        self.alarms.iter().any(|(_, raised)| *raised == i32::from(alarm))
    }

    /// Raises an alarm, takes it back, or tells of those that are raised.
    pub(super) fn apply_alarm(&mut self, request: AlarmRequest) -> AlarmResponse {
        let asked = (request.member_id, request.alarm);
        let is_one = matches!(request.alarm(), AlarmType::Nospace | AlarmType::Corrupt);
        let told = match request.action() {
            AlarmAction::Get => {
                let is_asked = |alarm: &&(u64, i32)| !is_one || alarm.1 == request.alarm;
                self.alarms.iter().filter(is_asked).copied().collect()
            }
            AlarmAction::Activate if is_one => {
                self.alarms.insert(asked);
                vec![asked]
            }
            AlarmAction::Deactivate if self.alarms.remove(&asked) => vec![asked],
            AlarmAction::Activate | AlarmAction::Deactivate => Vec::new(),
        };
        if request.action() != AlarmAction::Get {
            let of_member = self.alarms.iter().filter(|(member, _)| *member == request.member_id);
            let kinds: Vec<u8> = of_member.map(|(_, alarm)| *alarm as u8).collect();
            meta::put_alarms(&mut self.pending.batch, request.member_id, &kinds);
        }
        let alarms = told.into_iter().map(|(member_id, alarm)| AlarmMember { member_id, alarm });
        AlarmResponse {
            header: super::mvcc::header(self.current_revision),
            alarms: alarms.collect(),
        }
    }

    /// Whether the alarms let a request through.
    pub(super) fn check_alarms(&self, request: &InternalRaftRequest) -> Verdict<()> {
        if self.alarms.is_empty() {
            return Ok(());
        }
        let is_kv = request.put.is_some()
            || request.txn.is_some()
            || request.range.is_some()
            || request.delete_range.is_some()
            || request.compaction.is_some()
            || request.lease_grant.is_some()
            || request.lease_revoke.is_some();
        if is_kv && self.has_alarm(AlarmType::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        let takes_space = cost(request) > 0;
        if takes_space && self.has_alarm(AlarmType::Nospace) {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// Whether what is here may be shown.
    pub(super) fn check_readable(&self) -> Verdict<()> {
        if self.has_alarm(AlarmType::Corrupt) { Err(Refusal::Corrupt) } else { Ok(()) }
    }

    /// Reads all alarms back.
    pub(super) fn restore_alarms(&mut self) -> Result<()> {
        let storage = self.storage.clone();
        meta::read_alarms(&storage, |member, kinds| {
            self.alarms.extend(kinds.iter().map(|kind| (member, i32::from(*kind))));
        })
    }
}

/// What a put takes besides key and value, as etcd counts it.
const PUT_BYTES: usize = 256;

/// What a lease takes, as etcd counts it.
const LEASE_BYTES: usize = 64;

/// The bytes that a request may take in the database, as etcd counts them.
#[must_use]
pub fn cost(request: &InternalRaftRequest) -> usize {
    let put = request.put.as_ref().map_or(0, |put| PUT_BYTES + put.key.len() + put.value.len());
    let lease = if request.lease_grant.is_some() { LEASE_BYTES } else { 0 };
    put + lease + request.txn.as_ref().map_or(0, txn_cost)
}

fn txn_cost(txn: &TxnRequest) -> usize {
    let branch = |ops: &[RequestOp]| ops.iter().map(op_cost).sum::<usize>();
    branch(&txn.success).max(branch(&txn.failure))
}

fn op_cost(op: &RequestOp) -> usize {
    match &op.request {
        Some(request_op::Request::RequestPut(put)) => PUT_BYTES + put.key.len() + put.value.len(),
        Some(request_op::Request::RequestTxn(txn)) => txn_cost(txn),
        _ => 0,
    }
}
