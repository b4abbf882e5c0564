//! The atlas of damage: of which members the disks may hold something else than was made durable there, at a time.
//!
//! Everything that was acknowledged lies on the disks of a majority. As long as fewer disks are damaged than a majority
//! can do without, one whole copy of it is left, whichever majority that was, and a correct cluster neither loses
//! anything nor stops for good. (Protocol-aware recovery, FAST'18, asks for one whole copy of each entry; VOPR's atlas
//! gives each block its own set of members. Ours counts whole disks: it allows less, and is easy to check.)
//!
//! Damage is what breaks the promise of a sync that succeeded: rot, lost and misdirected writes, the
//! disk of another day or of another member. What a crash, a power
//! cut or a failed sync takes was not promised, and is no damage, however many members it meets.
//!
//! A scenario that is *beyond tolerance* has no atlas: every disk may be damaged, and stays so. Only safety is asked for
//! then: the verdict is `kept` also where the cluster has stopped, and the summary says why it did.

use super::cluster::Cluster;
use crate::scenario::FaultKind;

/// Which damage is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atlas {
    /// Whether any may be, and nobody restores anything: the cluster may stop then, and must still never be wrong.
    pub is_beyond_tolerance: bool,
}

/// Whether a fault damages disks.
#[must_use]
pub fn damages(what: FaultKind) -> bool {
    use FaultKind as F;
    matches!(what, F::BitRot | F::LostWrite | F::MisdirectedWrite | F::OldDisk | F::ForeignDisk)
}

impl Atlas {
    /// Whether the disks of `members` may be damaged now, given those that are.
    #[must_use]
    pub fn allows(self, cluster: &Cluster, members: &[usize]) -> bool {
        let is_damaged = |member: &usize| {
            members.contains(member) || cluster.world.disk(cluster.node(*member)).is_damaged()
        };
        let dispensable = (cluster.count() - 1) / 2;
        let damaged = || (0..cluster.count()).filter(is_damaged).count();
        self.is_beyond_tolerance || damaged() <= dispensable
    }
}
