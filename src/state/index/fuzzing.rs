//! The key index against a list of all changes, by operations that the fuzzer chooses.
//!
//! Invariants:
//! * At and above the compact revision every answer is that of the list, however far the compaction is and whether or
//!   not the index was rebuilt from its rows since.
//! * A compaction drops old rows before new ones, each once; a row that an answer needs stays.
//! * What a finished compaction leaves is what [`History::kept_all`] says, and no more than is needed.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};

use super::{Index, KeyRange, Revision};

/// Keys that are neighbours in every way that matters to ranges.
const KEYS: [&[u8]; 6] = [b"a", b"a\0", b"ab", b"b", b"b\xff", b"\xff"];
/// Ends of ranges.
const ENDS: [&[u8]; 7] = [b"", b"\0", b"a", b"ab", b"b", b"c", b"\xff"];
/// Operations of one input: enough for several lives of several keys.
const OPS_MAX: usize = 80;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    /// A put, in the revision of the change before or in the next one.
    Put { key: u8, joins: bool },
    /// All keys of a range die.
    Delete { key: u8, end: u8, joins: bool },
    /// A compaction so many revisions before the current one.
    Compact { back: u8 },
    /// Some of what the compaction has put out of reach is dropped.
    Step { limit: u8 },
    /// A range is read so many revisions before the current one.
    Range { key: u8, end: u8, back: u8 },
    /// The index is made anew from the rows that are left.
    Rebuild,
}

/// Runs the operations that the bytes describe. Panics where an invariant of this file is broken.
pub fn index(bytes: &[u8]) {
    let mut world = World::default();
    let mut input = Unstructured::new(bytes);
    // What does not fill an operation is left over.
    let ops = input.arbitrary_iter::<Op>().into_iter().flatten().map_while(Result::ok);
    ops.take(OPS_MAX).for_each(|op| world.run(op));
    world.check_all();
    while !world.step(3) {}
    world.check_all();
    world.rebuild();
    world.check_all();
}

fn key(number: u8) -> &'static [u8] {
    KEYS[usize::from(number) % KEYS.len()]
}

fn range(start: u8, end: u8) -> (&'static [u8], &'static [u8]) {
    (key(start), ENDS[usize::from(end) % ENDS.len()])
}

/// Whether a range has a key, by etcd's documentation.
fn contains((start, end): (&[u8], &[u8]), key: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

/// One change of one key.
#[derive(Clone, Copy, Debug)]
struct Row {
    key: &'static [u8],
    is_tombstone: bool,
    is_dropped: bool,
}

/// What a key is at some revision: its last change, the main revision that created it, its version.
type Answer = (Revision, i64, i64);

#[derive(Default)]
struct World {
    index: Index,
    rows: BTreeMap<Revision, Row>,
    last: Revision,
    compact: i64,
    /// The key at which the compaction goes on.
    next: Vec<u8>,
    is_finished: bool,
}

impl World {
    fn run(&mut self, op: Op) {
        match op {
            Op::Put { key: number, joins } => {
                let revision = self.next_revision(joins);
                let found = self.index.put(key(number), revision);
                self.add(key(number), revision, false);
                let answer = (found.modified, found.created.main, found.version);
                assert_eq!(Some(answer), self.answer(key(number), revision.main));
            }
            Op::Delete { key, end, joins } => self.delete(range(key, end), joins),
            Op::Compact { back } => {
                let main = self.last.main - i64::from(back);
                if main > self.compact {
                    self.compact = main;
                    self.next.clear();
                    self.is_finished = false;
                }
            }
            Op::Step { limit } => {
                self.step(usize::from(limit).max(1));
            }
            Op::Range { key, end, back } => {
                let main = (self.last.main - i64::from(back)).max(self.compact);
                self.check_range(range(key, end), main);
            }
            Op::Rebuild => self.rebuild(),
        }
    }

    fn next_revision(&mut self, joins: bool) -> Revision {
        let Revision { main, sub } = self.last;
        // What is compacted has happened: no change joins it any more.
        let joins = joins && main > self.compact;
        self.last = if joins {
            Revision { main, sub: sub + 1 }
        } else {
            Revision { main: main + 1, sub: 0 }
        };
        self.last
    }

    fn add(&mut self, key: &'static [u8], revision: Revision, is_tombstone: bool) {
        self.rows.insert(revision, Row { key, is_tombstone, is_dropped: false });
    }

    fn delete(&mut self, range: (&'static [u8], &'static [u8]), joins: bool) {
        let living: Vec<&[u8]> = KEYS
            .into_iter()
            .filter(|key| contains(range, key) && self.answer(key, i64::MAX).is_some())
            .collect();
        let mut deleted = Vec::new();
        let mut index = std::mem::take(&mut self.index);
        index.delete(KeyRange::new(range.0, range.1), |key| {
            deleted.push(key.to_vec());
            let revision = self.next_revision(joins || deleted.len() > 1);
            let key = KEYS.into_iter().find(|known| *known == key).expect("a key that was put");
            self.add(key, revision, true);
            revision
        });
        self.index = index;
        assert_eq!(deleted, living);
    }

    /// A step of the compaction, as `State::compact_step` makes them; whether it was the last one.
    fn step(&mut self, limit: usize) -> bool {
        let Some((key, history)) = self.index.next_mut(&self.next) else {
            self.next.clear();
            self.is_finished = true;
            return true;
        };
        let key = key.to_vec();
        let compact = self.compact;
        let kept: Vec<Revision> = history.kept_all(compact).collect();
        let mut dropped = Vec::new();
        let count = history.compact(compact, limit, |revision, tombstone| {
            dropped.push((revision, tombstone));
        });
        assert_eq!(count, dropped.len());
        assert!(count <= limit);
        for (revision, is_tombstone) in dropped {
            assert!(!kept.contains(&revision), "{revision:?} was to be kept");
            self.drop_row(&key, revision, is_tombstone);
        }
        if count < limit {
            let left: Vec<Revision> = self.left(&key).filter(|it| it.main <= compact).collect();
            assert_eq!(left, kept, "at {compact}");
            self.next.clone_from(&key);
            self.next.push(0);
        } else {
            self.next.clone_from(&key);
        }
        self.index.forget_empty(&key);
        false
    }

    fn drop_row(&mut self, key: &[u8], revision: Revision, is_tombstone: bool) {
        let compact = self.compact;
        assert_eq!(self.left(key).next(), Some(revision), "old rows are dropped first");
        let of_key = self.rows.iter().filter(|(_, row)| row.key == key);
        let newest = of_key.map(|(revision, _)| *revision).rfind(|it| it.main <= compact);
        let row = self.rows.get_mut(&revision).expect("only what is there is dropped");
        assert_eq!(row.is_tombstone, is_tombstone);
        assert!(
            newest > Some(revision) || is_tombstone && revision.main < compact,
            "{revision:?} is needed at {compact}"
        );
        row.is_dropped = true;
    }

    /// The rows of a key that were not dropped.
    fn left(&self, key: &[u8]) -> impl Iterator<Item = Revision> {
        let rows = self.rows.iter().filter(move |(_, row)| row.key == key && !row.is_dropped);
        rows.map(|(revision, _)| *revision)
    }

    fn rebuild(&mut self) {
        let mut index = Index::default();
        for (revision, row) in self.rows.iter().filter(|(_, row)| !row.is_dropped) {
            let known = self.answer_upto(row.key, *revision);
            let (created, version) =
                known.map_or((0, 0), |(_, created, version)| (created, version));
            let restored = index.restore(row.key, *revision, row.is_tombstone, (created, version));
            restored.expect("rows in order");
            let again = index.restore(row.key, *revision, row.is_tombstone, (created, version));
            assert!(again.is_err(), "the same row twice");
        }
        self.index = index;
        self.next.clear();
    }

    /// A key at a revision, from the list of all changes.
    fn answer(&self, key: &[u8], main: i64) -> Option<Answer> {
        self.answer_upto(key, Revision { main, sub: i64::MAX })
    }

    fn answer_upto(&self, key: &[u8], upto: Revision) -> Option<Answer> {
        let mut answer = None;
        for (revision, row) in self.rows.range(..=upto).filter(|(_, row)| row.key == key) {
            answer = match (row.is_tombstone, answer) {
                (true, _) => None,
                (false, None) => Some((*revision, revision.main, 1)),
                (false, Some((_, created, version))) => Some((*revision, created, version + 1)),
            };
        }
        answer
    }

    fn check_range(&self, range: (&[u8], &[u8]), main: i64) {
        let mut found = Vec::new();
        self.index.visit(KeyRange::new(range.0, range.1), main, |key, it| {
            found.push((key.to_vec(), (it.modified, it.created.main, it.version)));
        });
        let all = KEYS.into_iter().filter(|key| contains(range, key));
        let expected = all.filter_map(|key| Some((key.to_vec(), self.answer(key, main)?)));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{range:?} at {main}");
    }

    /// Every key at every revision that can be asked for, and how much is kept.
    fn check_all(&self) {
        for main in self.compact..=self.last.main + 1 {
            self.check_range((KEYS[0], b"\0"), main);
            for key in KEYS {
                let found = self.index.get(key, main);
                let found = found.map(|it| (it.modified, it.created.main, it.version));
                assert_eq!(found, self.answer(key, main), "{key:?} at {main}");
            }
        }
        let keys = KEYS.into_iter().filter(|key| self.left(key).next().is_some());
        assert_eq!(self.index.len(), keys.count());
        if !self.is_finished {
            return;
        }
        for (revision, row) in self.rows.iter().filter(|(_, row)| !row.is_dropped) {
            let needed = self.answer(row.key, self.compact).is_some_and(|it| it.0 == *revision);
            assert!(needed || revision.main >= self.compact, "{revision:?} could be dropped");
        }
    }
}
