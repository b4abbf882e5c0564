//! Txns: which branches are taken is decided before anything is done, and so is whether all of it
//! can be done.
//!
//! A txn runs in three steps. All compares on the way are evaluated against the state before the
//! txn, nested ones included; that gives the path. All operations on the path are checked against
//! that state; one that would be refused refuses the whole. Then they are executed in order, each
//! seeing those before it.

use std::cmp::Ordering;

use super::index::{Found, KeyRange};
use super::mvcc::{Write, header};
use super::{State, Verdict};
use crate::error::{Error, Refusal, Result};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::proto::mvccpb::KeyValue;

/// Whether a txn has nothing but ranges in both branches; only then may it be answered without the
/// log.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a txn may be answered from any member's state, however old: every operation is a
/// serializable range. A txn of compares alone has no operation that is not, so it counts (as in
/// etcd).
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

/// A txn with its decision: the operations of the branch taken, nested txns with theirs.
struct Path<'a> {
    succeeded: bool,
    ops: Vec<Step<'a>>,
}

enum Step<'a> {
    Op(&'a Request),
    Txn(Path<'a>),
}

impl State {
    /// Executes a valid txn that may write.
    pub(super) fn txn(&mut self, write: &mut Write, request: &TxnRequest) -> Result<TxnResponse> {
        let path = self.decide(request)?;
        self.check(&path)?;
        // A refusal after the checks would leave half a txn behind.
        let mut response = self.execute(write, path).map_err(|error| match error {
            Error::Refused(refusal) => {
                Error::Fatal(format!("a checked txn failed: {}", refusal.text()))
            }
            error => error,
        })?;
        response.header = header(write.revision());
        Ok(response)
    }

    /// Answers a valid txn that only reads.
    pub(super) fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse> {
        let path = self.decide(request)?;
        self.check(&path)?;
        let responses = path.ops.iter().map(|step| match step {
            Step::Op(Request::RequestRange(range)) => {
                let response = self.range_at(self.current_revision, range)?;
                Ok(ResponseOp { response: Some(Response::ResponseRange(response)) })
            }
            _ => Err(Error::Fatal("a txn that only reads has nothing but ranges".to_owned())),
        });
        let responses = responses.collect::<Result<_>>()?;
        let header = header(self.current_revision);
        Ok(TxnResponse { header, succeeded: path.succeeded, responses })
    }

    /// Takes the branches, by the state as it is.
    fn decide<'a>(&self, request: &'a TxnRequest) -> Result<Path<'a>> {
        let mut succeeded = true;
        for compare in &request.compare {
            if !self.holds(compare)? {
                succeeded = false;
                break;
            }
        }
        let branch = if succeeded { &request.success } else { &request.failure };
        let step = |op: &'a RequestOp| match &op.request {
            Some(Request::RequestTxn(nested)) => self.decide(nested).map(Step::Txn),
            Some(request) => Ok(Step::Op(request)),
            None => Err(Refusal::KeyNotFound.into()),
        };
        Ok(Path { succeeded, ops: branch.iter().map(step).collect::<Result<_>>()? })
    }

    /// Whether everything on the path can be done; afterwards nothing of it may be refused.
    fn check(&self, path: &Path<'_>) -> Verdict<()> {
        path.ops.iter().try_for_each(|step| match step {
            Step::Txn(nested) => self.check(nested),
            Step::Op(Request::RequestRange(range)) => self.check_range(range),
            Step::Op(Request::RequestPut(put)) => self.check_put(self.current_revision, put),
            Step::Op(_) => Ok(()),
        })
    }

    /// The revision rule within a txn. A negative revision is compared like any other, whereas a
    /// range on its own takes it for the current one (as in etcd).
    fn check_range(&self, range: &RangeRequest) -> Verdict<()> {
        match range.revision {
            0 => Ok(()),
            revision if revision > self.current_revision => Err(Refusal::FutureRevision),
            revision if revision < self.compact_revision => Err(Refusal::Compacted),
            _ => Ok(()),
        }
    }

    fn execute(&mut self, write: &mut Write, path: Path<'_>) -> Result<TxnResponse> {
        let mut responses = Vec::with_capacity(path.ops.len());
        for step in path.ops {
            let response = match step {
                Step::Op(Request::RequestRange(range)) => {
                    Response::ResponseRange(self.range_at(write.revision(), range)?)
                }
                Step::Op(Request::RequestPut(put)) => Response::ResponsePut(self.put(write, put)?),
                Step::Op(Request::RequestDeleteRange(delete)) => {
                    Response::ResponseDeleteRange(self.delete_range(write, delete)?)
                }
                Step::Op(Request::RequestTxn(_)) => {
                    return Err(Error::Fatal("a nested txn is a path of its own".to_owned()));
                }
                Step::Txn(nested) => Response::ResponseTxn(self.execute(write, nested)?),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        // The header of a nested txn stays empty, as in etcd; the outermost one is filled by the
        // caller.
        let header = Some(ResponseHeader::default());
        Ok(TxnResponse { header, succeeded: path.succeeded, responses })
    }

    /// Whether a compare holds: for every key of its range, or for a missing key if there is none.
    fn holds(&self, compare: &Compare) -> Result<bool> {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        let mut all = Vec::new();
        self.index.visit(range, self.current_revision, |_, found| all.push(found));
        let target = CompareTarget::try_from(compare.target);
        if all.is_empty() {
            // Nothing is neither equal to nor different from a value.
            return Ok(target != Ok(CompareTarget::Value)
                && accepts(compare, order(compare, None, &KeyValue::default())));
        }
        // The index knows everything but value and lease.
        let needs_value = matches!(target, Ok(CompareTarget::Value | CompareTarget::Lease));
        for found in all {
            let kv = if needs_value { self.read(found.modified)? } else { KeyValue::default() };
            if !accepts(compare, order(compare, Some(found), &kv)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How a key (`None`: a missing one) is ordered against what a compare names. A union that does not
/// fit the target counts as zero; an unknown target as equal (as in etcd).
fn order(compare: &Compare, found: Option<Found>, kv: &KeyValue) -> Ordering {
    let (version, created, modified) =
        found.map_or((0, 0, 0), |found| (found.version, found.created.main, found.modified.main));
    let union = compare.target_union.as_ref();
    match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => version.cmp(match union {
            Some(TargetUnion::Version(version)) => version,
            _ => &0,
        }),
        Ok(CompareTarget::Create) => created.cmp(match union {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => &0,
        }),
        Ok(CompareTarget::Mod) => modified.cmp(match union {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => &0,
        }),
        Ok(CompareTarget::Lease) => kv.lease.cmp(match union {
            Some(TargetUnion::Lease(lease)) => lease,
            _ => &0,
        }),
        Ok(CompareTarget::Value) => kv.value[..].cmp(match union {
            Some(TargetUnion::Value(value)) => value,
            _ => &[],
        }),
        Err(_) => Ordering::Equal,
    }
}

/// Whether a compare accepts an order; an unknown operator accepts any (as in etcd).
fn accepts(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
