//! Bytes on their way in one direction of a connection, and the window that bounds them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::world::base::Base;
use crate::world::timer::{Fire, Key};

/// What travels.
pub(super) enum Packet {
    /// The last step of connecting: the listener learns of it.
    Hello {
        port: u16,
    },
    Data(Vec<u8>),
    /// The end of the stream.
    End,
    /// The connection is broken.
    Reset,
}

/// Bytes on their way in one direction.
pub(super) struct Pipe {
    pub(super) on_the_way: VecDeque<(u64, Packet)>,
    /// The first packet could not be delivered; it waits for the link or the machine, until `give_up_ns`.
    pub(super) is_held: bool,
    pub(super) give_up_ns: Option<u64>,
    pub(super) last_ns: u64,
    /// When bytes were last written.
    pub(super) last_write_ns: u64,
    pub(super) arrived: VecDeque<Vec<u8>>,
    /// Bytes of the first arrived piece that were read.
    pub(super) arrived_read: usize,
    pub(super) end_arrived: bool,
    pub(super) end_written: bool,
    /// Bytes that count against the window: on the way, unread, or read but not yet known to the sender.
    pub(super) used: usize,
    /// Window updates on their way back to the sender.
    pub(super) credits: VecDeque<(u64, usize)>,
    /// Window updates that the way back does not let through.
    pub(super) credits_held: usize,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) timer: Option<Key>,
    timer_ns: u64,
    fire: Arc<dyn Fire>,
}

impl Pipe {
    pub(super) fn new(fire: Arc<dyn Fire>) -> Self {
        Self {
            on_the_way: VecDeque::new(),
            is_held: false,
            give_up_ns: None,
            last_ns: 0,
            last_write_ns: u64::MAX,
            arrived: VecDeque::new(),
            arrived_read: 0,
            end_arrived: false,
            end_written: false,
            used: 0,
            credits: VecDeque::new(),
            credits_held: 0,
            reader: None,
            writer: None,
            timer: None,
            timer_ns: 0,
            fire,
        }
    }

    /// Makes sure that the pipe is looked at when the next thing is due.
    pub(super) fn set_timer(&mut self, base: &Base) {
        let packet = self.on_the_way.front().map(|(at_ns, _)| *at_ns).filter(|_| !self.is_held);
        let credit =
            self.credits.front().map(|(at_ns, _)| *at_ns).filter(|_| self.writer.is_some());
        let give_up = self.give_up_ns.filter(|_| self.is_held);
        let Some(next_ns) = [packet, credit, give_up].into_iter().flatten().min() else { return };
        match self.timer {
            Some(_) if self.timer_ns <= next_ns => return,
            Some(late) => base.timers.cancel(late),
            None => {}
        }
        self.timer_ns = next_ns;
        self.timer = Some(base.timers.schedule(next_ns, Arc::clone(&self.fire)));
    }

    /// Gives the sender the window that is known to be free.
    pub(super) fn collect_credits(&mut self, now_ns: u64) {
        while let Some((_, bytes)) = self.credits.front().filter(|(at_ns, _)| *at_ns <= now_ns) {
            self.used -= bytes;
            self.credits.pop_front();
        }
    }

    /// The last packet, for more bytes that arrive at `at_ns`.
    pub(super) fn tail(&mut self, at_ns: u64, more: usize) -> &mut Vec<u8> {
        self.last_ns = at_ns;
        if !matches!(self.on_the_way.back(), Some((last_ns, Packet::Data(_))) if *last_ns == at_ns)
        {
            self.on_the_way.push_back((at_ns, Packet::Data(Vec::with_capacity(more))));
        }
        match self.on_the_way.back_mut() {
            Some((_, Packet::Data(data))) => data,
            _ => unreachable!("the last packet is one of data"),
        }
    }

    pub(super) fn clear_on_the_way(&mut self) {
        self.on_the_way.clear();
        self.is_held = false;
        self.give_up_ns = None;
    }

    pub(super) fn is_unread(&self) -> bool {
        !self.arrived.is_empty()
    }
}
