//! A machine apart: a process on a copy of some node's disk, from which no way leads to the world and none into it.
//!
//! Invariants:
//! * Its disk has no troubles and takes no time; it starts from the copy and ends with it.
//! * Its events are in no trace and its operations in no counter; time and the executor's order it shares.
//! * One process at a time: whoever begins one ends the one before.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use snowglobe::host::{self, BoxFuture, Host};

use super::base::{Base, Delay, Life};
use super::clock::NodeClock;
use super::disk::image::Image;
use super::disk::{Disk, Session, Survival};
use super::node::{NodeHost, NodeId, World};
use crate::dice::Dice;
use crate::trace::Trace;

/// See the module.
pub struct Apart {
    runtime: madsim::runtime::Handle,
    id: madsim::task::NodeId,
    disk: Arc<Disk>,
    clock: NodeClock,
    generation: Arc<AtomicU64>,
    dice: Arc<Mutex<Dice>>,
}

impl World {
    /// A machine with this disk and the clocks of `node`, apart.
    pub(crate) fn apart(&self, node: NodeId, image: Image) -> Apart {
        let (base, bent) = self.edges_of(node);
        let base = Base::new(base.seed, Arc::clone(&base.timers), Trace::new(0));
        let disk = Disk::holding(Arc::clone(&base), "apart".into(), Delay::even(0, 0), image);
        let (runtime, id) = self.room_apart();
        let dice = Arc::new(Mutex::new(base.dice("entropy/apart")));
        let clock = NodeClock { base: Arc::clone(&base), bent };
        Apart { runtime, id, disk, clock, generation: Arc::default(), dice }
    }
}

impl Apart {
    /// The machine as its current process sees it.
    pub fn host(&self) -> Arc<dyn Host> {
        let life = Life::new(&self.generation, true);
        let session = Session { disk: Arc::clone(&self.disk), life };
        let (clock, dice) = (self.clock.clone(), Arc::clone(&self.dice));
        Arc::new(NodeHost { session, net: Arc::new(Nowhere), clock, dice })
    }

    /// Runs a task of its current process.
    pub fn spawn<F>(&self, task: F) -> madsim::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.get_node(self.id).expect("made with the world").spawn(task)
    }

    /// Ends its process and cuts its power: what it has not synced is gone. The next process begins.
    pub fn lose_power(&self) {
        self.end();
        self.disk.power_loss(Survival::Nothing);
    }

    fn end(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.disk.release_all_locks();
        self.runtime.kill(self.id);
        self.runtime.restart(self.id);
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.end();
    }
}

/// A network that leads nowhere: listeners wait for ever, connects are refused.
struct Nowhere;

impl host::Net for Nowhere {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn host::Listener>>> {
        Box::pin(async move { Ok(Box::new(Nobody(address)) as Box<dyn host::Listener>) })
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn host::Stream>>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

struct Nobody(SocketAddr);

impl host::Listener for Nobody {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn host::Stream>, SocketAddr)>> {
        Box::pin(std::future::pending())
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
}
