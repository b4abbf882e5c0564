//! Random histories of appends, syncs, releases and crashes, against a model that is a list of
//! possible logs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use super::super::testdisk::{Dice, TestDisk, block_on};
use super::super::{Entry, HardState, Mark, Recovered, Wal, recover, segment};
use super::{DIR, METADATA, corrupt_file, create, entry, files, marks, open};
use crate::error::{Error, Result};

#[derive(Clone, Debug)]
enum Op {
    /// Entries that replace the last `back` ones, with a new term or not, and a hard state or not.
    Append {
        back: u64,
        count: u64,
        newer_term: bool,
        commit: u64,
        with_state: bool,
    },
    /// The mark of a snapshot of our own, `back` entries before the commit index.
    Mark {
        back: u64,
    },
    /// The mark of a snapshot from the leader, `ahead` of the commit index.
    Foreign {
        ahead: u64,
        newer_term: bool,
    },
    /// The leader's snapshot becomes the log.
    Accept {
        count: u64,
    },
    Sync,
    Release {
        back: u64,
    },
    /// The disk fails after some more operations, the first one in the middle.
    Fail {
        steps: u64,
        short_bytes: usize,
    },
    Kill,
    PowerCut,
    /// Another crash while the log is opened after a power cut.
    CrashWhileOpening {
        steps: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let append = (0..4u64, 1..5u64, any::<bool>(), 0..6u64, any::<bool>());
    prop_oneof![
        8 => append.prop_map(|(back, count, newer_term, commit, with_state)| {
            Op::Append { back, count, newer_term, commit, with_state }
        }),
        2 => (0..4u64).prop_map(|back| Op::Mark { back }),
        1 => (1..9u64, any::<bool>())
            .prop_map(|(ahead, newer_term)| Op::Foreign { ahead, newer_term }),
        1 => (0..3u64).prop_map(|count| Op::Accept { count }),
        6 => Just(Op::Sync),
        1 => (0..5u64).prop_map(|back| Op::Release { back }),
        1 => (0..8u64, 0..3000usize)
            .prop_map(|(steps, short_bytes)| Op::Fail { steps, short_bytes }),
        1 => Just(Op::Kill),
        2 => Just(Op::PowerCut),
        1 => (0..8u64).prop_map(|steps| Op::CrashWhileOpening { steps }),
    ]
}

/// What a log may hold.
#[derive(Clone, Debug, Default)]
struct View {
    /// The snapshot that the entries follow.
    base: Mark,
    entries: Vec<Entry>,
    hard_state: HardState,
    /// In the order of their appends.
    marks: Vec<Mark>,
    /// The leader's snapshot that came last and has not become the log.
    pending: Option<Mark>,
    /// Terms of entries that are committed elsewhere: what the leader's snapshots tell.
    truth: BTreeMap<u64, u64>,
}

impl View {
    fn last(&self) -> Mark {
        let last = self.entries.last();
        last.map_or(self.base, |entry| Mark { index: entry.index, term: entry.term })
    }

    fn term(&self, index: u64) -> Option<u64> {
        self.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term)
    }

    /// Raises the commit index as far as the entries agree with what is known to be committed.
    fn commit(&mut self, by: u64) {
        for _ in 0..by {
            let next = self.hard_state.commit + 1;
            let Some(term) = self.term(next) else { return };
            if self.truth.get(&next).is_some_and(|truth| *truth != term) {
                return;
            }
            self.hard_state.commit = next;
        }
    }
}

struct World {
    disk: TestDisk,
    wal: Option<Wal>,
    segment_bytes: u64,
    dice: Dice,
    synced: View,
    /// After each append since.
    unsynced: Vec<View>,
    /// Where the log was released: earlier marks may be gone.
    released: Option<Mark>,
    recoveries: u64,
    repairs: u64,
}

impl World {
    fn new(segment_bytes: u64, seed: u64) -> Self {
        let disk = TestDisk::default();
        Self {
            wal: Some(create(&disk, segment_bytes).unwrap()),
            disk,
            segment_bytes,
            dice: Dice(seed),
            synced: View::default(),
            unsynced: Vec::new(),
            released: None,
            recoveries: 0,
            repairs: 0,
        }
    }

    fn latest(&self) -> View {
        self.unsynced.last().unwrap_or(&self.synced).clone()
    }

    fn run(&mut self, op: &Op) {
        let result = match *op {
            Op::Append { back, count, newer_term, commit, with_state } => {
                self.append(back, count, newer_term, commit, with_state)
            }
            Op::Mark { back } => {
                let view = self.latest();
                let index = view.hard_state.commit.saturating_sub(back);
                match view.term(index) {
                    Some(term) => self.mark(view, Mark { index, term }),
                    None => Ok(()),
                }
            }
            Op::Foreign { ahead, newer_term } => self.foreign(ahead, newer_term),
            Op::Accept { count } => self.accept(count),
            Op::Sync => self.sync(),
            Op::Release { back } => self.release(back),
            Op::Fail { steps, short_bytes } => {
                self.disk.fail_after(steps, short_bytes);
                Ok(())
            }
            Op::Kill => {
                self.disk.restart();
                self.wal = None;
                let latest = self.latest();
                // Everything appended is there, synced or not.
                self.synced = latest;
                self.unsynced.clear();
                self.reopen();
                Ok(())
            }
            Op::PowerCut => {
                self.power_cut();
                self.reopen();
                Ok(())
            }
            Op::CrashWhileOpening { steps } => {
                self.power_cut();
                self.disk.fail_after(steps, 0);
                if self.open(self.newest_mark()).is_err() {
                    self.power_cut();
                }
                self.disk.restart();
                self.reopen();
                Ok(())
            }
        };
        if let Err(error) = result {
            assert!(matches!(error, Error::Io { .. }), "{error}");
            self.power_cut();
            self.reopen();
        }
    }

    fn append(
        &mut self,
        back: u64,
        count: u64,
        newer_term: bool,
        commit: u64,
        with_state: bool,
    ) -> Result<()> {
        let mut view = self.latest();
        let floor = view.hard_state.commit.max(view.base.index);
        let first = (view.last().index + 1).saturating_sub(back).max(floor + 1);
        view.entries.retain(|entry| entry.index < first);
        if newer_term && with_state {
            view.hard_state.term += 1;
            view.hard_state.vote = self.dice.below(3);
        }
        let entries: Vec<Entry> = (first..first + count)
            .map(|index| entry(index, view.hard_state.term, self.data()))
            .collect();
        view.entries.extend(entries.iter().cloned());
        if with_state {
            view.commit(commit);
        }
        let state = with_state.then_some(view.hard_state);
        self.unsynced.push(view);
        self.wal().append(&entries, state)
    }

    /// Bytes that look like an empty disk, or do not.
    fn data(&mut self) -> Vec<u8> {
        let length = self.dice.below(1400) * self.dice.below(2);
        match self.dice.below(3) {
            0 => vec![0; length as usize],
            1 => vec![self.dice.next() as u8; length as usize],
            _ => (0..length).map(|_| self.dice.next() as u8).collect(),
        }
    }

    fn mark(&mut self, mut view: View, mark: Mark) -> Result<()> {
        view.marks.push(mark);
        self.unsynced.push(view);
        self.wal().append_mark(mark)
    }

    fn foreign(&mut self, ahead: u64, newer_term: bool) -> Result<()> {
        let mut view = self.latest();
        let index = view.hard_state.commit + ahead;
        let known = view.truth.values().max().copied().unwrap_or(0);
        let term = view.hard_state.term.max(known) + u64::from(newer_term);
        if term == 0 || view.truth.range(index..).next().is_some() {
            return Ok(());
        }
        let mark = Mark { index, term };
        view.truth.insert(index, term);
        view.pending = (view.term(index) != Some(term)).then_some(mark).or(view.pending);
        self.mark(view, mark)
    }

    fn accept(&mut self, count: u64) -> Result<()> {
        let mut view = self.latest();
        let commit = view.hard_state.commit;
        let Some(mark) = view.pending.filter(|mark| mark.index > commit) else { return Ok(()) };
        if view.term(mark.index) == Some(mark.term) {
            return Ok(());
        }
        // The leader sends it again, so its mark is written again.
        self.mark(view.clone(), mark)?;
        view.marks.push(mark);
        view.base = mark;
        view.pending = None;
        view.hard_state.term = view.hard_state.term.max(mark.term);
        if view.hard_state.term > self.latest().hard_state.term {
            view.hard_state.vote = 0;
        }
        view.hard_state.commit = mark.index;
        view.entries = (mark.index + 1..=mark.index + count)
            .map(|index| entry(index, view.hard_state.term, self.data()))
            .collect();
        let (entries, state) = (view.entries.clone(), view.hard_state);
        self.unsynced.push(view);
        self.wal().append(&entries, Some(state))
    }

    fn sync(&mut self) -> Result<()> {
        block_on(self.wal().sync())?;
        self.synced = self.latest();
        self.unsynced.clear();
        Ok(())
    }

    fn release(&mut self, back: u64) -> Result<()> {
        self.sync()?;
        let index = self.synced.hard_state.commit.saturating_sub(back);
        // Not the model's: a mark of a snapshot that was never taken over may be gone already.
        let mark = marks(&self.disk)?.into_iter().rev().find(|mark| mark.index <= index);
        let mark = mark.filter(|mark| mark.index > 0);
        // A removal may have happened although it was reported as failed.
        self.released = self.released.max(mark);
        block_on(self.wal().release_below(index))
    }

    fn power_cut(&mut self) {
        self.wal = None;
        let kind = self.dice.below(4);
        let dice = &mut self.dice;
        self.disk.power_cut(|| match kind {
            0 => false,
            1 => true,
            2 => dice.coin(),
            _ => dice.below(8) > 0,
        });
    }

    /// Opens the log after a crash: it must hold one of the possible views, in full.
    fn reopen(&mut self) {
        let segments = segment::list(&self.disk, Path::new(DIR)).unwrap();
        let replay = recover::replay(&self.disk, &segments, 0).unwrap();
        let all_marks: BTreeSet<Mark> = replay.marks.keys().copied().collect();
        let released = self.released.unwrap_or_default();
        let mut views = std::iter::once(&self.synced).chain(&self.unsynced);
        let view = views.find(|view| {
            let appended: BTreeSet<Mark> = view.marks.iter().copied().collect();
            view.hard_state == replay.outline.hard_state()
                && view.last() == replay.outline.last()
                && all_marks.is_subset(&appended)
                && appended.range(released..).all(|mark| all_marks.contains(mark))
                && above(&replay.entries, released.index) == above(&view.entries, released.index)
        });
        let view = view.unwrap_or_else(|| panic!("recovered what was never there")).clone();
        let newest = self.newest_mark();
        for mark in marks(&self.disk).unwrap() {
            let first = view.base.index.max(released.index);
            if mark.index >= first {
                let (_, recovered) =
                    open(&self.disk.copy_unsynced(), mark, self.segment_bytes).unwrap();
                self.check(&view, mark, &recovered);
            }
        }
        let (wal, recovered) = self.open(newest).unwrap();
        self.check(&view, newest, &recovered);
        self.wal = Some(wal);
        self.recoveries += 1;
        self.repairs += u64::from(recovered.repaired.is_some());
        if self.unsynced.is_empty() {
            assert_eq!(recovered.repaired, None, "nothing was torn");
        }
        self.synced = view;
        self.unsynced.clear();
    }

    fn check(&self, view: &View, from: Mark, recovered: &Recovered) {
        assert_eq!(recovered.metadata, METADATA);
        assert_eq!(recovered.hard_state, view.hard_state);
        assert_eq!(recovered.entries, above(&view.entries, from.index));
    }

    fn newest_mark(&self) -> Mark {
        *marks(&self.disk).unwrap().last().expect("the empty log's mark is always there")
    }

    fn open(&self, from: Mark) -> Result<(Wal, Recovered)> {
        open(&self.disk, from, self.segment_bytes)
    }

    fn wal(&mut self) -> &mut Wal {
        self.wal.as_mut().expect("the log is open")
    }
}

fn above(entries: &[Entry], index: u64) -> &[Entry] {
    &entries[entries.partition_point(|entry| entry.index <= index)..]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..Default::default()
    })]

    /// What was synced is recovered, what was not is recovered up to some append or not at all.
    #[test]
    fn crashes(
        ops in prop::collection::vec(op(), 1..60),
        segment_bytes in 200..4000u64,
        seed in any::<u64>(),
    ) {
        let mut world = World::new(segment_bytes, seed);
        for op in ops.iter().chain([&Op::Kill, &Op::PowerCut]) {
            world.run(op);
        }
    }

    /// A flipped bit in what was synced is refused in the right file, or changes nothing: also
    /// where a torn write follows.
    #[test]
    fn flips(
        ops in prop::collection::vec(op(), 1..30),
        segment_bytes in 200..4000u64,
        seed in any::<u64>(),
        places in prop::collection::vec(any::<u64>(), 20),
    ) {
        let mut world = World::new(segment_bytes, seed);
        ops.iter().for_each(|op| world.run(op));
        world.disk.restart();
        if world.sync().is_err() {
            return Ok(());
        }
        let durable: Vec<usize> = files(&world.disk)
            .iter()
            .map(|path| world.disk.read(path).iter().rposition(|byte| *byte != 0).unwrap_or(0))
            .collect();
        let (newest, synced) = (world.newest_mark(), world.latest());
        let torn = Op::Append { back: 0, count: 3, newer_term: true, commit: 1, with_state: true };
        world.run(&torn);
        let appended = world.latest();
        world.power_cut();
        for place in places {
            let disk = world.disk.copy();
            let file = place as usize % durable.len();
            let path = &files(&disk)[file];
            disk.damage(path, |bytes| {
                let bit = (place >> 8) as usize % (durable[file] * 8 + 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            });
            match open(&disk, newest, segment_bytes) {
                Ok((_, recovered)) => {
                    let whole = [&synced, &appended].iter().any(|view| {
                        recovered.hard_state == view.hard_state
                            && recovered.entries == above(&view.entries, newest.index)
                    });
                    prop_assert!(whole, "bytes lost: {recovered:?}");
                }
                Err(error) => prop_assert_eq!(corrupt_file(&error), Some(&**path), "{}", error),
            }
        }
    }
}

/// The random histories do meet torn writes: otherwise the properties above say little.
#[test]
fn repairs_happen() {
    let mut repairs = 0;
    for seed in 0..50 {
        let mut world = World::new(3000, seed);
        for _ in 0..5 {
            for with_state in [true, false] {
                world.run(&Op::Append {
                    back: 1,
                    count: 2,
                    newer_term: true,
                    commit: 1,
                    with_state,
                });
            }
            world.run(&Op::PowerCut);
        }
        assert_eq!(world.recoveries, 5);
        repairs += world.repairs;
    }
    assert!((50..200).contains(&repairs), "{repairs} of 250 crashes tore a write");
}
