//! Watches over gRPC against a real member: past and present, ids, filters, progress, compaction, a slow reader.

use snowglobe::proto::etcdserverpb::watch_client::WatchClient;
use snowglobe::proto::etcdserverpb::watch_request::RequestUnion;
use snowglobe::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse,
};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::member::{Folder, Member};

/// One stream.
struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

struct Outgoing(mpsc::Receiver<WatchRequest>);

impl tokio_stream::Stream for Outgoing {
    type Item = WatchRequest;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<WatchRequest>> {
        self.0.poll_recv(context)
    }
}

impl Stream {
    async fn open(member: &Member) -> Self {
        let (requests, outgoing) = mpsc::channel(8);
        let mut client = WatchClient::new(member.channel()).max_decoding_message_size(usize::MAX);
        let responses = client.watch(Outgoing(outgoing)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn ask(&self, union: RequestUnion) {
        self.requests.send(WatchRequest { request_union: Some(union) }).await.unwrap();
    }

    async fn create(&mut self, create: WatchCreateRequest) -> String {
        self.ask(RequestUnion::CreateRequest(create)).await;
        self.next().await
    }

    /// The next response in words: id, what happened, events, revision.
    async fn next(&mut self) -> String {
        let response = self.responses.message().await.unwrap().expect("the stream goes on");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut words = vec![format!("#{}", response.watch_id)];
        words.extend(response.created.then(|| "created".to_owned()));
        words.extend(response.canceled.then(|| "canceled".to_owned()));
        words.extend(
            (response.compact_revision != 0)
                .then(|| format!("compacted to {}", response.compact_revision)),
        );
        words.extend(Some(response.cancel_reason).filter(|reason| !reason.is_empty()));
        for event in &response.events {
            let kv = event.kv.as_ref().unwrap();
            let kind = ["put", "delete"][event.r#type as usize];
            let before = event.prev_kv.as_ref().map(|kv| format!(" after {}", text(&kv.value)));
            let (key, value) = (text(&kv.key), text(&kv.value));
            words.push(format!(
                "{kind} {key}={value}@{}{}",
                kv.mod_revision,
                before.unwrap_or_default()
            ));
        }
        words.push(format!("@{}", response.header.unwrap().revision));
        words.join(" ")
    }
}

async fn one_member(folder: &Folder) -> Member {
    let mut member = Member::cluster(&folder.0, 1, &[]).remove(0);
    member.start();
    member.ready().await;
    member
}

async fn put(member: &Member, key: &str, value: &str) {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    member.kv().put(PutRequest { key, value, ..Default::default() }).await.unwrap();
}

async fn delete(member: &Member, key: &str) {
    let key = key.to_owned().into();
    member.kv().delete_range(DeleteRangeRequest { key, ..Default::default() }).await.unwrap();
}

fn watch(key: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), start_revision, ..Default::default() }
}

/// Past and present in one stream: from a revision, from now on, with what was there before, filtered; and
/// progress after all of it.
#[tokio::test]
async fn past_and_present() {
    let folder = Folder::new("watches");
    let member = one_member(&folder).await;
    put(&member, "a", "1").await;
    put(&member, "a", "2").await;
    put(&member, "b", "1").await;
    let mut stream = Stream::open(&member).await;
    let from_2 = WatchCreateRequest { prev_kv: true, ..watch("a", 2) };
    assert_eq!(stream.create(from_2).await, "#0 created @4");
    assert_eq!(stream.next().await, "#0 put a=1@2 put a=2@3 after 1 @4");
    let all = WatchCreateRequest { range_end: "\0".into(), filters: vec![0], ..watch("", 0) };
    assert_eq!(stream.create(all).await, "#1 created @4");
    put(&member, "a", "3").await;
    assert_eq!(stream.next().await, "#0 put a=3@5 after 2 @5");
    delete(&member, "a").await;
    let mut both = [stream.next().await, stream.next().await];
    both.sort();
    assert_eq!(both, ["#0 delete a=@6 after 3 @6", "#1 delete a=@6 @6"]);
    stream.ask(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    assert_eq!(stream.next().await, "#-1 @6");
    stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 })).await;
    assert_eq!(stream.next().await, "#0 canceled @6");
    put(&member, "a", "4").await;
    delete(&member, "b").await;
    assert_eq!(stream.next().await, "#1 delete b=@8 @8");
}

/// Watches that cannot be, in etcd's words; ids that a client chooses; a past that is compacted.
#[tokio::test]
async fn refused_and_compacted() {
    let folder = Folder::new("watches-refused");
    let member = one_member(&folder).await;
    for value in ["1", "2", "3"] {
        put(&member, "a", value).await;
    }
    delete(&member, "a").await;
    member.kv().compact(CompactionRequest { revision: 5, physical: true }).await.unwrap();
    let mut stream = Stream::open(&member).await;
    let chosen = WatchCreateRequest { watch_id: 1, ..watch("x", 0) };
    assert_eq!(stream.create(chosen.clone()).await, "#1 created @5");
    assert_eq!(
        stream.create(chosen).await,
        "#-1 created canceled mvcc: duplicate watch ID provided on the WatchStream @5"
    );
    let empty = WatchCreateRequest { range_end: "a".into(), ..watch("b", 0) };
    assert_eq!(stream.create(empty).await, "#-1 created canceled mvcc: watcher range is empty @5");
    assert_eq!(
        stream.create(watch("a", -3)).await,
        "#-1 created canceled etcdserver: mvcc: required revision has been compacted @5"
    );
    assert_eq!(stream.create(watch("a", 5)).await, "#0 created @5");
    assert_eq!(stream.next().await, "#0 delete a=@5 @5", "what is at the compact revision is told");
    assert_eq!(stream.create(watch("a", 4)).await, "#2 created @5");
    assert_eq!(
        stream.next().await,
        "#2 canceled compacted to 5 etcdserver: mvcc: required revision has been compacted @5"
    );
    assert_eq!(stream.create(watch("a", 7)).await, "#3 created @5");
    put(&member, "a", "6").await;
    assert_eq!(stream.next().await, "#0 put a=6@6 @6");
    put(&member, "a", "7").await;
    let mut both = [stream.next().await, stream.next().await];
    both.sort();
    assert_eq!(both, ["#0 put a=7@7 @7", "#3 put a=7@7 @7"]);
}

/// A client that does not read keeps nobody else waiting, and is told everything when it does.
#[tokio::test]
async fn slow_reader() {
    let folder = Folder::new("watches-slow");
    let member = one_member(&folder).await;
    let (mut slow, mut quick) = (Stream::open(&member).await, Stream::open(&member).await);
    let prefix = || WatchCreateRequest { range_end: "l".into(), ..watch("k", 0) };
    assert_eq!(slow.create(prefix()).await, "#0 created @1");
    assert_eq!(quick.create(prefix()).await, "#0 created @1");
    // More than its queue and its connection take.
    let value = "x".repeat(256 << 10);
    for number in 0..120 {
        put(&member, &format!("k{number}"), &value).await;
        assert!(quick.next().await.contains(&format!("put k{number}=")));
    }
    let mut told = 0;
    while told < 120 {
        let words = slow.next().await;
        for _ in words.matches("put ") {
            assert!(words.contains(&format!("put k{told}=")), "k{told} is missing");
            told += 1;
        }
    }
}
