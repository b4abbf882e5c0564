//! The simulated network: byte streams between nodes, over links that can be slow, cut, stalled or reset.
//!
//! A link is directed: `n1 → n2` and `n2 → n1` are two. Streams behave as TCP's do for those who use them: bytes
//! arrive whole, once and in order, or the connection breaks. What a cut link holds back is sent again after the
//! link heals, unless the sender's kernel gave up before ([`NetOptions::user_timeout_ns`]).
//!
//! | what happens | what the other side sees |
//! |---|---|
//! | delay | data later; order stays |
//! | stall | nothing, then all of it at once |
//! | cut | nothing; after healing a retransmission; window updates stop too |
//! | reset | `ConnectionReset` on both sides at once |
//! | a process dies | what it had sent, then the end of the stream (a reset where it left data unread) |
//! | the power goes | nothing at all; a reset once it writes to the machine that came back |
//! | a narrow link | data later, the more of it the later |
//! | no listener | `ConnectionRefused` after a round trip |
//! | cut, or no machine | connects hang, try again after 1, 2, 4 … seconds, and time out in the end |
//!
//! Invariants:
//! * Bytes are never lost, doubled or reordered within a connection that lives.
//! * Nothing crosses a cut link: neither data nor ends of streams nor resets nor window updates.
//! * One timer entry per batch of deliveries; no work per byte but the copy.
//! * A dead process's sockets are inert: whatever its late destructors do changes nothing.
//!
//! Not modelled: keepalive probes across a mere cut, half-open connects, IPv6 scopes, urgent data.

mod conn;
mod connect;
mod faults;
mod pipe;
mod stream;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::Waker;

use super::base::{Base, Delay};
use super::node::NodeId;
use crate::dice::Dice;
use conn::Conn;
pub(crate) use connect::NodeNet;
pub use faults::{Connects, LinkFaults};

/// How the network behaves where nothing is broken.
#[derive(Clone, Copy, Debug)]
pub struct NetOptions {
    /// Of each link, until it is changed.
    pub delay: Delay,
    /// Bytes that a sender may have under way in one stream, what the reader has not read included.
    pub window_bytes: usize,
    /// After so long without an answer the sender's kernel gives up and the stream times out.
    pub user_timeout_ns: u64,
    /// A stream to a machine without power breaks after so long even if nobody writes; `None`: it never does.
    pub keepalive_ns: Option<u64>,
    /// After a cut heals, retransmission takes up to so much longer than a delivery.
    pub retransmit_max_ns: u64,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            // One rack, with the odd slow packet.
            delay: Delay {
                min_ns: 50_000,
                max_ns: 400_000,
                tail_ppm: 5_000,
                tail_max_ns: 5_000_000,
            },
            window_bytes: 256 * 1024,
            // What gRPC implementations set where they set anything.
            user_timeout_ns: 20_000_000_000,
            keepalive_ns: None,
            retransmit_max_ns: 200_000_000,
        }
    }
}

/// Delay within one machine.
const LOOPBACK: Delay = Delay::even(5_000, 20_000);

/// Connections that wait to be accepted; further ones are dropped as if the link were cut.
const BACKLOG_MAX: usize = 128;

/// The network of one world.
pub struct Net {
    base: Arc<Base>,
    options: NetOptions,
    myself: Weak<Net>,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    machines: Vec<Machine>,
    /// `links[from][to]`.
    links: Vec<Vec<Link>>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    ports: BTreeMap<(usize, u16), Port>,
    /// From whom to which machine and port, and the port that they reach instead.
    diverted: BTreeMap<(usize, (usize, u16)), u16>,
    next_owner: u64,
}

struct Machine {
    name: Arc<str>,
    ip: IpAddr,
    has_power: bool,
    next_port: u16,
}

#[derive(Clone, Copy)]
struct Link {
    delay: Delay,
    is_cut: bool,
    is_stalled: bool,
    connects: Connects,
    /// How many bytes a second it takes, where that is bounded, and when it has taken all that it was given.
    bytes_per_s: Option<u64>,
    free_ns: u64,
}

impl Link {
    fn is_open(&self) -> bool {
        !self.is_cut && !self.is_stalled
    }

    /// When so many bytes that are given to it now are on their way, but for the delay.
    fn take(&mut self, bytes: usize, now_ns: u64) -> u64 {
        let Some(bytes_per_s) = self.bytes_per_s else { return now_ns };
        let takes_ns = (bytes as u64).saturating_mul(1_000_000_000) / bytes_per_s.max(1);
        self.free_ns = self.free_ns.max(now_ns) + takes_ns;
        self.free_ns
    }
}

/// A bound port.
struct Port {
    owner: u64,
    backlog: std::collections::VecDeque<u64>,
    waker: Option<Waker>,
}

/// Wakers to wake once the lock is released.
#[derive(Default)]
struct Wakes(Vec<Waker>);

impl Wakes {
    fn add(&mut self, waker: &mut Option<Waker>) {
        self.0.extend(waker.take());
    }

    fn wake(self) {
        for waker in self.0 {
            waker.wake();
        }
    }
}

impl Net {
    pub(crate) fn new(base: Arc<Base>, options: NetOptions) -> Arc<Self> {
        let state = State {
            dice: base.dice("net"),
            machines: Vec::new(),
            links: Vec::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            ports: BTreeMap::new(),
            diverted: BTreeMap::new(),
            next_owner: 0,
        };
        Arc::new_cyclic(|myself| Self {
            base,
            options,
            myself: myself.clone(),
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("one thread, no panic inside")
    }

    /// Adds the next machine.
    pub(crate) fn add_machine(&self, name: Arc<str>, ip: IpAddr) {
        let mut state = self.lock();
        assert!(state.machines.iter().all(|machine| machine.ip != ip), "two machines at {ip}");
        let link = |delay| Link {
            delay,
            is_cut: false,
            is_stalled: false,
            connects: Connects::Work,
            bytes_per_s: None,
            free_ns: 0,
        };
        state.machines.push(Machine { name, ip, has_power: true, next_port: 32_768 });
        for links in &mut state.links {
            links.push(link(self.options.delay));
        }
        let count = state.machines.len();
        let mut links = vec![link(self.options.delay); count];
        links[count - 1] = link(LOOPBACK);
        state.links.push(links);
    }

    /// What the kernel does when the processes of a machine die: ports are free again, streams are closed.
    pub(crate) fn process_died(&self, node: NodeId) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.close_ports(self, node.0, &mut wakes);
        for (id, side) in state.ends_at(node.0) {
            state.close(self, id, side);
        }
        drop(state);
        wakes.wake();
    }

    /// The machine falls silent: nobody is told.
    pub(crate) fn power_lost(&self, node: NodeId) {
        let mut state = self.lock();
        state.machines[node.0].has_power = false;
        state.ports.retain(|(machine, _), _| *machine != node.0);
        for (id, side) in state.ends_at(node.0) {
            state.vanish(self, id, side);
        }
    }

    /// The machine is back, its kernel remembers nothing.
    pub(crate) fn power_back(&self, node: NodeId) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.machines[node.0].has_power, true) {
            for from in 0..state.machines.len() {
                state.release(self, from, node.0, self.options.retransmit_max_ns);
            }
        }
    }

    /// Forgets everything, so that nothing keeps the world alive.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        let (conns, ports) = (std::mem::take(&mut state.conns), std::mem::take(&mut state.ports));
        drop(state);
        drop((conns, ports));
    }

    /// How many connections are known to any kernel.
    pub fn connections(&self) -> usize {
        self.lock().conns.len()
    }
}

impl State {
    /// Connections with an end at `machine`, and which end.
    fn ends_at(&self, machine: usize) -> Vec<(u64, usize)> {
        let ends = self.conns.iter().flat_map(|(id, conn)| {
            (0..2).filter(|side| conn.ends[*side].machine == machine).map(|side| (*id, side))
        });
        ends.collect()
    }

    fn close_ports(&mut self, net: &Net, machine: usize, wakes: &mut Wakes) {
        let ports: Vec<u16> =
            self.ports.range((machine, 0)..=(machine, u16::MAX)).map(|((_, p), _)| *p).collect();
        for port in ports {
            self.close_port(net, machine, port, wakes);
        }
    }

    fn close_port(&mut self, net: &Net, machine: usize, port: u16, wakes: &mut Wakes) {
        let Some(mut bound) = self.ports.remove(&(machine, port)) else { return };
        for id in std::mem::take(&mut bound.backlog) {
            self.close(net, id, 1);
        }
        wakes.add(&mut bound.waker);
    }

    fn address(&self, machine: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.machines[machine].ip, port)
    }
}
