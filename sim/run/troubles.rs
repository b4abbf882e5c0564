//! Faults of disks and clocks, turned from what a plan says into what the world does.

use std::collections::BTreeMap;

use super::atlas::{self, Atlas};
use super::cluster::Cluster;
use crate::scenario::FaultKind;
use crate::scenario::plan::{self, Fault};
use crate::world::{Bend, Delay, Files, Trouble};

/// The world's word for the plan's.
#[must_use]
pub fn files(files: Option<plan::Files>) -> Files {
    match files {
        None | Some(plan::Files::All) => Files::All,
        Some(plan::Files::Wal) => Files::Wal,
        Some(plan::Files::Snap) => Files::Snap,
        Some(plan::Files::Backend) => Files::Backend,
    }
}

/// Gives the disks of `members` a trouble. False where none got it, and where the fault is none of disks.
pub fn begin(cluster: &Cluster, atlas: Atlas, fault: &Fault, members: &[usize]) -> bool {
    let amount = fault.amount.map_or(1, i64::unsigned_abs);
    let trouble = match fault.what {
        FaultKind::SyncFails => Trouble::SyncFails { evicts: fault.amount == Some(1) },
        FaultKind::DiskFull => Trouble::Full,
        FaultKind::WriteErrors => Trouble::WriteErrors { one_in: amount },
        FaultKind::ReadErrors => Trouble::ReadErrors { one_in: amount },
        FaultKind::SlowDisk => Trouble::Slow(Delay::even(1_000_000, amount * 1_000_000)),
        FaultKind::HungDisk => Trouble::Hung,
        FaultKind::LostWrite => Trouble::LostWrite { evicts: fault.amount == Some(1) },
        FaultKind::MisdirectedWrite => {
            Trouble::MisdirectedWrite { evicts: fault.amount == Some(1) }
        }
        FaultKind::BitRot => return rot(cluster, atlas, fault, members),
        _ => return false,
    };
    if atlas::damages(fault.what) && !atlas.allows(cluster, members) {
        return false;
    }
    for member in members {
        let disk = cluster.world.disk(cluster.node(*member));
        disk.begin(fault.id, files(fault.files), trouble);
    }
    !members.is_empty()
}

/// Lets a bit rot in each of the members' disks, as far as the atlas allows it.
fn rot(cluster: &Cluster, atlas: Atlas, fault: &Fault, members: &[usize]) -> bool {
    if !atlas.allows(cluster, members) {
        return false;
    }
    let mut met = false;
    for member in members {
        let disk = cluster.world.disk(cluster.node(*member));
        met |= disk.rot(fault.id, files(fault.files)).is_some();
    }
    met
}

/// What faults have done to clocks.
#[derive(Default)]
pub struct Clocks {
    /// By fault: whose clocks, and how.
    active: BTreeMap<u32, (Vec<usize>, Bend)>,
}

impl Clocks {
    /// Bends the clocks of `members`.
    pub fn begin(&mut self, cluster: &Cluster, fault: &Fault, members: &[usize]) -> bool {
        let amount = fault.amount.unwrap_or(0);
        let bend = match fault.what {
            FaultKind::ClockStep => {
                Bend { wall_offset_ns: amount.saturating_mul(1_000_000), ..Bend::default() }
            }
            FaultKind::ClockDrift => {
                let drift_ppm = i32::try_from(amount).expect("bounded by the table of faults");
                Bend { drift_ppm, ..Bend::default() }
            }
            _ => Bend { is_wall_frozen: true, ..Bend::default() },
        };
        self.active.insert(fault.id, (members.to_vec(), bend));
        self.apply(cluster, members);
        !members.is_empty()
    }

    /// Undoes what a fault did.
    pub fn end(&mut self, cluster: &Cluster, fault: u32) {
        if let Some((members, _)) = self.active.remove(&fault) {
            self.apply(cluster, &members);
        }
    }

    /// Undoes everything.
    pub fn heal(&mut self, cluster: &Cluster) {
        let faults: Vec<u32> = self.active.keys().copied().collect();
        for fault in faults {
            self.end(cluster, fault);
        }
    }

    /// Several faults of one clock add up.
    fn apply(&self, cluster: &Cluster, members: &[usize]) {
        for member in members {
            let mut bend = Bend::default();
            for (whose, more) in self.active.values() {
                if whose.contains(member) {
                    let drift_ppm = bend.drift_ppm + more.drift_ppm;
                    bend.drift_ppm = drift_ppm.clamp(-DRIFT_MAX_PPM, DRIFT_MAX_PPM);
                    bend.wall_offset_ns = bend.wall_offset_ns.saturating_add(more.wall_offset_ns);
                    bend.is_wall_frozen |= more.is_wall_frozen;
                }
            }
            cluster.world.bend_clock(cluster.node(*member), bend);
        }
    }
}

/// Slower or faster than this no clock gets, however many faults add up.
const DRIFT_MAX_PPM: i32 = 900_000;
