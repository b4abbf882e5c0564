//! Life and death of the world's nodes, and the world itself.
//!
//! | | processes | page cache | sockets | others see |
//! |---|---|---|---|---|
//! | `kill` | gone | stays | closed by the kernel | ends of streams, refused connects |
//! | `power_off` | gone | unsynced part forgotten | forgotten | silence |
//! | `restart` | a new one, `boot`'s closure again | as it is | new | |
//! | `pause` | stand still | stays | fill up | slowness |
//!
//! Invariants:
//! * A node has at most one process; each has a number, and the handles of earlier ones are dead.
//! * `restart` always kills first: madsim's own restart would leave sockets bound.
//! * A scenario's own tasks (spawned on no node) must end before it does: nobody kills them.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use snowglobe::host::{self, Backend, BoxFuture, Host};

use super::base::{Base, Delay, Life};
use super::clock::{Bend, Bent, NodeClock};
use super::disk::{Disk, Loss, Session, Survival};
use super::net::{Net, NetOptions, NodeNet};
use super::rocks;
use super::timer::Timers;
use crate::dice::Dice;
use crate::grid::{Cell, Count};
use crate::trace::Trace;

/// Names a node of one world: its place in the order of `add_node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// Its place in the order of `add_node`, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// How the world behaves where nothing is broken.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The network.
    pub net: NetOptions,
    /// How long a sync of a file or folder takes.
    pub sync_delay: Delay,
    /// How many lines the trace keeps; 0 for the hash alone.
    pub trace_lines_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        // A datacentre SSD.
        Self {
            net: NetOptions::default(),
            sync_delay: Delay::even(200_000, 2_000_000),
            trace_lines_max: 0,
        }
    }
}

/// What a node's process does, from its first moment.
type Boot = Arc<dyn Fn(Arc<dyn Host>) -> BoxFuture<'static, ()> + Send + Sync>;

struct Node {
    name: Arc<str>,
    id: madsim::task::NodeId,
    generation: Arc<AtomicU64>,
    is_up: bool,
    is_paused: bool,
    disk: Arc<Disk>,
    bent: Arc<Bent>,
    dice: Arc<Mutex<Dice>>,
    boot: Option<Boot>,
}

/// The world of one run.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    base: Arc<Base>,
    options: Options,
    net: Arc<Net>,
    nodes: Mutex<Vec<Node>>,
    /// Where machines apart run, once there was one.
    apart: Mutex<Option<madsim::task::NodeId>>,
    runtime: madsim::runtime::Handle,
}

impl World {
    /// A world without nodes, in the current madsim runtime.
    pub fn new(seed: u64, options: Options) -> Self {
        let base = Base::new(seed, Timers::start(), Trace::new(options.trace_lines_max));
        let net = Net::new(Arc::clone(&base), options.net);
        let runtime = madsim::runtime::Handle::current();
        let (nodes, apart) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { base, options, net, nodes, apart, runtime }))
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        self.0.nodes.lock().expect("one thread, no panic inside")
    }

    /// The stream of random numbers called `name`, from its beginning.
    pub fn dice(&self, name: &str) -> Dice {
        self.0.base.dice(name)
    }

    /// Virtual time since the world began.
    pub fn now_ns(&self) -> u64 {
        self.0.base.timers.now_ns()
    }

    /// Completes at `at_ns` of virtual time.
    pub fn sleep_until(&self, at_ns: u64) -> impl Future<Output = ()> + Send + 'static {
        self.0.base.timers.sleep_until(at_ns)
    }

    /// Completes after `duration_ns` of virtual time.
    pub fn sleep(&self, duration_ns: u64) -> impl Future<Output = ()> + Send + 'static {
        self.0.base.timers.sleep(duration_ns)
    }

    /// The record of this run.
    pub fn trace(&self) -> &Trace {
        &self.0.base.trace
    }

    /// Puts an event of a scenario or client into the trace, at the current time.
    pub fn note(
        &self,
        kind: &'static str,
        node: &str,
        target: &str,
        numbers: &[(&'static str, u64)],
    ) {
        self.0.base.note(kind, node, target, numbers);
    }

    /// Adds to a counter.
    pub fn count(&self, name: &'static str, more: u64) {
        self.0.base.count(name, more);
    }

    /// What was injected and what the code met, so far.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.0.base.counters()
    }

    /// How often disks were hurt, and how often somebody met it, so far.
    pub fn grid(&self) -> BTreeMap<Cell, Count> {
        self.0.base.grid()
    }

    /// The network and its faults.
    pub fn net(&self) -> &Net {
        &self.0.net
    }

    /// The disk of a node.
    pub fn disk(&self, node: NodeId) -> Arc<Disk> {
        Arc::clone(&self.nodes()[node.0].disk)
    }

    /// Adds a machine, powered and idle. Panics where name or address is taken.
    pub fn add_node(&self, name: &str, ip: IpAddr) -> NodeId {
        let name: Arc<str> = name.into();
        let base = &self.0.base;
        let id = self.0.runtime.create_node().name(&*name).ip(ip).build().id();
        let disk = Disk::new(Arc::clone(base), Arc::clone(&name), self.0.options.sync_delay);
        let dice = Arc::new(Mutex::new(base.dice(&format!("entropy/{name}"))));
        self.0.net.add_machine(Arc::clone(&name), ip);
        let mut nodes = self.nodes();
        assert!(nodes.iter().all(|node| node.name != name), "two nodes called {name}");
        nodes.push(Node {
            name,
            id,
            generation: Arc::new(AtomicU64::new(0)),
            is_up: true,
            is_paused: false,
            disk,
            bent: Bent::new(Bend::default()),
            dice,
            boot: None,
        });
        NodeId(nodes.len() - 1)
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.nodes().iter().position(|node| *node.name == *name).map(NodeId)
    }

    /// The name of a node.
    pub fn name(&self, node: NodeId) -> Arc<str> {
        Arc::clone(&self.nodes()[node.0].name)
    }

    /// Whether a node has a process.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes()[node.0].is_up
    }

    /// The machine as the current process of a node sees it; a dead handle where the node is down.
    pub fn host(&self, node: NodeId) -> Arc<dyn Host> {
        let nodes = self.nodes();
        let found = &nodes[node.0];
        let life = Life::new(&found.generation, found.is_up);
        Arc::new(NodeHost {
            session: Session { disk: Arc::clone(&found.disk), life: life.clone() },
            net: Arc::new(NodeNet { net: Arc::clone(&self.0.net), machine: node.0, life }),
            clock: NodeClock { base: Arc::clone(&self.0.base), bent: Arc::clone(&found.bent) },
            dice: Arc::clone(&found.dice),
        })
    }

    /// Runs a task on a node; it dies with the node's process.
    pub fn spawn<F>(&self, node: NodeId, task: F) -> madsim::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let id = self.nodes()[node.0].id;
        self.0.runtime.get_node(id).expect("made by add_node").spawn(task)
    }

    /// Starts a node's process, now and after every restart.
    pub fn boot<F>(
        &self,
        node: NodeId,
        process: impl Fn(Arc<dyn Host>) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let boot: Boot = Arc::new(move |host| Box::pin(process(host)));
        self.nodes()[node.0].boot = Some(Arc::clone(&boot));
        self.spawn(node, boot(self.host(node)));
    }

    /// Notes that a node's process is gone. False where it had none.
    fn end_process(&self, node: NodeId, kind: &'static str) -> bool {
        let mut nodes = self.nodes();
        let found = &mut nodes[node.0];
        if !std::mem::replace(&mut found.is_up, false) {
            return false;
        }
        found.is_paused = false;
        found.generation.fetch_add(1, Ordering::Relaxed);
        found.disk.release_all_locks();
        let (id, name) = (found.id, Arc::clone(&found.name));
        drop(nodes);
        self.0.runtime.kill(id);
        self.0.base.note(kind, &name, "", &[]);
        true
    }

    /// Kills a node's process, as SIGKILL does. The page cache stays; its kernel closes the sockets.
    pub fn kill(&self, node: NodeId) {
        if self.end_process(node, "node.kill") {
            self.0.base.count("node.kills", 1);
            self.0.net.process_died(node);
        }
    }

    /// Cuts a node's power: a seeded part of what was not synced is gone, and nobody is told. Works on a node that
    /// is down as well.
    pub fn power_off(&self, node: NodeId, survival: Survival) -> Loss {
        self.end_process(node, "node.power_off");
        self.0.base.count("node.power_offs", 1);
        self.0.net.power_lost(node);
        self.disk(node).power_loss(survival)
    }

    /// Starts a node's process anew; one that runs is killed first.
    pub fn restart(&self, node: NodeId) {
        self.kill(node);
        let mut nodes = self.nodes();
        let found = &mut nodes[node.0];
        found.is_up = true;
        found.disk.revive();
        let (id, name, boot) = (found.id, Arc::clone(&found.name), found.boot.clone());
        drop(nodes);
        self.0.net.power_back(node);
        self.0.runtime.restart(id);
        self.0.base.note("node.restart", &name, "", &[]);
        self.0.base.count("node.restarts", 1);
        if let Some(boot) = boot {
            self.spawn(node, boot(self.host(node)));
        }
    }

    /// Stops a node's tasks where they are; timers go off unheard, sockets fill up.
    pub fn pause(&self, node: NodeId) {
        self.set_paused(node, true);
    }

    /// Lets a paused node go on.
    pub fn resume(&self, node: NodeId) {
        self.set_paused(node, false);
    }

    fn set_paused(&self, node: NodeId, is_paused: bool) {
        let mut nodes = self.nodes();
        let found = &mut nodes[node.0];
        if !found.is_up || std::mem::replace(&mut found.is_paused, is_paused) == is_paused {
            return;
        }
        let (id, name) = (found.id, Arc::clone(&found.name));
        drop(nodes);
        if is_paused {
            self.0.runtime.pause(id);
            self.0.base.count("node.pauses", 1);
            self.0.base.note("node.pause", &name, "", &[]);
        } else {
            self.0.runtime.resume(id);
            self.0.base.note("node.resume", &name, "", &[]);
        }
    }

    /// Whether a node is paused.
    pub fn is_paused(&self, node: NodeId) -> bool {
        self.nodes()[node.0].is_paused
    }

    /// Bends a node's clocks from now on.
    pub fn bend_clock(&self, node: NodeId, bend: Bend) {
        let (bent, name) = {
            let nodes = self.nodes();
            (Arc::clone(&nodes[node.0].bent), Arc::clone(&nodes[node.0].name))
        };
        bent.set(self.now_ns(), self.0.base.timers.wall_start(), bend);
        let numbers = [
            ("drift_ppm", u64::from(bend.drift_ppm.cast_unsigned())),
            ("wall_offset_ns", bend.wall_offset_ns.cast_unsigned()),
            ("is_wall_frozen", u64::from(bend.is_wall_frozen)),
        ];
        self.0.base.note("node.bend_clock", &name, "", &numbers);
    }

    /// What a machine apart shares with a node.
    pub(crate) fn edges_of(&self, node: NodeId) -> (Arc<Base>, Arc<Bent>) {
        (Arc::clone(&self.0.base), Arc::clone(&self.nodes()[node.0].bent))
    }

    /// Where machines apart run.
    pub(crate) fn room_apart(&self) -> (madsim::runtime::Handle, madsim::task::NodeId) {
        let runtime = self.0.runtime.clone();
        let mut apart = self.0.apart.lock().expect("one thread, no panic inside");
        let id = *apart.get_or_insert_with(|| runtime.create_node().name("apart").build().id());
        (runtime, id)
    }

    /// Bytes of memory that all disks take.
    pub fn disk_memory(&self) -> u64 {
        self.nodes().iter().map(|node| node.disk.memory()).sum()
    }

    /// Kills everything and waits until the destructors have run, so that the run leaves no memory behind.
    pub(crate) async fn end(&self) {
        let count = self.nodes().len();
        for node in (0..count).map(NodeId) {
            if self.end_process(node, "node.end") {
                self.0.net.process_died(node); // not counted: nobody injected it
            }
            self.nodes()[node.0].boot = None;
        }
        let apart = *self.0.apart.lock().expect("one thread, no panic inside");
        if let Some(id) = apart {
            self.0.runtime.kill(id);
        }
        self.0.net.close();
        self.0.base.timers.close();
        // Killed tasks are dropped when the executor next picks them.
        for _ in 0..3 {
            madsim::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

/// The machine as one process sees it.
pub(super) struct NodeHost {
    pub(super) session: Session,
    pub(super) net: Arc<dyn host::Net>,
    pub(super) clock: NodeClock,
    pub(super) dice: Arc<Mutex<Dice>>,
}

impl Host for NodeHost {
    fn net(&self) -> Arc<dyn host::Net> {
        Arc::clone(&self.net)
    }

    fn disk(&self) -> Arc<dyn host::Disk> {
        Arc::new(self.session.clone())
    }

    fn clock(&self) -> Arc<dyn host::Clock> {
        Arc::new(self.clock.clone())
    }

    fn random_u64(&self) -> u64 {
        self.dice.lock().expect("one thread, no panic inside").bits()
    }

    fn backend(&self) -> io::Result<Backend> {
        self.session.life.check()?;
        let dice = Dice::new(self.random_u64(), "rocks");
        Ok(rocks::backend(self.session.clone(), self.clock.clone(), dice))
    }
}
