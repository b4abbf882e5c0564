//! One node's disk as the world sees it: power cuts, troubles, rot, delays, locks, counters.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::content::Content;
use super::image::{FileRef, Image, lock};
use super::loss::{Loss, Survival};
use super::tally::Tally;
use super::trouble::{Files, Meets, Trouble, Troubles};
use crate::dice::Dice;
use crate::grid::Kind;
use crate::world::base::{Base, Delay, Life};

/// How often a sync on a disk that stands still looks whether it goes on.
const LOOK_EVERY_NS: u64 = 5_000_000;

/// The disk of one node. It outlives every process that uses it.
pub struct Disk {
    pub(crate) base: Arc<Base>,
    pub(crate) node: Arc<str>,
    pub(crate) image: Image,
    state: Mutex<State>,
    pub(super) tally: Mutex<Tally>,
    /// How often operations met a trouble that can end a process.
    bites: AtomicU64,
    /// Whether the process has ended at a disk operation; the world has yet to bury it.
    struck: AtomicBool,
}

/// A bit that reads wrong.
struct Rotten {
    id: u32,
    file: FileRef,
    place: u64,
}

struct State {
    dice: Dice,
    troubles: Troubles,
    rotten: Vec<Rotten>,
    /// Files in which a write went astray or was overwritten by one, by the trouble that did it.
    astray: Vec<(u32, FileRef)>,
    /// Whose disk it is in place of the node's own.
    exchanged: Option<Kind>,
    sync_delay: Delay,
    /// Locked path → life of the process that holds it.
    locks: BTreeMap<PathBuf, u64>,
}

impl Disk {
    pub(crate) fn new(base: Arc<Base>, node: Arc<str>, sync_delay: Delay) -> Arc<Self> {
        Self::holding(base, node, sync_delay, Image::default())
    }

    /// A disk with something on it.
    pub(crate) fn holding(
        base: Arc<Base>,
        node: Arc<str>,
        sync_delay: Delay,
        image: Image,
    ) -> Arc<Self> {
        let dice = base.dice(&format!("disk/{node}"));
        let state = Mutex::new(State {
            dice,
            troubles: Troubles::default(),
            rotten: Vec::new(),
            astray: Vec::new(),
            exchanged: None,
            sync_delay,
            locks: BTreeMap::new(),
        });
        let (bites, struck) = (AtomicU64::new(0), AtomicBool::new(false));
        let tally = Mutex::default();
        Arc::new(Self { base, node, image, state, tally, bites, struck })
    }

    /// Cuts the power: unsynced data, lengths and names go, as far as `survival` says. The process must be dead.
    pub fn power_loss(&self, survival: Survival) -> Loss {
        let losses = self.image.power_loss(survival, &mut lock(&self.state).dice);
        self.tally_power_loss(&losses);
        let mut loss = Loss::default();
        losses.iter().for_each(|(_, one)| loss.add(one));
        let base = &self.base;
        base.count("disk.power_losses", 1);
        base.count("disk.lost_writes", loss.writes);
        base.count("disk.lost_bytes", loss.bytes);
        base.count("disk.lost_entries", loss.entries);
        base.count("disk.torn_writes", loss.torn);
        base.count("disk.reordered_files", loss.reordered);
        base.count("disk.dropped_files", loss.dropped);
        let numbers = [
            ("writes", loss.writes),
            ("bytes", loss.bytes),
            ("torn", loss.torn),
            ("reordered", loss.reordered),
            ("entries", loss.entries),
        ];
        base.note("disk.power_loss", &self.node, "", &numbers);
        loss
    }

    /// Bytes of memory that the files take.
    pub fn memory(&self) -> u64 {
        self.image.memory()
    }

    /// Begins a trouble with some of the files, until it is ended by its number.
    pub fn begin(&self, id: u32, files: Files, what: Trouble) {
        lock(&self.state).troubles.begin(id, files, what);
        self.tally_trouble(files, what);
        self.base.note("disk.trouble", &self.node, "", &[("id", id.into())]);
    }

    /// Ends what `id` began: troubles, armed strikes, and where somebody `restores` the files, damage.
    pub fn end(&self, id: u32, restores: bool) {
        let mut state = lock(&self.state);
        state.troubles.end(id);
        self.base.note("disk.trouble_over", &self.node, "", &[("id", id.into())]);
        if !restores {
            return;
        }
        let (ended, rest) =
            std::mem::take(&mut state.rotten).into_iter().partition(|it| it.id == id);
        state.rotten = rest;
        drop(state);
        let ended: Vec<Rotten> = ended;
        for rotten in ended {
            lock(&rotten.file).mend(rotten.place);
        }
        let astray: Vec<FileRef> = {
            let files = &mut lock(&self.state).astray;
            files.extract_if(.., |it| it.0 == id).map(|it| it.1).collect()
        };
        astray.iter().for_each(|file| lock(file).mend_strays(id));
    }

    /// Lets one bit rot in one of the files. The file and the place; `None` where there is nothing that could.
    pub fn rot(&self, id: u32, files: Files) -> Option<(String, u64)> {
        let mut found = self.image.files();
        found.retain(|(path, file)| files.cover(path) && lock(file).bytes_set() > 0);
        if found.is_empty() {
            return None;
        }
        let mut state = lock(&self.state);
        let (path, file) = state.dice.pick(&found).clone();
        let nth = state.dice.below(lock(&file).bytes_set());
        let bit = u32::try_from(state.dice.below(8)).expect("below 8");
        let place = lock(&file).rot_one(nth, bit)?;
        state.rotten.push(Rotten { id, file, place });
        drop(state);
        self.tally_injected_at(Kind::BitRot, &path);
        self.base.count("disk.rotten_bits", 1);
        self.base.note("disk.rot", &self.node, &path, &[("offset", place), ("bit", bit.into())]);
        Some((path, place))
    }

    /// Whether something on it is not what was made durable there, or is about to be.
    pub fn is_damaged(&self) -> bool {
        let state = lock(&self.state);
        state.exchanged.is_some()
            || !state.rotten.is_empty()
            || state.troubles.may_stray()
            || state.astray.iter().any(|(_, file)| lock(file).strays() > 0)
    }

    /// Puts `image` in the place of what the disk holds, and hands that back; `kind` is what it is, `None` where it is
    /// the node's own again. The process must be dead.
    pub fn exchange(&self, image: &Image, kind: Option<Kind>) -> Image {
        let own = self.image.exchange(image);
        lock(&self.state).exchanged = kind;
        self.tally_exchange(kind);
        self.base.note("disk.exchange", &self.node, "", &[("own", kind.is_none().into())]);
        own
    }

    /// Whose disk it is in place of the node's own.
    pub fn exchanged(&self) -> Option<Kind> {
        lock(&self.state).exchanged
    }

    /// Whatever disk it was: it is the node's own now.
    pub fn adopt(&self) {
        lock(&self.state).exchanged = None;
    }

    /// What may go astray with a sync of the file at `path`.
    pub(super) fn stray_on(&self, path: &str) -> Option<(u32, Trouble)> {
        lock(&self.state).troubles.stray(path)
    }

    /// A write has gone astray, which is all that the trouble `id` was to do; it has hurt these files.
    pub(super) fn gone_astray(&self, id: u32, files: impl Iterator<Item = FileRef>) {
        let state = &mut *lock(&self.state);
        state.troubles.end(id);
        state.astray.extend(files.map(|file| (id, file)));
    }

    /// Draws from the disk's dice.
    pub(super) fn with_dice<T>(&self, draw: impl FnOnce(&mut Dice) -> T) -> T {
        draw(&mut lock(&self.state).dice)
    }

    /// How many bits of this disk read wrong.
    pub fn rotten_bits(&self) -> usize {
        lock(&self.state).rotten.len()
    }

    /// Sends `id` as soon as so many more operations have changed something in `files`; where it `ends_process`,
    /// none of the process's operations works any more from that moment on, on disk or network.
    pub fn arm(
        &self,
        (id, files): (u32, Files),
        operations: u64,
        ends_process: bool,
        word: tokio::sync::mpsc::UnboundedSender<u32>,
    ) {
        lock(&self.state).troubles.arm((id, files), operations, ends_process, word);
    }

    /// How often an operation met a trouble that can end a process.
    pub fn bites(&self) -> u64 {
        self.bites.load(Ordering::Relaxed)
    }

    /// Whether the last process has ended at a disk operation.
    pub fn is_struck(&self) -> bool {
        self.struck.load(Ordering::Relaxed)
    }

    /// A new process begins.
    pub(crate) fn revive(&self) {
        self.struck.store(false, Ordering::Relaxed);
    }

    /// Counts what an operation met, and turns it into an error.
    fn bite(&self, meets: Meets, path: &str) -> io::Error {
        self.met(meets, path);
        self.bites.fetch_add(1, Ordering::Relaxed);
        meets.error(path)
    }

    fn met(&self, meets: Meets, path: &str) {
        self.base.count(meets.counter(path), 1);
        self.tally_met(meets, path);
        self.base.note("disk.met", &self.node, path, &[("what", meets as u64)]);
    }

    /// Before a write: `Err` has the error and how many of the bytes are written nevertheless.
    pub(crate) fn meet_write(
        &self,
        path: &str,
        length: u64,
        room: u64,
    ) -> Result<(), (io::Error, u64)> {
        let mut state = lock(&self.state);
        if state.troubles.is_empty() {
            return Ok(());
        }
        let State { troubles, dice, .. } = &mut *state;
        let Some(meets) = troubles.write(path, length > room, dice) else { return Ok(()) };
        let most = if meets == Meets::NoRoom { room } else { length.saturating_sub(1) };
        let written = dice.within(0, most);
        drop(state);
        Err((self.bite(meets, path), written))
    }

    /// Before a file or folder is made, or room is reserved.
    pub(crate) fn meet_create(&self, path: &str) -> io::Result<()> {
        self.tally_opened(path);
        let meets = lock(&self.state).troubles.create(path);
        meets.map_or(Ok(()), |meets| Err(self.bite(meets, path)))
    }

    /// Before a file or folder is read.
    pub(crate) fn meet_read(&self, path: &str) -> io::Result<()> {
        self.tally_opened(path);
        let mut state = lock(&self.state);
        if state.exchanged.is_some() {
            self.bites.fetch_add(1, Ordering::Relaxed);
        }
        if state.troubles.is_empty() {
            return Ok(());
        }
        let State { troubles, dice, .. } = &mut *state;
        let meets = troubles.read(path, dice);
        drop(state);
        meets.map_or(Ok(()), |meets| Err(self.bite(meets, path)))
    }

    /// `count` bytes at `offset` of a file were read; what of it is not what was written there is met.
    pub(super) fn meet_damage(&self, file: &Content, path: &str, offset: u64, count: usize) {
        let strayed = file.strayed(offset, count);
        let kinds = [
            (Meets::Rot, file.rotten(offset, count)),
            (Meets::LostWrite, strayed.lost),
            (Meets::MisdirectedWrite, strayed.misdirected),
        ];
        for (meets, _) in kinds.into_iter().filter(|row| row.1 > 0) {
            drop(self.bite(meets, path));
        }
    }

    /// A call into RocksDB has ended while a job of the background was still to be done.
    pub(crate) fn count_late_job(&self) {
        self.base.count("disk.jobs_late", 1);
    }

    /// At the end of a sync: the error, and whether the pages are evicted.
    pub(crate) fn meet_sync(&self, path: &str) -> Result<(), (io::Error, bool)> {
        let evicts = lock(&self.state).troubles.sync(path);
        evicts.map_or(Ok(()), |evicts| Err((self.bite(Meets::SyncFailure, path), evicts)))
    }

    /// An operation of the process `life` has changed something.
    pub(crate) fn changed(&self, path: &str, life: &Life) {
        let mut state = lock(&self.state);
        if state.troubles.is_empty() || !state.troubles.strike(path) {
            return;
        }
        drop(state);
        self.base.note("disk.strike", &self.node, path, &[]);
        self.tally_strike(path);
        self.struck.store(true, Ordering::Relaxed);
        life.end();
    }

    /// Waits as long as a sync takes.
    pub(crate) async fn take_time(&self, path: &str) {
        let (usual_ns, more_ns) = {
            let mut state = lock(&self.state);
            let State { troubles, dice, sync_delay, .. } = &mut *state;
            (sync_delay.draw(dice), troubles.delay(path, dice))
        };
        self.base.timers.sleep(usual_ns + more_ns).await;
        let is_hung = || lock(&self.state).troubles.is_hung(path);
        if is_hung() {
            self.met(Meets::Standstill, path);
        } else if more_ns > 0 {
            self.met(Meets::Wait, path);
        }
        while is_hung() {
            self.base.timers.sleep(LOOK_EVERY_NS).await;
        }
    }

    pub(crate) fn take_lock(&self, path: &Path, life: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.locks.contains_key(path) {
            let text = format!("{}: locked by another process", path.display());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        state.locks.insert(path.to_owned(), life);
        Ok(())
    }

    pub(crate) fn release_lock(&self, path: &Path, life: u64) {
        let mut state = lock(&self.state);
        if state.locks.get(path) == Some(&life) {
            state.locks.remove(path);
        }
    }

    /// What the kernel does when a process dies.
    pub(crate) fn release_all_locks(&self) {
        lock(&self.state).locks.clear();
    }
}
