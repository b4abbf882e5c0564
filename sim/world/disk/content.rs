//! The bytes of one simulated file, with a journal that can take back what was not synced.
//!
//! The page cache is the one copy. Each change since the last sync keeps what it overwrote, so that a sync only
//! forgets the journal and a power cut walks it backwards.
//!
//! Invariants:
//! * Holes cost nothing: a segment of 64 MB that was only allocated takes no memory.
//! * Taking back all changes restores bytes and length of the last sync exactly.
//! * What survives a power cut is a prefix of the changes; the change after it may survive up to a sector boundary.
//!
//! Not modelled: changes that reach the platter out of order within one file, bit rot, misdirected writes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::dice::Dice;

/// Bytes per chunk of a file's sparse map.
const CHUNK: u64 = 64 * 1024;

/// A write tears at a multiple of this.
pub(crate) const SECTOR: u64 = 512;

/// Sparse bytes: what was never written reads as zero.
#[derive(Default)]
struct Bytes {
    /// Chunk number → its bytes; what lies behind the end of the vector is zero.
    chunks: BTreeMap<u64, Vec<u8>>,
    length: u64,
}

/// Splits a range of bytes at chunk boundaries: chunk number, start within it, length.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        (at < range.end).then(|| {
            let (chunk, start) = (at / CHUNK, at % CHUNK);
            let length = (CHUNK - start).min(range.end - at);
            at += length;
            (chunk, index(start), index(length))
        })
    })
}

fn index(value: u64) -> usize {
    usize::try_from(value).expect("below the size of memory")
}

impl Bytes {
    fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let end = self.length.min(offset.saturating_add(buffer.len() as u64));
        if offset >= end {
            return 0;
        }
        let mut done = 0;
        for (chunk, start, length) in pieces(offset..end) {
            let target = &mut buffer[done..done + length];
            done += length;
            let stored =
                self.chunks.get(&chunk).and_then(|bytes| bytes.get(start..)).unwrap_or(&[]);
            let stored = &stored[..stored.len().min(length)];
            target[..stored.len()].copy_from_slice(stored);
            target[stored.len()..].fill(0);
        }
        done
    }

    fn write(&mut self, data: &[u8], offset: u64) {
        let mut done = 0;
        for (chunk, start, length) in pieces(offset..offset + data.len() as u64) {
            let bytes = self.chunks.entry(chunk).or_default();
            let source = &data[done..done + length];
            done += length;
            if bytes.len() <= start {
                bytes.resize(start, 0);
                bytes.extend_from_slice(source);
            } else {
                let overlap = (bytes.len() - start).min(length);
                bytes[start..start + overlap].copy_from_slice(&source[..overlap]);
                bytes.extend_from_slice(&source[overlap..]);
            }
        }
        self.length = self.length.max(offset + data.len() as u64);
    }

    /// Makes a range zero; the length stays.
    fn clear(&mut self, range: Range<u64>) {
        let numbers: Vec<u64> = self
            .chunks
            .range(range.start / CHUNK..=range.end / CHUNK)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let first = number * CHUNK;
            let start = index(range.start.saturating_sub(first).min(CHUNK));
            let end = index(range.end.saturating_sub(first).min(CHUNK));
            let bytes = self.chunks.get_mut(&number).expect("just listed");
            if end >= bytes.len() {
                bytes.truncate(start);
            } else {
                bytes[start..end].fill(0);
            }
            if bytes.is_empty() {
                self.chunks.remove(&number);
            }
        }
    }

    fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.clear(length..self.length);
        }
        self.length = length;
    }

    /// The stored (non-hole) bytes of a range.
    fn stored(&self, range: Range<u64>) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        for (number, bytes) in self.chunks.range(range.start / CHUNK..=range.end / CHUNK) {
            let first = number * CHUNK;
            let start = index(range.start.saturating_sub(first)).min(bytes.len());
            let end = index(range.end.saturating_sub(first)).min(bytes.len());
            if start < end {
                found.push((first + start as u64, bytes[start..end].to_vec()));
            }
        }
        found
    }
}

/// One change since the last sync, and what it takes to undo it.
struct Change {
    range: Range<u64>,
    before: Vec<(u64, Vec<u8>)>,
    length_before: u64,
    is_write: bool,
}

/// What a power cut may leave of unsynced changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// A part, drawn anew for each file and folder.
    Part,
}

/// What a power cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Changes of files that are gone, the torn ones included.
    pub writes: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Writes of which a first part survived.
    pub torn: u64,
    /// Folder changes (creations, renames, removals) that are gone.
    pub entries: u64,
}

/// One simulated file.
#[derive(Default)]
pub struct Content {
    bytes: Bytes,
    journal: VecDeque<Change>,
    /// Number of changes that were ever synced: the number of the journal's first change.
    synced: u64,
}

impl Content {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.bytes.length
    }

    /// Bytes of memory that the file takes.
    pub fn memory(&self) -> u64 {
        let journal =
            self.journal.iter().flat_map(|change| &change.before).map(|(_, old)| old.len());
        self.bytes.chunks.values().map(Vec::len).chain(journal).sum::<usize>() as u64
    }

    /// Reads at most `buffer.len()` bytes; fewer only at the end of the file.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        self.bytes.read(buffer, offset)
    }

    /// Writes `data`, lengthening the file where needed.
    pub fn write(&mut self, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        self.note(offset..offset + data.len() as u64, true);
        self.bytes.write(data, offset);
    }

    /// Cuts the file, or lengthens it with zeros.
    pub fn set_length(&mut self, length: u64) {
        let old = self.bytes.length;
        if length != old {
            self.note(length.min(old)..old, false);
            self.bytes.set_length(length);
        }
    }

    fn note(&mut self, range: Range<u64>, is_write: bool) {
        let before = self.bytes.stored(range.clone());
        self.journal.push_back(Change {
            range,
            before,
            length_before: self.bytes.length,
            is_write,
        });
    }

    /// The place in the journal up to which a sync that starts now will reach.
    pub fn mark(&self) -> u64 {
        self.synced + self.journal.len() as u64
    }

    /// Makes all changes before `mark` durable; answers how many those were.
    pub fn commit(&mut self, mark: u64) -> u64 {
        let count = mark.saturating_sub(self.synced);
        self.journal.drain(..index(count).min(self.journal.len()));
        self.synced += count;
        count
    }

    /// Forgets unsynced changes as a power cut would; what is left is durable.
    pub fn power_loss(&mut self, survival: Survival, dice: &mut Dice) -> Loss {
        let mut loss = Loss::default();
        let count = self.journal.len();
        let kept = match survival {
            _ if count == 0 => 0,
            Survival::Nothing => 0,
            Survival::Everything => count,
            Survival::Part => index(dice.below(count as u64 + 1)),
        };
        while self.journal.len() > kept {
            let is_first_lost = self.journal.len() == kept + 1;
            let change = self.journal.pop_back().expect("longer than what is kept");
            loss.writes += 1;
            loss.bytes += change.range.end - change.range.start;
            if is_first_lost && survival == Survival::Part && dice.below(2) == 0 {
                loss.torn += u64::from(self.tear(&change, dice));
            } else {
                self.undo(&change, change.range.start, change.length_before);
            }
        }
        self.synced += self.journal.len() as u64;
        self.journal.clear();
        loss
    }

    /// Undoes `change` from `start` on.
    fn undo(&mut self, change: &Change, start: u64, length: u64) {
        self.bytes.clear(start..change.range.end);
        for (offset, old) in &change.before {
            let skip = index(start.saturating_sub(*offset)).min(old.len());
            self.bytes.write(&old[skip..], offset + skip as u64);
        }
        self.bytes.set_length(length);
    }

    /// Undoes `change` from a sector boundary within it on; wholly where there is none.
    fn tear(&mut self, change: &Change, dice: &mut Dice) -> bool {
        let (first, last) =
            (change.range.start / SECTOR + 1, change.range.end.saturating_sub(1) / SECTOR);
        if !change.is_write || first > last {
            self.undo(change, change.range.start, change.length_before);
            return false;
        }
        let boundary = dice.within(first, last) * SECTOR;
        // The new length may reach the disk before the data: then the tail reads as zeros.
        let length = match dice.below(2) {
            0 => self.bytes.length,
            _ => change.length_before.max(boundary),
        };
        self.undo(change, boundary, length);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(content: &Content) -> Vec<u8> {
        let mut buffer = vec![0xee; index(content.length()) + 10];
        let got = content.read(&mut buffer, 0);
        buffer.truncate(got);
        buffer
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLength(u64),
        Sync,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let near = prop_oneof![0..3000u64, CHUNK - 700..CHUNK + 700];
        let data = prop::collection::vec(1u8.., 1..1500);
        let step = prop_oneof![
            4 => (near.clone(), data).prop_map(|(offset, data)| Step::Write(offset, data)),
            1 => near.prop_map(Step::SetLength),
            1 => Just(Step::Sync),
        ];
        prop::collection::vec(step, 1..12)
    }

    fn apply(model: &mut Vec<u8>, step: &Step) {
        match step {
            Step::Write(offset, data) => {
                let (start, end) = (index(*offset), index(*offset) + data.len());
                model.resize(model.len().max(end), 0);
                model[start..end].copy_from_slice(data);
            }
            Step::SetLength(length) => model.resize(index(*length), 0),
            Step::Sync => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Reads agree with a plain vector, and a power cut leaves a prefix of the unsynced changes, of which the
        /// last may be torn at a sector boundary.
        #[test]
        fn agrees_with_a_vector(steps in steps(), seed: u64, fate in 0..3_usize) {
            let (mut content, mut model, mut legal) = (Content::default(), Vec::new(), vec![Vec::new()]);
            for step in &steps {
                match step {
                    Step::Write(offset, data) => content.write(data, *offset),
                    Step::SetLength(length) => content.set_length(*length),
                    Step::Sync => { content.commit(content.mark()); }
                }
                apply(&mut model, step);
                prop_assert_eq!(all(&content), model.clone());
                if matches!(step, Step::Sync) {
                    legal.clear();
                }
                legal.push(model.clone());
            }
            let survival = [Survival::Nothing, Survival::Everything, Survival::Part][fate];
            let loss = content.power_loss(survival, &mut Dice::new(seed, "disk"));
            let left = all(&content);
            match survival {
                Survival::Nothing => prop_assert_eq!(&left, &legal[0]),
                Survival::Everything => prop_assert_eq!(&left, legal.last().expect("one at least")),
                Survival::Part if loss.torn == 0 => prop_assert!(legal.contains(&left)),
                Survival::Part => prop_assert!(
                    legal.windows(2).any(|pair| torn_between(&pair[0], &pair[1], &left)),
                    "no prefix of the changes"
                ),
            }
        }
    }

    /// Whether `left` is `new` up to a sector boundary and `old` (or zeros) from there on.
    fn torn_between(old: &[u8], new: &[u8], left: &[u8]) -> bool {
        let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
        (0..=left.len() / 512 + 1).any(|sector| {
            let boundary = sector * 512;
            (0..left.len()).all(|at| left[at] == byte(if at < boundary { new } else { old }, at))
        }) && (left.len() == new.len() || left.len() >= old.len())
    }

    /// Allocation and a written end cost no memory for the hole between.
    #[test]
    fn holes_are_free() {
        let mut content = Content::default();
        content.set_length(64 << 20);
        content.write(b"x", (64 << 20) - 1);
        assert_eq!(content.length(), 64 << 20);
        assert!(content.memory() <= CHUNK, "{} bytes", content.memory());
    }

    /// A sync covers what was written before it began, not what was written while it ran.
    #[test]
    fn sync_reaches_up_to_its_mark() {
        let mut content = Content::default();
        content.write(b"before", 0);
        let mark = content.mark();
        content.write(b"during", 6);
        assert_eq!(content.commit(mark), 1);
        let loss = content.power_loss(Survival::Nothing, &mut Dice::new(1, "disk"));
        assert_eq!((all(&content), loss.bytes), (b"before".to_vec(), 6));
    }

    /// Over many seeds a torn write shows every sector boundary within it, and none outside.
    #[test]
    fn tears_at_every_sector() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut content = Content::default();
            content.write(&[1; 100], 0);
            content.commit(content.mark());
            content.write(&[2; 1800], 100);
            if content.power_loss(Survival::Part, &mut Dice::new(seed, "disk")).torn == 1 {
                seen.insert(all(&content).iter().filter(|byte| **byte == 2).count());
            }
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [412, 924, 1436]);
    }
}
