//! What one member answers to real gRPC: values, revisions, and the codes and texts of refusals.

use snowglobe::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use snowglobe::proto::etcdserverpb::kv_client::KvClient;
use snowglobe::proto::etcdserverpb::request_op::Request as Op;
use snowglobe::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, MemberListRequest, PutRequest,
    RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use snowglobe::proto::v3lockpb::LockRequest;
use snowglobe::proto::v3lockpb::lock_client::LockClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::member::{Folder, Member};

type Client = KvClient<Channel>;

async fn one_member(folder: &Folder) -> (Member, Client) {
    let mut member = Member::cluster(&folder.0, 1, &["--max-txn-ops=3"]).remove(0);
    member.start();
    member.ready().await;
    let client = member.kv();
    (member, client)
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn get(key: &str, revision: i64) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), revision, ..Default::default() }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), prev_kv: true, ..Default::default() }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// `key=value create/mod/version` of each key found, and the header's revision.
fn words(response: &RangeResponse) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut words: Vec<String> = response
        .kvs
        .iter()
        .map(|kv| {
            let (key, value) = (text(&kv.key), text(&kv.value));
            format!("{key}={value} {}/{}/{}", kv.create_revision, kv.mod_revision, kv.version)
        })
        .collect();
    words.push(format!("@{}", response.header.as_ref().unwrap().revision));
    words.join(" ")
}

/// Puts, reads of now and then, deletes, txns and a compaction, with etcd's revisions.
#[tokio::test]
async fn writes_and_reads() {
    let folder = Folder::new("answers");
    let (member, mut kv) = one_member(&folder).await;
    for (value, revision) in [("1", 2), ("2", 3)] {
        let response = kv.put(put("a", value)).await.unwrap().into_inner();
        let header = response.header.unwrap();
        assert_eq!(header.revision, revision);
        assert_ne!((header.cluster_id, header.member_id, header.raft_term), (0, 0, 0));
    }
    let reader = kv.clone();
    let read = |key: &'static str, revision| {
        let mut kv = reader.clone();
        async move { kv.range(get(key, revision)).await.map(|r| words(&r.into_inner())) }
    };
    assert_eq!(read("a", 0).await.unwrap(), "a=2 2/3/2 @3");
    assert_eq!(read("a", 2).await.unwrap(), "a=1 2/2/1 @3");
    assert_eq!(read("b", 0).await.unwrap(), "@3");

    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: "a".into(),
        target_union: Some(TargetUnion::ModRevision(3)),
        ..Default::default()
    };
    let swap = TxnRequest {
        compare: vec![compare],
        success: vec![op(Op::RequestPut(put("a", "3"))), op(Op::RequestPut(put("b", "1")))],
        failure: vec![op(Op::RequestRange(get("a", 0)))],
    };
    let first = kv.txn(swap.clone()).await.unwrap().into_inner();
    assert_eq!((first.succeeded, first.header.unwrap().revision), (true, 4));
    let second = kv.txn(swap).await.unwrap().into_inner();
    assert_eq!((second.succeeded, second.header.unwrap().revision), (false, 4));
    assert_eq!(read("b", 0).await.unwrap(), "b=1 4/4/1 @4");

    let inner =
        TxnRequest { success: vec![op(Op::RequestRange(get("a", 0)))], ..Default::default() };
    let outer = TxnRequest { success: vec![op(Op::RequestTxn(inner))], ..Default::default() };
    let nested = kv.txn(outer).await.unwrap().into_inner();
    assert_eq!((nested.succeeded, nested.header.unwrap().revision), (true, 4));

    let gone = kv.delete_range(delete("a")).await.unwrap().into_inner();
    assert_eq!((gone.deleted, gone.prev_kvs.len(), gone.header.unwrap().revision), (1, 1, 5));
    let gone = kv.delete_range(delete("a")).await.unwrap().into_inner();
    assert_eq!((gone.deleted, gone.header.unwrap().revision), (0, 5));

    let compaction = CompactionRequest { revision: 4, physical: true };
    kv.compact(compaction).await.unwrap();
    assert_eq!(read("a", 4).await.unwrap(), "a=3 2/4/3 @5");
    assert_eq!(read("a", 3).await.unwrap_err().code(), Code::OutOfRange);
    let hash = member.maintenance().hash_kv(HashKvRequest { revision: 0 }).await.unwrap();
    assert_eq!((hash.get_ref().compact_revision, hash.get_ref().hash_revision), (4, 5));
}

/// The member is listed with what it was started with, and published.
#[tokio::test]
async fn member_list() {
    let folder = Folder::new("list");
    let (member, _) = one_member(&folder).await;
    let listed = crate::member::until("the member published its name", || async {
        let request = MemberListRequest { linearizable: true };
        let list = member.cluster_client().member_list(request).await.ok()?.into_inner();
        list.members.into_iter().next().filter(|listed| listed.name == "n1")
    })
    .await;
    assert_eq!((listed.peer_ur_ls.len(), listed.client_ur_ls.len()), (1, 1));
}

/// Three revisions, of which the first two are compacted away; and what is there in the end.
const KEPT: &str = "a=2 2/3/2 @3";

async fn compacted(folder: &Folder) -> (Member, Client) {
    let (member, mut kv) = one_member(folder).await;
    kv.put(put("a", "1")).await.unwrap();
    kv.put(put("a", "2")).await.unwrap();
    kv.compact(CompactionRequest { revision: 3, physical: false }).await.unwrap();
    (member, kv)
}

fn check(result: Result<(), Status>, code: Code, text: &str) {
    let status = result.expect_err(text);
    assert_eq!((status.code(), status.message()), (code, text));
}

/// Each impossible read or write of a key is refused with etcd's code and text, and changes
/// nothing.
#[tokio::test]
async fn refused_keys() {
    let folder = Folder::new("refused-keys");
    let (_member, kv) = compacted(&folder).await;
    let client = || kv.clone();
    let invalid = Code::InvalidArgument;

    check(client().range(get("", 0)).await.map(drop), invalid, "etcdserver: key is not provided");
    check(client().put(put("", "")).await.map(drop), invalid, "etcdserver: key is not provided");
    check(
        client().delete_range(delete("")).await.map(drop),
        invalid,
        "etcdserver: key is not provided",
    );
    check(
        client().range(get("a", 9)).await.map(drop),
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    check(
        client().range(get("a", 2)).await.map(drop),
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    );
    check(
        client().range(RangeRequest { sort_order: 7, ..get("a", 0) }).await.map(drop),
        invalid,
        "etcdserver: invalid sort option",
    );
    check(
        client().put(PutRequest { ignore_value: true, ..put("a", "x") }).await.map(drop),
        invalid,
        "etcdserver: value is provided",
    );
    check(
        client().put(PutRequest { ignore_value: true, ..put("new", "") }).await.map(drop),
        invalid,
        "etcdserver: key not found",
    );
    check(
        client().put(PutRequest { lease: 1, ignore_lease: true, ..put("a", "") }).await.map(drop),
        invalid,
        "etcdserver: lease is provided",
    );
    check(
        client().put(PutRequest { lease: 7, ..put("a", "x") }).await.map(drop),
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    let end = client().range(get("a", 0)).await.unwrap().into_inner();
    assert_eq!(words(&end), KEPT);
}

/// Each impossible txn, compaction or size is refused with etcd's code and text, and changes
/// nothing.
#[tokio::test]
async fn refused_requests() {
    let folder = Folder::new("refused-requests");
    let (_member, kv) = compacted(&folder).await;
    let client = || kv.clone();
    let invalid = Code::InvalidArgument;
    let txn = |success: Vec<RequestOp>| TxnRequest { success, ..Default::default() };
    let twice = vec![op(Op::RequestPut(put("k", "1"))), op(Op::RequestPut(put("k", "2")))];
    check(
        client().txn(txn(twice)).await.map(drop),
        invalid,
        "etcdserver: duplicate key given in txn request",
    );
    let four = (0..4).map(|i| op(Op::RequestPut(put(&i.to_string(), "")))).collect();
    check(
        client().txn(txn(four)).await.map(drop),
        invalid,
        "etcdserver: too many operations in txn request",
    );
    for (revision, text) in [
        (9, "etcdserver: mvcc: required revision is a future revision"),
        (1, "etcdserver: mvcc: required revision has been compacted"),
    ] {
        let request = CompactionRequest { revision, physical: false };
        check(client().compact(request).await.map(drop), Code::OutOfRange, text);
    }
    let frame = "x".repeat(3 << 20);
    check(
        client().put(put("a", &frame)).await.map(drop),
        Code::ResourceExhausted,
        "grpc: received message larger than max (3145736 vs. 2097152)",
    );
    let large = "x".repeat(1_572_864);
    check(
        client().put(put("a", &large)).await.map(drop),
        invalid,
        "etcdserver: request is too large",
    );
    let end = client().range(get("a", 0)).await.unwrap().into_inner();
    assert_eq!(words(&end), KEPT);
}

/// What takes longer than it should is logged with its kind, its size and its time; what lasts by its nature is not.
#[tokio::test]
async fn slow_ones_are_logged() {
    let folder = Folder::new("slow");
    let flags = ["--warning-unary-request-duration=0", "--warning-apply-duration=0"];
    let mut member = Member::cluster(&folder.0, 1, &flags).remove(0);
    member.start();
    member.ready().await;
    member.kv().put(put("a", "1")).await.unwrap();
    member.kv().range(get("a", 0)).await.unwrap();
    let lock = LockRequest { name: "l".into(), ..Default::default() };
    LockClient::new(member.channel()).lock(lock).await.unwrap();
    let logged = std::fs::read_to_string(&member.log).unwrap();
    let check = |text: &str| logged.lines().any(|line| line.contains(text));
    for expected in [
        "slow: /etcdserverpb.KV/Put, a request of 11 bytes, took ",
        "slow: /etcdserverpb.KV/Range, a request of 8 bytes, took ",
        "slow: applying 1 entries of ",
        "slow: reading ",
    ] {
        assert!(check(expected), "{expected} in\n{logged}");
    }
    assert!(!check("v3lockpb"), "{logged}");
}
