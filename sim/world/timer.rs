//! Everything in the world that is due at a moment of virtual time: one heap, one task.
//!
//! madsim's own `Sleep` lasts at least a millisecond, cannot be cancelled, and leaves an entry behind at each poll.
//! Here a wait is one entry, to the nanosecond, and goes away when it is dropped; madsim only sees the alarm for
//! the earliest entry.
//!
//! Invariants:
//! * Entries fire in the order (time, order of scheduling), never early.
//! * No lock is held while an entry fires: it may schedule and cancel.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use madsim::time::TimeHandle;

/// Something that can be due.
pub(crate) trait Fire: Send + Sync {
    /// Called once, when the time has come.
    fn fire(self: Arc<Self>, now_ns: u64);
}

/// Names one entry of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    at_ns: u64,
    number: u64,
}

/// The heap.
pub(crate) struct Timers {
    time: TimeHandle,
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    queue: BTreeMap<Key, Arc<dyn Fire>>,
    next_number: u64,
    /// When madsim will wake the driver. It cannot be told to forget, so what is set stays here until it is past.
    alarms: BTreeSet<u64>,
    driver: Option<Waker>,
    closed: bool,
}

impl Timers {
    /// A heap on the virtual time of the current runtime, with the task that drives it.
    pub(crate) fn start() -> Arc<Self> {
        let time = TimeHandle::current();
        let start = time.now_instant() - time.elapsed();
        let timers = Arc::new(Self { time, start, inner: Mutex::default() });
        drop(madsim::task::spawn(Driver { timers: Arc::clone(&timers), rounds: 0 }));
        timers
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("one thread, no panic inside")
    }

    /// Virtual time since the world began.
    pub(crate) fn now_ns(&self) -> u64 {
        nanos(self.time.elapsed())
    }

    /// Virtual time since the Unix epoch; the seed picks a day of 2022 to begin with.
    pub(crate) fn wall(&self) -> Duration {
        self.time.now_time().duration_since(std::time::UNIX_EPOCH).expect("2022 or later")
    }

    /// What [`Timers::wall`] was when the world began.
    pub(crate) fn wall_start(&self) -> Duration {
        self.wall() - Duration::from_nanos(self.now_ns())
    }

    /// Has `what` fired at `at_ns`, or as soon as the driver runs where that is past.
    pub(crate) fn schedule(&self, at_ns: u64, what: Arc<dyn Fire>) -> Key {
        let mut inner = self.lock();
        let key = Key { at_ns, number: inner.next_number };
        inner.next_number += 1;
        inner.queue.insert(key, what);
        self.set_alarm(&mut inner);
        key
    }

    /// Forgets an entry. Does nothing where it has fired.
    pub(crate) fn cancel(&self, key: Key) {
        // The entry is dropped after the lock: its destructor may come back here.
        let _entry = self.lock().queue.remove(&key);
    }

    /// Makes sure that madsim wakes the driver in time for the first entry.
    fn set_alarm(&self, inner: &mut Inner) {
        let (Some(first), Some(driver)) = (inner.queue.keys().next(), &inner.driver) else {
            return;
        };
        let at_ns = first.at_ns;
        if inner.alarms.first().is_some_and(|alarm| *alarm <= at_ns) {
            return;
        }
        let mut sleep = self.time.sleep(Duration::ZERO);
        // `reset` is the way around the minimum of one millisecond.
        Pin::new(&mut sleep).reset(self.start + Duration::from_nanos(at_ns));
        match Pin::new(&mut sleep).poll(&mut Context::from_waker(driver)) {
            Poll::Pending => drop(inner.alarms.insert(at_ns)),
            Poll::Ready(()) => driver.wake_by_ref(),
        }
    }

    /// Completes at `at_ns`.
    pub(crate) fn sleep_until(self: &Arc<Self>, at_ns: u64) -> Sleep {
        Sleep { timers: Arc::clone(self), at_ns, alarm: None }
    }

    /// Completes after `duration_ns`.
    pub(crate) fn sleep(self: &Arc<Self>, duration_ns: u64) -> Sleep {
        self.sleep_until(self.now_ns().saturating_add(duration_ns))
    }

    /// Ends the driver and forgets all entries, so that nothing keeps the world alive.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let (queue, driver) = (std::mem::take(&mut inner.queue), inner.driver.take());
        drop(inner);
        drop(queue);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("fewer than 584 years")
}

/// After so many rounds of the driver madsim is made to drop its notes on tasks that have ended: it keeps one for
/// every task ever spawned until somebody counts them.
const ROUNDS_BETWEEN_SWEEPS: u32 = 4096;

/// The task that fires what is due.
struct Driver {
    timers: Arc<Timers>,
    rounds: u32,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.rounds += 1;
        if self.rounds.is_multiple_of(ROUNDS_BETWEEN_SWEEPS) {
            madsim::runtime::Handle::current().metrics().num_tasks();
        }
        let timers = &self.timers;
        let now_ns = timers.now_ns();
        loop {
            let mut inner = timers.lock();
            if inner.closed {
                return Poll::Ready(());
            }
            if inner.driver.is_none() {
                inner.driver = Some(cx.waker().clone());
            }
            let due = inner.queue.first_entry().filter(|entry| entry.key().at_ns <= now_ns);
            let Some(entry) = due else {
                while inner.alarms.first().is_some_and(|alarm| *alarm <= now_ns) {
                    inner.alarms.pop_first();
                }
                timers.set_alarm(&mut inner);
                return Poll::Pending;
            };
            let what = entry.remove();
            drop(inner);
            what.fire(now_ns);
        }
    }
}

/// Completes at a moment of virtual time.
pub(crate) struct Sleep {
    timers: Arc<Timers>,
    at_ns: u64,
    alarm: Option<(Key, Arc<Alarm>)>,
}

struct Alarm(Mutex<Option<Waker>>);

impl Fire for Alarm {
    fn fire(self: Arc<Self>, _now_ns: u64) {
        let waker = self.0.lock().expect("one thread, no panic inside").take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.timers.now_ns() >= self.at_ns {
            return Poll::Ready(());
        }
        if let Some((_, alarm)) = &self.alarm {
            let mut waker = alarm.0.lock().expect("one thread, no panic inside");
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let alarm = Arc::new(Alarm(Mutex::new(Some(cx.waker().clone()))));
        let key = self.timers.schedule(self.at_ns, Arc::clone(&alarm) as Arc<dyn Fire>);
        self.alarm = Some((key, alarm));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((key, _)) = self.alarm.take() {
            self.timers.cancel(key);
        }
    }
}
