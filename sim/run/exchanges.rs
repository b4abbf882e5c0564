//! Disks in the wrong place: a member is started on its own disk of some time ago, or on another member's.
//!
//! Another member's disk must be refused, by the identity that lies on it. An older one of its own looks like any
//! other: the member is behind what it once acknowledged, and notices only if the leader that it acknowledged it to
//! still leads and tells it. So that is done to a cluster which is otherwise at peace; see the README.
//!
//! Invariants:
//! * A disk that was refused is replaced by the member's own, as of the moment of the exchange, at the fault's end. One
//!   that was taken stays.
//! * Whoever serves from another member's disk breaks the rule `foreign-disk` (watched where members are started).

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::Cluster;
use super::recorder::Recorder;
use crate::grid::Kind;
use crate::scenario::FaultKind;
use crate::world::Image;

/// The disks that are in the wrong place, and copies for those that will be.
pub struct Exchanges {
    cluster: Cluster,
    recorder: Recorder,
    /// All machines' disks as they were before a fault.
    copies: BTreeMap<u32, Vec<Image>>,
    /// Whose disk a fault has replaced, and that disk.
    own: BTreeMap<u32, Vec<(usize, Image)>>,
    /// Members that have ended by themselves since they were given a disk.
    ended: BTreeSet<usize>,
}

impl Exchanges {
    /// Every disk is in its place.
    #[must_use]
    pub fn new(cluster: &Cluster, recorder: &Recorder) -> Self {
        let (cluster, recorder) = (cluster.clone(), recorder.clone());
        let (copies, own, ended) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { cluster, recorder, copies, own, ended }
    }

    /// Copies all disks, for a fault that is to come.
    pub fn copy(&mut self, fault: u32) {
        let machines = 0..self.cluster.count();
        let copies = machines.map(|machine| self.image(machine, self.cluster.name(machine)));
        self.copies.insert(fault, copies.collect());
    }

    fn image(&self, machine: usize, name: &str) -> Image {
        self.cluster.world.disk(self.cluster.node(machine)).image.image_of(name)
    }

    /// Exchanges a member's disk and starts it again. False where there is no disk for it.
    pub fn begin(&mut self, fault: u32, what: FaultKind, member: usize) -> bool {
        let (image, kind) = if what == FaultKind::OldDisk {
            let copies = self.copies.remove(&fault).unwrap_or_default();
            (copies.into_iter().nth(member), Kind::OldDisk)
        } else {
            let count = self.cluster.count();
            let is_whole = |other: &usize| {
                let disk = self.cluster.world.disk(self.cluster.node(*other));
                *other != member && disk.exchanged().is_none()
            };
            let others = self.cluster.current().into_iter().filter(is_whole);
            let other = others.min_by_key(|other| (*other + count - member) % count);
            (other.map(|other| self.image(other, self.cluster.name(member))), Kind::ForeignDisk)
        };
        let Some(image) = image else { return false };
        self.cluster.kill(member);
        let own = self.cluster.world.disk(self.cluster.node(member)).exchange(&image, Some(kind));
        self.own.entry(fault).or_default().push((member, own));
        self.ended.remove(&member);
        self.cluster.restart(member);
        true
    }

    /// A member has ended by itself.
    pub fn ended(&mut self, member: usize) {
        self.ended.insert(member);
    }

    /// Ends what a fault did: the members that have their own disk again, and are to be started on it.
    pub fn end(&mut self, fault: u32) -> Vec<usize> {
        self.copies.remove(&fault);
        let mut restart = Vec::new();
        for (member, own) in self.own.remove(&fault).unwrap_or_default() {
            let disk = self.cluster.world.disk(self.cluster.node(member));
            if disk.exchanged() == Some(Kind::OldDisk) && !self.ended.contains(&member) {
                self.recorder.met("older_disks_taken", 1);
                disk.adopt();
                continue;
            }
            self.cluster.kill(member);
            disk.exchange(&own, None);
            restart.push(member);
        }
        restart
    }

    /// The faults that have exchanged disks.
    #[must_use]
    pub fn faults(&self) -> Vec<u32> {
        self.own.keys().copied().collect()
    }
}
