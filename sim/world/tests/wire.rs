//! Single messages on their way: what each rule does to those that it is about, and that nothing happens to others.

use std::net::SocketAddr;
use std::sync::Arc;

use raft::eraftpb::{Message, MessageType};
use snowglobe::host::{Host, channel};
use snowglobe::proto::peer::peer_client::PeerClient;
use snowglobe::proto::peer::peer_server::{Peer, PeerServer};
use snowglobe::proto::peer::{
    Ack, ChangeMembersRequest, Frame, HashKvRequest, HashKvResponse, LeaseRenewRequest,
    LeaseRenewResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MembersRequest,
    MembersResponse, SnapshotAck, SnapshotChunk,
};
use snowglobe::raft::{is_whole, sealed};
use tonic::{Request, Response, Status, Streaming};

use super::super::{Meddling, NodeId, Options, Rule, Wires, World, run_in_world};
use super::{Log, MS, ip};
use crate::messages::MessageKind;

const PORT: u16 = 80;
const FRAMES: u64 = 30;
const CHUNKS: u8 = 4;

/// A member that writes down what it is told: `a3` for an append of index 3, `h4` for a heartbeat, `!` before what is
/// not as it was sent.
struct Member(Log);

fn word(bytes: &bytes::Bytes) -> String {
    let message: Message =
        protobuf::Message::parse_from_carllerche_bytes(bytes).unwrap_or_default();
    let kind = if message.get_msg_type() == MessageType::MsgAppend { "a" } else { "h" };
    format!("{kind}{}", message.index)
}

/// A piece of the snapshot that is sent.
fn piece(number: u8) -> SnapshotChunk {
    let (data, last) = (vec![number].into(), number == CHUNKS);
    SnapshotChunk { from: 1, data, checksum: 9, last, ..SnapshotChunk::default() }
}

#[tonic::async_trait]
impl Peer for Member {
    async fn messages(&self, request: Request<Streaming<Frame>>) -> Result<Response<Ack>, Status> {
        let mut frames = request.into_inner();
        while let Some(frame) = frames.message().await? {
            let words: Vec<String> = frame.messages.iter().map(word).collect();
            self.0.add(if is_whole(&frame) { words.join("+") } else { "!".into() });
        }
        Ok(Response::new(Ack {}))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotAck>, Status> {
        let mut chunks = request.into_inner();
        while let Some(chunk) = chunks.message().await? {
            let number = (1..=CHUNKS).find(|number| chunk == piece(*number));
            self.0.add(number.map_or("!".into(), |number| format!("c{number}")));
        }
        Ok(Response::new(SnapshotAck {}))
    }

    async fn members(
        &self,
        _: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Ok(Response::new(MembersResponse { cluster_id: 7, members: Vec::new() }))
    }

    async fn lease_renew(
        &self,
        _: Request<LeaseRenewRequest>,
    ) -> Result<Response<LeaseRenewResponse>, Status> {
        Err(Status::not_found("as a member says it"))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        Ok(Response::new(LeaseTimeToLiveResponse { found: true, ..Default::default() }))
    }

    async fn change_members(
        &self,
        _: Request<ChangeMembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Ok(Response::new(MembersResponse { cluster_id: 8, members: Vec::new() }))
    }

    async fn hash_kv(&self, _: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        Ok(Response::new(HashKvResponse { hash: 9, ..HashKvResponse::default() }))
    }
}

async fn serve(host: Arc<dyn Host>, address: SocketAddr, log: Log) {
    let mut listener = host.net().listen(address).await.expect("free");
    let routes = tonic::service::Routes::new(PeerServer::new(Member(log)));
    loop {
        let (stream, _) = listener.accept().await.expect("alive");
        let service = hyper_util::service::TowerToHyperService::new(routes.clone());
        let http = hyper::server::conn::http2::Builder::new(channel::Executor);
        let stream = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(async move { http.serve_connection(stream, service).await.ok() });
    }
}

/// `a` speaks to `b` and to `c`, through proxies.
struct Stage {
    world: World,
    wires: Wires,
    nodes: [NodeId; 3],
    heard: [Log; 2],
}

impl Stage {
    fn new(world: World) -> Self {
        let nodes: [NodeId; 3] = super::add_nodes(&world);
        let [a, b, c] = nodes;
        let wires = Wires::new(&world, PORT, [(a, b), (a, c)]);
        let heard = [Log::new(&world), Log::new(&world)];
        for (node, octet, log) in [(b, 2, &heard[0]), (c, 3, &heard[1])] {
            let (log, wires) = (log.clone(), wires.clone());
            world.boot(node, move |host| {
                let (log, wires) = (log.clone(), wires.clone());
                async move {
                    wires.serve(&host, node, ip(octet));
                    serve(host, SocketAddr::new(ip(octet), PORT), log).await;
                }
            });
        }
        Self { world, wires, nodes, heard }
    }

    fn client(&self, to: &str) -> PeerClient<tonic::transport::Channel> {
        let host = self.world.host(self.nodes[0]);
        PeerClient::new(
            channel::connect(host.net(), &format!("{to}:{PORT}")).expect("an authority"),
        )
    }

    /// A frame every millisecond, from member 1 to `to`: appends and heartbeats by turns. Ends after two seconds.
    fn speak(&self, name: &'static str, to: u64) {
        let (mut client, world) = (self.client(name), self.world.clone());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        self.world.spawn(self.nodes[0], async move { client.messages(stream(receiver)).await });
        self.world.spawn(self.nodes[0], async move {
            for index in 1..=FRAMES {
                let mut message = Message { index, term: 5, ..Message::default() };
                message.set_msg_type(match index % 2 {
                    0 => MessageType::MsgHeartbeat,
                    _ => MessageType::MsgAppend,
                });
                let bytes = protobuf::Message::write_to_bytes(&message).expect("it can be");
                let messages = vec![bytes.into()];
                // Fails only where the stream was broken on purpose.
                let frame = Frame { cluster_id: 1, from: 1, to, messages, checksum: 0 };
                let _ = sender.send(sealed(frame)).await;
                world.sleep(MS).await;
            }
            world.sleep(5_000 * MS).await;
        });
    }

    /// What `b` (0) or `c` (1) heard, without the times.
    fn words(&self, who: usize) -> String {
        let lines = self.heard[who].lines();
        let words = lines.iter().map(|line| line.split(' ').nth(1).unwrap_or_default());
        words.collect::<Vec<_>>().join(" ")
    }
}

fn stream<T>(
    receiver: tokio::sync::mpsc::Receiver<T>,
) -> tokio_stream::wrappers::ReceiverStream<T> {
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

fn everything() -> String {
    let words = (1..=FRAMES).map(|n| format!("{}{n}", if n % 2 == 0 { "h" } else { "a" }));
    words.collect::<Vec<_>>().join(" ")
}

/// What `b` and `c` hear while a rule about appends is in force on the link to `b`, which ends after 100 ms.
fn heard(what: Meddling, one_in: u64) -> [String; 2] {
    run_in_world(3, Options::default(), |world| async move {
        let stage = Stage::new(world);
        let rule = Rule { what, kind: Some(MessageKind::Append), one_in };
        assert!(stage.wires.begin(0, (stage.nodes[0], stage.nodes[1]), rule));
        assert!(!stage.wires.begin(0, (stage.nodes[1], stage.nodes[0]), rule), "no such proxy");
        stage.speak("b", 2);
        stage.speak("c", 3);
        stage.world.sleep(100 * MS).await;
        stage.wires.end(0);
        stage.world.sleep(4_000 * MS).await;
        [stage.words(0), stage.words(1)]
    })
    .expect("no panic")
}

fn of_kind(words: &str, kind: char) -> Vec<u64> {
    words.split(' ').filter_map(|word| word.strip_prefix(kind)?.parse().ok()).collect()
}

/// Each rule meets the messages that it is about, and neither others on that link nor any on another link.
#[test]
fn each_rule_is_exact() {
    let (odd, even): (Vec<u64>, Vec<u64>) = (1..=FRAMES).partition(|n| n % 2 == 1);
    let sorted = |mut numbers: Vec<u64>| {
        numbers.sort_unstable();
        numbers
    };
    let check = |what, one_in, bites: &dyn Fn(&str) -> bool| {
        let [b, c] = heard(what, one_in);
        assert_eq!(of_kind(&b, 'h'), even, "{what:?}: {b}");
        assert_eq!(c, everything(), "{what:?}");
        assert!(bites(&b), "{what:?}: {b}");
    };
    check(Meddling::Lose, 1, &|b| of_kind(b, 'a').is_empty());
    check(Meddling::Lose, 3, &|b| (5..14).contains(&of_kind(b, 'a').len()));
    check(Meddling::Repeat, 1, &|b| {
        let first_once =
            odd.iter().all(|n| b.split(' ').filter(|w| **w == format!("a{n}")).count() == 2);
        first_once && b.split(' ').count() == 45
    });
    check(Meddling::Reorder, 1, &|b| {
        sorted(of_kind(b, 'a')) == odd && of_kind(b, 'a') != odd && b.contains("h30 a")
    });
    check(Meddling::Corrupt, 1, &|b| b.split(' ').filter(|word| *word == "!").count() == odd.len());
    check(Meddling::Hold, 1, &|b| {
        b.ends_with("h28 h30 a1 a3 a5 a7 a9 a11 a13 a15 a17 a19 a21 a23 a25 a27 a29")
    });
    check(Meddling::Hold, 1_000_000, &|b| b == everything());
}

/// Without a rule everything passes as it came, and so do calls of other kinds, refusals included.
#[test]
fn without_rules_everything_passes() {
    run_in_world(1, Options::default(), |world| async move {
        let stage = Stage::new(world);
        stage.speak("b", 2);
        stage.world.sleep(100 * MS).await;
        assert_eq!(stage.words(0), everything());
        let mut client = stage.client("b");
        let calls = stage.world.spawn(stage.nodes[0], async move {
            let cluster = client.members(MembersRequest {}).await.expect("answered").into_inner();
            let changed = client.change_members(ChangeMembersRequest::default()).await;
            let changed = changed.expect("answered").into_inner();
            let hash = client.hash_kv(HashKvRequest::default()).await.expect("answered");
            let lease = client.lease_time_to_live(LeaseTimeToLiveRequest::default()).await;
            let refused = client.lease_renew(LeaseRenewRequest::default()).await;
            let refused = refused.expect_err("refused");
            assert!(lease.expect("answered").into_inner().found);
            assert_eq!(
                (refused.code(), refused.message()),
                (tonic::Code::NotFound, "as a member says it")
            );
            (cluster.cluster_id, changed.cluster_id, hash.into_inner().hash)
        });
        assert_eq!(calls.await.expect("not aborted"), (7, 8, 9));
    })
    .expect("no panic");
}

/// What is held outlives the stream and the process that it was on its way to; a member of another id does not get it.
#[test]
fn held_messages_outlive_processes() {
    let check = |to_after: u64, expected: bool| {
        let words = run_in_world(1, Options::default(), |world| async move {
            let stage = Stage::new(world);
            let link = (stage.nodes[0], stage.nodes[1]);
            let kind = Some(MessageKind::Append);
            stage.wires.begin(0, link, Rule { what: Meddling::Hold, kind, one_in: 1 });
            stage.speak("b", 2);
            stage.world.sleep(20 * MS).await;
            stage.world.restart(stage.nodes[1]);
            stage.world.sleep(20 * MS).await;
            stage.wires.end(0);
            let before = stage.words(0);
            stage.speak("b", to_after);
            stage.world.sleep(100 * MS).await;
            stage.words(0)[before.len()..].to_string()
        })
        .expect("no panic");
        let ones = words.split(' ').filter(|word| *word == "a1").count();
        assert_eq!(ones, 1 + usize::from(expected), "to member {to_after}: {words}");
    };
    check(2, true);
    check(9, false);
}

/// Pieces of a snapshot are lost, doubled, out of order or damaged, and come whole and in order without a rule.
#[test]
fn snapshots_are_met() {
    let check = |what: Option<Meddling>, expected: &str| {
        let words = run_in_world(1, Options::default(), |world| async move {
            let stage = Stage::new(world);
            let kind = Some(MessageKind::Snapshot);
            if let Some(what) = what {
                let link = (stage.nodes[0], stage.nodes[1]);
                stage.wires.begin(0, link, Rule { what, kind, one_in: 1 });
            }
            let mut client = stage.client("b");
            let call = stage.world.spawn(stage.nodes[0], async move {
                client.snapshot(tokio_stream::iter((1..=CHUNKS).map(piece))).await.map(|_| ())
            });
            call.await.expect("not aborted").expect("taken in");
            stage.words(0)
        });
        assert_eq!(words.expect("no panic"), expected, "{what:?}");
    };
    check(None, "c1 c2 c3 c4");
    check(Some(Meddling::Hold), "c1 c2 c3 c4");
    check(Some(Meddling::Lose), "");
    check(Some(Meddling::Repeat), "c1 c1 c2 c2 c3 c3 c4 c4");
    check(Some(Meddling::Reorder), "c2 c1 c4 c3");
    check(Some(Meddling::Corrupt), "! ! ! !");
}
