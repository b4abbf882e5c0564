//! The grid of disk faults: kind × role of the member × class of file, how often each was injected and how often met.
//!
//! *Injected*: the fault was done to a member in that role, and concerned files of that class. *Met*: an operation of a
//! member in that role came upon it: it failed, it took long, it read what should not be there, or a new process
//! opened what the one before had lost.
//!
//! Cells that make no sense are told by [`why_not`], each with its reason; all others should be filled by a large
//! enough sweep, and are named where they are not.
//!
//! Knows nothing of the world that counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::outcome::Summary;

/// What a member is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It believes to lead.
    Leader,
    /// It has a vote and does not lead.
    Follower,
    /// It has no vote.
    Learner,
    /// It is down, or has not recovered yet.
    Starting,
}

impl Role {
    /// Each with its name.
    pub const ALL: &[(Self, &'static str)] = &[
        (Self::Leader, "leader"),
        (Self::Follower, "follower"),
        (Self::Learner, "learner"),
        (Self::Starting, "starting"),
    ];
}

/// Classes of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Segments of the log.
    Wal,
    /// Snapshot files.
    Snap,
    /// RocksDB's.
    Backend,
}

impl Class {
    /// Each with its name.
    pub const ALL: &[(Self, &'static str)] =
        &[(Self::Wal, "wal"), (Self::Snap, "snap"), (Self::Backend, "backend")];
}

/// Kinds of disk faults; the numbers are those of the usual checklist (CTRL, ALICE and others).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The process ended while something was unsynced; the page cache survives.
    Crash,
    /// The power took unsynced writes.
    PowerLoss,
    /// The power took a part of them: torn, or later ones kept.
    PowerLossPart,
    /// The process or the power ended at an exact operation on such a file.
    Struck,
    /// The power took names.
    PowerLossNames,
    /// The power took unsynced writes of more than half of the members at one instant.
    PowerLossAll,
    /// A sync failed and its pages were dropped.
    SyncFails,
    /// There was no room.
    DiskFull,
    /// A write failed half way.
    WriteErrors,
    /// A bit read wrong.
    BitRot,
    /// A read failed.
    ReadErrors,
    /// A write was acknowledged and never done.
    LostWrite,
    /// A write was acknowledged and done at another place.
    MisdirectedWrite,
    /// The member was given its disk of some time ago.
    OldDisk,
    /// The member was given another member's disk.
    ForeignDisk,
    /// Syncs took long.
    SlowDisk,
    /// Syncs took until the fault was over.
    HungDisk,
    /// The disk was lost with everything on it.
    DiskLost,
}

impl Kind {
    /// Each with its number in the checklist and its name.
    pub const ALL: &[(Self, &'static str, &'static str)] = &[
        (Self::Crash, "D1", "crash"),
        (Self::PowerLoss, "D2", "power-loss"),
        (Self::PowerLossPart, "D3", "power-loss-part"),
        (Self::Struck, "D4", "struck"),
        (Self::PowerLossNames, "D5", "power-loss-names"),
        (Self::PowerLossAll, "D6", "power-loss-all"),
        (Self::SyncFails, "D7", "sync-fails"),
        (Self::DiskFull, "D8", "disk-full"),
        (Self::WriteErrors, "D8", "write-errors"),
        (Self::BitRot, "D9", "bit-rot"),
        (Self::ReadErrors, "D10", "read-errors"),
        (Self::LostWrite, "D11", "lost-write"),
        (Self::MisdirectedWrite, "D11", "misdirected-write"),
        (Self::OldDisk, "D12", "old-disk"),
        (Self::ForeignDisk, "D12", "foreign-disk"),
        (Self::SlowDisk, "D13", "slow-disk"),
        (Self::HungDisk, "D13", "hung-disk"),
        (Self::DiskLost, "D14", "disk-lost"),
    ];

    /// Whether it shows when the member starts again, and at no other time.
    fn shows_at_a_start(self) -> bool {
        use Kind as K;
        matches!(
            self,
            K::Crash
                | K::PowerLoss
                | K::PowerLossPart
                | K::Struck
                | K::PowerLossNames
                | K::PowerLossAll
                | K::OldDisk
                | K::ForeignDisk
                | K::DiskLost
        )
    }

    /// Whether only a read can come upon it.
    fn shows_when_read(self) -> bool {
        use Kind as K;
        matches!(self, K::BitRot | K::ReadErrors | K::LostWrite | K::MisdirectedWrite)
    }
}

/// One cell.
pub type Cell = (Kind, Role, Class);

/// What is counted in a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How often the fault was done.
    pub injected: u64,
    /// How often the code came upon it.
    pub met: u64,
}

/// The half of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// See [`Count::injected`].
    Injected,
    /// See [`Count::met`].
    Met,
}

/// Why a half of a cell makes no sense; `None` where it does.
#[must_use]
pub fn why_not((kind, role, class): Cell, half: Half) -> Option<&'static str> {
    use {Class as C, Half as H, Kind as K, Role as R};
    match (kind, role, class, half) {
        (K::SlowDisk | K::HungDisk, _, C::Backend, _) => Some(
            "RocksDB syncs in the middle of a synchronous call: its syncs take no virtual time",
        ),
        (K::DiskLost, R::Learner, _, H::Injected) => {
            Some("it is members with a vote whose disks operators replace")
        }
        (K::ForeignDisk, R::Starting, C::Wal | C::Snap | C::Backend, H::Met) => {
            Some("a member that finds the identity of another one opens nothing else")
        }
        (kind, R::Leader | R::Follower | R::Learner, _, H::Met) if kind.shows_at_a_start() => {
            Some("what the disk has lost shows when the member starts again")
        }
        (kind, R::Leader | R::Follower | R::Learner, C::Wal, H::Met) if kind.shows_when_read() => {
            Some("a member that runs has its log in memory and reads no file of it")
        }
        (kind, R::Leader, C::Snap, H::Met) if kind.shows_when_read() => {
            Some("a leader streams its state, not a file; who leads installs no snapshot")
        }
        _ => None,
    }
}

/// The name of a cell: kind, role and class.
#[must_use]
pub fn name((kind, role, class): Cell) -> String {
    let (_, _, kind) = Kind::ALL.iter().find(|row| row.0 == kind).expect("every kind has a row");
    let (_, role) = Role::ALL.iter().find(|row| row.0 == role).expect("every role has a row");
    let (_, class) = Class::ALL.iter().find(|row| row.0 == class).expect("every class has a row");
    format!("{kind}/{role}/{class}")
}

/// All cells, row by row.
fn cells(kind: Kind) -> impl Iterator<Item = Cell> {
    let roles = Role::ALL.iter();
    roles.flat_map(move |role| Class::ALL.iter().map(move |class| (kind, role.0, class.0)))
}

/// The counts of all runs together, by the cells' names.
fn sum(summaries: &[Summary]) -> BTreeMap<String, Count> {
    let mut sum: BTreeMap<String, Count> = BTreeMap::new();
    for (name, count) in summaries.iter().flat_map(|summary| &summary.disk_faults) {
        let all = sum.entry(name.clone()).or_default();
        all.injected += count.injected;
        all.met += count.met;
    }
    sum
}

/// What a sweep says of disk faults: the grid as `injected/met`, and the cells that it left empty, by name.
/// Nothing where no disk was hurt.
#[must_use]
pub fn report(summaries: &[Summary]) -> String {
    let counts = sum(summaries);
    if counts.is_empty() { String::new() } else { text(&counts) }
}

fn text(counts: &BTreeMap<String, Count>) -> String {
    let count = |cell| counts.get(&name(cell)).copied().unwrap_or_default();
    let mut text = heading();
    let (mut absent, mut undone, mut unmet) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, number, name) in Kind::ALL {
        if cells(*kind).all(|cell| count(cell) == Count::default()) {
            absent.push((*name).to_string());
            continue;
        }
        write!(text, "\n{number:<4}{name:<18}").expect("strings take everything");
        for (place, cell) in cells(*kind).enumerate() {
            let bar = if place % Class::ALL.len() == 0 { " |" } else { "" };
            let shown = shown(cell, count(cell));
            write!(text, "{bar} {shown:>9}").expect("strings take everything");
        }
        undone.extend(gaps(*kind, name, Half::Injected, |cell| count(cell).injected == 0));
        unmet.extend(gaps(*kind, name, Half::Met, |cell| count(cell).met == 0));
    }
    let lists = [("never done", absent), ("cells never done", undone), ("cells never met", unmet)];
    for (words, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        write!(text, "\n{words}: {}", names.join(", ")).expect("strings take everything");
    }
    text
}

/// The two lines above the rows.
fn heading() -> String {
    let mut text = format!("{:<22}", "disk faults,");
    for (_, role) in Role::ALL {
        write!(text, " | {role:<29}").expect("strings take everything");
    }
    write!(text, "\n{:<22}", "injected/met").expect("strings take everything");
    for _ in Role::ALL {
        text += " |";
        for (_, class) in Class::ALL {
            write!(text, " {class:>9}").expect("strings take everything");
        }
    }
    text
}

/// One cell as it is printed: a half that makes no sense is left blank.
fn shown(cell: Cell, count: Count) -> String {
    let half = |half, count: u64| match why_not(cell, half) {
        Some(_) if count == 0 => String::new(),
        _ => count.to_string(),
    };
    match (half(Half::Injected, count.injected), half(Half::Met, count.met)) {
        (injected, met) if injected.is_empty() && met.is_empty() => String::new(),
        (injected, met) => format!("{injected}/{met}"),
    }
}

/// The cells of one row that make sense and are empty, by name; a role that lacks all its classes in one word.
fn gaps(kind: Kind, name: &str, half: Half, is_empty: impl Fn(Cell) -> bool) -> Option<String> {
    let mut roles = Vec::new();
    for (role, role_name) in Role::ALL {
        let of_role = Class::ALL.iter().map(|row| ((kind, *role, row.0), row.1));
        let sensible: Vec<(Cell, &str)> =
            of_role.filter(|(cell, _)| why_not(*cell, half).is_none()).collect();
        let empty = sensible.iter().filter(|(cell, _)| is_empty(*cell)).map(|row| row.1);
        let empty: Vec<&str> = empty.collect();
        if empty.is_empty() {
            continue;
        }
        let is_whole = empty.len() == sensible.len();
        let classes = if is_whole { String::new() } else { format!(" {}", empty.join("+")) };
        roles.push(format!("{role_name}{classes}"));
    }
    (!roles.is_empty()).then(|| format!("{name} ({})", roles.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small grid as it is printed: halves that make no sense are blank, empty cells that do are named.
    #[test]
    fn a_small_grid() {
        let cells = [
            ((Kind::PowerLoss, Role::Leader, Class::Wal), 12, 0),
            ((Kind::PowerLoss, Role::Starting, Class::Wal), 3, 14),
            ((Kind::BitRot, Role::Follower, Class::Backend), 5, 2),
            ((Kind::HungDisk, Role::Leader, Class::Wal), 1, 1),
        ];
        let counts = cells.map(|(cell, injected, met)| (name(cell), Count { injected, met }));
        insta::assert_snapshot!("disk-grid", text(&BTreeMap::from(counts)));
    }

    /// Every half of a cell that makes no sense, by reason: what the README says of them is a summary of this.
    #[test]
    fn cells_without_sense() {
        let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (kind, _, _) in Kind::ALL {
            for cell in cells(*kind) {
                for half in [Half::Injected, Half::Met] {
                    if let Some(reason) = why_not(cell, half) {
                        let half = if half == Half::Met { "met" } else { "injected" };
                        reasons.entry(reason).or_default().push(format!("{} {half}", name(cell)));
                    }
                }
            }
        }
        let told = reasons.iter().map(|(why, cells)| format!("{why}:\n  {}", cells.join("\n  ")));
        insta::assert_snapshot!("cells-without-sense", told.collect::<Vec<_>>().join("\n"));
    }

    /// Names of cells are unique: they are the keys of the counts.
    #[test]
    fn names_are_unique() {
        let all = Kind::ALL.iter().flat_map(|row| cells(row.0)).map(name);
        let all: Vec<String> = all.collect();
        let unique: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
    }
}
