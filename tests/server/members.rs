//! Members come and go while the cluster runs: real processes, killed at bad moments.

use std::collections::BTreeMap;
use std::fs;

use snowglobe::proto::etcdserverpb::{
    HashKvRequest, Member as Listed, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, PutRequest, RangeRequest,
};

use crate::member::{Folder, Member, until};

/// Puts as many keys, from `first` on, through the member.
async fn put(member: &Member, first: usize, count: usize) {
    for number in first..first + count {
        let request = PutRequest {
            key: format!("k{number}").into(),
            value: number.to_string().into(),
            ..Default::default()
        };
        until("a put", || async { member.kv().put(request.clone()).await.ok() }).await;
    }
}

/// The members as the cluster lists them, by name.
async fn list(member: &Member) -> BTreeMap<String, Listed> {
    let request = MemberListRequest { linearizable: true };
    let listed = until("a list", || async {
        Some(member.cluster_client().member_list(request).await.ok()?.into_inner())
    })
    .await;
    listed.members.into_iter().map(|member| (member.name.clone(), member)).collect()
}

/// Adds a learner at the URL of `spare`; its id.
async fn add_learner(member: &Member, spare: &Member) -> u64 {
    let request = MemberAddRequest { peer_ur_ls: vec![spare.peer_url()], is_learner: true };
    let added = until("a learner is added", || async {
        Some(member.cluster_client().member_add(request.clone()).await.ok()?.into_inner())
    })
    .await;
    assert_eq!(added.members.len(), 4);
    let added = added.member.unwrap();
    assert_eq!((added.name.as_str(), added.is_learner), ("", true), "not started yet");
    added.id
}

async fn promote(member: &Member, id: u64) {
    until("the learner is promoted", || async {
        member.cluster_client().member_promote(MemberPromoteRequest { id }).await.ok()
    })
    .await;
}

async fn remove(member: &Member, id: u64) {
    until("the member is removed", || async {
        let removed = member.cluster_client().member_remove(MemberRemoveRequest { id }).await;
        match removed {
            Ok(_) => Some(()),
            // An earlier try has worked.
            Err(status) => (status.message() == "etcdserver: member not found").then_some(()),
        }
    })
    .await;
}

/// Every member named holds the same keys.
async fn alike(members: &[&Member]) {
    let everything =
        RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let mut hashes = Vec::new();
    for member in members {
        let range = until("a read", || async {
            Some(member.kv().range(everything.clone()).await.ok()?.into_inner())
        });
        let revision = range.await.header.unwrap().revision;
        let hash = member.maintenance().hash_kv(HashKvRequest { revision }).await.unwrap();
        hashes.push((revision, hash.into_inner().hash));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:x?}");
}

/// A learner joins a running cluster by snapshot, is given a vote, and takes part; a member that was killed is
/// removed, notices when it comes back, and stays away.
#[tokio::test]
async fn a_member_joins_and_another_leaves() {
    let folder = Folder::new("members");
    let flags = ["--snapshot-count=50", "--snapshot-catchup-entries=10"];
    let mut members = Member::cluster_and_spares(&folder.0, 3, 1, &flags);
    members[..3].iter_mut().for_each(Member::start);
    members[0].ready().await;
    put(&members[0], 0, 100).await;

    let id = add_learner(&members[0], &members[3]).await;
    members[3].start();
    members[3].ready().await;
    let read = RangeRequest { key: "k1".into(), ..Default::default() };
    let refused = members[3].kv().range(read).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: rpc not supported for learner");
    // Killed between its snapshot and its vote.
    members[3].kill();
    put(&members[1], 100, 20).await;
    members[3].start();
    promote(&members[0], id).await;
    let listed = list(&members[0]).await;
    assert_eq!((listed["n4"].id, listed["n4"].is_learner), (id, false));

    members[1].kill();
    put(&members[3], 120, 20).await;
    remove(&members[3], listed["n2"].id).await;
    let names: Vec<String> = list(&members[0]).await.into_keys().collect();
    assert_eq!(names, ["n1", "n3", "n4"]);
    members[1].start();
    assert_eq!(members[1].ended().await.code(), Some(0));
    let log = fs::read_to_string(folder.0.join("n2.log")).unwrap();
    let last = log.lines().last().unwrap();
    assert!(last.contains(" has been removed from cluster "), "{last}");

    // Two of three carry on: the new member's vote counts.
    members[0].kill();
    put(&members[3], 140, 20).await;
    members[0].start();
    members[0].ready().await;
    alike(&[&members[0], &members[2], &members[3]]).await;
}

/// A leader that is removed hands over, ends with exit code 0, and does not start again.
#[tokio::test]
async fn a_removed_leader_stops() {
    let folder = Folder::new("removed");
    let mut members = Member::cluster(&folder.0, 3, &[]);
    members.iter_mut().for_each(Member::start);
    let status = members[0].ready().await;
    let name = until("all members are named", || async {
        let listed = list(&members[0]).await;
        listed.into_iter().find(|(_, member)| member.id == status.leader).map(|(name, _)| name)
    })
    .await;
    let at = members.iter().position(|member| member.name == name).unwrap();
    remove(&members[(at + 1) % 3], status.leader).await;
    assert_eq!(members[at].ended().await.code(), Some(0));
    members[at].start();
    assert_eq!(members[at].ended().await.code(), Some(2));
    let log = fs::read_to_string(folder.0.join(format!("{name}.log"))).unwrap();
    assert!(log.lines().last().unwrap().contains(" has been removed from cluster "));
    put(&members[(at + 2) % 3], 0, 5).await;
    assert_eq!(list(&members[(at + 1) % 3]).await.len(), 2);
}

/// Changes that cannot be are refused in etcd's words, and what is not a member cannot join.
#[tokio::test]
async fn refusals() {
    let folder = Folder::new("refusals");
    let mut members = Member::cluster_and_spares(&folder.0, 1, 1, &[]);
    members[0].start();
    members[0].ready().await;
    let me = until("the member is named", || async { list(&members[0]).await.remove("n1") }).await;
    let mut client = members[0].cluster_client();
    let mut said = Vec::new();
    for urls in [vec![], vec!["localhost:1"], vec![me.peer_ur_ls[0].as_str()]] {
        let peer_ur_ls = urls.into_iter().map(str::to_owned).collect();
        let request = MemberAddRequest { peer_ur_ls, is_learner: false };
        said.push(client.member_add(request).await.unwrap_err());
    }
    said.push(client.member_remove(MemberRemoveRequest { id: 7 }).await.unwrap_err());
    said.push(client.member_remove(MemberRemoveRequest { id: me.id }).await.unwrap_err());
    said.push(client.member_promote(MemberPromoteRequest { id: 7 }).await.unwrap_err());
    said.push(client.member_promote(MemberPromoteRequest { id: me.id }).await.unwrap_err());
    let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
    let update = MemberUpdateRequest { id: 7, peer_ur_ls };
    said.push(client.member_update(update).await.unwrap_err());
    let learner = |port| MemberAddRequest {
        peer_ur_ls: vec![format!("http://127.0.0.1:{port}")],
        is_learner: true,
    };
    client.member_add(learner(1)).await.unwrap();
    said.push(client.member_add(learner(2)).await.unwrap_err());
    let said: Vec<String> =
        said.iter().map(|status| format!("{:?} {}", status.code(), status.message())).collect();
    insta::assert_snapshot!(said.join("\n"));

    members[1].start();
    assert_eq!(members[1].ended().await.code(), Some(2));
    let log = fs::read_to_string(folder.0.join("n2.log")).unwrap();
    assert!(
        log.lines().last().unwrap().contains("add it first, with `etcdctl member add`"),
        "{log}"
    );
}

/// After two of three members are lost for good, the third goes on alone with everything that was acknowledged, and
/// takes new members in.
#[tokio::test]
async fn one_goes_on_alone() {
    let folder = Folder::new("alone");
    let mut members = Member::cluster_and_spares(&folder.0, 3, 1, &[]);
    members[..3].iter_mut().for_each(Member::start);
    members[0].ready().await;
    put(&members[0], 0, 20).await;
    let id = until("all are named", || async {
        let listed = list(&members[0]).await;
        (listed.len() == 3 && !listed.contains_key("")).then(|| listed["n1"].id)
    })
    .await;
    members[..3].iter_mut().for_each(Member::kill);
    members[0].flags.push("--force-new-cluster".to_owned());
    members[0].start();
    until("n1 leads", || async {
        let status = members[0].ready().await;
        (status.leader == id).then_some(())
    })
    .await;
    let listed = list(&members[0]).await;
    assert_eq!(listed.into_keys().collect::<Vec<_>>(), ["n1"]);
    let everything = RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    assert_eq!(members[0].kv().range(everything).await.unwrap().into_inner().count, 20);
    put(&members[0], 20, 5).await;
    let added = MemberAddRequest { peer_ur_ls: vec![members[3].peer_url()], is_learner: false };
    members[0].cluster_client().member_add(added).await.unwrap();
    members[3].start();
    members[3].ready().await;
    put(&members[3], 25, 5).await;
    alike(&[&members[0], &members[3]]).await;
}
