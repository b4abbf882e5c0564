//! The outside world as narrow traits: network, disk, clock, dice and the environment of RocksDB.
//!
//! The server reaches time, files, sockets and randomness through [`Host`] alone.
//! [`os`] is the real one; a test world brings its own, and the server cannot tell them apart.
//!
//! Invariants:
//! * Nothing above this module names the operating system (kept by `clippy.toml`).
//! * A disk operation that returns `Ok` has reached the page cache; only a sync makes it survive a power cut.
//! * A failed sync is never retried: what the kernel dropped stays dropped.
//!
//! Not here: threads, processes, signals (`main.rs` and `server.rs` own those).

pub mod channel;
pub mod os;
pub mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything that the server needs from the machine it runs on.
pub trait Host: Send + Sync + 'static {
    /// Sockets.
    fn net(&self) -> Arc<dyn Net>;
    /// Files.
    fn disk(&self) -> Arc<dyn Disk>;
    /// Time.
    fn clock(&self) -> Arc<dyn Clock>;
    /// Fresh random bits: for identifiers, never for decisions that members must share.
    fn random_u64(&self) -> u64;
    /// Bytes of memory that the process holds, where the machine tells: for operators, never for decisions.
    fn resident_bytes(&self) -> Option<u64> {
        None
    }
    /// Where RocksDB keeps its files and runs its background jobs.
    fn backend(&self) -> io::Result<Backend>;
}

/// Time as one member sees it.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Time since the Unix epoch; may jump.
    fn wall(&self) -> Duration;
    /// Completes once `duration` of monotonic time has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// A two-way stream of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Stream sockets.
pub trait Net: Send + Sync {
    /// Binds `address` and listens. Errors: the address is taken or not ours.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;
    /// Connects to `authority` (`host:port`; the host may be a name).
    fn connect<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// A bound socket.
pub trait Listener: Send {
    /// The next incoming connection and where it comes from.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;
    /// The bound address (its port is real even where 0 was asked for).
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// How [`Disk::open`] treats a file that is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must be there; it is opened for reading.
    Read,
    /// The file must be there; it is opened for reading and writing.
    Write,
    /// The file is made, or emptied where it is there; reading and writing.
    Create,
}

/// Files of one member. Paths are absolute or relative to the working folder, as the caller gave them.
pub trait Disk: Send + Sync {
    /// Makes a folder and the folders above it. Durable after [`Disk::sync_dir`] of each parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names of the files and folders in `path`, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether a file or folder is there. Where that cannot be told it counts as there: whoever opens it meets the
    /// reason, and nobody puts something new in its place.
    fn exists(&self, path: &Path) -> bool;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;
    /// Renames a file or folder, replacing a file at `to`. Durable after [`Disk::sync_dir`] of the parent.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`] of the parent.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a folder durable: creations, renames, removals.
    fn sync_dir<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>>;
    /// Takes an exclusive lock on the file at `path` (made if need be), held until the guard is dropped.
    /// Errors: `WouldBlock` where another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// Holds an exclusive lock; dropping it lets go.
pub trait Lock: Send + Sync {}

/// One open file.
pub trait File: Send + Sync {
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Reads at most `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// A place at or behind `offset` before which the file is known to hold nothing but zeros: a hint to whoever
    /// looks for data in a file that is mostly reserved. `offset` itself where nothing is known.
    fn zeros_until(&self, offset: u64) -> u64 {
        offset
    }
    /// Writes all of `data` at `offset`, lengthening the file where needed.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or lengthens (with zeros) the file.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Reserves space and fills it with zeros up to `length`.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Makes data and length durable. After an error the unsynced data is lost; do not retry.
    fn sync(&self) -> BoxFuture<'_, io::Result<()>>;
}

/// Where RocksDB keeps its files and runs its background jobs.
#[derive(Clone)]
pub struct Backend {
    /// The environment to open the database with; `None` for RocksDB's own.
    pub env: Option<rocksdb::Env>,
    /// Called after every call into RocksDB: a host without background threads runs queued jobs here, or some calls
    /// later, as threads would.
    pub run_background_jobs: Arc<dyn Fn() + Send + Sync>,
    /// Called before RocksDB would wait for jobs: a host without background threads runs all that are queued.
    pub finish_background_jobs: Arc<dyn Fn() + Send + Sync>,
}

impl Default for Backend {
    /// RocksDB's own environment, which has threads: nothing is to be run by hand.
    fn default() -> Self {
        let nothing: Arc<dyn Fn() + Send + Sync> = Arc::new(|| {});
        Self { env: None, run_background_jobs: nothing.clone(), finish_background_jobs: nothing }
    }
}
