//! The clocks of one node, bent from virtual time.
//!
//! A node's monotonic clock runs at its own rate; its wall clock is the monotonic one plus an offset. Both are
//! piecewise linear in virtual time, so reading them costs a multiplication.
//!
//! Not modelled: a change of rate during a sleep changes the sleeps that begin after it, not those under way; a
//! monotonic clock that stands while its process runs (a paused process is that).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use snowglobe::host::{BoxFuture, Clock};

use super::base::Base;

const MILLION: i128 = 1_000_000;

/// How a node's clocks differ from virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bend {
    /// How many millionths faster than virtual time the clocks run.
    pub drift_ppm: i32,
    /// How far the wall clock is ahead, in nanoseconds.
    pub wall_offset_ns: i64,
    /// Whether the wall clock stands; it goes on where it should be.
    pub is_wall_frozen: bool,
}

/// The clocks of a node; they go on while its process is down.
pub(crate) struct Bent(Mutex<State>);

#[derive(Clone, Copy)]
struct State {
    bend: Bend,
    /// A moment of virtual time, and the monotonic clock then.
    anchor_ns: u64,
    local_ns: u64,
    /// What the wall clock shows while it stands.
    frozen: Option<Duration>,
}

impl State {
    fn monotonic_ns(&self, now_ns: u64) -> u64 {
        let passed = i128::from(now_ns - self.anchor_ns);
        let local = passed + passed * i128::from(self.bend.drift_ppm) / MILLION;
        self.local_ns + u64::try_from(local).expect("clocks do not run backwards")
    }

    /// `start`: the wall clock of the world when it began.
    fn wall(&self, now_ns: u64, start: Duration) -> Duration {
        if let Some(frozen) = self.frozen {
            return frozen;
        }
        let wall = start + Duration::from_nanos(self.monotonic_ns(now_ns));
        let offset = Duration::from_nanos(self.bend.wall_offset_ns.unsigned_abs());
        if self.bend.wall_offset_ns < 0 { wall.saturating_sub(offset) } else { wall + offset }
    }
}

impl Bent {
    pub(crate) fn new(bend: Bend) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { bend, anchor_ns: 0, local_ns: 0, frozen: None })))
    }

    fn state(&self) -> State {
        *self.0.lock().expect("one thread, no panic inside")
    }

    /// Bends the clocks from `now_ns` on; `start` is the world's wall clock when it began. The monotonic clock does
    /// not jump.
    pub(crate) fn set(&self, now_ns: u64, start: Duration, bend: Bend) {
        let mut state = self.0.lock().expect("one thread, no panic inside");
        let (local_ns, wall) = (state.monotonic_ns(now_ns), state.wall(now_ns, start));
        let frozen = bend.is_wall_frozen.then_some(wall);
        *state = State { bend, anchor_ns: now_ns, local_ns, frozen };
    }
}

/// One node's clocks as its process sees them.
#[derive(Clone)]
pub(crate) struct NodeClock {
    pub(crate) base: Arc<Base>,
    pub(crate) bent: Arc<Bent>,
}

impl Clock for NodeClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.bent.state().monotonic_ns(self.base.timers.now_ns()))
    }

    fn wall(&self) -> Duration {
        let state = self.bent.state();
        let Bend { wall_offset_ns, is_wall_frozen, .. } = state.bend;
        self.base.count("clock.wrong_wall_read", u64::from(wall_offset_ns != 0 || is_wall_frozen));
        state.wall(self.base.timers.now_ns(), self.base.timers.wall_start())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let local = i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX / MILLION);
        let drift_ppm = self.bent.state().bend.drift_ppm;
        self.base.count("clock.drifting_sleep", u64::from(drift_ppm != 0));
        let rate = MILLION + i128::from(drift_ppm);
        // Rounded up: a sleep is never shorter by the node's own clock.
        let virtual_ns = (local * MILLION + rate - 1) / rate;
        let virtual_ns = u64::try_from(virtual_ns).unwrap_or(u64::MAX);
        Box::pin(self.base.timers.sleep(virtual_ns))
    }
}
