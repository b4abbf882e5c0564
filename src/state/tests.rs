//! What scripts cannot say: crashes, broken disks and streams, and what must be refused by
//! stopping.
#![allow(
    clippy::disallowed_methods,
    reason = "broken files are made on the operating system's disk"
)]

use super::meta::Position;
use super::revision::Row;
use super::testing::{Folder, apply, entry, open, put, storage};
use super::*;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    AuthRoleAddRequest, AuthUserAddRequest, ClusterMemberAttrSetRequest, CompactionRequest,
    LeaseGrantRequest, MemberChange, RequestHeader, RequestOp,
};
use crate::storage::Family;

const BATCH: usize = 1000;

fn log(length: u64) -> Vec<Entry> {
    let entry = |index| {
        let key = format!("key{}", index % 7);
        let conf_state = (index % 10 == 0).then(|| vec![index as u8]);
        Entry { conf_state, ..entry(index, put(&key, &index.to_string())) }
    };
    (1..=length).map(entry).collect()
}

fn whole_stream(state: &State, chunk_bytes: usize) -> Vec<u8> {
    let mut export = state.export().unwrap();
    let mut stream = Vec::new();
    while let Some(chunk) = export.next_chunk(chunk_bytes).unwrap() {
        stream.extend_from_slice(&chunk);
    }
    stream
}

fn all() -> RangeRequest {
    RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() }
}

/// Entries must follow each other; a gap or an older term is a bug of the caller and stops the
/// member.
#[test]
fn entries_must_be_the_next_ones() {
    let check = |entries: &[(u64, u64)], fatal: bool| {
        let folder = Folder::new();
        let mut state = open(&folder, BATCH);
        let entries: Vec<_> = entries
            .iter()
            .map(|&(index, term)| Entry { index, term, ..Entry::default() })
            .collect();
        let result = state.apply(&entries);
        assert_eq!(matches!(result, Err(Error::Fatal(_))), fatal, "{entries:?}: {result:?}");
    };
    check(&[(1, 1), (2, 1), (3, 4)], false);
    check(&[(2, 1)], true);
    check(&[(1, 1), (3, 1)], true);
    check(&[(1, 2), (2, 1)], true);
    check(&[], false);
}

/// Answers carry the ids of their requests, in order; entries without a request have no answer. The
/// configuration is kept over a restart.
#[test]
fn ids_and_configuration() {
    let folder = Folder::new();
    let mut state = open(&folder, BATCH);
    let with_id = |index, id| {
        let mut entry = entry(index, put("a", "1"));
        let request = entry.request.as_mut().unwrap();
        request.header = Some(RequestHeader { id, ..RequestHeader::default() });
        entry
    };
    let conf_state = Some(b"three voters".to_vec());
    let change = Entry { index: 2, term: 1, request: None, conf_state };
    let applied = state.apply(&[with_id(1, 77), change, with_id(3, 5)]).unwrap();
    assert_eq!(applied.iter().map(|applied| applied.id).collect::<Vec<_>>(), [77, 5]);
    assert_eq!(state.sync(), Ok(3));
    drop(state);
    let state = open(&folder, BATCH);
    assert_eq!(state.conf_state(), Some(&b"three voters"[..]));
    assert_eq!(state.applied(), (3, 1));
}

/// Whatever tail of its own log RocksDB loses, the rest of raft's log brings the state to the same
/// bytes.
#[test]
fn a_lost_tail_is_replayed() {
    let folder = Folder::new();
    let mut state = open(&folder, BATCH);
    let log = log(40);
    for slice in log.chunks(3) {
        state.apply(slice).unwrap();
    }
    let expected = state.hash_all().unwrap();
    // No background job may change the folder while it is copied.
    drop(state);
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let wal = files.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    let length = std::fs::metadata(&wal).unwrap().len();
    let mut starts = std::collections::BTreeSet::new();
    for cut in (0..=length).step_by(211) {
        let copy = folder.copy();
        let torn = copy.path().join(wal.file_name().unwrap());
        let file = std::fs::OpenOptions::new().write(true).open(torn).unwrap();
        file.set_len(cut).unwrap();
        let mut state = open(&copy, BATCH);
        starts.insert(state.applied().0);
        state.apply(&log).unwrap();
        assert_eq!(state.hash_all().unwrap(), expected, "cut at {cut}");
    }
    assert!(starts.len() > 10, "different tails were lost: {starts:?}");
}

/// A row that is missing or broken is never answered from: reading it, or opening without it, is an
/// error that is no refusal.
#[test]
fn missing_and_broken_rows() {
    let check = |main, value: Option<&[u8]>| {
        let folder = Folder::new();
        let mut state = open(&folder, BATCH);
        state.apply(&log(10)).unwrap();
        let row = Row::put(Revision { main, sub: 0 }).encode();
        let mut batch = state.storage.batch();
        match value {
            Some(value) => batch.put(Family::Key, row.as_ref(), value),
            None => batch.delete(Family::Key, row.as_ref()),
        }
        state.storage.write(batch).unwrap();
        let range = state.range(&all());
        assert!(matches!(range, Err(Error::Corrupt { .. })), "{main}: {range:?}");
        drop(state);
        State::open(storage(&folder), Limits::default()).err()
    };
    assert!(matches!(check(11, None), Some(Error::Corrupt { .. })), "the newest row is missing");
    assert!(matches!(check(7, Some(b"\xff")), Some(Error::Corrupt { .. })), "a row is broken");
}

/// Rows whose keys are none, or that contradict the ones before them, are noticed when the index is
/// rebuilt.
#[test]
fn contradicting_rows() {
    let check = |key: &[u8]| {
        let folder = Folder::new();
        let store = storage(&folder);
        let mut batch = store.batch();
        batch.put(Family::Key, key, b"");
        store.write(batch).unwrap();
        let opened = State::open(store, Limits::default()).err();
        assert!(matches!(opened, Some(Error::Corrupt { .. })), "{key:?}: {opened:?}");
    };
    check(b"short");
    check(&[0xff; 17]);
    // A row that no applied entry accounts for.
    check(Row::put(Revision { main: 2, sub: 0 }).encode().as_ref());
}

/// An export is of the moment it was made, whatever is applied afterwards.
#[test]
fn export_is_pinned() {
    let folder = Folder::new();
    let mut state = open(&folder, BATCH);
    state.apply(&log(20)).unwrap();
    let expected = whole_stream(&state, 1 << 20);
    let mut export = state.export().unwrap();
    let mut stream = export.next_chunk(10).unwrap().unwrap().to_vec();
    state.apply(&log(40)).unwrap();
    assert!(apply(&mut state, CompactionRequest { revision: 30, physical: false }.into()).is_ok());
    while state.compact_step().unwrap() {}
    while let Some(chunk) = export.next_chunk(10).unwrap() {
        stream.extend_from_slice(&chunk);
    }
    assert_eq!(stream, expected);
    assert_eq!(export.applied(), (20, 1));
}

/// An import that is interrupted anywhere leaves a state that says so, and can be repeated.
#[test]
fn interrupted_import() {
    let source_folder = Folder::new();
    let mut source = open(&source_folder, BATCH);
    source.apply(&log(30)).unwrap();
    let stream = whole_stream(&source, 100);
    for cut in (0..stream.len()).step_by(97) {
        let folder = Folder::new();
        let mut target = open(&folder, BATCH);
        target.apply(&log(12)).unwrap();
        let mut import = target.import_begin(30, 1).unwrap();
        import.chunk(&stream[..cut]).unwrap();
        drop((target, import));
        let again = State::open(storage(&folder), Limits::default()).unwrap();
        let StateOpen::NeedsImport(mut again) = again else {
            panic!("cut at {cut}: taken for whole")
        };
        assert_eq!(again.position(), (30, 1));
        again.chunk(&stream).unwrap();
        let state = again.finish().unwrap();
        assert_eq!(state.hash_all(), source.hash_all());
        drop(state);
        assert_eq!(open(&folder, BATCH).hash_all(), source.hash_all());
    }
}

/// A stream that is short, long, of another state or none is not taken, and the state stays
/// unusable.
#[test]
fn broken_imports() {
    let source_folder = Folder::new();
    let mut source = open(&source_folder, BATCH);
    source.apply(&log(30)).unwrap();
    let stream = whole_stream(&source, 100);
    let check = |stream: &[u8], (index, term)| {
        let folder = Folder::new();
        let mut import = open(&folder, BATCH).import_begin(index, term).unwrap();
        let result = import.chunk(stream).and_then(|()| import.finish());
        assert!(matches!(result.err(), Some(Error::Corrupt { .. })));
        let opened = State::open(storage(&folder), Limits::default()).unwrap();
        assert!(matches!(opened, StateOpen::NeedsImport(_)));
    };
    check(&stream[..stream.len() - 1], (30, 1));
    check(&[&stream[..], b"x"].concat(), (30, 1));
    check(&[&stream[..], &stream[..]].concat(), (30, 1));
    check(&stream, (29, 1));
    check(&stream, (30, 2));
    check(b"no stream at all", (30, 1));
    check(b"", (30, 1));
}

/// Each thing that members share is in the hash over everything.
#[test]
fn hash_all_sees_everything() {
    let hash_after = |request: InternalRaftRequest, conf_state: Option<Vec<u8>>, term| {
        let folder = Folder::new();
        let mut state = open(&folder, BATCH);
        state.apply(&log(5)).unwrap();
        let entry = Entry { index: 6, term, request: Some(request), conf_state };
        state.apply(&[entry]).unwrap();
        state.hash_all().unwrap()
    };
    let member = |name: &str, url: &str| {
        let client_urls = vec![url.to_owned()];
        let set = ClusterMemberAttrSetRequest { member_id: 1, name: name.to_owned(), client_urls };
        InternalRaftRequest { cluster_member_attr_set: Some(set), ..Default::default() }
    };
    let compact = |revision| CompactionRequest { revision, physical: false }.into();
    let add = |id, url: &str, is_learner| {
        let peer_urls = vec![url.to_owned()];
        let member_change = Some(MemberChange { kind: 0, id, peer_urls, is_learner });
        InternalRaftRequest { member_change, ..Default::default() }
    };
    let grant = |id, ttl| {
        let lease_grant = Some(LeaseGrantRequest { id, ttl });
        InternalRaftRequest { lease_grant, ..Default::default() }
    };
    let role = |name: &str| {
        let auth_role_add = Some(AuthRoleAddRequest { name: name.to_owned() });
        InternalRaftRequest { auth_role_add, ..Default::default() }
    };
    let user = |name: &str, hashed_password: &str| {
        let (name, hashed_password) = (name.to_owned(), hashed_password.to_owned());
        let add = AuthUserAddRequest { name, hashed_password, ..Default::default() };
        InternalRaftRequest { auth_user_add: Some(add), ..Default::default() }
    };
    let hashes = [
        hash_after(put("a", "1"), None, 1),
        hash_after(put("a", "2"), None, 1),
        hash_after(put("b", "1"), None, 1),
        hash_after(put("a", "1"), None, 2),
        hash_after(put("a", "1"), Some(vec![1]), 1),
        hash_after(put("a", "1"), Some(vec![2]), 1),
        hash_after(InternalRaftRequest::default(), None, 1),
        hash_after(compact(1), None, 1),
        hash_after(compact(2), None, 1),
        hash_after(member("n1", "http://a"), None, 1),
        hash_after(member("n2", "http://a"), None, 1),
        hash_after(member("n1", "http://b"), None, 1),
        hash_after(add(1, "http://a", false), None, 1),
        hash_after(add(1, "http://b", false), None, 1),
        hash_after(add(1, "http://a", true), None, 1),
        hash_after(grant(1, 60), None, 1),
        hash_after(grant(2, 60), None, 1),
        hash_after(grant(1, 61), None, 1),
        hash_after(role("a"), None, 1),
        hash_after(role("b"), None, 1),
        hash_after(user("a", "aaaa"), None, 1),
        hash_after(user("a", "bbbb"), None, 1),
    ];
    let different: std::collections::BTreeSet<_> = hashes.iter().collect();
    assert_eq!(different.len(), hashes.len(), "{hashes:x?}");
    assert_eq!(hash_after(put("a", "1"), None, 1), hashes[0]);
}

/// As deep as protobuf lets txns be nested, and deeper, they are answered without a crash.
#[test]
fn deep_txns() {
    let mut txn = TxnRequest::default();
    for _ in 0..200 {
        let op = RequestOp { request: Some(Request::RequestTxn(txn)) };
        txn = TxnRequest { success: vec![op], ..TxnRequest::default() };
    }
    let folder = Folder::new();
    let mut state = open(&folder, BATCH);
    assert!(matches!(apply(&mut state, txn.clone().into()), Ok(Response::Txn(_))));
    assert_eq!(validate::txn(&txn, 128), Err(Refusal::TooManyOps));
}

/// Only a txn that cannot write may be answered without the log; what counts as serializable is
/// etcd's.
#[test]
fn read_only_and_serializable() {
    let range = |serializable| Request::RequestRange(RangeRequest { serializable, ..all() });
    let put = || Request::RequestPut(crate::proto::etcdserverpb::PutRequest::default());
    let nested = || Request::RequestTxn(TxnRequest::default());
    let check = |success: Vec<Request>, failure: Vec<Request>, read_only, serializable| {
        let ops = |requests: Vec<Request>| {
            requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
        };
        let (success, failure) = (ops(success), ops(failure));
        let txn = TxnRequest { compare: vec![], success, failure };
        assert_eq!(
            (is_read_only(&txn), is_serializable(&txn)),
            (read_only, serializable),
            "{txn:?}"
        );
    };
    check(vec![], vec![], true, true);
    check(vec![range(true)], vec![range(true)], true, true);
    check(vec![range(true)], vec![range(false)], true, false);
    check(vec![range(false)], vec![], true, false);
    check(vec![put()], vec![range(true)], false, false);
    check(vec![], vec![put()], false, false);
    check(vec![nested()], vec![], false, false);
    let folder = Folder::new();
    let txn =
        TxnRequest { success: vec![RequestOp { request: Some(nested()) }], ..Default::default() };
    assert!(matches!(open(&folder, BATCH).txn_read_only(&txn), Err(Error::Fatal(_))));
}

/// An import over a state in use leaves nothing of it behind.
#[test]
fn import_replaces_everything() {
    let source_folder = Folder::new();
    let mut source = open(&source_folder, BATCH);
    source.apply(&log(3)).unwrap();
    let folder = Folder::new();
    let mut target = open(&folder, BATCH);
    target.apply(&log(25)).unwrap();
    let set = ClusterMemberAttrSetRequest { member_id: 9, ..Default::default() };
    let member = InternalRaftRequest { cluster_member_attr_set: Some(set), ..Default::default() };
    assert!(apply(&mut target, member).is_ok());
    let mut import = target.import_begin(3, 1).unwrap();
    import.chunk(&whole_stream(&source, 1000)).unwrap();
    target = import.finish().unwrap();
    assert_eq!(target.applied, Position { index: 3, term: 1 });
    assert_eq!(target.hash_all(), source.hash_all());
    assert_eq!(target.range(&all()), source.range(&all()));
    drop(target);
    assert_eq!(open(&folder, BATCH).hash_all(), source.hash_all());
}
