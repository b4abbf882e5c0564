//! What every part of the world stands on: time, the trace, the counters, and who is still alive.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::timer::Timers;
use crate::dice::Dice;
use crate::grid::{Cell, Count};
use crate::trace::{Event, Trace};

/// Shared by network, disks and clocks of one world.
pub(crate) struct Base {
    pub(crate) seed: u64,
    pub(crate) timers: Arc<Timers>,
    pub(crate) trace: Trace,
    counters: Mutex<BTreeMap<&'static str, u64>>,
    grid: Mutex<BTreeMap<Cell, Count>>,
}

impl Base {
    pub(crate) fn new(seed: u64, timers: Arc<Timers>, trace: Trace) -> Arc<Self> {
        let (counters, grid) = (Mutex::default(), Mutex::default());
        Arc::new(Self { seed, timers, trace, counters, grid })
    }

    /// The stream of random numbers called `name`.
    pub(crate) fn dice(&self, name: &str) -> Dice {
        Dice::new(self.seed, name)
    }

    /// Adds to a counter.
    pub(crate) fn count(&self, name: &'static str, more: u64) {
        if more > 0 {
            *self.counters.lock().expect("one thread, no panic inside").entry(name).or_default() +=
                more;
        }
    }

    /// All counters so far.
    pub(crate) fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.counters.lock().expect("one thread, no panic inside").clone()
    }

    /// Adds to a cell of the grid of disk faults.
    pub(crate) fn tally(&self, cell: Cell, more: Count) {
        let mut grid = self.grid.lock().expect("one thread, no panic inside");
        let count = grid.entry(cell).or_default();
        count.injected += more.injected;
        count.met += more.met;
    }

    /// The grid of disk faults so far.
    pub(crate) fn grid(&self) -> BTreeMap<Cell, Count> {
        self.grid.lock().expect("one thread, no panic inside").clone()
    }

    /// Puts an event without contents into the trace.
    pub(crate) fn note(
        &self,
        kind: &'static str,
        node: &str,
        target: &str,
        numbers: &[(&'static str, u64)],
    ) {
        self.note_bytes(kind, node, target, numbers, &[]);
    }

    /// Puts an event into the trace.
    pub(crate) fn note_bytes(
        &self,
        kind: &'static str,
        node: &str,
        target: &str,
        numbers: &[(&'static str, u64)],
        bytes: &[u8],
    ) {
        let at_ns = self.timers.now_ns();
        self.trace.record(Event { at_ns, kind, node, target, numbers, bytes });
    }
}

/// How long something takes: evenly between two bounds, now and then much longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// At least this long.
    pub min_ns: u64,
    /// At most this long, but for the tail.
    pub max_ns: u64,
    /// How many of a million take longer than `max_ns`.
    #[serde(default)]
    pub tail_ppm: u32,
    /// At most this long in the tail.
    #[serde(default)]
    pub tail_max_ns: u64,
}

impl Delay {
    /// Evenly from `min_ns` to `max_ns`.
    #[must_use]
    pub const fn even(min_ns: u64, max_ns: u64) -> Self {
        Self { min_ns, max_ns, tail_ppm: 0, tail_max_ns: 0 }
    }

    /// Draws one.
    pub(crate) fn draw(&self, dice: &mut Dice) -> u64 {
        if dice.chance_ppm(self.tail_ppm) && self.tail_max_ns > self.max_ns {
            return dice.within(self.max_ns, self.tail_max_ns);
        }
        dice.within(self.min_ns, self.max_ns.max(self.min_ns))
    }
}

/// A process's right to act: gone once it was killed, whatever its late destructors still try.
#[derive(Clone)]
pub(crate) struct Life {
    current: Arc<AtomicU64>,
    mine: u64,
}

impl Life {
    /// The life that `current` counts now; a dead one where the node is down.
    pub(crate) fn new(current: &Arc<AtomicU64>, is_up: bool) -> Self {
        let mine = if is_up { current.load(Ordering::Relaxed) } else { u64::MAX };
        Self { current: Arc::clone(current), mine }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.current.load(Ordering::Relaxed) != self.mine
    }

    /// Ends it: nothing of the process works from here on.
    pub(crate) fn end(&self) {
        if !self.is_over() {
            self.current.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Which life of the node this is, from 0.
    pub(crate) fn number(&self) -> u64 {
        self.mine
    }

    /// An error where the process is gone.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_over() { Err(io::Error::other("this process was killed")) } else { Ok(()) }
    }
}
