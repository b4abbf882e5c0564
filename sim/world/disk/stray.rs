//! Writes that a disk acknowledged and did not do: lost, or done at another place.
//!
//! What should be there is kept; what the disk holds instead lies over it, sector by sector, until it is written over
//! or an operator restores the file. Reads see it once the page is no longer in the cache: at once, or after a loss of
//! power.
//!
//! Invariants:
//! * The sync that covers such a write succeeds.
//! * One write at a time goes astray, as a whole: its sectors keep what they held before.
//! * Of a file of the log only a write goes astray that a later sync has followed: a lost *last* write looks like a
//!   crash to its member, which nothing but the memory of others could tell from one.
//! * A write over such a sector mends it, even one that a power cut takes.

use std::collections::BTreeMap;

use super::bytes::index;
use super::content::{Change, Content, SECTOR, within};
use crate::dice::Dice;

/// What a disk holds in a sector in place of what was written there.
#[derive(Clone)]
pub(super) struct Stray {
    /// Of the trouble that did it.
    pub(super) id: u32,
    pub(super) is_misdirected: bool,
    pub(super) holds: Vec<u8>,
    /// Whether the page is out of the cache.
    pub(super) is_seen: bool,
}

/// A write that may still turn out to have gone astray: by sector, what was there before and what was written.
#[derive(Clone)]
pub(super) struct Candidate {
    id: u32,
    pub(super) sectors: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
}

/// How many strayed sectors of each kind lie in a part of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Strayed {
    pub(super) lost: u64,
    pub(super) misdirected: u64,
}

impl Content {
    /// Puts what the disk holds over what should have been read at `offset`.
    pub(super) fn overlay(&self, buffer: &mut [u8], offset: u64) {
        let range = offset..offset + buffer.len() as u64;
        for (sector, stray) in self.seen(offset, buffer.len()) {
            let part = within(&range, sector);
            let start = sector * SECTOR;
            buffer[index(part.start - offset)..index(part.end - offset)]
                .copy_from_slice(&stray.holds[index(part.start - start)..index(part.end - start)]);
        }
    }

    fn seen(&self, offset: u64, count: usize) -> impl Iterator<Item = (u64, &Stray)> {
        let end = (offset + count as u64).div_ceil(SECTOR);
        let range = if count == 0 { 0..0 } else { offset / SECTOR..end };
        self.strays
            .range(range)
            .filter(|(_, stray)| stray.is_seen)
            .map(|(sector, it)| (*sector, it))
    }

    /// What of `count` bytes at `offset` reads otherwise than it was written.
    pub(super) fn strayed(&self, offset: u64, count: usize) -> Strayed {
        let mut strayed = Strayed::default();
        for (_, stray) in self.seen(offset, count) {
            strayed.lost += u64::from(!stray.is_misdirected);
            strayed.misdirected += u64::from(stray.is_misdirected);
        }
        strayed
    }

    /// How many sectors hold something else than was written.
    pub(super) fn strays(&self) -> usize {
        self.strays.len()
    }

    /// `data` is written at `offset`: sectors that are written whole, or lie whole in the cache, are right again.
    pub(super) fn mend_by_write(&mut self, data: &[u8], offset: u64) {
        let range = offset..offset + data.len() as u64;
        let sectors = range.start / SECTOR..range.end.div_ceil(SECTOR);
        let here: Vec<u64> = self.strays.range(sectors).map(|(sector, _)| *sector).collect();
        for sector in here {
            let (part, start) = (within(&range, sector), sector * SECTOR);
            let stray = self.strays.get_mut(&sector).expect("just listed");
            if !stray.is_seen || part.end - part.start == SECTOR {
                self.strays.remove(&sector);
                continue;
            }
            stray.holds[index(part.start - start)..index(part.end - start)]
                .copy_from_slice(&data[index(part.start - offset)..index(part.end - offset)]);
        }
    }

    /// The file ends at `length` now.
    pub(super) fn mend_behind(&mut self, length: u64) {
        self.strays.retain(|sector, _| sector * SECTOR < length);
    }

    /// The cache is gone.
    pub(super) fn see_strays(&mut self) {
        self.strays.values_mut().for_each(|stray| stray.is_seen = true);
        self.candidate = None;
    }

    /// An operator has restored what the trouble `id` did.
    pub(super) fn mend_strays(&mut self, id: u32) {
        self.strays.retain(|_, stray| stray.id != id);
        self.candidate = self.candidate.take().filter(|candidate| candidate.id != id);
    }

    /// What one of the writes before `mark` overwrites on disk, and with what; nothing where that is the same.
    fn candidate(&self, mark: u64, id: u32, dice: &mut Dice) -> Option<Candidate> {
        let count = index(mark.saturating_sub(self.synced)).min(self.journal.len());
        let writes: Vec<&Change> =
            self.journal.iter().take(count).filter(|it| it.is_write).collect();
        if writes.is_empty() {
            return None;
        }
        let mut sectors = BTreeMap::new();
        for sector in dice.pick(&writes).sectors() {
            let mut now = vec![0; index(SECTOR)];
            self.bytes.read(&mut now, sector * SECTOR);
            let before = self.on_disk(sector);
            if before != now {
                sectors.insert(sector, (before, now));
            }
        }
        (!sectors.is_empty()).then_some(Candidate { id, sectors })
    }

    /// A sync of what was written before `mark` is about to succeed. The write that goes astray, if one does now;
    /// with `waits` only one that an earlier sync covered, as far as nothing has been written over it since.
    pub(super) fn choose(
        &mut self,
        mark: u64,
        id: u32,
        waits: bool,
        dice: &mut Dice,
    ) -> Option<Candidate> {
        if !waits {
            return self.candidate(mark, id, dice);
        }
        if self.journal.is_empty() {
            return None;
        }
        if let Some(mut candidate) = self.candidate.take().filter(|it| it.id == id) {
            for sector in self.journal.iter().flat_map(Change::sectors) {
                candidate.sectors.remove(&sector);
            }
            if !candidate.sectors.is_empty() {
                return Some(candidate);
            }
        }
        self.candidate = self.candidate(mark, id, dice);
        None
    }

    pub(super) fn put_astray(&mut self, sector: u64, stray: Stray) {
        self.strays.insert(sector, stray);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(content: &Content) -> Vec<u8> {
        let mut buffer = vec![0xee; index(content.length()) + 10];
        let got = content.read(&mut buffer, 0);
        buffer.truncate(got);
        buffer
    }

    /// Four sectors of ones, durable, of which the second and third were written with twos and lost.
    fn lost(is_seen: bool) -> Content {
        let mut content = Content::default();
        content.write(&[1; 2048], 0);
        content.commit(content.mark());
        content.write(&[2; 1024], 512);
        let chosen = content.choose(content.mark(), 7, false, &mut Dice::new(1, "disk"));
        content.commit(content.mark());
        for (sector, (holds, _)) in chosen.expect("it differs").sectors {
            content.put_astray(sector, Stray { id: 7, is_misdirected: false, holds, is_seen });
        }
        content
    }

    /// The first byte of each sector.
    fn sectors(content: &Content) -> Vec<u8> {
        all(content).chunks(512).map(|sector| sector[0]).collect()
    }

    /// A lost write is read from the cache until that is gone, then what was there before, until it is restored.
    #[test]
    fn a_lost_write_shows_when_the_cache_is_gone() {
        let mut content = lost(false);
        assert_eq!((sectors(&content), content.strayed(0, 2048).lost), (vec![1, 2, 2, 1], 0));
        content.see_strays();
        assert_eq!((sectors(&content), content.strayed(0, 2048).lost), (vec![1, 1, 1, 1], 2));
        assert_eq!((content.strayed(0, 512).lost, content.strayed(700, 1).lost), (0, 1));
        content.mend_strays(8);
        assert_eq!(content.strays(), 2, "another trouble's end changes nothing");
        content.mend_strays(7);
        assert_eq!(sectors(&content), [1, 2, 2, 1]);
    }

    /// A sector that is written again is right again; of one that was read from disk before only what is written.
    #[test]
    fn a_write_mends() {
        let mut content = lost(false);
        content.write(&[3], 600);
        content.see_strays();
        assert_eq!((all(&content)[512], all(&content)[600], content.strays()), (2, 3, 1));
        let mut content = lost(true);
        content.write(&[3], 600);
        assert_eq!((all(&content)[512], all(&content)[600], content.strays()), (1, 3, 2));
        content.write(&[4; 512], 512);
        assert_eq!((sectors(&content), content.strays()), (vec![1, 4, 1, 1], 1));
        content.set_length(600);
        assert_eq!(content.strays(), 0);
    }

    /// Of a file of the log a write is lost only once a later sync has followed, and only where nothing was written over
    /// it.
    #[test]
    fn the_last_write_of_a_log_is_not_lost() {
        let mut content = Content::default();
        let dice = &mut Dice::new(1, "disk");
        let mut sync = |content: &mut Content| {
            let chosen = content.choose(content.mark(), 7, true, dice);
            content.commit(content.mark());
            chosen.map(|candidate| candidate.sectors.keys().copied().collect::<Vec<_>>())
        };
        content.write(&[1; 100], 0);
        assert_eq!(sync(&mut content), None, "it is the last");
        assert_eq!(sync(&mut content), None, "nothing has followed");
        content.write(&[2; 1000], 100);
        assert_eq!(sync(&mut content), None, "its sector was written again; this one is the last");
        content.write(&[3; 100], 1100);
        assert_eq!(sync(&mut content), Some(vec![0, 1]), "the third sector was written again");
    }
}
