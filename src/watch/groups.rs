//! All watchers of a member, in three groups, and what each is to be told next.
//!
//! ```text
//!             told of each slice        its stream has no room
//!   ┌──────────── synced ──────────────────────┐
//!   │               ▲  └── a slice was missed ─┼──────┐
//!   │ from now on   │ has reached the present  ▼      ▼
//! create            └─────────────────────── unsynced ◀── room again ── slow
//!   └─ from the past ─────────────────────────▲  └── its stream has no room ─▲
//! ```
//!
//! * *Synced* watchers have been told everything up to the current revision. They stand in an index by
//!   what they watch, so one who is not concerned costs nothing.
//! * *Unsynced* ones read the past in pieces, many of them from one piece, in turn.
//! * *Slow* ones wait until the connection of their stream has taken what is queued for it. Nothing is
//!   kept for them: where they go on is a revision, and what follows it is in the database.
//!
//! Invariants:
//! * A watcher is in one group. What it is told is what happened to its keys from `next` on, in order,
//!   each revision whole, none twice and none left out; or that some of it is compacted.
//! * A watcher is told of progress to a revision only after everything up to it, and not before the
//!   revision that it asked for.
//! * What could not be handed over has left no trace: it is told later, in the same order.
//! * Memory of a watcher does not grow with what it has not been told.
//!
//! Pure: no clock, no tasks. Where news go is an [`Outlets`]; `hub` drives it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::interest::{Interest, Keys};
use super::news::{Batch, News};
use crate::state::Change;

/// What a client asks of one watch.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What is watched.
    pub keys: Keys,
    /// The first revision to be told of; 0 for "from now on".
    pub start_revision: i64,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
    /// Tell of progress where there is nothing else to tell.
    pub progress_notify: bool,
}

/// Where news go.
pub(super) trait Outlets {
    /// Hands news to a stream; false where it has no room for them.
    fn offer(&mut self, stream: u64, news: News) -> bool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Synced,
    Unsynced,
    Slow,
}

#[derive(Debug)]
struct Watcher {
    stream: u64,
    spec: Spec,
    group: Group,
    /// The first revision that it was not told of. A synced one was told of the current revision, too,
    /// where that is later.
    next: i64,
    /// Whether it was told nothing since progress was last due.
    quiet: bool,
}

impl Watcher {
    fn wants(&self, change: &Change) -> bool {
        let filtered = if change.is_delete { self.spec.no_delete } else { self.spec.no_put };
        change.revision.main >= self.next && !filtered
    }

    /// Whether progress to the revision `current` may be told.
    fn has_reached(&self, current: i64) -> bool {
        self.group == Group::Synced
            && self.next <= current + 1
            && self.spec.start_revision <= current
    }
}

#[derive(Debug, Default)]
struct Stream {
    watchers: BTreeSet<u64>,
    slow: BTreeSet<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Groups {
    /// Synced watchers were told everything up to it.
    current: i64,
    streams: BTreeMap<u64, Stream>,
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
    synced: Interest,
    unsynced: BTreeSet<u64>,
    /// Whose turn it is among unsynced watchers, or a place before that one.
    turn: u64,
    /// Those that want to be told of progress.
    notified: BTreeSet<u64>,
    /// Streams that have asked for progress and were not told yet.
    asked: BTreeSet<u64>,
}

impl Groups {
    pub(super) fn new(current: i64) -> Self {
        Self {
            current,
            streams: BTreeMap::new(),
            watchers: BTreeMap::new(),
            next_watcher: 0,
            synced: Interest::default(),
            unsynced: BTreeSet::new(),
            turn: 0,
            notified: BTreeSet::new(),
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.watchers.len()
    }

    /// A new watcher of a stream, seen from the revision `now`, which may be ahead of what was heard
    /// here; its number, which is never used again.
    pub(super) fn create(&mut self, stream: u64, spec: Spec, now: i64) -> u64 {
        if self.watchers.is_empty() {
            // While nobody watched nothing was heard here, and nobody has missed it.
            self.current = self.current.max(now);
        }
        let id = self.next_watcher;
        self.next_watcher += 1;
        let (start, next) = match spec.start_revision {
            0 => (Group::Synced, now + 1),
            future if future > now => (Group::Synced, future),
            past => (Group::Unsynced, past),
        };
        if spec.progress_notify {
            self.notified.insert(id);
        }
        self.streams.entry(stream).or_default().watchers.insert(id);
        self.watchers.insert(id, Watcher { stream, spec, group: start, next, quiet: true });
        self.enter(id, start);
        id
    }

    /// Forgets a watcher.
    pub(super) fn cancel(&mut self, id: u64) {
        self.leave(id);
        self.notified.remove(&id);
        if let Some(watcher) = self.watchers.remove(&id)
            && let Some(stream) = self.streams.get_mut(&watcher.stream)
        {
            stream.watchers.remove(&id);
        }
    }

    /// Forgets a stream with all its watchers.
    pub(super) fn close(&mut self, stream: u64) {
        let watchers = self.streams.get(&stream).map(|stream| stream.watchers.clone());
        watchers.unwrap_or_default().into_iter().for_each(|id| self.cancel(id));
        self.streams.remove(&stream);
        self.asked.remove(&stream);
    }

    /// Tells synced watchers of what has changed after the revision `from`, up to `to`.
    pub(super) fn changed(
        &mut self,
        from: i64,
        to: i64,
        batch: &Arc<Batch>,
        out: &mut impl Outlets,
    ) {
        if from > self.current {
            self.missed(from);
        }
        if to <= self.current {
            return self.settle_asked(out);
        }
        for (id, picks) in self.pick(&self.synced, batch) {
            self.tell(id, batch, picks, to, out);
        }
        self.current = self.current.max(to);
        self.settle_asked(out);
    }

    /// Changes up to a revision were not told here: those whom they may concern must read them.
    fn missed(&mut self, to: i64) {
        let behind = |watcher: &Watcher| watcher.group == Group::Synced && watcher.next <= to;
        let ids: Vec<u64> =
            self.watchers.iter().filter(|(_, each)| behind(each)).map(|(id, _)| *id).collect();
        for id in ids {
            let watcher = self.watchers.get_mut(&id).expect("it was just there");
            watcher.next = watcher.next.max(self.current + 1);
            if watcher.next <= to {
                self.move_to(id, Group::Unsynced);
            }
        }
        self.current = self.current.max(to);
    }

    /// From which revision on the unsynced watcher whose turn it is wants to read; `None` if there is
    /// none.
    pub(super) fn next_piece(&mut self) -> Option<i64> {
        let next = self.unsynced.range(self.turn..).next().or_else(|| self.unsynced.first())?;
        self.turn = *next;
        Some(self.watchers[next].next)
    }

    /// History begins at `compact` now: ends unsynced watchers that have not been told what was before.
    pub(super) fn compacted(&mut self, compact: i64, current: i64, out: &mut impl Outlets) {
        let late = |id: &&u64| self.watchers[*id].next < compact;
        let ids: Vec<u64> = self.unsynced.iter().filter(late).copied().collect();
        for id in ids {
            let news =
                News::Compacted { watcher: id, compact_revision: compact, revision: current };
            if out.offer(self.watchers[&id].stream, news) {
                self.cancel(id);
            } else {
                // It must hear of it, however late.
                self.move_to(id, Group::Slow);
            }
        }
    }

    /// Tells unsynced watchers, at most so many, of a piece of history: all that happened from `from`
    /// up to `to`, where `present` was the current revision when it was read.
    pub(super) fn caught_up(
        &mut self,
        (from, to): (i64, i64),
        present: i64,
        batch: &Arc<Batch>,
        watchers_max: usize,
        out: &mut impl Outlets,
    ) {
        let mut interest = Interest::default();
        let ring = self.unsynced.range(self.turn..).chain(self.unsynced.range(..self.turn));
        let fits = |id: &&u64| (from..=to).contains(&self.watchers[*id].next);
        let together: Vec<u64> = ring.filter(fits).take(watchers_max).copied().collect();
        for id in &together {
            interest.insert(&self.watchers[id].spec.keys, *id);
        }
        let mut picks = self.pick(&interest, batch);
        for id in together {
            match picks.remove(&id) {
                Some(picks) => {
                    if !self.tell(id, batch, picks, to, out) {
                        continue;
                    }
                }
                None => self.watchers.get_mut(&id).expect("it takes part").next = to + 1,
            }
            // Whatever was heard here since then it has yet to read.
            if to >= present && to >= self.current {
                self.move_to(id, Group::Synced);
            }
        }
        self.turn += 1;
        self.settle_asked(out);
    }

    /// A stream has room again.
    pub(super) fn has_room(&mut self, stream: u64, out: &mut impl Outlets) {
        let slow = self.streams.get(&stream).map(|stream| stream.slow.clone());
        for id in slow.unwrap_or_default() {
            // Where it goes on has happened, whether or not it was heard here.
            self.move_to(id, Group::Unsynced);
        }
        self.settle_asked(out);
    }

    /// It is time to tell quiet watchers how far they are.
    pub(super) fn notify_progress(&mut self, out: &mut impl Outlets) {
        let (revision, notified) = (self.current, self.notified.clone());
        for id in notified {
            let watcher = self.watchers.get_mut(&id).expect("those to be told of progress exist");
            let was_quiet = std::mem::replace(&mut watcher.quiet, true);
            if was_quiet && watcher.has_reached(revision) {
                // Without room there is other news to come.
                out.offer(watcher.stream, News::Progress { watcher: id, revision });
            }
        }
    }

    /// A stream asks how far all its watchers are. It is told as soon as one revision holds for all of
    /// them; a stream without watchers is not told.
    pub(super) fn ask_progress(&mut self, stream: u64, out: &mut impl Outlets) {
        if self.streams.contains_key(&stream) {
            self.asked.insert(stream);
            self.settle_asked(out);
        }
    }

    fn settle_asked(&mut self, out: &mut impl Outlets) {
        let (revision, before) = (self.current, self.next_watcher);
        let (streams, watchers) = (&self.streams, &self.watchers);
        self.asked.retain(|id| {
            let stream = &streams[id].watchers;
            let ready = || stream.iter().all(|watcher| watchers[watcher].has_reached(revision));
            let is_done = stream.is_empty()
                || (ready() && out.offer(*id, News::AllProgress { before, revision }));
            !is_done
        });
    }

    /// Which changes concern whom.
    fn pick(&self, interest: &Interest, batch: &Batch) -> BTreeMap<u64, Vec<u32>> {
        let mut picks: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (place, change) in (0..).zip(batch.changes()) {
            interest.visit(&change.kv.key, |id| {
                if self.watchers[&id].wants(change) {
                    picks.entry(id).or_default().push(place);
                }
            });
        }
        picks
    }

    /// Hands a watcher its part of what happened up to `to`; false where its stream has no room.
    fn tell(
        &mut self,
        id: u64,
        batch: &Arc<Batch>,
        picks: Vec<u32>,
        to: i64,
        out: &mut impl Outlets,
    ) -> bool {
        let watcher = self.watchers.get_mut(&id).expect("only watchers are told");
        let first = batch.changes()[picks[0] as usize].revision.main;
        let batch = Arc::clone(batch);
        let news = News::Events { watcher: id, batch, picks, revision: to };
        let is_told = out.offer(watcher.stream, news);
        if is_told {
            (watcher.next, watcher.quiet) = (to + 1, false);
        } else {
            // What came before it did not concern this watcher.
            watcher.next = watcher.next.max(first);
            self.move_to(id, Group::Slow);
        }
        is_told
    }

    fn move_to(&mut self, id: u64, group: Group) {
        self.leave(id);
        self.watchers.get_mut(&id).expect("only watchers are moved").group = group;
        self.enter(id, group);
    }

    fn enter(&mut self, id: u64, group: Group) {
        let watcher = &self.watchers[&id];
        match group {
            Group::Synced => self.synced.insert(&watcher.spec.keys, id),
            Group::Unsynced => drop(self.unsynced.insert(id)),
            Group::Slow => {
                self.streams.entry(watcher.stream).or_default().slow.insert(id);
            }
        }
    }

    fn leave(&mut self, id: u64) {
        let Some(watcher) = self.watchers.get(&id) else { return };
        match watcher.group {
            Group::Synced => self.synced.remove(&watcher.spec.keys, id),
            Group::Unsynced => drop(self.unsynced.remove(&id)),
            Group::Slow => {
                if let Some(stream) = self.streams.get_mut(&watcher.stream) {
                    stream.slow.remove(&id);
                }
            }
        }
    }
}
