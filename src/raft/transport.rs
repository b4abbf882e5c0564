//! Messages to the other members: one gRPC stream each, opened when there is something to say.
//!
//! Invariants:
//! * Sending never waits: a queue that is full, or a stream that is down, drops the message and says so. raft
//!   repeats what matters.
//! * A new connection starts with an empty queue: what was meant for the old one is gone.
//! * The order of messages to one member is kept within one stream.
//! * Memory per peer is bounded by the queue and the flow-control window of one stream.
//!
//! A connection can be half open: what we send vanishes, and nobody tells us. Who speaks to a peer and hears
//! nothing for [`Limits::peer_silence_ms`](crate::config::Limits) opens its own stream anew, **and** ends the
//! stream that it receives from that peer, which makes the peer open its own anew.
//!
//! An idle link costs nothing: no task wakes, no timer runs; a heartbeat is one frame.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::Message;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::frame::sealed;
use super::node::Event;
use super::peer::Inbound;
use crate::config::{Config, Limits, Url};
use crate::error::{Error, Result};
use crate::host::tls::TlsNet;
use crate::host::{BoxFuture, Clock, Host, Listener, Net, Stream, channel};
use crate::proto::peer::Frame;
use crate::proto::peer::peer_client::PeerClient;

/// The code by which a member tells another one that it was removed.
pub(super) const REMOVED: Code = Code::PermissionDenied;

/// Where frames come from and go to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) cluster_id: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The edges of the world that the transport needs.
#[derive(Clone)]
pub(super) struct Edges {
    net: Arc<dyn Net>,
    /// For `https` URLs, where there are roots to judge by who answers.
    tls_net: Option<Arc<dyn Net>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
}

impl Edges {
    /// The edges of one member. Errors: its certificates cannot be used.
    pub(super) fn new(host: &dyn Host, config: &Config) -> Result<Self> {
        let (tls, limits) = (&config.peer_tls, config.limits.clone());
        let mut tls_net: Option<Arc<dyn Net>> = None;
        if tls.trusted_ca_file.is_some() {
            tls_net = Some(Arc::new(TlsNet::new(host, tls, &limits)?));
        }
        let edges = Self { net: host.net(), tls_net, clock: host.clock(), limits };
        let others = config.initial_cluster.iter().filter(|(name, _)| **name != config.name);
        others.flat_map(|(_, urls)| urls).try_for_each(|url| edges.net(url).map(drop))?;
        Ok(edges)
    }

    /// The sockets that a URL is reached by.
    fn net(&self, url: &Url) -> Result<&Arc<dyn Net>> {
        if !url.is_tls() {
            return Ok(&self.net);
        }
        self.tls_net.as_ref().ok_or_else(|| {
            Error::Config(format!(
                "a member is at {url}, which needs --peer-trusted-ca-file; give it the certificates that sign \
                 those of members"
            ))
        })
    }

    /// A channel to a member on a connection of its own, which comes up in bounded time or not at all.
    pub(super) fn connect(&self, url: &Url) -> Result<Channel> {
        let timeout = Duration::from_millis(self.limits.peer_connect_timeout_ms);
        let (net, clock) = (Arc::clone(self.net(url)?), Arc::clone(&self.clock));
        channel::connect(Arc::new(Hurried { net, clock, timeout }), &url.authority())
    }
}

/// Sockets that give up connecting after a while.
struct Hurried {
    net: Arc<dyn Net>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl Net for Hurried {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.net.listen(address)
    }

    fn connect<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                stream = self.net.connect(authority) => stream,
                () = self.clock.sleep(self.timeout) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

/// The links to all other members.
pub(super) struct Transport {
    edges: Edges,
    cluster_id: u64,
    from: u64,
    events: mpsc::Sender<Event>,
    silence_ticks: u64,
    inbound: Arc<Inbound>,
    peers: BTreeMap<u64, Peer>,
}

struct Peer {
    url: Url,
    link: Arc<Link>,
    task: JoinHandle<()>,
    /// Whether something was sent since the last word from the peer.
    awaiting: bool,
    silent_ticks: u64,
}

/// What the loop and the task of one peer share.
#[derive(Default)]
struct Link {
    /// The queue of the current stream, if there is one.
    queue: Mutex<Option<mpsc::Sender<Message>>>,
    /// Rings when the current stream shall be given up.
    reset: Notify,
}

impl Link {
    fn set(&self, queue: Option<mpsc::Sender<Message>>) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = queue;
    }

    fn send(&self, message: Message) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().is_some_and(|queue| queue.try_send(message).is_ok())
    }
}

impl Transport {
    /// No links yet. `events`: where it is told that this member was removed.
    pub(super) fn new(
        edges: &Edges,
        (cluster_id, from): (u64, u64),
        events: mpsc::Sender<Event>,
        silence_ticks: u64,
        inbound: Arc<Inbound>,
    ) -> Self {
        let (edges, peers) = (edges.clone(), BTreeMap::new());
        Self { edges, cluster_id, from, events, silence_ticks, inbound, peers }
    }

    /// Links to `peers` (id to URL) from now on, and to nobody else. A link whose address stays, stays.
    pub(super) fn update(&mut self, peers: BTreeMap<u64, Url>) {
        let inbound = &self.inbound;
        self.peers.retain(|id, peer| {
            let stays = peers.get(id).is_some_and(|url| *url == peer.url);
            if !stays {
                peer.task.abort();
                inbound.close(*id);
            }
            stays
        });
        for (to, url) in peers {
            if !self.peers.contains_key(&to) {
                let link = Arc::new(Link::default());
                let route = Route { cluster_id: self.cluster_id, from: self.from, to };
                let (edges, events) = (self.edges.clone(), self.events.clone());
                let task = tokio::spawn(run(edges, route, url.clone(), Arc::clone(&link), events));
                let peer = Peer { url, link, task, awaiting: false, silent_ticks: 0 };
                self.peers.insert(to, peer);
            }
        }
    }

    /// Where a member is reached.
    pub(super) fn url(&self, id: u64) -> Option<&Url> {
        self.peers.get(&id).map(|peer| &peer.url)
    }

    /// Sends, or returns false where the message was dropped.
    pub(super) fn send(&mut self, message: Message) -> bool {
        let Some(peer) = self.peers.get_mut(&message.to) else { return false };
        let sent = peer.link.send(message);
        peer.awaiting |= sent;
        sent
    }

    /// A message from this member has arrived.
    pub(super) fn heard(&mut self, id: u64) {
        if let Some(peer) = self.peers.get_mut(&id) {
            (peer.awaiting, peer.silent_ticks) = (false, 0);
        }
    }

    /// Time passes: connections that look half open are opened anew.
    pub(super) fn tick(&mut self) {
        for (id, peer) in &mut self.peers {
            if !peer.awaiting {
                continue;
            }
            peer.silent_ticks += 1;
            if peer.silent_ticks >= self.silence_ticks {
                (peer.awaiting, peer.silent_ticks) = (false, 0);
                tracing::debug!("nothing heard from member {id:x}: connecting anew");
                // Nobody listens during a pause, when there is no stream to give up.
                peer.link.reset.notify_waiters();
                self.inbound.close(*id);
            }
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        for peer in self.peers.values() {
            peer.task.abort();
        }
    }
}

/// The life of one link: wait for something to say, connect, speak until the stream breaks, pause, again.
async fn run(edges: Edges, route: Route, url: Url, link: Arc<Link>, events: mpsc::Sender<Event>) {
    let limits = &edges.limits;
    let mut backoff_ms = limits.peer_reconnect_min_ms;
    loop {
        let (sender, mut queue) = mpsc::channel(limits.peer_queue_messages);
        link.set(Some(sender));
        let Some(first) = queue.recv().await else { return };
        let frames =
            Frames { route, limit: limits.peer_frame_bytes_max, first: Some(first), queue };
        let started = edges.clock.monotonic();
        tokio::select! {
            biased;
            () = link.reset.notified() => {}
            ended = speak(&edges, &url, frames) => {
                let why = ended.message();
                tracing::debug!("stream to member {:x} at {url} ended: {why}", route.to);
                if ended.code() == REMOVED {
                    // Fails only when the loop has ended.
                    let _ = events.send(Event::Removed { by: route.to }).await;
                }
            }
        }
        // Until the pause is over, messages are dropped at once instead of growing old in a queue.
        link.set(None);
        let lived = edges.clock.monotonic().saturating_sub(started);
        if lived > Duration::from_millis(limits.peer_reconnect_max_ms) {
            backoff_ms = limits.peer_reconnect_min_ms;
        }
        edges.clock.sleep(Duration::from_millis(backoff_ms)).await;
        backoff_ms = (2 * backoff_ms).min(limits.peer_reconnect_max_ms);
    }
}

/// One stream, on a connection of its own (the old one may be what hangs); returns why it ended.
async fn speak(edges: &Edges, url: &Url, frames: Frames) -> Status {
    let channel = match edges.connect(url) {
        Ok(channel) => channel,
        Err(error) => return Status::unavailable(error.to_string()),
    };
    match PeerClient::new(channel).messages(frames).await {
        Ok(_) => Status::unavailable("closed by the peer"),
        Err(status) => status,
    }
}

/// The frames of one stream: each holds what is queued when the stream can take it.
struct Frames {
    route: Route,
    limit: usize,
    first: Option<Message>,
    queue: mpsc::Receiver<Message>,
}

impl tokio_stream::Stream for Frames {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        let first = match self.first.take() {
            Some(first) => first,
            None => match ready!(self.queue.poll_recv(context)) {
                Some(first) => first,
                None => return Poll::Ready(None),
            },
        };
        let mut messages = vec![encode(&first)];
        let mut bytes = messages[0].len();
        while bytes < self.limit {
            let Ok(message) = self.queue.try_recv() else { break };
            let message = encode(&message);
            bytes += message.len();
            messages.push(message);
        }
        let Route { cluster_id, from, to } = self.route;
        Poll::Ready(Some(sealed(Frame { cluster_id, from, to, messages, checksum: 0 })))
    }
}

/// A raft message as bytes.
pub(super) fn encode(message: &Message) -> Bytes {
    let bytes = message.write_to_bytes().expect("a message with all its fields can be encoded");
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::frame::is_whole;
    use super::*;

    /// A frame takes what is queued up to its size, oldest first, and at least one message.
    #[test]
    fn frames() {
        let check = |limit: usize, expected: &[&[u64]]| {
            let (sender, queue) = mpsc::channel(8);
            for index in 1..=4 {
                sender.try_send(Message { index, ..Message::default() }).unwrap();
            }
            drop(sender);
            let route = Route { cluster_id: 1, from: 2, to: 3 };
            let mut frames = Frames { route, limit, first: None, queue };
            let mut context = Context::from_waker(std::task::Waker::noop());
            let mut got = Vec::new();
            while let Poll::Ready(Some(frame)) =
                tokio_stream::Stream::poll_next(Pin::new(&mut frames), &mut context)
            {
                assert_eq!((frame.cluster_id, frame.from, frame.to), (1, 2, 3));
                assert!(is_whole(&frame));
                let indexes = frame.messages.iter().map(|bytes| {
                    Message::parse_from_carllerche_bytes(bytes).expect("what was encoded").index
                });
                got.push(indexes.collect::<Vec<u64>>());
            }
            assert_eq!(got, expected, "at most {limit} bytes");
        };
        let one = encode(&Message { index: 1, ..Message::default() }).len();
        check(0, &[&[1], &[2], &[3], &[4]]);
        check(one, &[&[1], &[2], &[3], &[4]]);
        check(one + 1, &[&[1, 2], &[3, 4]]);
        check(1000, &[&[1, 2, 3, 4]]);
    }
}
