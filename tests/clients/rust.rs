//! The crate `etcd-client`: each of its services once, with values.

use etcd_client::{
    AlarmAction, AlarmType, Client, CompactionOptions, Compare, CompareOp, ConnectOptions,
    DeleteOptions, Error, EventType, GetOptions, LockOptions, MemberAddOptions, Permission,
    PermissionType, ProclaimOptions, PutOptions, ResignOptions, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse, WatchOptions,
};

use crate::member::{Folder, Member, until};

async fn connect(members: &[Member], options: Option<ConnectOptions>) -> Client {
    let endpoints: Vec<String> =
        members.iter().map(|member| format!("127.0.0.1:{}", member.client_port())).collect();
    Client::connect(endpoints, options).await.unwrap()
}

/// `key=value` of each key found.
fn words(response: &etcd_client::GetResponse) -> String {
    let word = |kv: &etcd_client::KeyValue| {
        format!("{}={}", kv.key_str().unwrap(), kv.value_str().unwrap())
    };
    response.kvs().iter().map(word).collect::<Vec<_>>().join(" ")
}

/// The text of a refusal.
fn refusal<T>(result: Result<T, Error>) -> String {
    match result.err().expect("refused") {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Puts, ranges, deletes, txns and a compaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys() {
    let folder = Folder::new("rust-keys");
    let members = Member::serving(&folder.0, 3, &[]).await;
    let mut client = connect(&members, None).await;
    for (key, value) in [("k1", "c"), ("k2", "b"), ("k3", "a"), ("x", "y")] {
        client.put(key, value, None).await.unwrap();
    }
    let put = client.put("x", "z", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(put.prev_key().unwrap().value_str().unwrap(), "y");
    let prefix = || GetOptions::new().with_prefix();
    assert_eq!(words(&client.get("k", Some(prefix())).await.unwrap()), "k1=c k2=b k3=a");
    let sorted = prefix().with_sort(SortTarget::Value, SortOrder::Ascend).with_limit(2);
    let found = client.get("k", Some(sorted)).await.unwrap();
    assert_eq!((words(&found), found.more(), found.count()), ("k3=a k2=b".to_owned(), true, 3));
    let old = GetOptions::new().with_revision(5);
    assert_eq!(words(&client.get("x", Some(old)).await.unwrap()), "x=y");
    let txn = Txn::new()
        .when([
            Compare::value("x", CompareOp::Equal, "z"),
            Compare::version("k1", CompareOp::Less, 2),
        ])
        .and_then([TxnOp::put("k1", "d", None), TxnOp::get("k", Some(prefix()))])
        .or_else([TxnOp::delete("x", None)]);
    let done = client.txn(txn.clone()).await.unwrap();
    assert!(done.succeeded());
    let TxnOpResponse::Get(found) = &done.op_responses()[1] else { panic!("{done:?}") };
    assert_eq!(words(found), "k1=d k2=b k3=a");
    assert!(!client.txn(txn).await.unwrap().succeeded());
    assert_eq!(client.get("x", None).await.unwrap().count(), 0);
    let all = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("k", Some(all)).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (3, 3));
    client.compact(6, Some(CompactionOptions::new().with_physical())).await.unwrap();
    let compacted = client.get("x", Some(GetOptions::new().with_revision(5))).await;
    assert_eq!(refusal(compacted), "etcdserver: mvcc: required revision has been compacted");
}

/// A watch is told the past and the present, with what was there before, and ends when it is cancelled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches() {
    let folder = Folder::new("rust-watches");
    let members = Member::serving(&folder.0, 1, &[]).await;
    let mut client = connect(&members, None).await;
    client.put("a", "1", None).await.unwrap();
    let options = WatchOptions::new().with_start_revision(2).with_prev_key();
    let mut stream = client.watch("a", Some(options)).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    client.put("a", "2", None).await.unwrap();
    client.delete("a", None).await.unwrap();
    let mut told = Vec::new();
    let mut id = 0;
    while told.len() < 3 {
        let response = stream.message().await.unwrap().unwrap();
        id = response.watch_id();
        for event in response.events() {
            let before = event.prev_kv().map_or("nothing", |kv| kv.value_str().unwrap());
            let kind = if event.event_type() == EventType::Put { "put" } else { "delete" };
            told.push(format!(
                "{kind} {} after {before}",
                event.kv().unwrap().value_str().unwrap()
            ));
        }
    }
    assert_eq!(told, ["put 1 after nothing", "put 2 after 1", "delete  after 2"]);
    stream.request_progress().await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().header().unwrap().revision(), 4);
    stream.cancel(id).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().canceled());
}

/// Leases, and the locks and elections that rest on them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_locks_elections() {
    let folder = Folder::new("rust-leases");
    let members = Member::serving(&folder.0, 3, &[]).await;
    let mut client = connect(&members, None).await;
    let lease = client.lease_grant(600, None).await.unwrap().id();
    client.put("l", "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl(), 600);
    assert_eq!(client.leases().await.unwrap().leases()[0].id(), lease);
    assert_eq!(client.lease_time_to_live(lease, None).await.unwrap().granted_ttl(), 600);

    let held = client.lock("mutex", Some(LockOptions::new().with_lease(lease))).await.unwrap();
    let mut other = connect(&members, None).await;
    let waiting = tokio::spawn(async move { other.lock("mutex", None).await });
    until("the second waits", || async {
        let claims = GetOptions::new().with_prefix().with_count_only();
        let found = client.clone().get("mutex/", Some(claims)).await.unwrap();
        (found.count() == 2).then_some(())
    })
    .await;
    assert!(!waiting.is_finished());
    client.unlock(held.key()).await.unwrap();
    let second = waiting.await.unwrap().unwrap();
    client.unlock(second.key()).await.unwrap();

    let won = client.campaign("election", "me", lease).await.unwrap();
    let leader = || won.leader().unwrap().clone();
    let mut observed = client.observe("election").await.unwrap();
    let told = observed.message().await.unwrap().unwrap();
    assert_eq!(told.kv().unwrap().value_str().unwrap(), "me");
    client.proclaim("me too", Some(ProclaimOptions::new().with_leader(leader()))).await.unwrap();
    let found = client.leader("election").await.unwrap();
    assert_eq!(found.kv().unwrap().value_str().unwrap(), "me too");
    client.resign(Some(ResignOptions::new().with_leader(leader()))).await.unwrap();
    assert_eq!(refusal(client.leader("election").await), "election: no leader");

    client.lease_revoke(lease).await.unwrap();
    assert_eq!(client.get("l", None).await.unwrap().count(), 0);
}

/// Users and roles, and a client that comes with a password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users() {
    let folder = Folder::new("rust-users");
    let members = Member::serving(&folder.0, 3, &[]).await;
    let mut client = connect(&members, None).await;
    client.user_add("root", "secret", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("alice", "word", None).await.unwrap();
    client.role_add("reader").await.unwrap();
    let what = Permission::new(PermissionType::Read, "a").with_prefix();
    client.role_grant_permission("reader", what.clone()).await.unwrap();
    client.user_grant_role("alice", "reader").await.unwrap();
    assert_eq!(client.role_get("reader").await.unwrap().permissions(), [what]);
    assert_eq!(client.user_get("alice").await.unwrap().roles(), ["reader"]);
    client.auth_enable().await.unwrap();
    assert_eq!(refusal(client.get("a", None).await), "etcdserver: user name is empty");
    let with = |name: &str, password: &str| Some(ConnectOptions::new().with_user(name, password));
    let mut root = connect(&members, with("root", "secret")).await;
    root.put("a1", "1", None).await.unwrap();
    let mut alice = connect(&members, with("alice", "word")).await;
    assert_eq!(words(&alice.get("a1", None).await.unwrap()), "a1=1");
    assert_eq!(refusal(alice.put("a1", "2", None).await), "etcdserver: permission denied");
    root.user_change_password("alice", "other").await.unwrap();
    root.user_revoke_role("alice", "reader").await.unwrap();
    root.role_revoke_permission("reader", "a", None).await.unwrap_err();
    root.role_delete("reader").await.unwrap();
    root.user_delete("alice").await.unwrap();
    assert_eq!(root.user_list().await.unwrap().users(), ["root"]);
    assert!(root.role_list().await.unwrap().roles().iter().all(|role| role == "root"));
    root.auth_disable().await.unwrap();
    assert_eq!(words(&client.get("a1", None).await.unwrap()), "a1=1");
}

/// Members, alarms, hashes, a snapshot, defragmentation, and leadership that is handed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_and_maintenance() {
    let folder = Folder::new("rust-maintenance");
    let members = Member::serving(&folder.0, 3, &[]).await;
    let mut client = connect(&members, None).await;
    client.put("a", "1", None).await.unwrap();
    let listed = client.member_list().await.unwrap();
    let mut names: Vec<&str> = listed.members().iter().map(|member| member.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["n1", "n2", "n3"]);
    // Refused until all members have been heard of for a while.
    let added = until("a learner is added", || async {
        let learner = MemberAddOptions::new().with_is_learner();
        client.clone().member_add(["http://127.0.0.1:1"], Some(learner)).await.ok()
    })
    .await;
    let learner = added.member().unwrap();
    assert!(learner.is_learner());
    let moved =
        client.member_update(learner.id(), ["http://127.0.0.1:2".to_owned()]).await.unwrap();
    let moved = moved.members().iter().find(|member| member.id() == learner.id()).unwrap();
    assert_eq!(moved.peer_urls(), ["http://127.0.0.1:2"]);
    assert_eq!(
        refusal(client.member_promote(learner.id()).await),
        "etcdserver: can only promote a learner member which is in sync with leader"
    );
    assert_eq!(client.member_remove(learner.id()).await.unwrap().members().len(), 3);

    let mut one = connect(&members[..1], None).await;
    let status = one.status().await.unwrap();
    assert!(status.version().starts_with("3.6.") && status.db_size() > 0 && status.raft_term() > 0);
    let alarms = one.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    assert!(alarms.alarms().is_empty());
    let hash = one.hash_kv(0).await.unwrap().hash();
    assert_eq!(hash, connect(&members[1..2], None).await.hash_kv(2).await.unwrap().hash());
    one.defragment().await.unwrap();
    let (mut bytes, mut snapshot) = (0, one.snapshot().await.unwrap());
    while let Some(part) = snapshot.message().await.unwrap() {
        bytes += part.blob().len();
    }
    assert_eq!(
        bytes % 512,
        32,
        "whole blocks and a hash, by which clients of etcd know a snapshot"
    );
    let leader = status.leader();
    let target =
        listed.members().iter().map(|member| member.id()).find(|id| *id != leader).unwrap();
    let mut current = Vec::new();
    for member in &members {
        let mut client = connect(std::slice::from_ref(member), None).await;
        let status = client.status().await.unwrap();
        if status.header().unwrap().member_id() == leader {
            current.push(client);
        }
    }
    current[0].move_leader(target).await.unwrap();
    until("leadership has moved", || async {
        (one.clone().status().await.ok()?.leader() == target).then_some(())
    })
    .await;
}
