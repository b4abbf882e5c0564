//! One node's disk as the world sees it: power cuts, delays, locks, counters.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::content::{Loss, Survival};
use super::image::{Image, lock};
use crate::dice::Dice;
use crate::world::base::{Base, Delay};

/// The disk of one node. It outlives every process that uses it.
pub struct Disk {
    pub(crate) base: Arc<Base>,
    pub(crate) node: Arc<str>,
    pub(crate) image: Image,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    sync_delay: Delay,
    /// Locked path → life of the process that holds it.
    locks: BTreeMap<PathBuf, u64>,
}

impl Disk {
    pub(crate) fn new(base: Arc<Base>, node: Arc<str>, sync_delay: Delay) -> Arc<Self> {
        let dice = base.dice(&format!("disk/{node}"));
        let state = Mutex::new(State { dice, sync_delay, locks: BTreeMap::new() });
        Arc::new(Self { base, node, image: Image::default(), state })
    }

    /// Cuts the power: unsynced data, lengths and names go, as far as `survival` says. The process must be dead.
    pub fn power_loss(&self, survival: Survival) -> Loss {
        let loss = self.image.power_loss(survival, &mut lock(&self.state).dice);
        let base = &self.base;
        base.count("disk.power_losses", 1);
        base.count("disk.lost_writes", loss.writes);
        base.count("disk.lost_bytes", loss.bytes);
        base.count("disk.lost_entries", loss.entries);
        base.count("disk.torn_writes", loss.torn);
        let numbers = [
            ("writes", loss.writes),
            ("bytes", loss.bytes),
            ("torn", loss.torn),
            ("entries", loss.entries),
        ];
        base.note("disk.power_loss", &self.node, "", &numbers);
        loss
    }

    /// How long each following sync takes.
    pub fn set_sync_delay(&self, delay: Delay) {
        lock(&self.state).sync_delay = delay;
    }

    /// Bytes of memory that the files take.
    pub fn memory(&self) -> u64 {
        self.image.memory()
    }

    pub(crate) fn draw_sync_delay(&self) -> u64 {
        let mut state = lock(&self.state);
        let delay = state.sync_delay;
        delay.draw(&mut state.dice)
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
