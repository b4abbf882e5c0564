//! Snapshots and what is made from them, the quota and its alarm, compaction by itself.

use std::fs;

use snowglobe::proto::etcdserverpb::alarm_request::AlarmAction;
use snowglobe::proto::etcdserverpb::downgrade_request::DowngradeAction;
use snowglobe::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DefragmentRequest, DeleteRangeRequest,
    DowngradeRequest, HashRequest, PutRequest, RangeRequest, SnapshotRequest, StatusRequest,
};

use crate::member::{Folder, Member, snowglobe, until};

fn put(key: &str, value: Vec<u8>) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() }
}

/// A snapshot is whole blocks and a hash; a new cluster begins with what it holds; a damaged one is refused.
#[tokio::test]
async fn snapshot_and_restore() {
    let folder = Folder::new("snapshot");
    let mut members = Member::cluster(&folder.0, 1, &[]);
    members[0].start();
    members[0].ready().await;
    for number in 0..50 {
        let request = put(&format!("k{number}"), vec![number; 1000]);
        members[0].kv().put(request).await.unwrap();
    }
    let mut stream =
        members[0].maintenance().snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let mut image = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        image.extend_from_slice(&piece.blob);
    }
    assert_eq!(image.len() % 512, 32);
    members[0].kill();

    let restore = |image: &[u8], into: &str| {
        let file = folder.0.join(format!("{into}.db"));
        fs::write(&file, image).unwrap();
        let made = folder.0.join(into);
        let peer = members[0].peer_url();
        let output = snowglobe()
            .arg("restore")
            .arg(&file)
            .args(["--name=n1", "--initial-cluster-token=other"])
            .arg(format!("--data-dir={}", made.display()))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=n1={peer}"))
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let mut damaged = image.clone();
    damaged[1000] ^= 1;
    let (code, said) = restore(&damaged, "damaged");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("its hash is wrong"), "{said}");
    let (code, said) = restore(&image, "restored");
    assert_eq!(code, 0, "{said}");

    let made = folder.0.join("restored");
    let flags = [format!("--data-dir={}", made.display()), "--initial-cluster-token=other".into()];
    members[0].flags.extend(flags);
    members[0].start();
    members[0].ready().await;
    let everything =
        RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let range = members[0].kv().range(everything).await.unwrap().into_inner();
    assert_eq!((range.count, range.header.unwrap().revision), (50, 51));
    members[0].kv().put(put("k50", vec![0])).await.unwrap();
    members[0].kill();
    members[0].start();
    members[0].ready().await;
    let one = RangeRequest { key: "k50".into(), ..Default::default() };
    assert_eq!(members[0].kv().range(one).await.unwrap().into_inner().count, 1);
}

/// At its quota the member refuses puts and raises an alarm; deletes go on, and once there is space again and the
/// alarm is taken back, so do puts.
#[tokio::test]
async fn quota() {
    let folder = Folder::new("quota");
    let mut members = Member::cluster(&folder.0, 1, &["--quota-backend-bytes=4000000"]);
    members[0].start();
    members[0].ready().await;
    let alarm = |action: AlarmAction| AlarmRequest { action: action.into(), ..Default::default() };
    let mut number = 0;
    let refused = until("the quota is reached", || {
        number += 1;
        let request = put(&format!("k{}", number % 8), vec![0; 100_000]);
        let mut kv = members[0].kv();
        async move { kv.put(request).await.err() }
    })
    .await;
    assert_eq!(refused.message(), "etcdserver: mvcc: database space exceeded");
    let raised = until("the alarm is raised", || async {
        let told = members[0].maintenance().alarm(alarm(AlarmAction::Get)).await.ok()?;
        told.into_inner().alarms.first().copied()
    })
    .await;
    assert_eq!(raised.alarm(), AlarmType::Nospace);
    let status = members[0].maintenance().status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.db_size_quota, 4_000_000);
    assert_eq!(status.errors, [format!("memberID:{} alarm:NOSPACE ", raised.member_id)]);

    let everything =
        DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let deleted = members[0].kv().delete_range(everything).await.unwrap().into_inner();
    let revision = deleted.header.unwrap().revision;
    members[0].kv().compact(CompactionRequest { revision, physical: true }).await.unwrap();
    members[0].maintenance().defragment(DefragmentRequest {}).await.unwrap();
    let AlarmMember { member_id, alarm: kind } = raised;
    let disarm = AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm: kind };
    until("puts go on", || async {
        members[0].maintenance().alarm(disarm).await.unwrap();
        members[0].kv().put(put("k", vec![0; 1000])).await.ok()
    })
    .await;
}

/// With a retention of a second, old revisions are gone after some seconds.
#[tokio::test]
async fn compaction_by_itself() {
    let folder = Folder::new("auto-compaction");
    let mut members = Member::cluster(&folder.0, 1, &["--auto-compaction-retention=1s"]);
    members[0].start();
    members[0].ready().await;
    members[0].kv().put(put("a", vec![1])).await.unwrap();
    until("the past is gone", || async {
        members[0].kv().put(put("a", vec![2])).await.ok()?;
        let past = RangeRequest { key: "a".into(), revision: 2, ..Default::default() };
        let refused = members[0].kv().range(past).await.err()?;
        (refused.message() == "etcdserver: mvcc: required revision has been compacted")
            .then_some(())
    })
    .await;
}

/// There is one version: going back is checked, and refused.
#[tokio::test]
async fn downgrades() {
    let folder = Folder::new("downgrade");
    let mut members = Member::cluster(&folder.0, 1, &[]);
    members[0].start();
    members[0].ready().await;
    let mut said = Vec::new();
    for (action, version) in [
        (DowngradeAction::Validate, "3.5"),
        (DowngradeAction::Validate, "3.4"),
        (DowngradeAction::Validate, "three"),
        (DowngradeAction::Enable, "3.5"),
        (DowngradeAction::Cancel, ""),
    ] {
        let request = DowngradeRequest { action: action.into(), version: version.to_owned() };
        said.push(match members[0].maintenance().downgrade(request).await {
            Ok(answer) => answer.into_inner().version,
            Err(status) => format!("{:?} {}", status.code(), status.message()),
        });
    }
    insta::assert_snapshot!(said.join("\n"));
    members[0].maintenance().hash(HashRequest {}).await.unwrap();
}
