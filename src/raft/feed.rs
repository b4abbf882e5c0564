//! What the loop tells those who watch: each slice of changes, in order, or that some were left out.
//!
//! Invariants:
//! * The loop never waits here. What does not fit is left out, and what comes next says so: a slice
//!   begins at a later revision than the one before it ended at. Whoever reads the feed then reads what
//!   it missed from the database ([`Handle::history`](super::Handle::history)).
//! * What was left out is never left unsaid: if no change comes that would show it, the next tick does.
//! * While nobody watches, nothing is sent. Who begins to watch says so first, and looks at the current
//!   revision then: either it is the newer one, or the loop sees that somebody watches.
//! * Slices on the way are bounded in number and bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::config::Limits;
use crate::state::Change;

/// What a slice of the log has changed.
#[derive(Debug)]
pub struct Slice {
    /// The revision before it.
    pub from: i64,
    /// The revision after it.
    pub to: i64,
    /// The changes in between, in order. None, where the slice only says that some were left out.
    pub changes: Vec<Change>,
    bytes: usize,
}

impl Slice {
    /// A slice; `from` and `to` are the revisions before and after it.
    #[must_use]
    pub fn new(from: i64, to: i64, changes: Vec<Change>) -> Self {
        let bytes = changes.iter().map(|change| change.kv.key.len() + change.kv.value.len()).sum();
        Self { from, to, changes, bytes }
    }
}

/// What both ends look at.
#[derive(Debug, Default)]
struct Gauge {
    bytes: AtomicUsize,
    watchers: AtomicUsize,
    revision: AtomicI64,
}

/// The loop's end.
pub(super) struct Feed {
    slices: mpsc::Sender<Slice>,
    gauge: Arc<Gauge>,
    bytes_max: usize,
    /// Whether something was left out and not yet shown.
    missed: bool,
}

/// The watchers' end.
#[derive(Debug)]
pub struct Changes {
    slices: mpsc::Receiver<Slice>,
    gauge: Arc<Gauge>,
}

/// Both ends of a feed that begins at `revision`.
pub(super) fn feed(revision: i64, limits: &Limits) -> (Feed, Changes) {
    let (sender, slices) = mpsc::channel(limits.watch_feed_slices);
    let gauge = Arc::new(Gauge { revision: AtomicI64::new(revision), ..Gauge::default() });
    let bytes_max = limits.watch_feed_bytes_max;
    let feed = Feed { slices: sender, gauge: Arc::clone(&gauge), bytes_max, missed: false };
    (feed, Changes { slices, gauge })
}

impl Feed {
    /// The state has moved from one revision to another. With a step that no changes account for (a
    /// snapshot was installed), `from` is the new revision, too.
    pub(super) fn moved(&mut self, from: i64, to: i64, changes: Vec<Change>) {
        self.gauge.revision.store(to, Ordering::SeqCst);
        if self.gauge.watchers.load(Ordering::SeqCst) == 0 {
            self.missed = false;
            return;
        }
        self.send(Slice::new(from, to, changes));
    }

    /// Time passes: says what was left out, if nothing else has.
    pub(super) fn tick(&mut self) {
        if std::mem::take(&mut self.missed) {
            let revision = self.gauge.revision.load(Ordering::SeqCst);
            self.send(Slice::new(revision, revision, Vec::new()));
        }
    }

    fn send(&mut self, slice: Slice) {
        let bytes = slice.bytes;
        // One slice always fits, however large.
        let before = self.gauge.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before + bytes <= self.bytes_max;
        self.missed = !fits || self.slices.try_send(slice).is_err();
        if self.missed {
            self.gauge.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Changes {
    /// The next slice; `None` once the loop has ended.
    pub async fn next(&mut self) -> Option<Slice> {
        let slice = self.slices.recv().await?;
        self.gauge.bytes.fetch_sub(slice.bytes, Ordering::Relaxed);
        Some(slice)
    }

    /// The next slice, if there is one already.
    pub fn try_next(&mut self) -> Option<Slice> {
        let slice = self.slices.try_recv().ok()?;
        self.gauge.bytes.fetch_sub(slice.bytes, Ordering::Relaxed);
        Some(slice)
    }

    /// How many watch from now on; more than none makes the loop speak.
    pub fn watched_by(&self, watchers: usize) {
        self.gauge.watchers.store(watchers, Ordering::SeqCst);
    }

    /// The current revision: every change after it will be in a slice, if somebody watches.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.gauge.revision.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(changes: &mut Changes) -> Vec<(i64, i64)> {
        std::iter::from_fn(|| changes.try_next()).map(|slice| (slice.from, slice.to)).collect()
    }

    /// A full feed leaves out, and shows it: by the next slice, or by the next tick.
    #[test]
    fn left_out() {
        let limits = Limits { watch_feed_slices: 2, ..Limits::default() };
        let (mut feed, mut changes) = feed(1, &limits);
        feed.moved(1, 2, Vec::new());
        assert_eq!((ends(&mut changes), changes.revision()), (vec![], 2), "nobody watches");
        changes.watched_by(1);
        (2..6).for_each(|from| feed.moved(from, from + 1, Vec::new()));
        assert_eq!(ends(&mut changes), [(2, 3), (3, 4)]);
        feed.tick();
        feed.tick();
        assert_eq!(ends(&mut changes), [(6, 6)]);
        (6..9).for_each(|from| feed.moved(from, from + 1, Vec::new()));
        assert_eq!(ends(&mut changes), [(6, 7), (7, 8)]);
        feed.moved(9, 10, Vec::new());
        feed.tick();
        assert_eq!(ends(&mut changes), [(9, 10)]);
    }

    /// Bytes on the way are bounded, but one slice always fits.
    #[test]
    fn bytes() {
        let limits = Limits { watch_feed_bytes_max: 10, ..Limits::default() };
        let (mut feed, mut changes) = feed(1, &limits);
        changes.watched_by(1);
        let change = |length: usize| {
            let kv = crate::proto::mvccpb::KeyValue {
                value: vec![0; length].into(),
                ..Default::default()
            };
            vec![Change { revision: Default::default(), is_delete: false, kv }]
        };
        feed.moved(1, 2, change(20));
        feed.moved(2, 3, change(1));
        assert_eq!(ends(&mut changes), [(1, 2)]);
        feed.moved(3, 4, change(6));
        feed.moved(4, 5, change(4));
        feed.moved(5, 6, change(1));
        assert_eq!(ends(&mut changes), [(3, 4), (4, 5)]);
    }
}
