//! A disk as one process has it open: every operation checks that the process lives, and goes into the trace.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use snowglobe::host::{self, BoxFuture, OpenMode};

use super::device::Disk;
use super::image::{Entry, FileRef, lock};
use super::trouble::shown;
use crate::world::base::Life;

/// One process's view of its disk.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) disk: Arc<Disk>,
    pub(crate) life: Life,
}

impl Session {
    fn note(&self, kind: &'static str, path: &Path, numbers: &[(&'static str, u64)]) {
        self.disk.base.note(kind, &self.disk.node, shown(path), numbers);
    }

    /// Does `operation` if the process lives, and notes it if it worked.
    fn change<T>(
        &self,
        kind: &'static str,
        path: &Path,
        operation: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.life.check()?;
        let value = operation()?;
        self.note(kind, path, &[]);
        self.disk.changed(shown(path), &self.life);
        Ok(value)
    }

    pub(crate) fn find(&self, path: &Path) -> io::Result<Entry> {
        self.life.check()?;
        self.disk.image.find(path)
    }

    /// Whether a folder is there; errors are those of a dead process.
    pub(crate) fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.life.check()?;
        Ok(matches!(self.disk.image.find(path), Ok(Entry::Dir(_))))
    }

    pub(crate) fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        self.life.check()?;
        self.disk.meet_read(shown(path))?;
        self.disk.image.list(path)
    }

    pub(crate) fn open_file(&self, path: &Path, mode: OpenMode) -> io::Result<OpenFile> {
        self.life.check()?;
        let file = match mode {
            OpenMode::Read | OpenMode::Write => self.disk.image.file(path)?,
            OpenMode::Create => {
                self.disk.meet_create(shown(path))?;
                self.change("disk.create", path, || {
                    let file = self.disk.image.create(path)?;
                    lock(&file).set_length(0);
                    Ok(file)
                })?
            }
        };
        Ok(OpenFile {
            session: self.clone(),
            file,
            path: shown(path).into(),
            is_read_only: mode == OpenMode::Read,
        })
    }

    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.life.check()?;
        self.disk.meet_create(shown(path))?;
        self.change("disk.create_dir", path, || self.disk.image.create_dir(path))
    }

    pub(crate) fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change("disk.remove_dir", path, || self.disk.image.remove_dir(path))
    }

    /// Makes the entries of a folder durable at once: for callers that cannot wait.
    pub(crate) fn sync_dir_now(&self, path: &Path) -> io::Result<()> {
        self.change("disk.sync_dir", path, || {
            let dir = self.disk.image.dir(path)?;
            self.disk.meet_sync(shown(path)).map_err(|(error, _)| error)?;
            let mut dir = lock(&dir);
            let mark = dir.mark();
            dir.commit(mark);
            Ok(())
        })
    }

    pub(crate) fn take_lock(&self, path: &Path) -> io::Result<HeldLock> {
        self.life.check()?;
        self.disk.image.create(path)?;
        self.disk.take_lock(path, self.life.number())?;
        self.note("disk.lock", path, &[]);
        Ok(HeldLock { session: self.clone(), path: path.to_owned() })
    }
}

/// Holds a lock until it is dropped or its process dies.
pub(crate) struct HeldLock {
    session: Session,
    path: PathBuf,
}

impl host::Lock for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        if !self.session.life.is_over() {
            self.session.disk.release_lock(&self.path, self.session.life.number());
        }
    }
}

impl host::Disk for Session {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.life.check()?;
        if !self.is_dir(path)? {
            self.disk.meet_create(shown(path))?;
        }
        self.change("disk.create_dir", path, || self.disk.image.create_dir_all(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.names(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.find(path).is_ok()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn host::File>> {
        Ok(Box::new(self.open_file(path, mode)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("disk.rename", to, || self.disk.image.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change("disk.remove", path, || self.disk.image.remove(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change("disk.remove_dir", path, || self.disk.image.remove_dir_all(path))
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.life.check()?;
            let dir = self.disk.image.dir(path)?;
            let mark = lock(&dir).mark();
            self.disk.take_time(shown(path)).await;
            self.life.check()?;
            self.disk.meet_sync(shown(path)).map_err(|(error, _)| error)?;
            self.change("disk.sync_dir", path, || {
                lock(&dir).commit(mark);
                Ok(())
            })
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn host::Lock>> {
        Ok(Box::new(self.take_lock(path)?))
    }
}

/// One open file of one process.
pub(crate) struct OpenFile {
    session: Session,
    file: FileRef,
    path: Arc<str>,
    is_read_only: bool,
}

impl OpenFile {
    /// Checks that the process lives and may write.
    fn check_write(&self) -> io::Result<()> {
        self.session.life.check()?;
        if self.is_read_only {
            let text = format!("{}: opened for reading only", self.path);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(())
    }

    /// Writes; the trace hashes the bytes only where `are_ours` (RocksDB stamps its files with process-wide ids).
    pub(crate) fn write(&self, data: &[u8], offset: u64, are_ours: bool) -> io::Result<()> {
        self.check_write()?;
        let disk = &self.session.disk;
        let room = lock(&self.file).length().saturating_sub(offset);
        if let Err((error, written)) = disk.meet_write(&self.path, data.len() as u64, room) {
            let written = usize::try_from(written).expect("no more than was asked");
            lock(&self.file).write(&data[..written.min(data.len())], offset);
            return Err(error);
        }
        lock(&self.file).write(data, offset);
        let base = &disk.base;
        base.count("disk.writes", 1);
        base.count("disk.bytes", data.len() as u64);
        let numbers = [("offset", offset), ("length", data.len() as u64)];
        let hashed = if are_ours { data } else { &[] };
        base.note_bytes("disk.write", &disk.node, &self.path, &numbers, hashed);
        disk.changed(&self.path, &self.session.life);
        Ok(())
    }

    /// Makes the file durable at once: for callers that cannot wait.
    pub(crate) fn sync_now(&self) -> io::Result<()> {
        self.session.life.check()?;
        let mark = lock(&self.file).mark();
        self.commit(mark)
    }

    fn commit(&self, mark: u64) -> io::Result<()> {
        let disk = &self.session.disk;
        if let Err((error, evicts)) = disk.meet_sync(&self.path) {
            let sectors = lock(&self.file).fail_sync(mark, evicts);
            disk.base.count("disk.sectors_dropped", sectors);
            return Err(error);
        }
        disk.meet_stray(&self.file, &self.path, mark);
        let count = lock(&self.file).commit(mark);
        disk.base.count("disk.syncs", 1);
        disk.base.note("disk.sync", &disk.node, &self.path, &[("writes", count)]);
        disk.changed(&self.path, &self.session.life);
        Ok(())
    }

    fn change_length(&self, length: u64) -> io::Result<()> {
        self.check_write()?;
        lock(&self.file).set_length(length);
        let base = &self.session.disk.base;
        base.note("disk.set_length", &self.session.disk.node, &self.path, &[("length", length)]);
        self.session.disk.changed(&self.path, &self.session.life);
        Ok(())
    }
}

impl host::File for OpenFile {
    fn length(&self) -> io::Result<u64> {
        self.session.life.check()?;
        Ok(lock(&self.file).length())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.session.life.check()?;
        let disk = &self.session.disk;
        disk.meet_read(&self.path)?;
        let file = lock(&self.file);
        let count = file.read(buffer, offset);
        disk.meet_damage(&file, &self.path, offset, count);
        Ok(count)
    }

    fn zeros_until(&self, offset: u64) -> u64 {
        lock(&self.file).zeros_until(offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write(data, offset, true)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.change_length(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if length <= host::File::length(self)? {
            return Ok(());
        }
        self.check_write()?;
        self.session.disk.meet_create(&self.path)?;
        self.change_length(length)
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.session.life.check()?;
            let mark = lock(&self.file).mark();
            self.session.disk.take_time(&self.path).await;
            self.session.life.check()?;
            self.commit(mark)
        })
    }
}
