//! What a scenario can do to the network.

use std::sync::Arc;

use super::{Net, Wakes};
use crate::world::base::Delay;
use crate::world::node::NodeId;

/// How connects over one link fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connects {
    /// As they should.
    #[default]
    Work,
    /// They are refused, whoever listens.
    Refuse,
    /// They get no answer.
    Hang,
}

/// Everything that can be wrong with one direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFaults {
    /// Nothing crosses.
    pub is_cut: bool,
    /// Everything waits, and arrives at once when that ends.
    pub is_stalled: bool,
    /// How connects fare.
    pub connects: Connects,
    /// How long bytes travel; `None`: as always.
    pub delay: Option<Delay>,
    /// How many bytes a second it takes; `None`: any number.
    pub bytes_per_s: Option<u64>,
}

impl Net {
    /// Makes one direction of a link wrong in exactly these ways, and in no others.
    pub fn set_link(&self, from: NodeId, to: NodeId, faults: LinkFaults) {
        self.note("net.set_link", from, to);
        let mut state = self.lock();
        let link = &mut state.links[from.0][to.0];
        let (was_open, was_cut, was_stalled) = (link.is_open(), link.is_cut, link.is_stalled);
        (link.is_cut, link.is_stalled) = (faults.is_cut, faults.is_stalled);
        link.connects = faults.connects;
        link.delay = faults.delay.unwrap_or(self.options.delay);
        link.bytes_per_s = faults.bytes_per_s;
        if !was_open && link.is_open() {
            let retransmit_max_ns = if was_cut { self.options.retransmit_max_ns } else { 0 };
            state.release(self, from.0, to.0, retransmit_max_ns);
        }
        self.base.count("net.cuts", u64::from(faults.is_cut && !was_cut));
        self.base.count("net.stalls", u64::from(faults.is_stalled && !was_stalled));
    }

    /// From now on, whoever connects from one node to this port of another reaches another port there instead.
    pub fn divert(&self, from: NodeId, (to, port): (NodeId, u16), instead: u16) {
        self.lock().diverted.insert((from.0, (to.0, port)), instead);
    }

    fn note(&self, kind: &'static str, from: NodeId, to: NodeId) {
        let state = self.lock();
        let names = [from, to].map(|node| Arc::clone(&state.machines[node.0].name));
        drop(state);
        self.base.note(kind, &names[0], &names[1], &[]);
    }

    /// Cuts one direction: nothing crosses it any more.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.note("net.cut", from, to);
        let was_cut = std::mem::replace(&mut self.lock().links[from.0][to.0].is_cut, true);
        self.base.count("net.cuts", u64::from(!was_cut));
    }

    /// Stalls one direction: everything waits, and arrives at once when it heals.
    pub fn stall(&self, from: NodeId, to: NodeId) {
        self.note("net.stall", from, to);
        let was_stalled = std::mem::replace(&mut self.lock().links[from.0][to.0].is_stalled, true);
        self.base.count("net.stalls", u64::from(!was_stalled));
    }

    /// Undoes cut, stall and trouble with connects in one direction. The delay stays.
    pub fn heal(&self, from: NodeId, to: NodeId) {
        self.note("net.heal", from, to);
        let mut state = self.lock();
        let link = &mut state.links[from.0][to.0];
        let (was_open, was_cut) = (link.is_open(), link.is_cut);
        (link.is_cut, link.is_stalled, link.connects) = (false, false, Connects::Work);
        if !was_open {
            let retransmit_max_ns = if was_cut { self.options.retransmit_max_ns } else { 0 };
            state.release(self, from.0, to.0, retransmit_max_ns);
        }
    }

    /// Heals every link and sets every delay back.
    pub fn heal_all(&self) {
        let count = self.lock().machines.len();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            if from != to {
                let link = self.lock().links[from][to];
                if !link.is_open() || link.connects != Connects::Work {
                    self.heal(NodeId(from), NodeId(to));
                }
                self.lock().links[from][to].delay = self.options.delay;
            }
        }
    }

    /// Breaks all connections between two nodes; both sides see a reset at once.
    pub fn reset(&self, one: NodeId, other: NodeId) {
        self.note("net.reset_link", one, other);
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let pairs = [[one.0, other.0], [other.0, one.0]];
        let ids = state
            .conns
            .iter()
            .filter(|(_, conn)| pairs.contains(&[conn.ends[0].machine, conn.ends[1].machine]));
        let ids: Vec<u64> = ids.map(|(id, _)| *id).collect();
        self.base.count("net.resets", ids.len() as u64);
        for id in ids {
            state.reset_both(self, id, &mut wakes);
        }
        drop(state);
        wakes.wake();
    }

    /// Sets the delay of one direction for what is sent from now on.
    pub fn set_delay(&self, from: NodeId, to: NodeId, delay: Delay) {
        self.note("net.set_delay", from, to);
        self.lock().links[from.0][to.0].delay = delay;
    }

    /// Sets the delay of one direction back to what it is where nothing is broken.
    pub fn reset_delay(&self, from: NodeId, to: NodeId) {
        self.set_delay(from, to, self.options.delay);
    }

    /// Sets how connects from one node to another fare.
    pub fn set_connects(&self, from: NodeId, to: NodeId, connects: Connects) {
        self.note("net.set_connects", from, to);
        self.lock().links[from.0][to.0].connects = connects;
    }

    /// Whether anything sent from one node reaches the other now.
    pub fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        self.lock().links[from.0][to.0].is_open()
    }
}
