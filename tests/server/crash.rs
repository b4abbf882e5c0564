//! Three members, one of them killed again and again under load: what was acknowledged is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use snowglobe::proto::etcdserverpb::kv_client::KvClient;
use snowglobe::proto::etcdserverpb::{HashKvRequest, PutRequest, RangeRequest};
use tonic::transport::Channel;

use crate::member::{Folder, Member, pause, until};

const WRITERS: usize = 4;
/// Writes each writer must get through after each fault: the cluster lives on without the killed
/// member.
const PROGRESS: usize = 20;

/// Writes keys of its own, one after the other, to whichever member takes them.
struct Writer {
    acknowledged: Arc<std::sync::Mutex<BTreeMap<String, String>>>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    async fn run(self, id: usize, mut clients: Vec<KvClient<Channel>>) {
        let mut at = id;
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let (key, value) = (format!("{id}/{number}"), format!("value-{number}"));
            let request = PutRequest {
                key: key.clone().into(),
                value: value.clone().into(),
                ..Default::default()
            };
            let member = at % clients.len();
            match clients[member].put(request).await {
                Ok(_) => drop(self.acknowledged.lock().unwrap().insert(key, value)),
                // Unknown outcome: the key may be there or not. The next one goes to another
                // member.
                Err(_) => {
                    at += 1;
                    pause().await;
                }
            }
        }
    }
}

/// Members are killed by SIGKILL and brought back while writes go on: no acknowledged write is
/// missing, and all members hold the same keys and revisions.
#[tokio::test]
async fn killed_members_come_back() {
    let folder = Folder::new("crash");
    // Few entries per snapshot, so that members also come back by one.
    let flags = ["--snapshot-count=100", "--snapshot-catchup-entries=20"];
    let mut members = Member::cluster(&folder.0, 3, &flags);
    members.iter_mut().for_each(Member::start);
    for member in &members {
        member.ready().await;
    }
    let acknowledged = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|id| {
            let clients = members.iter().map(Member::kv).collect();
            let writer = Writer { acknowledged: Arc::clone(&acknowledged), stop: stop.clone() };
            tokio::spawn(writer.run(id, clients))
        })
        .collect();
    let more_writes = || async {
        let wanted = acknowledged.lock().unwrap().len() + WRITERS * PROGRESS;
        until("writes go on", || async {
            (acknowledged.lock().unwrap().len() >= wanted).then_some(())
        })
        .await;
    };

    more_writes().await;
    for victim in &mut members {
        victim.kill();
        more_writes().await;
        victim.start();
        victim.ready().await;
        more_writes().await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }

    let acknowledged = acknowledged.lock().unwrap().clone();
    let mut hashes = Vec::new();
    let mut revision = 0;
    for member in &members {
        let everything =
            RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let mut client = member.kv().max_decoding_message_size(usize::MAX);
        let range = client.range(everything).await.unwrap().into_inner();
        let found: BTreeMap<&[u8], &[u8]> =
            range.kvs.iter().map(|kv| (kv.key.as_ref(), kv.value.as_ref())).collect();
        for (key, value) in &acknowledged {
            let got = found.get(key.as_bytes()).copied();
            assert_eq!(got, Some(value.as_bytes()), "{key} on {}", member.name);
        }
        revision = revision.max(range.header.unwrap().revision);
    }
    for member in &members {
        // A write whose writer gave up on it may still be on its way to this member.
        let hash = until("the member has the revision", || async {
            Some(member.maintenance().hash_kv(HashKvRequest { revision }).await.ok()?.into_inner())
        })
        .await;
        hashes.push((hash.hash, hash.compact_revision, hash.hash_revision));
    }
    assert_eq!(hashes, vec![hashes[0]; 3], "hash, compact revision, revision");
}

/// SIGTERM ends a leader with exit code 0, and another member leads.
#[tokio::test]
async fn a_leader_leaves_cleanly() {
    let folder = Folder::new("leave");
    let mut members = Member::cluster(&folder.0, 3, &[]);
    members.iter_mut().for_each(Member::start);
    let mut leader = 0;
    for (at, member) in members.iter().enumerate() {
        let status = member.ready().await;
        if status.leader == status.header.unwrap().member_id {
            leader = at;
        }
    }
    let before = members[leader].ready().await;
    let status = members[leader].terminate();
    assert_eq!(status.code(), Some(0));
    let next = &members[(leader + 1) % 3];
    until("another leader", || async {
        let now = next.ready().await;
        (now.leader != before.leader).then_some(())
    })
    .await;
}
