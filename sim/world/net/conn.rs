//! Connections: two pipes of bytes, two ends, and the kernels' part in them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::Waker;

use super::pipe::{Packet, Pipe};
use super::{BACKLOG_MAX, Net, State, Wakes};
use crate::world::timer::Fire;

/// A connection. Side 0 connected, side 1 accepted; pipe `n` carries bytes away from side `n`.
pub(super) struct Conn {
    pub(super) ends: [End; 2],
    pub(super) pipes: [Pipe; 2],
}

/// One side, as its kernel knows it.
pub(super) struct End {
    pub(super) machine: usize,
    pub(super) address: SocketAddr,
    pub(super) state: EndState,
    /// Why reads and writes fail.
    pub(super) error: Option<io::ErrorKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndState {
    /// A process holds it.
    Open,
    /// No process holds it; the kernel sends what is left.
    Closed,
    /// The kernel knows nothing of it.
    Forgotten,
}

impl End {
    fn new(machine: usize, address: SocketAddr) -> Self {
        Self { machine, address, state: EndState::Open, error: None }
    }

    fn is_live(&self) -> bool {
        self.state == EndState::Open && self.error.is_none()
    }
}

/// Looks at one pipe when something is due there.
struct PipeFire {
    net: Weak<Net>,
    conn: u64,
    side: usize,
}

impl Fire for PipeFire {
    fn fire(self: Arc<Self>, now_ns: u64) {
        let Some(net) = self.net.upgrade() else { return };
        let mut wakes = Wakes::default();
        let mut state = net.lock();
        if let Some(conn) = state.conns.get_mut(&self.conn) {
            conn.pipes[self.side].timer = None;
            state.pump(&net, self.conn, self.side, now_ns, &mut wakes);
        }
        drop(state);
        wakes.wake();
    }
}

impl State {
    /// Makes a connection and sends the listener word of it. Both sides exist from here on.
    pub(super) fn open(&mut self, net: &Net, from: (usize, u16), to: (usize, u16)) -> u64 {
        let id = self.next_conn;
        self.next_conn += 1;
        let ends = [from, to].map(|(machine, port)| End::new(machine, self.address(machine, port)));
        let pipe = |side| Pipe::new(Arc::new(PipeFire { net: net.myself.clone(), conn: id, side }));
        self.conns.insert(id, Conn { ends, pipes: [pipe(0), pipe(1)] });
        self.send(net, id, 0, Packet::Hello { port: to.1 });
        id
    }

    /// The machines that pipe `side` of a connection leads from and to.
    fn route(&self, id: u64, side: usize) -> (usize, usize) {
        let ends = &self.conns[&id].ends;
        (ends[side].machine, ends[1 - side].machine)
    }

    fn send(&mut self, net: &Net, id: u64, side: usize, packet: Packet) {
        let (from, to) = self.route(id, side);
        let now_ns = net.base.timers.now_ns();
        let at_ns = now_ns + self.links[from][to].delay.draw(&mut self.dice);
        let pipe = &mut self.conns.get_mut(&id).expect("just routed").pipes[side];
        pipe.last_ns = pipe.last_ns.max(at_ns);
        pipe.on_the_way.push_back((pipe.last_ns, packet));
        pipe.set_timer(&net.base);
    }

    /// Takes as much of `parts` as the window has room for; 0 for none.
    pub(super) fn write(
        &mut self,
        net: &Net,
        id: u64,
        side: usize,
        parts: &[io::IoSlice<'_>],
    ) -> usize {
        let (from, to) = self.route(id, side);
        let now_ns = net.base.timers.now_ns();
        let link = &mut self.links[from][to];
        let pipe = &mut self.conns.get_mut(&id).expect("just routed").pipes[side];
        pipe.collect_credits(now_ns);
        let room = net.options.window_bytes.saturating_sub(pipe.used);
        let length = parts.iter().map(|part| part.len()).sum::<usize>().min(room);
        if length == 0 {
            return 0;
        }
        // What was written at the same moment travels together; what cannot overtake arrives together.
        let start_ns = link.take(length, now_ns);
        let at_ns = match pipe.last_write_ns == now_ns {
            true => pipe.last_ns.max(start_ns),
            false => pipe.last_ns.max(start_ns + link.delay.draw(&mut self.dice)),
        };
        pipe.last_write_ns = now_ns;
        let data = pipe.tail(at_ns, length);
        let mut left = length;
        for part in parts {
            let taken = part.len().min(left);
            data.extend_from_slice(&part[..taken]);
            left -= taken;
        }
        pipe.used += length;
        pipe.set_timer(&net.base);
        length
    }

    /// Has the writer of a full pipe woken when a window update arrives.
    pub(super) fn await_room(&mut self, net: &Net, id: u64, side: usize, waker: &Waker) {
        let pipe = &mut self.conns.get_mut(&id).expect("looked up by the caller").pipes[side];
        pipe.writer = Some(waker.clone());
        pipe.set_timer(&net.base);
    }

    /// `bytes` of pipe `side` were read: tells the sender, as far as the way back is open.
    pub(super) fn credit(&mut self, net: &Net, id: u64, side: usize, bytes: usize) {
        let (from, to) = self.route(id, side);
        let (back, has_power) = (self.links[to][from], self.machines[from].has_power);
        let at_ns = net.base.timers.now_ns() + back.delay.min_ns;
        let pipe = &mut self.conns.get_mut(&id).expect("just routed").pipes[side];
        if !back.is_open() || !has_power {
            pipe.credits_held += bytes;
            return;
        }
        match pipe.credits.back_mut() {
            Some((last_ns, more)) if *last_ns >= at_ns => *more += bytes,
            _ => pipe.credits.push_back((at_ns, bytes)),
        }
        pipe.set_timer(&net.base);
    }

    /// Delivers what is due in one pipe.
    fn pump(&mut self, net: &Net, id: u64, side: usize, now_ns: u64, wakes: &mut Wakes) {
        let (from, to) = self.route(id, side);
        let is_open = self.links[from][to].is_open();
        loop {
            let has_power = self.machines[to].has_power;
            let Some(conn) = self.conns.get_mut(&id) else { return };
            let pipe = &mut conn.pipes[side];
            if pipe.is_held || pipe.on_the_way.front().is_none_or(|(at_ns, _)| *at_ns > now_ns) {
                break;
            }
            if !is_open || !has_power {
                pipe.is_held = true;
                pipe.give_up_ns = Some(now_ns + net.options.user_timeout_ns);
                net.base.count("net.held", 1);
                break;
            }
            let (_, packet) = pipe.on_the_way.pop_front().expect("just seen");
            self.deliver(net, id, side, packet, wakes);
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let pipe = &mut conn.pipes[side];
        if pipe.is_held && pipe.give_up_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            self.give_up(net, id, side, io::ErrorKind::TimedOut, wakes);
        } else if pipe.writer.is_some() {
            pipe.collect_credits(now_ns);
            if pipe.used < net.options.window_bytes {
                wakes.add(&mut pipe.writer);
            }
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.pipes[side].set_timer(&net.base);
        }
        self.forget_if_over(id);
    }

    /// Hands one packet to the kernel at the far end of pipe `side`.
    fn deliver(&mut self, net: &Net, id: u64, side: usize, packet: Packet, wakes: &mut Wakes) {
        let (from, to) = self.route(id, side);
        let (sender, receiver) =
            (Arc::clone(&self.machines[from].name), Arc::clone(&self.machines[to].name));
        let note = |kind, bytes: &[u8]| {
            let numbers = [("conn", id), ("side", side as u64), ("length", bytes.len() as u64)];
            net.base.note_bytes(kind, &receiver, &sender, &numbers, bytes);
        };
        let conn = self.conns.get_mut(&id).expect("looked up by the caller");
        let (end, pipe) = (&mut conn.ends[1 - side], &mut conn.pipes[side]);
        match packet {
            Packet::Reset => {
                note("net.reset", &[]);
                self.break_end(net, id, 1 - side, io::ErrorKind::ConnectionReset, wakes);
            }
            Packet::End if end.state == EndState::Closed => note("net.end", &[]),
            _ if !end.is_live() => self.answer_with_reset(net, id, 1 - side),
            Packet::Hello { port } => {
                note("net.connect", &[]);
                let Some(bound) =
                    self.ports.get_mut(&(to, port)).filter(|p| p.backlog.len() < BACKLOG_MAX)
                else {
                    end.state = EndState::Forgotten;
                    return self.answer_with_reset(net, id, 1 - side);
                };
                bound.backlog.push_back(id);
                wakes.add(&mut bound.waker);
            }
            Packet::Data(data) => {
                note("net.data", &data);
                net.base.count("net.bytes", data.len() as u64);
                pipe.arrived.push_back(data);
                wakes.add(&mut pipe.reader);
            }
            Packet::End => {
                note("net.end", &[]);
                pipe.end_arrived = true;
                wakes.add(&mut pipe.reader);
            }
        }
    }

    /// A kernel that knows nothing of a connection answers whatever comes with a reset.
    fn answer_with_reset(&mut self, net: &Net, id: u64, side: usize) {
        let conn = self.conns.get_mut(&id).expect("looked up by the caller");
        let pipe = &mut conn.pipes[side];
        let is_told = pipe.on_the_way.iter().any(|(_, packet)| matches!(packet, Packet::Reset));
        if !is_told && conn.ends[1 - side].is_live() {
            net.base.count("net.answered_with_reset", 1);
            self.send(net, id, side, Packet::Reset);
        }
    }

    /// One end learns that the connection is broken; what it had sent and not seen delivered is gone.
    fn break_end(
        &mut self,
        net: &Net,
        id: u64,
        side: usize,
        error: io::ErrorKind,
        wakes: &mut Wakes,
    ) {
        let conn = self.conns.get_mut(&id).expect("looked up by the caller");
        if conn.ends[side].is_live() {
            net.base.count("net.broken", 1);
            conn.ends[side].error = Some(error);
        }
        conn.pipes[side].clear_on_the_way();
        wakes.add(&mut conn.pipes[side].writer);
        wakes.add(&mut conn.pipes[1 - side].reader);
    }

    /// The kernel at `side` gives a connection up without being able to tell the other.
    fn give_up(
        &mut self,
        net: &Net,
        id: u64,
        side: usize,
        error: io::ErrorKind,
        wakes: &mut Wakes,
    ) {
        let (from, to) = self.route(id, side);
        let (from, to) =
            (Arc::clone(&self.machines[from].name), Arc::clone(&self.machines[to].name));
        net.base.note("net.give_up", &from, &to, &[("conn", id)]);
        net.base.count("net.gave_up", 1);
        self.break_end(net, id, side, error, wakes);
    }

    /// Both ends learn at once that the connection is broken.
    pub(super) fn reset_both(&mut self, net: &Net, id: u64, wakes: &mut Wakes) {
        for side in 0..2 {
            self.break_end(net, id, side, io::ErrorKind::ConnectionReset, wakes);
        }
        self.forget_if_over(id);
    }

    /// After a keepalive: breaks the end at `side` of a connection whose other machine lost power.
    fn probe(&mut self, net: &Net, id: u64, side: usize, wakes: &mut Wakes) {
        if !self.conns.get(&id).is_some_and(|conn| conn.ends[side].is_live()) {
            return;
        }
        let (here, there) = self.route(id, side);
        let both = [self.links[here][there], self.links[there][here]];
        let is_answered = self.machines[there].has_power && both.iter().all(super::Link::is_open);
        let error =
            if is_answered { io::ErrorKind::ConnectionReset } else { io::ErrorKind::TimedOut };
        self.give_up(net, id, side, error, wakes);
        self.forget_if_over(id);
    }

    /// The process at `side` lets go of its end.
    pub(super) fn close(&mut self, net: &Net, id: u64, side: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.ends[side].state != EndState::Open {
            return;
        }
        conn.ends[side].state = EndState::Closed;
        let incoming = &mut conn.pipes[1 - side];
        let is_unread = incoming.is_unread();
        (incoming.arrived, incoming.reader) = (VecDeque::new(), None);
        conn.pipes[side].writer = None;
        if conn.ends[side].error.is_none() {
            if is_unread {
                self.send(net, id, side, Packet::Reset);
            } else if !std::mem::replace(&mut conn.pipes[side].end_written, true) {
                self.send(net, id, side, Packet::End);
            }
        }
        self.forget_if_over(id);
    }

    /// The process at `side` has nothing more to write.
    pub(super) fn shut_down(&mut self, net: &Net, id: u64, side: usize) {
        let conn = self.conns.get_mut(&id).expect("looked up by the caller");
        if !std::mem::replace(&mut conn.pipes[side].end_written, true) {
            self.send(net, id, side, Packet::End);
        }
    }

    /// The machine at `side` loses power: what it sent and the link took is on its way, the rest is gone.
    pub(super) fn vanish(&mut self, net: &Net, id: u64, side: usize) {
        let conn = self.conns.get_mut(&id).expect("just listed");
        conn.ends[side].state = EndState::Forgotten;
        let incoming = &mut conn.pipes[1 - side];
        (incoming.arrived, incoming.reader) = (VecDeque::new(), None);
        let outgoing = &mut conn.pipes[side];
        outgoing.writer = None;
        if outgoing.is_held {
            outgoing.clear_on_the_way();
        }
        if let Some(keepalive_ns) = net.options.keepalive_ns {
            let probe = Probe { net: net.myself.clone(), conn: id, side: 1 - side };
            net.base.timers.schedule(net.base.timers.now_ns() + keepalive_ns, Arc::new(probe));
        }
        self.forget_if_over(id);
    }

    /// A link opened or a machine came back: what waited for it goes on, up to `retransmit_max_ns` late.
    pub(super) fn release(&mut self, net: &Net, from: usize, to: usize, retransmit_max_ns: u64) {
        let now_ns = net.base.timers.now_ns();
        let ids: Vec<u64> = self.conns.keys().copied().collect();
        for (id, side) in ids.into_iter().flat_map(|id| [(id, 0), (id, 1)]) {
            let route = self.route(id, side);
            if route == (from, to) && self.conns[&id].pipes[side].is_held {
                let wait = self.links[from][to].delay.draw(&mut self.dice);
                let at_ns = now_ns + wait + self.dice.below(retransmit_max_ns);
                let pipe = &mut self.conns.get_mut(&id).expect("just listed").pipes[side];
                (pipe.is_held, pipe.give_up_ns) = (false, None);
                for (due_ns, _) in &mut pipe.on_the_way {
                    *due_ns = at_ns.max(*due_ns);
                }
                pipe.last_ns = pipe.last_ns.max(at_ns);
                pipe.set_timer(&net.base);
            }
            if route == (to, from) {
                let held = std::mem::take(
                    &mut self.conns.get_mut(&id).expect("just listed").pipes[side].credits_held,
                );
                if held > 0 {
                    self.credit(net, id, side, held);
                }
            }
        }
    }

    /// Drops a connection that no process holds and for which nothing is under way.
    fn forget_if_over(&mut self, id: u64) {
        let Some(conn) = self.conns.get(&id) else { return };
        let is_held = conn.ends.iter().any(|end| end.state == EndState::Open);
        if !is_held && conn.pipes.iter().all(|pipe| pipe.on_the_way.is_empty()) {
            self.conns.remove(&id);
        }
    }
}

/// One keepalive of one end.
struct Probe {
    net: Weak<Net>,
    conn: u64,
    side: usize,
}

impl Fire for Probe {
    fn fire(self: Arc<Self>, _now_ns: u64) {
        let Some(net) = self.net.upgrade() else { return };
        let mut wakes = Wakes::default();
        net.lock().probe(&net, self.conn, self.side, &mut wakes);
        wakes.wake();
    }
}
