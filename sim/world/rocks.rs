//! RocksDB's environment inside the world: its files on the simulated disk, its clock virtual, its jobs queued.
//!
//! The C++ half (`rocks/shim.cc`) turns RocksDB's classes into the table of functions [`Calls`]; this half does them
//! on a [`Session`]. Background jobs wait in a queue until one of the next calls of
//! [`Backend::run_background_jobs`]; a flush, say, ends while its memtable's successor is written to.
//!
//! Invariants:
//! * RocksDB never sees a thread, a real file or a real clock.
//! * After its process is dead every call fails with an input/output error; nothing waits and nothing changes.
//! * A sync is durable at once and takes no virtual time: RocksDB calls it in the middle of a synchronous call.
//! * The trace has operation, file, offset and length, never bytes: table files carry process-wide session ids.
//!
//! Not modelled: the time that RocksDB's own work takes.
#![allow(unsafe_code, reason = "the boundary to C++")]

use std::ffi::{c_char, c_void};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use snowglobe::host::{Backend, Clock as _, Disk as _, File as _, OpenMode};

use super::clock::NodeClock;
use super::disk::image::Entry;
use super::disk::{HeldLock, OpenFile, Session};
use crate::dice::Dice;

/// Mirrors `SimCalls` in the shim, field by field.
#[repr(C)]
struct Calls {
    open: unsafe extern "C" fn(*mut c_void, *const c_char, usize, i32, *mut *mut c_void) -> i32,
    close: unsafe extern "C" fn(*mut c_void),
    read: unsafe extern "C" fn(*mut c_void, u64, *mut c_char, usize, *mut usize) -> i32,
    write: unsafe extern "C" fn(*mut c_void, u64, *const c_char, usize) -> i32,
    truncate: unsafe extern "C" fn(*mut c_void, u64) -> i32,
    sync: unsafe extern "C" fn(*mut c_void) -> i32,
    length: unsafe extern "C" fn(*mut c_void, *mut u64) -> i32,
    path: unsafe extern "C" fn(*mut c_void, i32, *const c_char, usize, *mut u64) -> i32,
    rename: unsafe extern "C" fn(*mut c_void, *const c_char, usize, *const c_char, usize) -> i32,
    list: unsafe extern "C" fn(*mut c_void, *const c_char, usize, *mut c_void, NameFn) -> i32,
    lock: unsafe extern "C" fn(*mut c_void, *const c_char, usize, *mut *mut c_void) -> i32,
    unlock: unsafe extern "C" fn(*mut c_void),
    now_ns: unsafe extern "C" fn(*mut c_void, i32) -> u64,
    drop: unsafe extern "C" fn(*mut c_void),
}

type NameFn = unsafe extern "C" fn(*mut c_void, *const c_char, usize);

unsafe extern "C" {
    fn sim_rocks_env_new(
        calls: *const Calls,
        host: *mut c_void,
    ) -> *mut librocksdb_sys::rocksdb_env_t;
    fn sim_rocks_jobs(env: *mut librocksdb_sys::rocksdb_env_t) -> u64;
    fn sim_rocks_run_jobs(env: *mut librocksdb_sys::rocksdb_env_t) -> u64;
    fn sim_rocks_seed(seed: u32);
}

/// Resets RocksDB's dice of this thread.
pub(crate) fn seed_dice(seed: u64) {
    let seed = u32::try_from(seed >> 32 ^ seed & 0xffff_ffff).expect("the upper half is zero");
    // SAFETY: sets a thread-local number.
    unsafe { sim_rocks_seed(seed) }
}

/// What the shim's host pointer points to.
struct RocksHost {
    session: Session,
    clock: NodeClock,
}

/// An environment and the closure that runs its queued jobs.
struct Jobs {
    /// Keeps what `raw` points to alive.
    _env: rocksdb::Env,
    raw: *mut librocksdb_sys::rocksdb_env_t,
    session: Session,
    /// How many calls the queued jobs are late.
    late: Mutex<(Dice, Option<u64>)>,
}

/// Jobs run at most so many calls after they were queued.
const LATE_CALLS_MAX: u64 = 40;

// SAFETY: a world has one thread; the traits are asked for by the host's interface alone.
unsafe impl Send for Jobs {}
// SAFETY: as above.
unsafe impl Sync for Jobs {}

impl Jobs {
    /// A call has ended: jobs run now or some calls later, as threads would get to them.
    fn run(&self) {
        // SAFETY: `_env` owns what `raw` points to.
        if self.session.life.is_over() || unsafe { sim_rocks_jobs(self.raw) } == 0 {
            return;
        }
        let is_due = {
            let (dice, late) = &mut *self.late.lock().expect("one thread, no panic inside");
            let left = late.get_or_insert_with(|| {
                if dice.percent(50) { 0 } else { dice.within(1, LATE_CALLS_MAX) }
            });
            let is_due = *left == 0;
            *left = left.saturating_sub(1);
            is_due
        };
        if is_due {
            self.finish();
        } else {
            self.session.disk.count_late_job();
        }
    }

    /// Runs all that is queued.
    fn finish(&self) {
        self.late.lock().expect("one thread, no panic inside").1 = None;
        // Jobs of a dead process stay queued: closing the database takes them out again.
        if !self.session.life.is_over() {
            // SAFETY: `_env` owns what `raw` points to.
            unsafe { sim_rocks_run_jobs(self.raw) };
        }
    }
}

/// A new environment for one process; `dice` say how late background jobs are.
pub(crate) fn backend(session: Session, clock: NodeClock, dice: Dice) -> Backend {
    let late = Mutex::new((dice, None));
    let host = RocksHost { session: session.clone(), clock };
    let host = Box::into_raw(Box::new(host)).cast();
    // SAFETY: the table lives for ever; the shim owns `host` and gives it back to `drop_host` once.
    let raw = unsafe { sim_rocks_env_new(&raw const CALLS, host) };
    // SAFETY: `raw` has the layout of RocksDB's `rocksdb_env_t` and was allocated for `rocksdb_env_destroy`.
    let env = unsafe { rocksdb::Env::from_raw(raw) };
    let jobs = Arc::new(Jobs { _env: env.clone(), raw, session, late });
    let again = Arc::clone(&jobs);
    Backend {
        env: Some(env),
        run_background_jobs: Arc::new(move || jobs.run()),
        finish_background_jobs: Arc::new(move || again.finish()),
    }
}

static CALLS: Calls = Calls {
    open,
    close,
    read,
    write,
    truncate,
    sync,
    length,
    path,
    rename,
    list,
    lock,
    unlock,
    now_ns,
    drop: drop_host,
};

const DONE: i32 = 0;
const MISSING: i32 = 1;
const FAILED: i32 = 2;
const TAKEN: i32 = 3;
const NO_ROOM: i32 = 4;

fn code<T>(result: io::Result<T>, keep: impl FnOnce(T)) -> i32 {
    match result {
        Ok(value) => {
            keep(value);
            DONE
        }
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => MISSING,
            io::ErrorKind::AlreadyExists | io::ErrorKind::WouldBlock => TAKEN,
            io::ErrorKind::StorageFull => NO_ROOM,
            _ => FAILED,
        },
    }
}

/// SAFETY: `host` is the pointer that [`backend`] gave to the shim, not yet dropped.
unsafe fn host<'a>(host: *mut c_void) -> &'a RocksHost {
    // SAFETY: by the caller.
    unsafe { &*host.cast() }
}

/// SAFETY: `file` came from [`open`] and was not closed.
unsafe fn file<'a>(file: *mut c_void) -> &'a OpenFile {
    // SAFETY: by the caller.
    unsafe { &*file.cast() }
}

/// SAFETY: `path` points to `length` bytes that outlive the call.
unsafe fn as_path<'a>(path: *const c_char, length: usize) -> &'a Path {
    // SAFETY: by the caller.
    let bytes = unsafe { std::slice::from_raw_parts(path.cast(), length) };
    Path::new(std::str::from_utf8(bytes).expect("paths come from UTF-8"))
}

// SAFETY, for all functions below: they are called by the shim alone, with its host pointer, with files and locks
// that it got here and has not given back, and with buffers of the stated length. None of them panics on any input
// that RocksDB can make, so no unwinding crosses into C++.

unsafe extern "C" fn open(
    h: *mut c_void,
    p: *const c_char,
    n: usize,
    mode: i32,
    out: *mut *mut c_void,
) -> i32 {
    // SAFETY: see above.
    let (host, path) = unsafe { (host(h), as_path(p, n)) };
    let mode = [OpenMode::Read, OpenMode::Create, OpenMode::Write]
        [usize::try_from(mode).expect("0, 1 or 2")];
    code(host.session.open_file(path, mode), |file| {
        // SAFETY: see above.
        unsafe { *out = Box::into_raw(Box::new(file)).cast() }
    })
}

unsafe extern "C" fn close(f: *mut c_void) {
    // SAFETY: made by `open` from a box, given back once.
    drop(unsafe { Box::from_raw(f.cast::<OpenFile>()) });
}

unsafe extern "C" fn read(
    f: *mut c_void,
    offset: u64,
    to: *mut c_char,
    n: usize,
    got: *mut usize,
) -> i32 {
    // SAFETY: see above; the simulated disk only writes into the buffer.
    let (file, buffer) = unsafe { (file(f), std::slice::from_raw_parts_mut(to.cast::<u8>(), n)) };
    code(file.read_at(buffer, offset), |count| {
        // SAFETY: see above.
        unsafe { *got = count }
    })
}

unsafe extern "C" fn write(f: *mut c_void, offset: u64, data: *const c_char, n: usize) -> i32 {
    if n == 0 {
        return DONE;
    }
    // SAFETY: see above.
    let (file, data) = unsafe { (file(f), std::slice::from_raw_parts(data.cast::<u8>(), n)) };
    code(file.write(data, offset, false), |()| {})
}

unsafe extern "C" fn truncate(f: *mut c_void, length: u64) -> i32 {
    // SAFETY: see above.
    code(unsafe { file(f) }.set_length(length), |()| {})
}

unsafe extern "C" fn sync(f: *mut c_void) -> i32 {
    // SAFETY: see above.
    code(unsafe { file(f) }.sync_now(), |()| {})
}

unsafe extern "C" fn length(f: *mut c_void, out: *mut u64) -> i32 {
    // SAFETY: see above.
    code(unsafe { file(f) }.length(), |length| unsafe { *out = length })
}

unsafe extern "C" fn path(
    h: *mut c_void,
    verb: i32,
    p: *const c_char,
    n: usize,
    out: *mut u64,
) -> i32 {
    // SAFETY: see above.
    let (host, path) = unsafe { (host(h), as_path(p, n)) };
    code(do_path(host, verb, path), |answer| {
        // SAFETY: see above.
        unsafe { *out = answer }
    })
}

/// The verbs of the shim that name one path.
fn do_path(host: &RocksHost, verb: i32, path: &Path) -> io::Result<u64> {
    let session = &host.session;
    match verb {
        0 => session.find(path).map(|_| 0),
        1 => session.remove(path).map(|()| 0),
        2 => session.create_dir(path).map(|()| 0),
        3 if session.is_dir(path)? => Ok(0),
        3 => session.create_dir(path).map(|()| 0),
        4 => session.remove_dir(path).map(|()| 0),
        5 => session.open_file(path, OpenMode::Read)?.length(),
        6 => Ok(host.clock.wall().as_secs()),
        7 => session.sync_dir_now(path).map(|()| 0),
        8 => session.find(path).map(|entry| u64::from(matches!(entry, Entry::Dir(_)))),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

unsafe extern "C" fn rename(
    h: *mut c_void,
    p: *const c_char,
    n: usize,
    q: *const c_char,
    m: usize,
) -> i32 {
    // SAFETY: see above.
    let (host, from, to) = unsafe { (host(h), as_path(p, n), as_path(q, m)) };
    code(host.session.rename(from, to), |()| {})
}

unsafe extern "C" fn list(
    h: *mut c_void,
    p: *const c_char,
    n: usize,
    names: *mut c_void,
    add: NameFn,
) -> i32 {
    // SAFETY: see above.
    let (host, path) = unsafe { (host(h), as_path(p, n)) };
    code(host.session.names(path), |found| {
        for name in found {
            // SAFETY: the shim copies the name.
            unsafe { add(names, name.as_ptr().cast(), name.len()) }
        }
    })
}

unsafe extern "C" fn lock(
    h: *mut c_void,
    p: *const c_char,
    n: usize,
    out: *mut *mut c_void,
) -> i32 {
    // SAFETY: see above.
    let (host, path) = unsafe { (host(h), as_path(p, n)) };
    code(host.session.take_lock(path), |lock| {
        // SAFETY: see above.
        unsafe { *out = Box::into_raw(Box::new(lock)).cast() }
    })
}

unsafe extern "C" fn unlock(lock: *mut c_void) {
    // SAFETY: made by `lock` from a box, given back once.
    drop(unsafe { Box::from_raw(lock.cast::<HeldLock>()) });
}

unsafe extern "C" fn now_ns(h: *mut c_void, wall: i32) -> u64 {
    // SAFETY: see above.
    let clock = &unsafe { host(h) }.clock;
    let time = if wall == 0 { clock.monotonic() } else { clock.wall() };
    u64::try_from(time.as_nanos()).expect("fewer than 584 years")
}

unsafe extern "C" fn drop_host(h: *mut c_void) {
    // SAFETY: made by `backend` from a box, given back once.
    drop(unsafe { Box::from_raw(h.cast::<RocksHost>()) });
}
