//! What tests of the state share: a state in a temporary folder, applied to entry by entry,
//! reopened at will.

use super::{Applied, Entry, Limits, Response, State, StateOpen, Verdict};
use crate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, PutRequest, TxnRequest,
};
pub(crate) use crate::storage::testing::{Folder, storage};

/// The state in a folder, which must be whole.
pub(crate) fn open(folder: &Folder, compaction_batch: usize) -> State {
    match State::open(storage(folder), Limits { compaction_batch }).unwrap() {
        StateOpen::Ready(state) => state,
        StateOpen::NeedsImport(_) => panic!("the state is only half imported"),
    }
}

/// The next entry of the log of `state`, with a request.
pub(crate) fn entry(index: u64, request: InternalRaftRequest) -> Entry {
    Entry { index, term: 1, request: Some(request), conf_state: None }
}

/// Applies one request as an entry of its own.
pub(crate) fn apply(state: &mut State, request: InternalRaftRequest) -> Verdict<Response> {
    let (index, _) = state.applied();
    let applied = state.apply(&[entry(index + 1, request)]).unwrap();
    let [Applied { result, .. }] = applied.try_into().expect("one request, one answer");
    result
}

impl From<PutRequest> for InternalRaftRequest {
    fn from(put: PutRequest) -> Self {
        Self { put: Some(put), ..Self::default() }
    }
}

impl From<DeleteRangeRequest> for InternalRaftRequest {
    fn from(delete_range: DeleteRangeRequest) -> Self {
        Self { delete_range: Some(delete_range), ..Self::default() }
    }
}

impl From<TxnRequest> for InternalRaftRequest {
    fn from(txn: TxnRequest) -> Self {
        Self { txn: Some(txn), ..Self::default() }
    }
}

impl From<CompactionRequest> for InternalRaftRequest {
    fn from(compaction: CompactionRequest) -> Self {
        Self { compaction: Some(compaction), ..Self::default() }
    }
}

/// A put of a key and a value.
pub(crate) fn put(key: &str, value: &str) -> InternalRaftRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, ..PutRequest::default() }.into()
}
