//! The machine's files.

use std::fs::{self, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::host::{BoxFuture, Disk, File, Lock, OpenMode};

/// The machine's file systems.
pub(super) struct OsDisk;

impl Disk for OsDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            names.push(name.to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        path.try_exists().unwrap_or(true)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let create = mode == OpenMode::Create;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(mode != OpenMode::Read)
            .create(create)
            .truncate(create)
            .open(path)?;
        Ok(Box::new(OsFile { file: Arc::new(file) }))
    }

    #[allow(clippy::disallowed_methods, reason = "this is where files are reached")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[allow(clippy::disallowed_methods, reason = "this is where files are reached")]
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let path = path.to_owned();
        #[allow(clippy::disallowed_methods, reason = "this is where files are reached")]
        let sync = move || fs::File::open(path)?.sync_all();
        Box::pin(blocking(sync))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let options = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = options?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The kernel lets go of the lock when the file is closed, however the process ends.
struct OsLock {
    _file: fs::File,
}

impl Lock for OsLock {}

struct OsFile {
    file: Arc<fs::File>,
}

impl File for OsFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match fs4::FileExt::allocate(&*self.file, length) {
            // The file system cannot reserve: a file of zeros is what matters to the reader.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            other => other?,
        }
        // What was reserved already may be longer than the file says.
        if self.length()? < length { self.set_length(length) } else { Ok(()) }
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        let file = self.file.clone();
        Box::pin(blocking(move || file.sync_data()))
    }
}

/// Runs a call that may wait for the disk beside the tasks that must not wait for it.
#[allow(clippy::disallowed_methods, reason = "the one place where waiting for a disk is allowed")]
#[allow(
    deprecated,
    reason = "deprecated by the simulated runtime alone, where this host is not used"
)]
async fn blocking(call: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(call).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A folder of its own for one test, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("snowglobe-{}-{name}", std::process::id()));
            OsDisk.create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
            OsDisk.open(&self.0.join(name), mode)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = OsDisk.remove_dir_all(&self.0);
        }
    }

    /// Names come back sorted; removal and existence agree.
    #[test]
    fn list_is_sorted() {
        let folder = Folder::new("list");
        for name in ["b", "c", "a"] {
            folder.file(name, OpenMode::Create).unwrap();
        }
        assert_eq!(OsDisk.list(&folder.0).unwrap(), ["a", "b", "c"]);
        OsDisk.remove(&folder.0.join("b")).unwrap();
        assert_eq!(OsDisk.list(&folder.0).unwrap(), ["a", "c"]);
        assert!(!OsDisk.exists(&folder.0.join("b")));
        assert_eq!(OsDisk.remove(&folder.0.join("b")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Reading and writing need the file to be there; creating empties it; a file opened for
    /// reading cannot be written.
    #[test]
    fn open_modes() {
        let folder = Folder::new("modes");
        for mode in [OpenMode::Read, OpenMode::Write] {
            assert_eq!(folder.file("f", mode).err().unwrap().kind(), io::ErrorKind::NotFound);
        }
        folder.file("f", OpenMode::Create).unwrap().write_all_at(b"abc", 0).unwrap();
        assert_eq!(folder.file("f", OpenMode::Write).unwrap().length().unwrap(), 3);
        assert!(folder.file("f", OpenMode::Read).unwrap().write_all_at(b"x", 0).is_err());
        assert_eq!(folder.file("f", OpenMode::Create).unwrap().length().unwrap(), 0);
    }

    /// Writes land where they should, gaps are zeros, reads stop at the end.
    #[test]
    fn read_and_write_at_offsets() {
        let folder = Folder::new("offsets");
        let file = folder.file("f", OpenMode::Create).unwrap();
        file.write_all_at(b"world", 8).unwrap();
        file.write_all_at(b"hello", 0).unwrap();
        let mut buffer = [b'x'; 16];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 13);
        assert_eq!(&buffer[..13], b"hello\0\0\0world");
        assert_eq!(file.read_at(&mut buffer, 13).unwrap(), 0);
        file.set_length(2).unwrap();
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 2);
    }

    /// Allocated space reads as zeros and does not touch what was written.
    #[test]
    fn allocate_fills_with_zeros() {
        let folder = Folder::new("allocate");
        let file = folder.file("f", OpenMode::Create).unwrap();
        file.write_all_at(b"head", 0).unwrap();
        file.allocate(8192).unwrap();
        assert_eq!(file.length().unwrap(), 8192);
        let mut buffer = vec![1; 8192];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8192);
        assert_eq!(&buffer[..4], b"head");
        assert!(buffer[4..].iter().all(|byte| *byte == 0));
    }

    /// A rename replaces what is at its target.
    #[test]
    fn rename_replaces() {
        let folder = Folder::new("rename");
        folder.file("new", OpenMode::Create).unwrap().write_all_at(b"new", 0).unwrap();
        folder.file("old", OpenMode::Create).unwrap().write_all_at(b"longer", 0).unwrap();
        OsDisk.rename(&folder.0.join("new"), &folder.0.join("old")).unwrap();
        assert_eq!(OsDisk.list(&folder.0).unwrap(), ["old"]);
        assert_eq!(folder.file("old", OpenMode::Read).unwrap().length().unwrap(), 3);
    }

    /// Only one holds the lock; it is free again once the guard is gone.
    #[test]
    fn lock_excludes() {
        let folder = Folder::new("lock");
        let path = folder.0.join("lock");
        let guard = OsDisk.lock(&path).unwrap();
        assert_eq!(OsDisk.lock(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(guard);
        OsDisk.lock(&path).unwrap();
    }

    /// Files and folders can be synced; a folder that is not there cannot.
    #[tokio::test]
    async fn syncs() {
        let folder = Folder::new("sync");
        let file = folder.file("f", OpenMode::Create).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.sync().await.unwrap();
        OsDisk.sync_dir(&folder.0).await.unwrap();
        assert!(OsDisk.sync_dir(&folder.0.join("missing")).await.is_err());
    }
}
