//! A disk in memory for tests: it forgets what was not synced, and can keep any part of it.
//!
//! Each file has two images, what the process sees and what is durable; each folder has a journal
//! of changes not yet synced. [`TestDisk::power_cut`] lets dice decide sector by sector which
//! image survives, and change by change which part of the journals.
//!
//! Not modelled: permissions, locks, garbage in sectors that were never written.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::host::{BoxFuture, Disk, File, Lock, OpenMode};

const SECTOR: usize = 512;

/// Runs a future that never has to wait.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a test disk's futures are ready at once"),
    }
}

/// Repeatable dice for crashes (splitmix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

#[derive(Clone, Debug)]
enum Change {
    Link(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(path) => drop(names.remove(path)),
        }
    }

    fn parent(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Rename(path, _) | Self::Remove(path) => path.parent(),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct State {
    seen: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    journal: Vec<Change>,
    files: BTreeMap<u64, Content>,
    /// Changing operations until every further one fails.
    left: Option<u64>,
    /// How much of the operation that fails is done nevertheless, in bytes.
    short_bytes: usize,
    /// Whether files can be read.
    unreadable: bool,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct TestDisk(Arc<Mutex<State>>);

impl TestDisk {
    /// Lets `count` further changing operations succeed, then none. The first that fails, if a
    /// write, has written `short_bytes`.
    pub(super) fn fail_after(&self, count: u64, short_bytes: usize) {
        let mut state = self.state();
        state.left = Some(count);
        state.short_bytes = short_bytes;
    }

    /// Lets reads of files fail, or work again.
    pub(super) fn set_unreadable(&self, unreadable: bool) {
        self.state().unreadable = unreadable;
    }

    /// The process dies and starts again: nothing is lost, and operations succeed again.
    pub(super) fn restart(&self) {
        self.state().left = None;
    }

    /// The power goes: of everything not synced, the dice choose what survives.
    pub(super) fn power_cut(&self, mut keep: impl FnMut() -> bool) {
        let mut state = self.state();
        state.left = None;
        let State { seen, durable, journal, files, .. } = &mut *state;
        for change in std::mem::take(journal) {
            if keep() {
                change.apply(durable);
            }
        }
        seen.clone_from(durable);
        for content in files.values_mut() {
            let length = if keep() { content.seen.len() } else { content.durable.len() };
            let longest = content.seen.len().max(content.durable.len());
            content.seen.resize(longest, 0);
            content.durable.resize(longest, 0);
            for (seen, durable) in
                content.seen.chunks_mut(SECTOR).zip(content.durable.chunks_mut(SECTOR))
            {
                if seen != durable && keep() {
                    durable.copy_from_slice(seen);
                }
            }
            content.durable.truncate(length);
            content.seen.clone_from(&content.durable);
        }
    }

    /// A separate disk with the same content, synced and not.
    pub(super) fn copy_unsynced(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// A separate disk with the same content, all of it durable.
    pub(super) fn copy(&self) -> Self {
        let mut state = self.state().clone();
        state.left = None;
        state.durable = state.seen.clone();
        state.journal.clear();
        state.files.values_mut().for_each(|content| content.durable.clone_from(&content.seen));
        Self(Arc::new(Mutex::new(state)))
    }

    /// All of a file.
    pub(super) fn read(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.files[&state.seen[path]].seen.clone()
    }

    /// Changes a file behind everybody's back, durably.
    pub(super) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.seen[path];
        let content = state.files.get_mut(&file).expect("named files exist");
        change(&mut content.seen);
        content.durable.clone_from(&content.seen);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the test disk fails")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.journal.push(change);
    }

    fn sync_dir(&mut self, path: &Path) {
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.journal)
            .into_iter()
            .partition(|change| change.parent() == Some(path));
        synced.iter().for_each(|change| change.apply(&mut self.durable));
        self.journal = rest;
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for TestDisk {
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let names = state.seen.keys().filter_map(|name| name.strip_prefix(path).ok());
        Ok(names.map(|name| name.display().to_string()).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().seen.keys().any(|name| name.starts_with(path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        if mode == OpenMode::Create {
            state.step()?;
            let number = state.files.keys().last().map_or(0, |last| last + 1);
            state.files.insert(number, Content::default());
            state.change(Change::Link(path.to_path_buf(), number));
        }
        let number = *state.seen.get(path).ok_or_else(missing)?;
        Ok(Box::new(TestFile { disk: self.clone(), number, writes: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.seen.get(from).ok_or_else(missing)?;
        state.change(Change::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.seen.get(path).ok_or_else(missing)?;
        state.change(Change::Remove(path.to_path_buf()));
        Ok(())
    }

    fn remove_dir_all(&self, _path: &Path) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let mut state = self.state();
            state.step()?;
            state.sync_dir(path);
            Ok(())
        })
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Lock>> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

struct TestFile {
    disk: TestDisk,
    number: u64,
    writes: bool,
}

impl TestFile {
    fn with<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        assert!(self.writes, "the file is open for reading");
        let mut state = self.disk.state();
        change(state.files.get_mut(&self.number).expect("files are kept"))
    }
}

fn write(content: &mut Content, data: &[u8], offset: u64) {
    let (from, to) = (offset as usize, offset as usize + data.len());
    if content.seen.len() < to {
        content.seen.resize(to, 0);
    }
    content.seen[from..to].copy_from_slice(data);
}

impl File for TestFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.number].seen.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        if state.unreadable {
            return Err(io::Error::other("the test disk cannot be read"));
        }
        let seen = &state.files[&self.number].seen;
        let rest = seen.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let stepped = self.disk.state().step();
        let short = self.disk.state().short_bytes;
        let done = if stepped.is_ok() { data.len() } else { short.min(data.len()) };
        self.with(|content| write(content, &data[..done], offset));
        self.disk.state().short_bytes = if stepped.is_ok() { short } else { 0 };
        stepped
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.disk.state().step()?;
        self.with(|content| content.seen.resize(length as usize, 0));
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.disk.state().step()?;
        self.with(|content| {
            let longer = content.seen.len().max(length as usize);
            content.seen.resize(longer, 0);
        });
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.disk.state().step()?;
            self.with(|content| content.durable.clone_from(&content.seen));
            Ok(())
        })
    }
}
