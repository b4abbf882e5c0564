//! Leases over gRPC against real members: granted, kept alive through any member, due, revoked.

use snowglobe::proto::etcdserverpb::kv_client::KvClient;
use snowglobe::proto::etcdserverpb::lease_client::LeaseClient;
use snowglobe::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::member::{Folder, Member, until};

async fn grant(client: &mut LeaseClient<Channel>, id: i64, ttl: i64) -> (i64, i64) {
    let response = client.lease_grant(LeaseGrantRequest { id, ttl }).await.unwrap().into_inner();
    (response.id, response.ttl)
}

async fn put(client: &mut KvClient<Channel>, key: &str, lease: i64) {
    let key = key.to_owned().into();
    client.put(PutRequest { key, value: "v".into(), lease, ..Default::default() }).await.unwrap();
}

async fn renew(client: &mut LeaseClient<Channel>, id: i64) -> i64 {
    let once = tokio_stream::once(LeaseKeepAliveRequest { id });
    let mut answers = client.lease_keep_alive(once).await.unwrap().into_inner();
    answers.message().await.unwrap().expect("one answer").ttl
}

/// Grants, answers about leases and refusals are etcd's; a revocation takes the keys in one revision.
#[tokio::test]
async fn one_member() {
    let folder = Folder::new("leases");
    let members = Member::serving(&folder.0, 1, &[]).await;
    let (mut kv, mut leases) = (members[0].kv(), LeaseClient::new(members[0].channel()));
    assert_eq!(grant(&mut leases, 7, 60).await, (7, 60));
    let (chosen, least) = grant(&mut leases, 0, 1).await;
    assert!(chosen > 0 && least == 2, "{chosen} for {least} s");
    let twice = leases.lease_grant(LeaseGrantRequest { id: 7, ttl: 5 }).await.unwrap_err();
    let words = (twice.code(), twice.message());
    assert_eq!(words, (Code::FailedPrecondition, "etcdserver: lease already exists"));
    let long = leases.lease_grant(LeaseGrantRequest { id: 8, ttl: i64::MAX }).await.unwrap_err();
    assert_eq!(
        (long.code(), long.message()),
        (Code::OutOfRange, "etcdserver: too large lease TTL")
    );
    put(&mut kv, "b", 7).await;
    put(&mut kv, "a", 7).await;
    let ask = |id| LeaseTimeToLiveRequest { id, keys: true };
    let found = leases.lease_time_to_live(ask(7)).await.unwrap().into_inner();
    assert_eq!((found.id, found.granted_ttl, found.keys), (7, 60, vec!["a".into(), "b".into()]));
    assert!((50..=60).contains(&found.ttl), "{}", found.ttl);
    assert_eq!(leases.lease_time_to_live(ask(9)).await.unwrap().into_inner().ttl, -1);
    assert_eq!((renew(&mut leases, 7).await, renew(&mut leases, 9).await), (60, 0));
    let listed = leases.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    assert!(listed.iter().any(|lease| lease.id == 7));
    let revoked = leases.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, 4);
    let again = leases.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap_err();
    let words = (again.code(), again.message());
    assert_eq!(words, (Code::NotFound, "etcdserver: requested lease not found"));
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    assert_eq!(kv.range(all).await.unwrap().into_inner().count, 0);
}

/// A lease is renewed through any member; its keys go when nobody renews it, and not with the leader.
#[tokio::test]
async fn three_members() {
    let folder = Folder::new("leases-three");
    let mut members = Member::serving(&folder.0, 3, &[]).await;
    let mut clients: Vec<_> =
        members.iter().map(|member| LeaseClient::new(member.channel())).collect();
    grant(&mut clients[0], 7, 2).await;
    put(&mut members[0].kv(), "a", 7).await;
    for client in &mut clients {
        assert_eq!(renew(client, 7).await, 2);
    }
    let status = members[0].ready().await;
    let mut leader = 0;
    for (at, member) in members.iter().enumerate() {
        if member.ready().await.header.unwrap().member_id == status.leader {
            leader = at;
        }
    }
    members[leader].kill();
    let other = (leader + 1) % 3;
    until("the new leader lets the lease run out", || async {
        let key = "a".into();
        let mut client = members[other].kv();
        let range = client.range(RangeRequest { key, ..Default::default() });
        (range.await.ok()?.into_inner().count == 0).then_some(())
    })
    .await;
    assert_eq!(renew(&mut clients[other], 7).await, 0);
}
