//! Bytes that are no request: what a member says to them, and whether it serves everybody else as before.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use h2::client::SendRequest;
use prost::Message;
use snowglobe::proto::etcdserverpb::request_op::Request as Op;
use snowglobe::proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};

use crate::member::{Folder, Member, until};

/// Time within which a member must get rid of a connection that is no use, on a loaded machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

async fn one_member(folder: &Folder, flags: &[&str]) -> Member {
    let mut member = Member::cluster(&folder.0, 1, flags).remove(0);
    member.start();
    member.ready().await;
    member
}

/// A connection of HTTP/2 without anything of gRPC.
async fn connect(member: &Member) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", member.client_port())).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn head(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://member{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// The status that ends the answer to these bytes.
async fn call(client: &mut SendRequest<Bytes>, path: &str, body: Vec<u8>) -> String {
    let (response, mut sender) = client.send_request(head(path), false).unwrap();
    sender.send_data(body.into(), true).unwrap();
    let response = response.await.unwrap();
    let mut end = response.headers().clone();
    if !end.contains_key("grpc-status") {
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
        end = body.trailers().await.unwrap().unwrap();
    }
    let status = tonic::Status::from_header_map(&end).expect("a status");
    format!("{:?} {}", status.code(), status.message())
}

/// A message behind gRPC's prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    prefixed(0, message.len(), message)
}

/// Bytes behind a prefix that may lie.
fn prefixed(compressed: u8, length: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![compressed];
    frame.put_u32(u32::try_from(length).unwrap());
    frame.put_slice(bytes);
    frame
}

fn put(key: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: "1".into(), ..Default::default() }
}

/// Txns inside txns, so many of them.
fn nested(depth: usize) -> Vec<u8> {
    let mut txn = TxnRequest::default();
    for _ in 0..depth {
        let request = Some(Op::RequestTxn(txn));
        txn = TxnRequest { success: vec![RequestOp { request }], ..Default::default() };
    }
    txn.encode_to_vec()
}

/// What is no message, too long, cut short or a lie is refused with a code and a reason, on unary calls and on streams;
/// the connection serves the next request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_none() {
    let folder = Folder::new("bad-requests");
    let member = one_member(&folder, &[]).await;
    let good = put("a").encode_to_vec();
    let mut twice = framed(&good);
    twice.extend(framed(&good));
    let put = "/etcdserverpb.KV/Put";
    let (watch, renew) = ("/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive");
    let cases: Vec<(&str, &str, Vec<u8>)> = vec![
        ("no protobuf", put, framed(&[0xff; 16])),
        ("a field of another type", put, framed(&[0x08, 0x01])),
        ("a length inside that lies", put, framed(&[0x0a, 0x7f, b'a'])),
        ("txns in 200 txns", "/etcdserverpb.KV/Txn", framed(&nested(200))),
        ("no protobuf, on a watch", watch, framed(&[0xff; 16])),
        ("no protobuf, on a keep-alive", renew, framed(&[0xff; 16])),
        ("nothing at all", put, Vec::new()),
        ("half a prefix", put, vec![0, 0]),
        ("a prefix that promises more", put, prefixed(0, good.len() + 1, &good)),
        ("a prefix that promises less", put, prefixed(0, good.len() - 1, &good)),
        ("a prefix that promises 4 GB", put, prefixed(0, u32::MAX as usize, &good)),
        ("the same, on a watch", watch, prefixed(0, u32::MAX as usize, &good)),
        ("a frame above the limit", put, framed(&vec![0; 3 << 20])),
        ("compressed, in a way not said", put, prefixed(1, good.len(), &good)),
        ("a flag that does not exist", put, prefixed(7, good.len(), &good)),
        ("two messages", put, twice),
        ("a method that does not exist", "/etcdserverpb.KV/Steal", framed(&good)),
        ("a service that does not exist", "/etcdserverpb.VK/Put", framed(&good)),
    ];
    let mut client = connect(&member).await;
    let mut said = Vec::new();
    for (what, path, body) in cases {
        client = client.ready().await.unwrap();
        said.push(format!("{what}: {}", call(&mut client, path, body).await));
    }
    client = client.ready().await.unwrap();
    said.push(format!("a put: {}", call(&mut client, put, framed(&good)).await));
    // prost names the way into a message, level by level.
    let said = said.join("\n").replace("TxnRequest.success: RequestOp.request: ", "…");
    insta::assert_snapshot!(said);
}

/// Sends bytes, and waits until the member closes the connection.
fn closed_after(member: &Member, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", member.client_port())).unwrap();
    stream.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
    // The member may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.put_u32(stream);
    frame.extend(payload);
    frame
}

/// Bytes that are not HTTP, and HTTP/2 that breaks its rules, end their own connection at once; others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_speak_something_else() {
    let folder = Folder::new("bad-connections");
    let member = one_member(&folder, &[]).await;
    let mut other = member.kv();
    let noise: Vec<u8> =
        (0..1 << 16).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let begun = |frames: &[Vec<u8>]| [PREFACE, &frame(4, 0, 0, &[]), &frames.concat()].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a TLS hello", [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..], &noise[..512]].concat()),
        ("noise", noise.clone()),
        ("a line without end", vec![b'G'; 1 << 20]),
        ("half a preface and noise", [&PREFACE[..12], &noise[..64]].concat()),
        ("a preface and noise", [PREFACE, &noise].concat()),
        ("a frame of 16 MB", begun(&[vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]])),
        ("headers that cannot be unpacked", begun(&[frame(1, 4, 1, &[0xff; 64])])),
        (
            "headers without end",
            begun(
                &vec![frame(1, 0, 1, &[]), frame(9, 0, 1, &vec![0x40; 16_000])]
                    .into_iter()
                    .chain((0..100).map(|_| frame(9, 0, 1, &vec![0x40; 16_000])))
                    .collect::<Vec<_>>(),
            ),
        ),
        ("data for no stream", begun(&[frame(0, 0, 1, b"x")])),
        ("a window that overflows", begun(&[frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])])),
    ];
    for (number, (what, bytes)) in cases.iter().enumerate() {
        let answer = closed_after(&member, bytes);
        assert!(answer.len() < 1024, "{what}: answered with {} bytes", answer.len());
        let revision = other.put(put("a")).await.unwrap().into_inner().header.unwrap().revision;
        assert_eq!(revision, number as i64 + 2, "{what}: nothing else was written");
    }
}

/// A client that is asked and does not answer is let go; one that answers keeps its connection, however quiet it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fall_silent() {
    let folder = Folder::new("silent-connections");
    let flags = ["--grpc-keepalive-interval=100ms", "--grpc-keepalive-timeout=1s"];
    let member = one_member(&folder, &flags).await;
    let quiet = connect(&member).await;
    let hello = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let pings =
        closed_after(&member, &hello).windows(9).filter(|bytes| bytes[..4] == [0, 0, 8, 6]).count();
    assert!(pings > 0, "closed without a question");
    let mut quiet = quiet.ready().await.unwrap();
    let answer = call(&mut quiet, "/etcdserverpb.KV/Put", framed(&put("a").encode_to_vec())).await;
    assert_eq!(answer, "Ok ");
}

/// A client that opens streams only to reset them is cut off, or served; others are served meanwhile and nothing is
/// left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_at_once() {
    const STREAMS: usize = 20_000;
    let folder = Folder::new("resets");
    let member = one_member(&folder, &[]).await;
    let before = member.resident_bytes();
    let port = member.client_port();
    let flood = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
        stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).unwrap();
        // POST, http, path /, authority m: literals without an index.
        let head = [&[0x83, 0x86, 0x84, 0x01, 0x01][..], b"m"].concat();
        for number in 0..STREAMS {
            let id = u32::try_from(2 * number + 1).unwrap();
            let both = [frame(1, 4, id, &head), frame(3, 0, id, &[0, 0, 0, 8])].concat();
            if stream.write_all(&both).is_err() {
                return number;
            }
        }
        STREAMS
    });
    let mut slowest = Duration::ZERO;
    let mut puts = 0;
    while !flood.is_finished() || puts < 100 {
        let begun = std::time::Instant::now();
        member.kv().put(put("a")).await.unwrap();
        slowest = slowest.max(begun.elapsed());
        puts += 1;
    }
    let sent = flood.await.unwrap();
    let grown = member.resident_bytes().saturating_sub(before) >> 20;
    println!(
        "{sent} of {STREAMS} streams reset; {puts} puts, the slowest took {slowest:?}; {grown} MB more"
    );
    assert!(grown < 100, "{grown} MB more");
    let range = RangeRequest { key: "a".into(), ..Default::default() };
    let version = until("the member reads", || async {
        Some(member.kv().range(range.clone()).await.ok()?.into_inner().kvs[0].version)
    });
    assert_eq!(version.await, puts);
}
