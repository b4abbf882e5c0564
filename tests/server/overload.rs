//! Many clients, and clients that do not read: what they cost in memory, and whether anybody else waits for them.
//!
//! The numbers are printed (`--nocapture`); only memory has bounds here, and wide ones.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use h2::client::SendRequest;
use prost::Message;
use snowglobe::proto::etcdserverpb::kv_client::KvClient;
use snowglobe::proto::etcdserverpb::watch_client::WatchClient;
use snowglobe::proto::etcdserverpb::watch_request::RequestUnion;
use snowglobe::proto::etcdserverpb::{
    PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tonic::Streaming;
use tonic::transport::Channel;

use crate::member::{Folder, Member, until};

async fn one_member(folder: &Folder) -> Member {
    let mut member = Member::cluster(&folder.0, 1, &[]).remove(0);
    member.start();
    member.ready().await;
    member
}

async fn put(client: &mut KvClient<Channel>, key: &str, value: Vec<u8>) {
    let key = key.to_owned().into();
    client.put(PutRequest { key, value: value.into(), ..Default::default() }).await.unwrap();
}

/// One watch on a stream of its own, made and confirmed.
async fn watch(channel: &Channel, key: &str, range_end: &str) -> Streaming<WatchResponse> {
    let create = WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let mut responses = client.watch(tokio_stream::once(request)).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    responses
}

/// The median and the longest of so many puts, one after the other.
async fn latency(client: &mut KvClient<Channel>, count: usize) -> (Duration, Duration) {
    let mut took = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        put(client, "latency", vec![1]).await;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    (took[count / 2], took[count - 1])
}

/// Megabytes that a member holds more than before.
fn grown(member: &Member, before: u64) -> u64 {
    member.resident_bytes().saturating_sub(before) >> 20
}

/// Ten thousand watchers that wait, each on a stream of its own, cost bounded memory; each is told its change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_watchers() {
    const WATCHERS: usize = 10_000;
    const CONNECTIONS: usize = 10;
    let folder = Folder::new("idle-watchers");
    let member = one_member(&folder).await;
    let mut client = member.kv();
    let quiet = latency(&mut client, 200).await;
    let before = member.resident_bytes();
    let channels: Vec<Channel> = (0..CONNECTIONS).map(|_| member.channel()).collect();
    let mut watchers = Vec::new();
    for number in 0..WATCHERS {
        watchers.push(watch(&channels[number % CONNECTIONS], &format!("w{number}"), "").await);
    }
    let more = grown(&member, before);
    let busy = latency(&mut client, 200).await;
    println!("{WATCHERS} watchers: {more} MB; a put took {quiet:?} before, {busy:?} with them");
    assert!(more < 500, "{more} MB for {WATCHERS} watchers");
    for (number, watcher) in watchers.iter_mut().enumerate().step_by(97) {
        put(&mut client, &format!("w{number}"), b"told".to_vec()).await;
        let response = watcher.message().await.unwrap().unwrap();
        let told = response.events[0].kv.as_ref().unwrap();
        assert_eq!(
            (&told.key[..], &told.value[..]),
            (format!("w{number}").as_bytes(), &b"told"[..])
        );
    }
}

/// A watcher that does not read while ten thousand keys are written costs bounded memory and keeps nobody waiting; when
/// it reads, it is told everything, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read() {
    const WRITES: usize = 10_000;
    const WRITERS: usize = 32;
    let folder = Folder::new("does-not-read");
    let member = one_member(&folder).await;
    let mut idle = watch(&member.channel(), "k", "l").await;
    let mut quick = watch(&member.channel(), "k", "l").await;
    let before = member.resident_bytes();
    let written: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let mut client = member.kv();
            tokio::spawn(async move {
                for number in (writer..WRITES).step_by(WRITERS) {
                    put(&mut client, &format!("k{number}"), vec![b'x'; 8 << 10]).await;
                }
            })
        })
        .collect();
    let begun = Instant::now();
    let told = revisions(&mut quick, WRITES).await;
    println!("{WRITES} events of 8 kB told to one in {:?}", begun.elapsed());
    for writer in written {
        writer.await.unwrap();
    }
    let more = grown(&member, before);
    println!("{more} MB more beside one that was told nothing");
    assert!(more < 300, "{more} MB for one that does not read");
    assert_eq!(told, (2..2 + WRITES as i64).collect::<Vec<_>>());
    assert_eq!(revisions(&mut idle, WRITES).await, told);
}

/// The revisions of the next events.
async fn revisions(watcher: &mut Streaming<WatchResponse>, count: usize) -> Vec<i64> {
    let mut revisions = Vec::new();
    while revisions.len() < count {
        let response = watcher.message().await.unwrap().unwrap();
        revisions.extend(response.events.iter().map(|e| e.kv.as_ref().unwrap().mod_revision));
    }
    revisions
}

/// A connection that has asked for all keys, and the head of the answer. The body is not read: its window fills.
async fn range_unread(member: &Member) -> (SendRequest<Bytes>, http::Response<h2::RecvStream>) {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", member.client_port())).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let head = http::Request::post("http://member/etcdserverpb.KV/Range")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (response, mut body) = client.send_request(head.body(()).unwrap(), false).unwrap();
    let message = all_keys().encode_to_vec();
    let mut frame = vec![0];
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend(message);
    body.send_data(frame.into(), true).unwrap();
    (client, response.await.unwrap())
}

fn all_keys() -> RangeRequest {
    RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() }
}

/// Clients that ask for a large range and do not read it: what they hold is bounded, beyond it they are told to come
/// later, others are served, and all is let go when they leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_nobody_reads() {
    const KEYS: usize = 64;
    const READERS: usize = 64;
    let folder = Folder::new("slow-ranges");
    let member = one_member(&folder).await;
    let mut client = member.kv();
    for number in 0..KEYS {
        put(&mut client, &format!("k{number}"), vec![b'x'; 1 << 20]).await;
    }
    let quiet = latency(&mut client, 50).await;
    let before = member.resident_bytes();
    let mut readers = Vec::new();
    let mut refused = 0;
    for _ in 0..READERS {
        let (connection, response) = range_unread(&member).await;
        match response.headers().get("grpc-message") {
            Some(message) => {
                assert_eq!(message, "etcdserver:%20too%20many%20requests");
                refused += 1;
            }
            None => readers.push((connection, response)),
        }
    }
    let more = grown(&member, before);
    let busy = latency(&mut client, 50).await;
    println!(
        "{READERS} clients asked for {KEYS} MB each: {refused} refused, {more} MB held; a put took {quiet:?} before, \
         {busy:?} with them"
    );
    assert!(more < 1000, "{more} MB for {} answers that are not read", readers.len());
    assert!(refused > 0 && !readers.is_empty(), "{refused} of {READERS} refused");
    drop(readers);
    let found = until("there is room again", || async {
        let mut client = member.kv().max_decoding_message_size(usize::MAX);
        Some(client.range(all_keys()).await.ok()?.into_inner().kvs.len())
    });
    assert_eq!(found.await, KEYS);
}
