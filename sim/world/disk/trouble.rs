//! What a disk can do to those who use it: syncs that fail, no room, errors, rot, slowness, standstill, and the
//! moment at which its machine dies.
//!
//! Invariants:
//! * Each trouble is about some files of one node and has a number, by which it ends.
//! * Whatever an operation meets is counted by kind and by class of file, and as a *bite* of the running process: a
//!   process that ends by itself without a bite in its life has a bug.
//! * Troubles draw from the disk's dice only where they are on.

use std::path::Path;

use crate::dice::Dice;
use crate::world::base::Delay;

/// Classes of files, by the folder they are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Files {
    /// Whatever the disk holds.
    #[default]
    All,
    /// Segments of the log.
    Wal,
    /// Snapshot files.
    Snap,
    /// RocksDB's.
    Backend,
}

impl Files {
    /// The class of the file or folder at `path`; [`Files::All`] for what belongs to none.
    pub(crate) fn of(path: &str) -> Self {
        let has = |folder: &str| path.split('/').any(|name| name == folder);
        match () {
            () if has("wal") => Self::Wal,
            () if has("snap") => Self::Snap,
            () if has("backend") => Self::Backend,
            () => Self::All,
        }
    }

    /// Whether a trouble of these files is about the one at `path`.
    pub(crate) fn cover(self, path: &str) -> bool {
        self == Self::All || Self::of(path) == self
    }
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The next sync of a file fails; the kernel takes its pages for clean, so that the next sync succeeds.
    SyncFails {
        /// Whether what is on disk is read from then on, not what was written.
        evicts: bool,
    },
    /// There is no room: writes that need more of it fail after a first part, new files cannot be made.
    Full,
    /// One in so many writes fails after a first part.
    WriteErrors {
        /// 1: all of them.
        one_in: u64,
    },
    /// One in so many reads fails.
    ReadErrors {
        /// 1: all of them.
        one_in: u64,
    },
    /// Syncs take long.
    Slow(Delay),
    /// Syncs take until the trouble is over. RocksDB's are spared: they cannot wait.
    Hung,
    /// One write that a sync covers is never done; the sync succeeds.
    LostWrite {
        /// Whether that is read from then on; otherwise once the cache is gone.
        evicts: bool,
    },
    /// One write that a sync covers is done at another place; the sync succeeds.
    MisdirectedWrite {
        /// As above.
        evicts: bool,
    },
}

/// What an operation meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meets {
    SyncFailure,
    NoRoom,
    WriteError,
    ReadError,
    Rot,
    LostWrite,
    MisdirectedWrite,
    Wait,
    /// As [`Meets::Wait`], until the trouble is over.
    Standstill,
}

impl Meets {
    /// The counter for it on a file at `path`.
    pub(crate) fn counter(self, path: &str) -> &'static str {
        let names: [&'static str; 4] = match self {
            Self::SyncFailure => [
                "disk.sync_failed_other",
                "disk.sync_failed_wal",
                "disk.sync_failed_snap",
                "disk.sync_failed_backend",
            ],
            Self::NoRoom => [
                "disk.no_room_other",
                "disk.no_room_wal",
                "disk.no_room_snap",
                "disk.no_room_backend",
            ],
            Self::WriteError => [
                "disk.write_failed_other",
                "disk.write_failed_wal",
                "disk.write_failed_snap",
                "disk.write_failed_backend",
            ],
            Self::ReadError => [
                "disk.read_failed_other",
                "disk.read_failed_wal",
                "disk.read_failed_snap",
                "disk.read_failed_backend",
            ],
            Self::Rot => [
                "disk.rot_read_other",
                "disk.rot_read_wal",
                "disk.rot_read_snap",
                "disk.rot_read_backend",
            ],
            Self::LostWrite => [
                "disk.lost_write_read_other",
                "disk.lost_write_read_wal",
                "disk.lost_write_read_snap",
                "disk.lost_write_read_backend",
            ],
            Self::MisdirectedWrite => [
                "disk.misdirected_write_read_other",
                "disk.misdirected_write_read_wal",
                "disk.misdirected_write_read_snap",
                "disk.misdirected_write_read_backend",
            ],
            Self::Wait | Self::Standstill => [
                "disk.sync_slow_other",
                "disk.sync_slow_wal",
                "disk.sync_slow_snap",
                "disk.sync_slow_backend",
            ],
        };
        names[Files::of(path) as usize]
    }

    /// What the caller is told.
    pub(crate) fn error(self, path: &str) -> std::io::Error {
        let (kind, words) = match self {
            Self::NoRoom => (std::io::ErrorKind::StorageFull, "no space left on device"),
            _ => (std::io::ErrorKind::Other, "input/output error"),
        };
        std::io::Error::new(kind, format!("{path}: {words}"))
    }
}

/// A trouble that is on.
struct Active {
    id: u32,
    files: Files,
    what: Trouble,
}

/// The death of a machine at an exact disk operation.
struct Strike {
    id: u32,
    files: Files,
    /// How many operations from now.
    operations: u64,
    /// Whether the process is over at once; otherwise only the word is sent.
    ends_process: bool,
    word: tokio::sync::mpsc::UnboundedSender<u32>,
}

/// The troubles of one disk.
#[derive(Default)]
pub(super) struct Troubles {
    active: Vec<Active>,
    strikes: Vec<Strike>,
}

impl Troubles {
    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.strikes.is_empty()
    }

    pub(super) fn begin(&mut self, id: u32, files: Files, what: Trouble) {
        self.active.push(Active { id, files, what });
    }

    pub(super) fn end(&mut self, id: u32) {
        self.active.retain(|active| active.id != id);
        self.strikes.retain(|strike| strike.id != id);
    }

    pub(super) fn arm(
        &mut self,
        (id, files): (u32, Files),
        operations: u64,
        ends_process: bool,
        word: tokio::sync::mpsc::UnboundedSender<u32>,
    ) {
        self.strikes.push(Strike { id, files, operations, ends_process, word });
    }

    /// One operation that changes something was done; whether the process ends with it.
    pub(super) fn strike(&mut self, path: &str) -> bool {
        let mut ends = false;
        self.strikes.retain_mut(|strike| {
            if !strike.files.cover(path) {
                return true;
            }
            strike.operations = strike.operations.saturating_sub(1);
            if strike.operations > 0 {
                return true;
            }
            ends |= strike.ends_process;
            // Nobody listens any more once the run is over.
            let _ = strike.word.send(strike.id);
            false
        });
        ends
    }

    fn on<'a>(&'a self, path: &'a str) -> impl Iterator<Item = Trouble> + 'a {
        self.active.iter().filter(|active| active.files.cover(path)).map(|active| active.what)
    }

    /// What a write meets that makes the file longer or not.
    pub(super) fn write(&self, path: &str, grows: bool, dice: &mut Dice) -> Option<Meets> {
        self.on(path).find_map(|trouble| match trouble {
            Trouble::Full if grows => Some(Meets::NoRoom),
            Trouble::WriteErrors { one_in } => {
                (dice.below(one_in) == 0).then_some(Meets::WriteError)
            }
            _ => None,
        })
    }

    /// What the making of a file or folder meets.
    pub(super) fn create(&self, path: &str) -> Option<Meets> {
        self.on(path).find(|trouble| *trouble == Trouble::Full).map(|_| Meets::NoRoom)
    }

    pub(super) fn read(&self, path: &str, dice: &mut Dice) -> Option<Meets> {
        self.on(path).find_map(|trouble| match trouble {
            Trouble::ReadErrors { one_in } => (dice.below(one_in) == 0).then_some(Meets::ReadError),
            _ => None,
        })
    }

    /// Whether a sync fails, and then whether the pages are evicted; it happens once.
    pub(super) fn sync(&mut self, path: &str) -> Option<bool> {
        let fails = |active: &Active| match active.what {
            Trouble::SyncFails { evicts } if active.files.cover(path) => Some(evicts),
            _ => None,
        };
        let (place, evicts) =
            self.active.iter().enumerate().find_map(|(n, active)| Some((n, fails(active)?)))?;
        self.active.remove(place);
        Some(evicts)
    }

    /// What may go astray with a sync, and its number; it stays on until something has.
    pub(super) fn stray(&self, path: &str) -> Option<(u32, Trouble)> {
        let active = self.active.iter().find(|active| {
            matches!(active.what, Trouble::LostWrite { .. } | Trouble::MisdirectedWrite { .. })
                && active.files.cover(path)
        })?;
        Some((active.id, active.what))
    }

    /// Whether something may yet go astray.
    pub(super) fn may_stray(&self) -> bool {
        self.active.iter().any(|active| {
            matches!(active.what, Trouble::LostWrite { .. } | Trouble::MisdirectedWrite { .. })
        })
    }

    /// How much longer a sync takes.
    pub(super) fn delay(&self, path: &str, dice: &mut Dice) -> u64 {
        let slow = self.on(path).map(|trouble| match trouble {
            Trouble::Slow(delay) => delay.draw(dice),
            _ => 0,
        });
        slow.max().unwrap_or(0)
    }

    pub(super) fn is_hung(&self, path: &str) -> bool {
        self.on(path).any(|trouble| trouble == Trouble::Hung)
    }
}

/// A path as text.
pub(super) fn shown(path: &Path) -> &str {
    path.to_str().expect("simulated paths are UTF-8")
}
