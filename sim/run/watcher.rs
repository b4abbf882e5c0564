//! One client's watch, kept up over members that fall silent, streams that break and pasts that are
//! compacted.
//!
//! Each stream is an operation of its own in the history, with every message and when it came. Where a stream
//! ends, the next one begins after what was seen, at the next member; so what a client sees of all of them
//! together must have no gap.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use snowglobe::host::{Host, channel};
use snowglobe::proto::etcdserverpb::WatchRequest;
use snowglobe::proto::etcdserverpb::watch_client::WatchClient;
use tokio::sync::mpsc;

use super::classify::classify;
use super::client::Marked;
use super::cluster::Cluster;
use super::convert::watch as convert;
use super::recorder::Recorder;
use crate::history::{Body, Request, Response, Watch, WatchMessage};

/// Between the end of a stream and the next one.
const PAUSE_NS: u64 = 50_000_000;

/// A stream that says nothing for so long is given up: the member may be cut off. Also the time between two
/// questions for progress.
const PATIENCE_NS: u64 = 1_500_000_000;

/// One client's way to watch.
#[derive(Clone)]
pub struct Watcher {
    /// The client.
    pub number: u32,
    /// Its machine.
    pub host: Arc<dyn Host>,
    /// Whom it asks.
    pub cluster: Cluster,
    /// Where it is written down.
    pub recorder: Recorder,
}

/// What a watch is kept up for.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// It is given up at this moment of virtual time.
    pub until_ns: u64,
    /// It is over once everything up to this revision has been seen.
    pub revision: i64,
    /// How long the client takes over each message.
    pub pace_ns: u64,
}

/// How a stream has ended.
struct Ended {
    /// The revision to go on at.
    next: i64,
    /// Whether everything that was wanted has been seen.
    reached: bool,
}

impl Watcher {
    /// Keeps a watch up, beginning at the first of `members`; whether the goal's revision was reached.
    pub async fn keep(&self, watch: Watch, members: &[usize], goal: Goal) -> bool {
        let mut next = watch.start_revision;
        for member in members.iter().cycle() {
            if self.cluster.world.now_ns() >= goal.until_ns {
                return false;
            }
            let watch = Watch { start_revision: next, ..watch.clone() };
            let ended = self.stream(&watch, *member, goal).await;
            if ended.reached {
                return true;
            }
            next = ended.next;
            self.cluster.world.sleep(PAUSE_NS).await;
        }
        false
    }

    /// One stream, from its beginning to its end.
    async fn stream(&self, watch: &Watch, member: usize, goal: Goal) -> Ended {
        let world = &self.cluster.world;
        let name = self.cluster.name(member);
        let request = Request::Watch(watch.clone());
        let op = self.recorder.called(self.number, name, &request, world.now_ns());
        world.note("client.watch", "", name, &[("op", op), ("client", u64::from(self.number))]);
        let mut seen = Seen { messages: Vec::new(), next: watch.start_revision, header: (0, 0) };
        let reached = self.listen(watch, member, goal, &mut seen).await;
        let revision = seen.messages.iter().map(|message| message.revision).max().unwrap_or(0);
        let numbers = [("op", op), ("messages", seen.messages.len() as u64)];
        world.note("client.watched", "", name, &numbers);
        let (next, (member_id, raft_term)) = (seen.next, seen.header);
        let is_reached = matches!(reached, Ok(true));
        let result = match reached {
            Err(status) if seen.messages.is_empty() => Err(classify(&status)),
            // What was received was received, however it ended.
            _ => {
                let body = Body::Watch { messages: seen.messages };
                Ok(Response { revision, member_id, raft_term, body })
            }
        };
        self.recorder.returned(op, result, world.now_ns());
        Ended { next, reached: is_reached }
    }

    /// Receives until the stream or the time is over; whether the goal's revision was reached.
    async fn listen(
        &self,
        watch: &Watch,
        member: usize,
        goal: Goal,
        seen: &mut Seen,
    ) -> Result<bool, tonic::Status> {
        let world = &self.cluster.world;
        let authority = self.cluster.client_authority(member);
        let channel = channel::connect(Arc::new(Marked(self.host.net())), &authority)
            .expect("members' addresses are well formed");
        let (requests, outgoing) = mpsc::channel(1);
        requests.try_send(convert::create(watch)).expect("it has room for one");
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut patience = Box::pin(world.sleep(PATIENCE_NS));
        let opening = tokio::select! {
            biased;
            opened = client.watch(Outgoing(outgoing)) => opened?,
            () = &mut patience => return Err(tonic::Status::deadline_exceeded("no stream in time")),
        };
        let mut incoming = opening.into_inner();
        let mut silent = false;
        loop {
            if world.now_ns() >= goal.until_ns {
                return Ok(false);
            }
            let until_ns = goal.until_ns.min(world.now_ns().saturating_add(PATIENCE_NS));
            let received = tokio::select! {
                biased;
                received = incoming.message() => Some(received?),
                () = world.sleep_until(until_ns) => None,
            };
            match received {
                Some(Some(response)) => {
                    silent = false;
                    if let Some(header) = &response.header {
                        seen.header = (header.member_id, header.raft_term);
                    }
                    let ends = seen.take(convert::message(response, world.now_ns()));
                    if seen.next > goal.revision || ends {
                        return Ok(seen.next > goal.revision);
                    }
                    if goal.pace_ns > 0 {
                        world.sleep(goal.pace_ns).await;
                    }
                }
                Some(None) => return Ok(false),
                // Whoever wants to know how far it is may ask; whoever has asked in vain asks another.
                None if watch.progress_notify && !silent => {
                    silent = true;
                    let _ = requests.try_send(convert::ask_progress());
                }
                None if watch.progress_notify => return Ok(false),
                None => {}
            }
        }
    }
}

/// What a stream has told so far.
struct Seen {
    messages: Vec<WatchMessage>,
    /// The revision to go on at.
    next: i64,
    /// Member and term of the last header.
    header: (u64, u64),
}

impl Seen {
    /// Takes a message in; whether it is the last one.
    fn take(&mut self, message: WatchMessage) -> bool {
        let told = message.events.last().map(|event| event.kv.mod_revision);
        let is_progress = told.is_none() && !message.created && !message.canceled;
        // Of a revision that comes in fragments, only the last one counts.
        let told = told.filter(|_| !message.fragment).or(is_progress.then_some(message.revision));
        if let Some(told) = told {
            self.next = self.next.max(told + 1);
        }
        if message.created && self.next == 0 {
            self.next = message.revision + 1;
        }
        if message.canceled {
            self.next = self.next.max(message.compact_revision);
        }
        let is_last = message.canceled;
        self.messages.push(message);
        is_last
    }
}

/// The requests of one stream.
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
