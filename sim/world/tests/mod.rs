//! What the simulated world promises, one test per fault and per part of a machine.

mod disk;
mod grpc;
mod net;
mod node;
mod rocks;
mod tally;
mod troubles;
mod wire;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use super::{Delay, NodeId, Options, World};

const MS: u64 = 1_000_000;

/// Lines of what happened, each with its millisecond.
#[derive(Clone)]
struct Log(World, Arc<Mutex<Vec<String>>>);

impl Log {
    fn new(world: &World) -> Self {
        Self(world.clone(), Arc::default())
    }

    fn add(&self, line: impl std::fmt::Display) {
        let ms = self.0.now_ns() / MS;
        self.1.lock().expect("one thread").push(format!("{ms} {line}"));
    }

    fn lines(&self) -> Vec<String> {
        self.1.lock().expect("one thread").clone()
    }
}

/// Every delay exactly a millisecond, no retransmission delay: what happens when is then plain arithmetic.
fn exact() -> Options {
    let mut options = Options { sync_delay: Delay::even(MS, MS), ..Options::default() };
    options.net.delay = Delay::even(MS, MS);
    options.net.retransmit_max_ns = 0;
    options
}

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

/// Adds nodes `a`, `b`, … to a world.
fn add_nodes<const N: usize>(world: &World) -> [NodeId; N] {
    std::array::from_fn(|index| {
        let index = u8::try_from(index).expect("few nodes");
        world.add_node(&char::from(b'a' + index).to_string(), ip(index + 1))
    })
}
