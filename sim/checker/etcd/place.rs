//! Where each operation stands in the order of revisions.
//!
//! A write that made revision `r` stands at `2r`, an operation that changed nothing and was answered at revision
//! `r` stands at `2r + 1`. Operations without an exact place (refused, unknown, stale) get what is known.

use crate::history::{
    Body, KeyValue, Operation, Outcome, Range, Request, Response, SortOrder, SortTarget,
};

/// What an operation's answer says about its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Made its revision.
    Write,
    /// Linearizable, changed nothing.
    Read,
    /// A revocation of a lease: made its revision, or found no keys and changed nothing.
    Revocation,
    /// Serializable: the revision existed at the return, nothing else is promised.
    Stale,
    /// Its revision is that of the store at some moment between the compaction and the return.
    Compaction,
    /// Its revision existed at the return, and it says nothing about keys.
    Bounded,
    /// A request about keys, refused with a definite error.
    Refused,
    /// May have changed the store.
    Unknown,
    /// An unknown compaction.
    UnknownCompaction,
    /// Says nothing.
    Idle,
}

/// The place of one operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) call: u64,
    /// Time of return; the end of time for unknown outcomes.
    pub(super) ret: u64,
    /// The header's revision; 0 where there is none.
    pub(super) revision: i64,
    pub(super) kind: Kind,
    /// One present range, put or delete with nothing about it that could be refused: not looked at again before the
    /// replay.
    pub(super) is_simple: bool,
    /// One put.
    pub(super) is_put: bool,
    pub(super) shows: Shows,
}

/// How much an answer shows of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// Nothing.
    Nothing,
    /// That the one key asked for does not exist.
    Absent,
    /// The one key asked for.
    One,
    /// More, or something else.
    Several,
}

/// The numbers of the one key that an answer shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Glimpse {
    pub(super) create: i64,
    pub(super) modified: i64,
    pub(super) version: i64,
}

impl Place {
    /// Position in the order.
    pub(super) fn position(&self) -> i64 {
        2 * self.revision + i64::from(self.kind != Kind::Write)
    }

    /// Lowest position in the order.
    pub(super) fn lowest_position(&self) -> i64 {
        2 * self.revision + i64::from(!matches!(self.kind, Kind::Write | Kind::Revocation))
    }

    /// Whether the header's revision is that of a real moment between call and return.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.kind, Kind::Write | Kind::Read)
    }
}

/// Places one operation.
pub(super) fn place(operation: &Operation) -> (Place, Glimpse) {
    let (kind, revision) = match (operation.outcome, &operation.response) {
        (Outcome::Ok, Some(response)) => match answered(&operation.request, response) {
            Kind::Idle => (Kind::Idle, 0),
            kind => (kind, response.revision),
        },
        (Outcome::Failed, _) if is_kv(&operation.request) => (Kind::Refused, 0),
        (Outcome::Failed, _) => (Kind::Idle, 0),
        (Outcome::Unknown | Outcome::Ok, _) => match &operation.request {
            Request::Compact { .. } => (Kind::UnknownCompaction, 0),
            request if may_change(request) => (Kind::Unknown, 0),
            _ => (Kind::Idle, 0),
        },
    };
    let open = matches!(operation.outcome, Outcome::Unknown);
    let ret = if open { u64::MAX } else { operation.returned.unwrap_or(u64::MAX) };
    let is_simple = is_simple(&operation.request);
    let (shows, glimpse) = shown(&operation.request, operation.response.as_ref(), is_simple);
    let is_put = matches!(operation.request, Request::Put(_));
    (Place { call: operation.call, ret, revision, kind, is_simple, is_put, shows }, glimpse)
}

fn is_simple(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.revision <= 0 && !range.key.0.is_empty(),
        Request::Put(put) => !put.ignore_value && !put.ignore_lease && !put.key.0.is_empty(),
        Request::DeleteRange(delete) => !delete.key.0.is_empty(),
        _ => false,
    }
}

fn shown(request: &Request, response: Option<&Response>, is_simple: bool) -> (Shows, Glimpse) {
    let nothing = Glimpse::default();
    let Some(response) = response else { return (Shows::Nothing, nothing) };
    match (request, &response.body) {
        (Request::Put(put), Body::Put { prev_kv: None }) if is_simple && !put.prev_kv => {
            (Shows::Nothing, nothing)
        }
        (Request::Range(range), Body::Range { kvs, more: false, .. })
            if is_simple && range.range_end.0.is_empty() =>
        {
            match kvs.as_slice() {
                [kv] if kv.key == range.key => {
                    let KeyValue { create_revision, mod_revision, version, .. } = *kv;
                    let glimpse =
                        Glimpse { create: create_revision, modified: mod_revision, version };
                    (Shows::One, glimpse)
                }
                [] if is_whole(range) => (Shows::Absent, nothing),
                _ => (Shows::Several, nothing),
            }
        }
        _ => (Shows::Several, nothing),
    }
}

/// Whether an answer without a key says that there is none.
pub(super) fn is_whole(range: &Range) -> bool {
    range.min_mod_revision == 0
        && range.max_mod_revision == 0
        && range.min_create_revision == 0
        && range.max_create_revision == 0
        && range.sort_target == SortTarget::Key
        && range.sort_order != SortOrder::Descend
        && !range.count_only
}

fn answered(request: &Request, response: &Response) -> Kind {
    match request {
        Request::Put(_) => Kind::Write,
        Request::Range(range) if range.serializable => Kind::Stale,
        Request::Range(_) => Kind::Read,
        Request::Compact { .. } => Kind::Compaction,
        Request::LeaseGrant { .. } => Kind::Read,
        Request::LeaseRevoke { .. } => Kind::Revocation,
        // Who owns was read there, what is given back is gone there, and who won had his key there.
        Request::Lock { .. }
        | Request::Campaign { .. }
        | Request::Leader { .. }
        | Request::Unlock { .. }
        | Request::Resign { .. }
            if response.revision != 0 =>
        {
            Kind::Read
        }
        // What it was told, message by message, is judged apart.
        Request::Watch(_) => Kind::Idle,
        Request::DeleteRange(_) | Request::Txn(_) => {
            if changed(request, response) {
                Kind::Write
            } else if !may_change(request) && all_serializable(request) {
                // etcd serves such a txn without asking the leader; one of compares alone counts as such too.
                Kind::Stale
            } else {
                Kind::Read
            }
        }
        // Some headers carry no revision, such as those of the cluster service.
        _ if response.revision == 0 => Kind::Idle,
        _ => Kind::Bounded,
    }
}

/// Whether a request is one of the key-value service.
fn is_kv(request: &Request) -> bool {
    matches!(
        request,
        Request::Range(_)
            | Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Txn(_)
            | Request::Compact { .. }
    )
}

/// Whether a request could change keys in some state.
pub(super) fn may_change(request: &Request) -> bool {
    match request {
        Request::Put(_) | Request::DeleteRange(_) | Request::LeaseRevoke { .. } => true,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(may_change),
        _ => false,
    }
}

/// Whether the answer says that something was changed.
fn changed(request: &Request, response: &Response) -> bool {
    match (request, &response.body) {
        (Request::Put(_), _) => true,
        (Request::DeleteRange(_), Body::DeleteRange { deleted, .. }) => *deleted != 0,
        (Request::Txn(txn), Body::Txn { succeeded, responses }) => {
            let done = if *succeeded { &txn.success } else { &txn.failure };
            done.iter().zip(responses).any(|(request, response)| changed(request, response))
        }
        _ => false,
    }
}

fn all_serializable(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.serializable,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).all(all_serializable),
        _ => false,
    }
}
