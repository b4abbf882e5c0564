//! Counts a disk's faults in the grid: what was done to it while its member was what, and what its processes met of it.
//!
//! Some faults show at once, as an operation that fails; what a disk has *lost* waits until a process next opens a file of
//! that class, and counts as met then.

use std::collections::BTreeSet;

use super::device::Disk;
use super::image::lock;
use super::loss::Loss;
use super::trouble::{Files, Meets, Trouble};
use crate::grid::{Class, Count, Kind, Role};

/// Tells what the disk's member is at the moment; `None` where its machine is no member's.
pub(crate) type RoleOf = Box<dyn Fn() -> Option<Role> + Send + Sync>;

/// What is remembered for the grid.
#[derive(Default)]
pub(super) struct Tally {
    role_of: Option<RoleOf>,
    /// What the member was when its last process ended.
    ended_as: Option<Role>,
    /// Lost things that nobody has come upon yet.
    latent: BTreeSet<(Kind, Class)>,
    /// Of which classes the last power cut took unsynced writes or names.
    taken: BTreeSet<Class>,
}

impl Files {
    /// The class of the grid that the file or folder at `path` belongs to.
    fn class(path: &str) -> Option<Class> {
        match Self::of(path) {
            Self::All => None,
            Self::Wal => Some(Class::Wal),
            Self::Snap => Some(Class::Snap),
            Self::Backend => Some(Class::Backend),
        }
    }

    /// The classes of the grid among these files.
    fn classes(self) -> Vec<Class> {
        match self {
            Self::All => Class::ALL.iter().map(|row| row.0).collect(),
            Self::Wal => vec![Class::Wal],
            Self::Snap => vec![Class::Snap],
            Self::Backend => vec![Class::Backend],
        }
    }
}

impl Trouble {
    /// Its row in the grid.
    fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::SyncFails { .. } => Kind::SyncFails,
            Self::Full => Kind::DiskFull,
            Self::WriteErrors { .. } => Kind::WriteErrors,
            Self::ReadErrors { .. } => Kind::ReadErrors,
            Self::Slow(_) => Kind::SlowDisk,
            Self::Hung => Kind::HungDisk,
            // Done at some sync, and counted then.
            Self::LostWrite { .. } | Self::MisdirectedWrite { .. } => return None,
        })
    }
}

impl Meets {
    /// The row of the grid that it is met in.
    fn kind(self) -> Kind {
        match self {
            Self::SyncFailure => Kind::SyncFails,
            Self::NoRoom => Kind::DiskFull,
            Self::WriteError => Kind::WriteErrors,
            Self::ReadError => Kind::ReadErrors,
            Self::Rot => Kind::BitRot,
            Self::LostWrite => Kind::LostWrite,
            Self::MisdirectedWrite => Kind::MisdirectedWrite,
            Self::Wait => Kind::SlowDisk,
            Self::Standstill => Kind::HungDisk,
        }
    }
}

impl Disk {
    /// From now on `role_of` says what the member is.
    pub(crate) fn ask_for_role(&self, role_of: RoleOf) {
        lock(&self.tally).role_of = Some(role_of);
    }

    fn role(&self) -> Option<Role> {
        lock(&self.tally).role_of.as_ref()?()
    }

    /// The member's process is about to end, whatever ends it.
    pub fn ends_process(&self) {
        let role = self.role();
        lock(&self.tally).ended_as = role;
    }

    fn count_injected(&self, kind: Kind, role: Option<Role>, class: Class) {
        if let Some(role) = role {
            self.base.tally((kind, role, class), Count { injected: 1, met: 0 });
        }
    }

    /// A trouble was given to the files.
    pub(super) fn tally_trouble(&self, files: Files, what: Trouble) {
        if let Some(kind) = what.kind() {
            self.tally_injected(kind, files);
        }
    }

    /// A write of the file at `path` has gone astray.
    pub(super) fn tally_stray(&self, is_misdirected: bool, path: &str) {
        let kind = if is_misdirected { Kind::MisdirectedWrite } else { Kind::LostWrite };
        self.tally_injected_at(kind, path);
    }

    /// A fault that shows when an operation meets it was done to the files.
    pub(super) fn tally_injected(&self, kind: Kind, files: Files) {
        let role = self.role();
        for class in files.classes() {
            self.count_injected(kind, role, class);
        }
    }

    /// A fault was done to the file at `path`.
    pub(super) fn tally_injected_at(&self, kind: Kind, path: &str) {
        if let Some(class) = Files::class(path) {
            self.count_injected(kind, self.role(), class);
        }
    }

    /// A fault was done to the process that ended last, or to its files of this class; who starts next will see.
    fn leave(&self, kind: Kind, class: Class) {
        let role = lock(&self.tally).ended_as;
        self.count_injected(kind, role, class);
        lock(&self.tally).latent.insert((kind, class));
    }

    /// The process was killed.
    pub fn tally_crash(&self) {
        let paths = self.image.unsynced();
        let classes: BTreeSet<Class> = paths.iter().filter_map(|path| Files::class(path)).collect();
        classes.into_iter().for_each(|class| self.leave(Kind::Crash, class));
    }

    /// The power took these.
    pub(super) fn tally_power_loss(&self, losses: &[(String, Loss)]) {
        let mut hurt = BTreeSet::new();
        for (path, loss) in losses {
            let Some(class) = Files::class(path) else { continue };
            let kinds = [
                (Kind::PowerLoss, loss.writes > 0),
                (Kind::PowerLossPart, loss.torn + loss.reordered > 0),
                (Kind::PowerLossNames, loss.entries > 0),
            ];
            hurt.extend(kinds.iter().filter(|row| row.1).map(|row| (row.0, class)));
        }
        lock(&self.tally).taken = hurt.iter().map(|row| row.1).collect();
        hurt.into_iter().for_each(|(kind, class)| self.leave(kind, class));
    }

    /// The last power cut was that of more than half of the members at one instant.
    pub fn tally_power_loss_of_all(&self) {
        let taken = std::mem::take(&mut lock(&self.tally).taken);
        taken.into_iter().for_each(|class| self.leave(Kind::PowerLossAll, class));
    }

    /// The process has ended at an operation on the file at `path`.
    pub(super) fn tally_strike(&self, path: &str) {
        self.ends_process();
        if let Some(class) = Files::class(path) {
            self.leave(Kind::Struck, class);
        }
    }

    /// The disk is about to be lost with everything on it.
    pub fn tally_loss_of_all(&self) {
        self.ends_process();
        Files::All.classes().into_iter().for_each(|class| self.leave(Kind::DiskLost, class));
    }

    /// The disk was exchanged for one of this kind, or is the node's own again, after the process had ended.
    pub(super) fn tally_exchange(&self, kind: Option<Kind>) {
        let is_exchange = |kind| matches!(kind, Kind::OldDisk | Kind::ForeignDisk);
        lock(&self.tally).latent.retain(|row| !is_exchange(row.0));
        if let Some(kind) = kind {
            Files::All.classes().into_iter().for_each(|class| self.leave(kind, class));
        }
    }

    /// An operation on the file at `path` has met something.
    pub(super) fn tally_met(&self, meets: Meets, path: &str) {
        self.count_met(meets.kind(), path);
    }

    fn count_met(&self, kind: Kind, path: &str) {
        if let (Some(class), Some(role)) = (Files::class(path), self.role()) {
            self.base.tally((kind, role, class), Count { injected: 0, met: 1 });
        }
    }

    /// A process opens or lists what is at `path`: it comes upon what was lost there.
    pub(super) fn tally_opened(&self, path: &str) {
        if lock(&self.tally).latent.is_empty() {
            return;
        }
        let Some(class) = Files::class(path) else { return };
        let kinds: Vec<Kind> = {
            let latent = &mut lock(&self.tally).latent;
            let here = latent.iter().filter(|row| row.1 == class).map(|row| row.0).collect();
            latent.retain(|row| row.1 != class);
            here
        };
        kinds.into_iter().for_each(|kind| self.count_met(kind, path));
    }
}
