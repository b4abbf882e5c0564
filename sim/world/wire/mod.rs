//! Messages between members, met one by one: a proxy on a directed link that speaks the members' own protocol.
//!
//! The server cannot know: what it connects to is diverted ([`Net::divert`](super::Net::divert)) to a proxy on the
//! machine that it means, which takes its calls as a real gRPC server, and makes them again as a real client over that
//! machine's loopback. So the link's cuts, delays and resets, and the deaths of the machine, are what they are without
//! a proxy.
//!
//! | trouble | what becomes of a message |
//! |---|---|
//! | lose | nothing |
//! | repeat | it arrives, and a copy of it up to seconds later |
//! | reorder | it arrives up to seconds later, after others that were sent later |
//! | corrupt | a bit of its frame is turned over |
//! | hold | it arrives when the trouble is over |
//!
//! Pieces of a snapshot are met too; there a piece changes places with the next one instead of arriving late, and none
//! is held.
//!
//! Invariants:
//! * A link that nobody asked for has no proxy, and costs nothing.
//! * Where no rule hits, a frame passes as it came and in its order.
//! * A link has dice of its own, thrown for nothing but messages that a rule is about.
//! * What is late outlives streams and processes, as what is stuck in a network does; but only the member that it was
//!   meant for gets it, by its id.
//! * A forwarded proposal is never repeated: neither raft nor the state machine knows one again, and the members'
//!   transport promises as much.
//! * At most [`LATE_MAX`] messages are late on a link; more are lost.
//!
//! Not here: what members ask each other in calls of their own (leases, members, hashes) passes untouched.

mod link;
mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use snowglobe::host::Host;
use snowglobe::proto::peer::{Frame, SnapshotChunk};
use tokio::sync::Notify;

use super::node::{NodeId, World};
use crate::messages::MessageKind;
use link::{Link, Route};
use proxy::Proxy;

/// The proxy for what node `n` says listens on this port and `n` more.
const FIRST_PORT: u16 = 2500;
/// Late messages of one link: far more than the server has under way to a peer.
const LATE_MAX: usize = 10_000;

/// What can be done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    /// It is lost.
    Lose,
    /// It arrives twice.
    Repeat,
    /// It arrives late, after others that were sent after it.
    Reorder,
    /// A bit of its frame is turned over.
    Corrupt,
    /// It arrives when the rule ends.
    Hold,
}

/// What happens to which messages of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What happens.
    pub what: Meddling,
    /// To messages of this kind; `None`: of any.
    pub kind: Option<MessageKind>,
    /// To one in so many of them, by the link's dice.
    pub one_in: u64,
}

/// The links whose messages may be met, each with its proxy.
#[derive(Clone)]
pub struct Wires(Arc<Inner>);

struct Inner {
    world: World,
    /// Where members listen to each other.
    port: u16,
    state: Mutex<State>,
    /// Rings when what was held has become due.
    changed: Notify,
}

#[derive(Default)]
struct State {
    links: BTreeMap<(usize, usize), Link>,
    /// The highest term that anybody has spoken in.
    term: u64,
}

impl Wires {
    /// Proxies on these links, each from one node to another, where members listen to each other on `port`.
    pub fn new(
        world: &World,
        port: u16,
        links: impl IntoIterator<Item = (NodeId, NodeId)>,
    ) -> Self {
        let mut state = State::default();
        for (from, to) in links {
            world.net().divert(from, (to, port), proxy_port(from));
            let names = [world.name(from), world.name(to)];
            let dice = world.dice(&format!("link/{}-{}", names[0], names[1]));
            state.links.insert((from.0, to.0), Link::new(names, dice));
        }
        let (world, state) = (world.clone(), Mutex::new(state));
        Self(Arc::new(Inner { world, port, state, changed: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("one thread, no panic inside")
    }

    /// Starts the proxies of all links to `node`, as part of the process that `host` is of.
    pub fn serve(&self, host: &Arc<dyn Host>, node: NodeId, ip: IpAddr) {
        let links: Vec<(usize, usize)> =
            self.state().links.keys().copied().filter(|(_, to)| *to == node.0).collect();
        for link in links {
            let address = SocketAddr::new(ip, proxy_port(NodeId(link.0)));
            let member = SocketAddr::new(ip, self.0.port).to_string();
            let proxy = Proxy { wires: self.clone(), host: Arc::clone(host), link, member };
            tokio::spawn(proxy::serve(proxy, address));
        }
    }

    /// From now on `rule` is in force on a link, until [`Wires::end`]. Of several rules the oldest that hits counts.
    /// False where the link has no proxy.
    pub fn begin(&self, id: u32, (from, to): (NodeId, NodeId), rule: Rule) -> bool {
        let mut state = self.state();
        let Some(link) = state.links.get_mut(&(from.0, to.0)) else { return false };
        link.begin(id, rule);
        true
    }

    /// The rule is over on all links: what it held goes on.
    pub fn end(&self, id: u32) {
        let now_ns = self.0.world.now_ns();
        self.state().links.values_mut().for_each(|link| link.end(id, now_ns));
        self.0.changed.notify_waiters();
    }

    /// All rules are over.
    pub fn heal(&self) {
        let ids: BTreeSet<u32> =
            self.state().links.values().flat_map(|link| link.rules().copied()).collect();
        ids.into_iter().for_each(|id| self.end(id));
    }

    /// A stream of frames begins on a link: its number, which only the newest stream has.
    fn open(&self, link: (usize, usize)) -> u64 {
        self.with(link, |link, _| link.open())
    }

    fn with<T>(
        &self,
        link: (usize, usize),
        act: impl FnOnce(&mut Link, &mut Meeting<'_>) -> T,
    ) -> T {
        let mut state = self.state();
        let State { links, term } = &mut *state;
        let link = links.get_mut(&link).expect("its proxy runs");
        act(link, &mut Meeting { world: &self.0.world, term })
    }

    /// What of a frame goes on at once.
    fn meet(&self, link: (usize, usize), frame: Frame) -> Option<Frame> {
        self.with(link, |link, meeting| link.meet(frame, meeting))
    }

    /// What of a piece of a snapshot goes on at once; `waiting`: a piece that another one is to overtake.
    fn meet_chunk(
        &self,
        link: (usize, usize),
        chunk: SnapshotChunk,
        waiting: &mut Option<SnapshotChunk>,
    ) -> Vec<SnapshotChunk> {
        self.with(link, |link, meeting| link.meet_chunk(chunk, waiting, meeting))
    }

    /// The next late message for the stream `number` of a link, when it is due; never, once there is a newer stream.
    async fn late(&self, link: (usize, usize), number: u64, route: Route) -> Bytes {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let next = self.with(link, |link, meeting| link.late(number, route, meeting));
            let due_ns = match next {
                Ok(message) => return message,
                Err(due_ns) => due_ns,
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = self.0.world.sleep_until(due_ns) => {}
            }
        }
    }
}

/// Where the proxies for what a node says listen.
fn proxy_port(from: NodeId) -> u16 {
    FIRST_PORT + u16::try_from(from.0).expect("few nodes")
}

/// What a link needs to know of the world while it meets a message.
struct Meeting<'a> {
    world: &'a World,
    term: &'a mut u64,
}
