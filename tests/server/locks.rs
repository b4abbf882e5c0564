//! Locks and elections over gRPC against real members: one holder, waiting in order, giving up, fencing.

use std::time::Duration;

use snowglobe::proto::etcdserverpb::lease_client::LeaseClient;
use snowglobe::proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, RangeRequest};
use snowglobe::proto::v3electionpb::election_client::ElectionClient;
use snowglobe::proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use snowglobe::proto::v3lockpb::lock_client::LockClient;
use snowglobe::proto::v3lockpb::{LockRequest, UnlockRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::member::{Folder, Member, until};

async fn grant(member: &Member, id: i64) -> i64 {
    let mut leases = LeaseClient::new(member.channel());
    leases.lease_grant(LeaseGrantRequest { id, ttl: 60 }).await.unwrap();
    id
}

async fn revoke(member: &Member, id: i64) {
    let mut leases = LeaseClient::new(member.channel());
    leases.lease_revoke(LeaseRevokeRequest { id }).await.unwrap();
}

fn locks(member: &Member) -> LockClient<Channel> {
    LockClient::new(member.channel())
}

fn elections(member: &Member) -> ElectionClient<Channel> {
    ElectionClient::new(member.channel())
}

fn lock(lease: i64) -> LockRequest {
    LockRequest { name: "job".into(), lease }
}

fn campaign(lease: i64, value: &'static str) -> CampaignRequest {
    CampaignRequest { name: "job".into(), lease, value: value.into() }
}

/// The keys of all who hold or wait, oldest first.
async fn claims(member: &Member) -> Vec<String> {
    let all = RangeRequest {
        key: "job/".into(),
        range_end: "job0".into(),
        sort_target: 2,
        sort_order: 1,
        ..Default::default()
    };
    let found = member.kv().range(all).await.unwrap().into_inner();
    found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

async fn until_claims(member: &Member, count: usize) {
    until("so many claims", || async { (claims(member).await.len() == count).then_some(()) }).await;
}

fn check(status: &Status, text: &str) {
    assert_eq!((status.code(), status.message()), (Code::Unknown, text));
}

/// A lock goes from one to the next in the order in which they came, through any member; locking twice
/// with one lease is locking once; who gives up waiting leaves nothing behind.
#[tokio::test]
async fn locks_in_order() {
    let folder = Folder::new("locks");
    let members = Member::serving(&folder.0, 3, &[]).await;
    for lease in [0xa, 0xb, 0xc] {
        grant(&members[0], lease).await;
    }
    let first = locks(&members[0]).lock(lock(0xa)).await.unwrap().into_inner();
    assert_eq!(&first.key[..], b"job/a");
    let again = locks(&members[1]).lock(lock(0xa)).await.unwrap().into_inner();
    assert_eq!(again.key, first.key);
    let waits = |member: &Member, lease| {
        let mut client = locks(member);
        tokio::spawn(async move { client.lock(lock(lease)).await })
    };
    let second = waits(&members[1], 0xb);
    until_claims(&members[0], 2).await;
    let third = waits(&members[2], 0xc);
    until_claims(&members[0], 3).await;
    // A client that does not wait to the end.
    second.abort();
    until_claims(&members[0], 2).await;
    assert!(!third.is_finished());
    locks(&members[2]).unlock(UnlockRequest { key: first.key }).await.unwrap();
    let third = third.await.unwrap().unwrap().into_inner();
    assert_eq!((&third.key[..], claims(&members[1]).await), (&b"job/c"[..], vec!["job/c".into()]));
}

/// Who waits with a lease that ends is told so; who names no lease gets one; a lease that is not there is refused.
#[tokio::test]
async fn leases_of_locks() {
    let folder = Folder::new("lock-leases");
    let members = Member::serving(&folder.0, 1, &[]).await;
    let missing = locks(&members[0]).lock(lock(7)).await.unwrap_err();
    check(&missing, "etcdserver: requested lease not found");
    let own = locks(&members[0]).lock(lock(0)).await.unwrap().into_inner();
    grant(&members[0], 0xb).await;
    let mut client = locks(&members[0]);
    let waiting = tokio::spawn(async move { client.lock(lock(0xb)).await });
    until_claims(&members[0], 2).await;
    revoke(&members[0], 0xb).await;
    check(&waiting.await.unwrap().unwrap_err(), "mutex: session is expired");
    assert_eq!(claims(&members[0]).await, [String::from_utf8_lossy(&own.key)]);
}

/// A leadership is won, proclaimed, seen, watched and given back; the next one wins with a higher revision, and the
/// old one can do nothing any more.
#[tokio::test]
async fn elections_are_fenced() {
    let folder = Folder::new("elections");
    let members = Member::serving(&folder.0, 1, &[]).await;
    let member = &members[0];
    let name = || LeaderRequest { name: "job".into() };
    check(&elections(member).leader(name()).await.unwrap_err(), "election: no leader");
    grant(member, 0xa).await;
    grant(member, 0xb).await;
    let mut observed = elections(member).observe(name()).await.unwrap().into_inner();
    let won = elections(member).campaign(campaign(0xa, "one")).await.unwrap().into_inner();
    let first = won.leader.unwrap();
    assert_eq!((&first.key[..], first.lease), (&b"job/a"[..], 0xa));
    let mut client = elections(member);
    let waiting = tokio::spawn(async move { client.campaign(campaign(0xb, "two")).await });
    until_claims(member, 2).await;
    let proclaim = |leader: &LeaderKey, value: &'static str| ProclaimRequest {
        leader: Some(leader.clone()),
        value: value.into(),
    };
    elections(member).proclaim(proclaim(&first, "uno")).await.unwrap();
    let seen = elections(member).leader(name()).await.unwrap().into_inner().kv.unwrap();
    assert_eq!((&seen.value[..], seen.create_revision), (&b"uno"[..], first.rev));
    elections(member).resign(ResignRequest { leader: Some(first.clone()) }).await.unwrap();
    let second = waiting.await.unwrap().unwrap().into_inner().leader.unwrap();
    assert!(second.rev > first.rev);
    let late = elections(member).proclaim(proclaim(&first, "late")).await.unwrap_err();
    check(&late, "election: not leader");
    let nobody = ProclaimRequest { leader: None, value: "x".into() };
    let refused = elections(member).proclaim(nobody).await.unwrap_err();
    check(&refused, "\"leader\" field must be provided");
    for expected in ["one", "uno", "two"] {
        let told = tokio::time::timeout(Duration::from_secs(60), observed.message()).await;
        let kv = told.unwrap().unwrap().unwrap().kv.unwrap();
        assert_eq!(kv.value, expected);
    }
}
