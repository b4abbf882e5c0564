//! One client's watch, kept up over members that fall silent, streams that break and pasts that are
//! compacted.
//!
//! Each stream is an operation of its own in the history, with every message and when it came. Where a stream
//! ends, the next one begins after what was seen, at the next member; so what a client sees of all of them
//! together must have no gap.

use std::sync::Arc;

use snowglobe::client::{Endpoints, Resume, Token, WatchStream};
use snowglobe::proto::etcdserverpb::WatchResponse;
use tonic::service::interceptor::InterceptedService;

use super::classify::classify;
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
    /// Its ways to the members.
    pub endpoints: Arc<Endpoints>,
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
        let resume = Resume::new(watch.start_revision);
        let mut seen = Seen { messages: Vec::new(), resume, header: (0, 0) };
        let reached = self.listen(watch, member, goal, &mut seen).await;
        let revision = seen.messages.iter().map(|message| message.revision).max().unwrap_or(0);
        let numbers = [("op", op), ("messages", seen.messages.len() as u64)];
        world.note("client.watched", "", name, &numbers);
        let (next, (member_id, raft_term)) = (seen.resume.revision(), seen.header);
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
        let channel = self.endpoints.fresh_channel(member);
        let way = InterceptedService::new(channel, Token::default());
        let mut patience = Box::pin(world.sleep(PATIENCE_NS));
        let mut stream = tokio::select! {
            biased;
            opened = WatchStream::open(way, convert::create(watch)) => opened?,
            () = &mut patience => return Err(tonic::Status::deadline_exceeded("no stream in time")),
        };
        let mut silent = false;
        loop {
            if world.now_ns() >= goal.until_ns {
                return Ok(false);
            }
            let until_ns = goal.until_ns.min(world.now_ns().saturating_add(PATIENCE_NS));
            let received = tokio::select! {
                biased;
                received = stream.message() => Some(received?),
                () = world.sleep_until(until_ns) => None,
            };
            match received {
                Some(Some(response)) => {
                    silent = false;
                    let ends = response.canceled;
                    seen.take(response, world.now_ns());
                    let is_reached = seen.resume.revision() > goal.revision;
                    if is_reached || ends {
                        return Ok(is_reached);
                    }
                    if goal.pace_ns > 0 {
                        world.sleep(goal.pace_ns).await;
                    }
                }
                Some(None) => return Ok(false),
                // Whoever wants to know how far it is may ask; whoever has asked in vain asks another.
                None if watch.progress_notify && !silent => {
                    silent = true;
                    stream.ask_progress();
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
    resume: Resume,
    /// Member and term of the last header.
    header: (u64, u64),
}

impl Seen {
    /// Takes in a message that was received at `at_ns` of virtual time.
    fn take(&mut self, message: WatchResponse, at_ns: u64) {
        if let Some(header) = &message.header {
            self.header = (header.member_id, header.raft_term);
        }
        self.resume.take(&message);
        self.messages.push(convert::message(message, at_ns));
    }
}
