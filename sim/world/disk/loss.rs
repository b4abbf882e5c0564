//! What a power cut takes from a file: any legal part of what was not synced.
//!
//! The cache writes back when it likes, sector by sector, so what is found afterwards is, for each sector by itself,
//! one of the versions that it had since the last sync, and one of the lengths. Two ways of drawing it take turns:
//! *in order* keeps a prefix of the changes and tears the next one; *scattered* asks the dice for each sector.
//!
//! Not modelled: sectors that are half written, garbage in sectors that were never written.

use std::collections::BTreeSet;

use super::bytes::index;
use super::content::{Change, Content, SECTOR, within};
use crate::dice::Dice;

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
    /// Writes of which a part survived.
    pub torn: u64,
    /// Files in which something survived that was written after something that did not.
    pub reordered: u64,
    /// Files in which pages were gone that a failed sync had dropped.
    pub dropped: u64,
    /// Folder changes (creations, renames, removals) that are gone.
    pub entries: u64,
}

impl Loss {
    /// Adds what another file lost.
    pub(super) fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.bytes += other.bytes;
        self.torn += other.torn;
        self.reordered += other.reordered;
        self.dropped += other.dropped;
        self.entries += other.entries;
    }
}

impl Content {
    /// Forgets unsynced changes as a power cut would; what is left is durable.
    pub fn power_loss(&mut self, survival: Survival, dice: &mut Dice) -> Loss {
        self.see_strays();
        let mut loss = Loss::default();
        let changed = self.journal.len();
        let kept = match survival {
            _ if changed == 0 => BTreeSet::new(),
            Survival::Nothing => self.lose_behind(0, None, &mut loss),
            Survival::Everything => self.lose_behind(changed, None, &mut loss),
            Survival::Part if dice.percent(50) => self.scatter(dice, &mut loss),
            Survival::Part => {
                let kept = index(dice.below(changed as u64 + 1));
                self.lose_behind(kept, Some(dice), &mut loss)
            }
        };
        self.lose_dropped(&kept, &mut loss);
        self.synced += changed as u64;
        self.journal.clear();
        loss
    }

    /// Keeps the first `kept` changes, and with dice perhaps the first part of the next. The sectors of what is kept.
    fn lose_behind(
        &mut self,
        kept: usize,
        mut dice: Option<&mut Dice>,
        loss: &mut Loss,
    ) -> BTreeSet<u64> {
        let mut torn = None;
        while self.journal.len() > kept {
            let is_first_lost = self.journal.len() == kept + 1;
            let change = self.journal.pop_back().expect("longer than what is kept");
            loss.writes += 1;
            loss.bytes += change.range.end - change.range.start;
            let tears = is_first_lost && dice.as_mut().is_some_and(|dice| dice.percent(50));
            match dice.as_mut().filter(|_| tears) {
                Some(dice) => torn = self.tear(change, dice),
                None => self.undo(&change, change.range.start, change.length_before),
            }
        }
        loss.torn += u64::from(torn.is_some());
        self.journal.iter().chain(&torn).flat_map(Change::sectors).collect()
    }

    /// Undoes `change` from `start` on.
    fn undo(&mut self, change: &Change, start: u64, length: u64) {
        self.bytes.restore(start..change.range.end, &change.before);
        self.bytes.end_at(length);
    }

    /// Undoes `change` from a sector boundary within it on; wholly where there is none. What was kept of it.
    fn tear(&mut self, change: Change, dice: &mut Dice) -> Option<Change> {
        let (first, last) =
            (change.range.start / SECTOR + 1, change.range.end.saturating_sub(1) / SECTOR);
        if !change.is_write || first > last {
            self.undo(&change, change.range.start, change.length_before);
            return None;
        }
        let boundary = dice.within(first, last) * SECTOR;
        // The new length may reach the disk before the data: then the tail reads as zeros.
        let length = match dice.below(2) {
            0 => self.bytes.length(),
            _ => change.length_before.max(boundary),
        };
        self.undo(&change, boundary, length);
        Some(Change { range: change.range.start..boundary, ..change })
    }

    /// Has the dice decide for each sector which of its versions survives, and which of the lengths.
    fn scatter(&mut self, dice: &mut Dice, loss: &mut Loss) -> BTreeSet<u64> {
        let percent = *dice.pick(&[10, 50, 90]);
        let mut kept = BTreeSet::new();
        let (mut length, mut length_after) = (None, self.bytes.length());
        let (mut is_reordered, mut later_kept) = (false, false);
        while let Some(change) = self.journal.pop_back() {
            if length.is_none() && change.length_before != length_after && dice.percent(percent) {
                length = Some(length_after);
            }
            length_after = change.length_before;
            let (mut lost, mut keeps) = (0, false);
            for sector in change.sectors() {
                if kept.contains(&sector) {
                    continue;
                }
                if dice.percent(percent) {
                    keeps = kept.insert(sector);
                    continue;
                }
                let part = within(&change.range, sector);
                lost += part.end - part.start;
                self.bytes.restore(part, &change.before);
            }
            loss.writes += u64::from(lost > 0);
            loss.bytes += lost;
            loss.torn += u64::from(lost > 0 && keeps);
            is_reordered |= lost > 0 && later_kept;
            later_kept |= keeps;
        }
        self.bytes.end_at(length.unwrap_or(length_after));
        loss.reordered += u64::from(is_reordered);
        kept
    }

    /// Forgets unsynced changes but for the newest version of the sectors that `keep` keeps, and where `keeps_length` the
    /// length; what is left is durable.
    pub(super) fn keep(&mut self, keeps_length: bool, keep: impl Fn(u64) -> bool) {
        self.see_strays();
        let changed = self.journal.len() as u64;
        let mut length = self.bytes.length();
        let mut kept = BTreeSet::new();
        while let Some(change) = self.journal.pop_back() {
            if !keeps_length {
                length = change.length_before;
            }
            for sector in change.sectors() {
                if keep(sector) {
                    kept.insert(sector);
                } else {
                    self.bytes.restore(within(&change.range, sector), &change.before);
                }
            }
        }
        self.bytes.end_at(length);
        self.lose_dropped(&kept, &mut Loss::default());
        self.synced += changed;
    }

    /// Loses what failed syncs have dropped, but for sectors that were written (and kept) since.
    fn lose_dropped(&mut self, kept: &BTreeSet<u64>, loss: &mut Loss) {
        let mut is_lost = false;
        for (sector, old) in std::mem::take(&mut self.dropped) {
            if !kept.contains(&sector) {
                is_lost = true;
                self.bytes.restore(within(&(0..u64::MAX), sector), &[(sector * SECTOR, old)]);
            }
        }
        let length = self.bytes.length();
        let on_disk = self.dropped_length.take().filter(|(_, seen)| *seen == length);
        // What was restored behind the end must not come into sight with a later length.
        self.bytes.end_at(on_disk.map_or(length, |(on_disk, _)| on_disk));
        loss.dropped += u64::from(is_lost);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bytes::CHUNK;
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

    /// Does the steps on a file and on a vector; all versions since the last sync.
    fn run(content: &mut Content, steps: &[Step]) -> Vec<Vec<u8>> {
        let (mut model, mut legal) = (Vec::new(), vec![Vec::new()]);
        for step in steps {
            match step {
                Step::Write(offset, data) => content.write(data, *offset),
                Step::SetLength(length) => content.set_length(*length),
                Step::Sync => drop(content.commit(content.mark())),
            }
            apply(&mut model, step);
            assert_eq!(all(content), model);
            if matches!(step, Step::Sync) {
                legal.clear();
            }
            legal.push(model.clone());
        }
        legal
    }

    fn sector_of(bytes: &[u8], sector: usize, within: usize) -> Vec<u8> {
        let end = ((sector + 1) * 512).min(within);
        (sector * 512..end).map(|at| bytes.get(at).copied().unwrap_or(0)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Reads agree with a plain vector, and after a power cut each sector is one of its versions since the last
        /// sync, and the length one of the lengths (or a boundary at which a write was torn).
        #[test]
        fn agrees_with_a_vector(steps in steps(), seed: u64, fate in 0..3_usize) {
            let mut content = Content::default();
            let legal = run(&mut content, &steps);
            let survival = [Survival::Nothing, Survival::Everything, Survival::Part][fate];
            let loss = content.power_loss(survival, &mut Dice::new(seed, "disk"));
            let left = all(&content);
            match survival {
                Survival::Nothing => prop_assert_eq!(&left, &legal[0]),
                Survival::Everything => prop_assert_eq!(&left, legal.last().expect("one at least")),
                Survival::Part => {
                    let is_length = legal.iter().any(|version| version.len() == left.len());
                    prop_assert!(is_length || (loss.torn > 0 && left.len().is_multiple_of(512)));
                    for sector in 0..left.len().div_ceil(512) {
                        let found = sector_of(&left, sector, left.len());
                        let is_legal = legal.iter().any(|it| sector_of(it, sector, left.len()) == found);
                        prop_assert!(is_legal, "sector {} was never like that", sector);
                    }
                }
            }
        }

        /// Once more the same after a sync that failed: reads go on, the power takes all that it should have saved,
        /// and the next sync does not bring it back.
        #[test]
        fn a_failed_sync_loses_for_good(steps in steps(), evicts: bool, seed: u64) {
            let mut content = Content::default();
            let legal = run(&mut content, &steps);
            let dropped = content.fail_sync(content.mark(), evicts);
            let seen = all(&content);
            if !evicts {
                prop_assert_eq!(&seen, legal.last().expect("one at least"));
            }
            content.commit(content.mark());
            let loss = content.power_loss(Survival::Everything, &mut Dice::new(seed, "disk"));
            let left = all(&content);
            prop_assert_eq!(&left, &legal[0]);
            prop_assert_eq!(loss.dropped > 0, dropped > 0);
        }
    }

    /// Allocation and a written end cost no memory for the hole between.
    #[test]
    fn holes_are_free() {
        let mut content = Content::default();
        content.set_length(64 << 20);
        content.write(b"x", (64 << 20) - 1);
        assert_eq!(content.length(), 64 << 20);
        assert!(content.memory() <= 2 * CHUNK, "{} bytes of memory", content.memory());
    }

    /// What the seeds leave of three sectors written one after the other: every subset of them.
    #[test]
    fn every_subset_is_seen() {
        let mut seen = BTreeSet::new();
        for seed in 0..400 {
            let mut content = Content::default();
            content.set_length(1536);
            content.commit(content.mark());
            for sector in 0..3 {
                content.write(&[1; 512], sector * 512);
            }
            content.power_loss(Survival::Part, &mut Dice::new(seed, "disk"));
            let left = all(&content);
            seen.insert([0, 512, 1024].map(|at| left[at]));
        }
        assert_eq!(seen.len(), 8, "{seen:?}");
    }

    /// One write tears at every sector boundary that it crosses, and at no other place.
    #[test]
    fn writes_tear_at_sector_boundaries() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut content = Content::default();
            content.write(&[1; 100], 0);
            content.commit(content.mark());
            content.write(&[2; 1800], 100);
            let loss = content.power_loss(Survival::Part, &mut Dice::new(seed, "disk"));
            if loss.torn == 1 {
                let left = all(&content);
                let new = (0..left.len()).filter(|at| left[*at] == 2);
                seen.extend(new.filter(|at| left.get(at + 1) != Some(&2)).map(|at| at + 1));
            }
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [512, 1024, 1536, 1900]);
    }

    /// A page that was written again after the failed sync is saved whole by the next one; others are not.
    #[test]
    fn a_page_written_again_is_saved() {
        let mut content = Content::default();
        content.write(&[1; 1024], 0);
        content.commit(content.mark());
        content.write(&[2; 1024], 0);
        assert_eq!(content.fail_sync(content.mark(), false), 2);
        content.write(&[3; 1], 512);
        content.commit(content.mark());
        content.power_loss(Survival::Nothing, &mut Dice::new(1, "disk"));
        let left = all(&content);
        assert_eq!([left[0], left[511], left[512], left[513]], [1, 1, 3, 2]);
    }

    /// Whoever passes over what is known to be zero misses nothing, and a reserved file is passed over at once.
    #[test]
    fn only_zeros_are_passed_over() {
        let mut content = Content::default();
        content.set_length(1 << 20);
        assert_eq!(content.zeros_until(7), 1 << 20);
        for at in [5, 70_000, 131_071, 131_072, 700_000] {
            content.write(&[1], at);
        }
        let (mut at, mut seen) = (0, Vec::new());
        while at < content.length() {
            let mut byte = [0];
            content.read(&mut byte, at);
            seen.extend((byte == [1]).then_some(at));
            at = content.zeros_until(at + 1);
        }
        assert_eq!(seen, [5, 70_000, 131_071, 131_072, 700_000]);
        assert_eq!(content.zeros_until(2 << 20), 2 << 20, "behind the end");
    }

    /// Rot is one bit at one place, comes back at each read, stays through a power cut and goes with a write.
    #[test]
    fn rot_is_exact() {
        let mut content = Content::default();
        content.write(&[0, 8, 0, 8], 0);
        content.commit(content.mark());
        assert_eq!(content.rot_one(1, 0), Some(3));
        assert_eq!(content.rot_one(2, 0), None, "only two bytes are set");
        content.power_loss(Survival::Nothing, &mut Dice::new(1, "disk"));
        assert_eq!((all(&content), all(&content)), (vec![0, 8, 0, 9], vec![0, 8, 0, 9]));
        assert_eq!((content.rotten(0, 3), content.rotten(3, 9)), (0, 1));
        content.write(&[8], 3);
        assert_eq!((all(&content), content.rotten(0, 9)), (vec![0, 8, 0, 8], 0));
    }
}
