//! When and where a write of a disk goes astray.
//!
//! A misdirected write lands, at a sector boundary, in the same file or in another one of its class, and never where it
//! belongs. What becomes of it then is [`stray`](super::stray)'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::SECTOR;
use super::device::Disk;
use super::image::{FileRef, lock};
use super::stray::{Candidate, Stray};
use super::trouble::{Files, Trouble};

impl Disk {
    /// A sync of the file at `path`, of all written before `mark`, is about to succeed: perhaps a write goes astray.
    pub(super) fn meet_stray(&self, file: &FileRef, path: &str, mark: u64) {
        let Some((id, trouble)) = self.stray_on(path) else { return };
        let (is_misdirected, is_seen) = match trouble {
            Trouble::LostWrite { evicts } => (false, evicts),
            Trouble::MisdirectedWrite { evicts } => (true, evicts),
            _ => return,
        };
        let waits = Files::of(path) == Files::Wal;
        let chosen = self.with_dice(|dice| lock(file).choose(mark, id, waits, dice));
        let Some(Candidate { sectors, .. }) = chosen else { return };
        let target = is_misdirected.then(|| self.mistaken_place(file, path, &sectors)).flatten();
        if is_misdirected && target.is_none() {
            return;
        }
        let hurt = target.iter().map(|(other, _)| Arc::clone(other)).chain([Arc::clone(file)]);
        self.gone_astray(id, hurt);
        let stray = |holds| Stray { id, is_misdirected, holds, is_seen };
        let first = *sectors.keys().next().expect("one at least");
        if let Some((other, place)) = &target {
            for (sector, (_, written)) in &sectors {
                lock(other).put_astray(place + sector - first, stray(written.clone()));
            }
        }
        let numbers = [("sector", first), ("sectors", sectors.len() as u64)];
        self.base.note("disk.stray", &self.node, path, &numbers);
        for (sector, (before, _)) in sectors {
            lock(file).put_astray(sector, stray(before));
        }
        self.base.count("disk.strays", 1);
        self.tally_stray(is_misdirected, path);
    }

    /// Where a write of these sectors ends up by mistake: in a file of the same class, within its length, and not
    /// where it belongs.
    fn mistaken_place(
        &self,
        file: &FileRef,
        path: &str,
        sectors: &BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    ) -> Option<(FileRef, u64)> {
        let (first, last) = (*sectors.keys().next()?, *sectors.keys().next_back()?);
        let span = last - first + 1;
        let mut places = Vec::new();
        for (other_path, other) in self.image.files() {
            let room = lock(&other).length() / SECTOR;
            if Files::of(&other_path) == Files::of(path) && room >= span {
                places.push((other, room - span));
            }
        }
        if places.is_empty() {
            return None;
        }
        let (other, highest) = self.with_dice(|dice| dice.pick(&places).clone());
        let place = self.with_dice(|dice| dice.within(0, highest));
        let overlaps = place < last + 1 && first < place + span;
        let is_same = Arc::ptr_eq(&other, file);
        (!is_same || !overlaps).then_some((other, place))
    }
}
