//! The bytes of one simulated file, with a journal that can take back what was not synced.
//!
//! The page cache is the one copy. Each change since the last sync keeps what it overwrote, so that a sync only
//! forgets the journal and a power cut walks it backwards (`loss`).
//!
//! Invariants:
//! * Holes cost nothing: a segment of 64 MB that was only allocated takes no memory.
//! * Taking back all changes restores bytes and length of the last sync exactly.
//! * After a failed sync the pages count as clean: what they held is readable (or gone at once), is lost with the
//!   power, and no later sync brings it back, unless the page was written again. So do Linux's file systems.
//! * Rot changes single bits of what is read, at places that are known; a write over such a place mends it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::bytes::{Bytes, index};
use super::stray::{Candidate, Stray};

/// A disk writes this much whole or not at all.
pub(crate) const SECTOR: u64 = 512;

/// One change since the last sync, and what it takes to undo it.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) range: Range<u64>,
    pub(super) before: Vec<(u64, Vec<u8>)>,
    pub(super) length_before: u64,
    pub(super) is_write: bool,
}

impl Change {
    /// The sectors of which it changed a part.
    pub(super) fn sectors(&self) -> Vec<u64> {
        if self.is_write {
            return sectors(&self.range).collect();
        }
        // A hole that is cut or made changes nothing.
        let mut touched: Vec<u64> = self
            .before
            .iter()
            .flat_map(|(offset, old)| sectors(&(*offset..offset + old.len() as u64)))
            .collect();
        touched.dedup();
        touched
    }
}

fn sectors(range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    range.start / SECTOR..range.end.div_ceil(SECTOR)
}

/// The part of `range` that lies in `sector`.
pub(super) fn within(range: &Range<u64>, sector: u64) -> Range<u64> {
    range.start.max(sector * SECTOR)..range.end.min((sector + 1) * SECTOR)
}

/// One simulated file.
#[derive(Clone, Default)]
pub struct Content {
    pub(super) bytes: Bytes,
    pub(super) journal: VecDeque<Change>,
    /// Number of changes that were ever synced: the number of the journal's first change.
    pub(super) synced: u64,
    /// Sectors that a failed sync has dropped: what the disk really holds there.
    pub(super) dropped: BTreeMap<u64, Vec<u8>>,
    /// A length that a failed sync has dropped: the one on disk, and the one that is seen.
    pub(super) dropped_length: Option<(u64, u64)>,
    /// Place → bits that read wrong.
    rot: BTreeMap<u64, u8>,
    /// Sectors of writes that went astray.
    pub(super) strays: BTreeMap<u64, Stray>,
    pub(super) candidate: Option<Candidate>,
}

impl Content {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.bytes.length()
    }

    /// Whether something of it is not durable.
    pub fn is_unsynced(&self) -> bool {
        !self.journal.is_empty() || !self.dropped.is_empty()
    }

    /// Whether a failed sync has dropped something that was not written again.
    pub fn has_dropped(&self) -> bool {
        !self.dropped.is_empty() || self.dropped_length.is_some()
    }

    /// Whether its length has changed since the last sync.
    pub(super) fn has_new_length(&self) -> bool {
        self.length_at_front() != self.length()
    }

    /// Bytes of memory that the file takes.
    pub fn memory(&self) -> u64 {
        let journal =
            self.journal.iter().flat_map(|change| &change.before).map(|(_, old)| old.len());
        let dropped = self.dropped.values().map(Vec::len);
        (self.bytes.memory() + journal.chain(dropped).sum::<usize>()) as u64
    }

    /// Reads at most `buffer.len()` bytes; fewer only at the end of the file.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = self.bytes.read(buffer, offset);
        if !self.strays.is_empty() {
            self.overlay(&mut buffer[..count], offset);
        }
        for (place, bits) in self.rot.range(offset..offset + count as u64) {
            buffer[index(place - offset)] ^= bits;
        }
        count
    }

    /// A place at or behind `offset` before which nothing is stored, up to the end of the file.
    pub fn zeros_until(&self, offset: u64) -> u64 {
        self.bytes.next_stored(offset).unwrap_or(u64::MAX).min(self.length()).max(offset)
    }

    /// How many rotten places lie among `count` bytes at `offset`.
    pub fn rotten(&self, offset: u64, count: usize) -> u64 {
        self.rot.range(offset..offset.saturating_add(count as u64)).count() as u64
    }

    /// Lets one bit rot: bit `bit` of the `nth` byte that is not zero. Where it is; `None` where there are fewer.
    pub fn rot_one(&mut self, nth: u64, bit: u32) -> Option<u64> {
        let place = self.bytes.nth_byte_set(nth).1?;
        *self.rot.entry(place).or_default() ^= 1 << (bit % 8);
        Some(place)
    }

    /// How many bytes are not zero.
    pub fn bytes_set(&self) -> u64 {
        self.bytes.nth_byte_set(0).0
    }

    /// Makes a rotten place right again.
    pub fn mend(&mut self, place: u64) {
        self.rot.remove(&place);
    }

    /// Writes `data`, lengthening the file where needed.
    pub fn write(&mut self, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        self.note(offset..offset + data.len() as u64, true);
        if !self.strays.is_empty() {
            self.mend_by_write(data, offset);
        }
        self.bytes.write(data, offset);
    }

    /// Cuts the file, or lengthens it with zeros.
    pub fn set_length(&mut self, length: u64) {
        let old = self.bytes.length();
        if length != old {
            self.note(length.min(old)..old, false);
            self.bytes.set_length(length);
            self.mend_behind(length);
        }
    }

    fn note(&mut self, range: Range<u64>, is_write: bool) {
        if !self.rot.is_empty() {
            self.rot.retain(|place, _| !range.contains(place));
        }
        let before = self.bytes.stored(range.clone());
        let length_before = self.bytes.length();
        self.journal.push_back(Change { range, before, length_before, is_write });
    }

    /// The place in the journal up to which a sync that starts now will reach.
    pub fn mark(&self) -> u64 {
        self.synced + self.journal.len() as u64
    }

    /// Makes all changes before `mark` durable; answers how many those were.
    pub fn commit(&mut self, mark: u64) -> u64 {
        let count = mark.saturating_sub(self.synced);
        let taken = index(count).min(self.journal.len());
        let mut length_before = self.journal.front().map(|change| change.length_before);
        for change in self.journal.drain(..taken) {
            if !self.dropped.is_empty() {
                // The page was dirty again, and went out whole.
                for sector in change.sectors() {
                    self.dropped.remove(&sector);
                }
            }
            if length_before != Some(change.length_before) {
                self.dropped_length = None;
            }
            length_before = Some(change.length_before);
        }
        let length_after = self.length_at_front();
        if taken > 0 && length_before != Some(length_after) {
            self.dropped_length = None;
        }
        self.synced += count;
        count
    }

    /// The length before the first change of the journal.
    fn length_at_front(&self) -> u64 {
        self.journal.front().map_or(self.bytes.length(), |change| change.length_before)
    }

    /// A sync of all changes before `mark` fails: the kernel takes their pages for clean. Where it also `evicts`
    /// them, what is on disk is read from now on. How many sectors were dropped.
    pub fn fail_sync(&mut self, mark: u64, evicts: bool) -> u64 {
        let count = index(mark.saturating_sub(self.synced)).min(self.journal.len());
        let mut sectors: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for sector in self.journal.iter().take(count).flat_map(Change::sectors) {
            sectors.entry(sector).or_insert_with(|| self.on_disk(sector));
        }
        let length = self.length_at_front();
        self.journal.drain(..count);
        self.synced += count as u64;
        if self.length_at_front() != length {
            self.dropped_length.get_or_insert((length, self.length_at_front()));
        }
        let written_since: Vec<u64> = self.journal.iter().flat_map(Change::sectors).collect();
        for (sector, old) in &sectors {
            if evicts && !written_since.contains(sector) {
                let range = within(&(0..u64::MAX), *sector);
                self.bytes.restore(range, &[(sector * SECTOR, old.clone())]);
            }
        }
        let dropped = sectors.len() as u64;
        for (sector, old) in sectors {
            self.dropped.entry(sector).or_insert(old);
        }
        dropped
    }

    /// What a sector held before all changes of the journal.
    pub(super) fn on_disk(&self, sector: u64) -> Vec<u8> {
        let start = sector * SECTOR;
        let mut held = vec![0; index(SECTOR)];
        let got = self.bytes.read(&mut held, start);
        held[got..].fill(0);
        for change in self.journal.iter().rev() {
            let part = within(&change.range, sector);
            if part.start >= part.end {
                continue;
            }
            held[index(part.start - start)..index(part.end - start)].fill(0);
            for (offset, old) in &change.before {
                let (from, to) =
                    ((*offset).max(part.start), (offset + old.len() as u64).min(part.end));
                if from < to {
                    held[index(from - start)..index(to - start)]
                        .copy_from_slice(&old[index(from - offset)..index(to - offset)]);
                }
            }
        }
        held
    }
}
