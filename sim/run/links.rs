//! Which links are broken in which way, by all faults that are on.
//!
//! Invariants:
//! * Of several faults at once a link is cut while any of them cuts it, and as slow, narrow or deaf as the worst of them.
//! * A fault changes the links that it is about, and no others.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use crate::scenario::FaultKind;
use crate::world::{Connects, Delay, LinkFaults, NodeId};

/// A slow link: several times what clients' bytes need, so that much happens while one message is under way; short
/// enough for heartbeats to come in time.
const SLOW: Delay = Delay { min_ns: 5_000_000, max_ns: 250_000_000, tail_ppm: 0, tail_max_ns: 0 };

/// One fault of links that is on.
struct Active {
    what: FaultKind,
    /// The members that it names.
    inside: Vec<usize>,
    /// The links that it cuts, where it names links.
    links: Vec<(usize, usize)>,
    amount: Option<i64>,
}

/// All faults of links that are on, and what they have done.
pub struct Links {
    cluster: Cluster,
    /// Members first, then clients.
    nodes: Vec<NodeId>,
    active: BTreeMap<u32, Active>,
    applied: BTreeMap<(usize, usize), LinkFaults>,
}

/// Whether a kind of fault is about links.
pub fn is_about_links(what: FaultKind) -> bool {
    use FaultKind as F;
    matches!(
        what,
        F::Partition
            | F::Deaf
            | F::Mute
            | F::Isolate
            | F::CutClients
            | F::Groups
            | F::Ring
            | F::Bridge
            | F::Flap
            | F::Swizzle
            | F::Slow
            | F::Narrow
            | F::Stall
            | F::Reset
            | F::Refuse
            | F::Hang
    )
}

impl Links {
    /// All links between members, and between members and clients, as they should be.
    #[must_use]
    pub fn new(cluster: &Cluster, clients: &[NodeId]) -> Self {
        let members = (0..cluster.count()).map(|member| cluster.node(member));
        Self {
            cluster: cluster.clone(),
            nodes: members.chain(clients.iter().copied()).collect(),
            active: BTreeMap::new(),
            applied: BTreeMap::new(),
        }
    }

    /// A fault begins; whether any link is another one now.
    pub fn begin(
        &mut self,
        id: u32,
        what: FaultKind,
        inside: Vec<usize>,
        links: &[(String, String)],
        amount: Option<i64>,
    ) -> bool {
        let place = |(from, to): &(String, String)| {
            Some((self.cluster.index(from)?, self.cluster.index(to)?))
        };
        let links = links.iter().filter_map(place).collect();
        let breaks = matches!(what, FaultKind::Reset | FaultKind::Refuse | FaultKind::Hang);
        let broken = if breaks { self.reset(&inside) } else { 0 };
        self.active.insert(id, Active { what, inside, links, amount });
        self.apply() || broken > 0
    }

    /// A fault ends.
    pub fn end(&mut self, id: u32) {
        if self.active.remove(&id).is_some() {
            self.apply();
        }
    }

    /// All faults end.
    pub fn heal(&mut self) {
        self.active.clear();
        self.apply();
    }

    /// Breaks all connections of the members; how many links there are to break.
    fn reset(&self, inside: &[usize]) -> usize {
        let mut count = 0;
        for member in inside {
            for other in (0..self.nodes.len()).filter(|other| other != member) {
                self.cluster.world.net().reset(self.nodes[*member], self.nodes[other]);
                count += 1;
            }
        }
        count
    }

    /// Makes all links as the faults want them; whether any was not.
    fn apply(&mut self) -> bool {
        let mut wanted: BTreeMap<(usize, usize), LinkFaults> = BTreeMap::new();
        for active in self.active.values() {
            for pair in self.pairs() {
                if let Some(faults) = self.faults(active, pair) {
                    let now = wanted.entry(pair).or_default();
                    *now = worst(*now, faults);
                }
            }
        }
        let is_changed = wanted != self.applied;
        let net = self.cluster.world.net();
        let applied = std::mem::take(&mut self.applied);
        for pair in applied.keys().filter(|pair| !wanted.contains_key(pair)) {
            net.set_link(self.nodes[pair.0], self.nodes[pair.1], LinkFaults::default());
        }
        for (pair, faults) in &wanted {
            if applied.get(pair) != Some(faults) {
                net.set_link(self.nodes[pair.0], self.nodes[pair.1], *faults);
            }
        }
        self.applied = wanted;
        is_changed
    }

    /// All directed links with a member at one end.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (members, nodes) = (self.cluster.count(), self.nodes.len());
        (0..nodes)
            .flat_map(move |from| (0..nodes).map(move |to| (from, to)))
            .filter(move |(from, to)| from != to && (*from < members || *to < members))
    }

    /// What one fault does to one link.
    fn faults(&self, active: &Active, (from, to): (usize, usize)) -> Option<LinkFaults> {
        use FaultKind as F;
        let members = self.cluster.count();
        let (leaves, enters) = (active.inside.contains(&from), active.inside.contains(&to));
        let is_between_members = from < members && to < members;
        // Where everybody is named, everybody is alone.
        let crosses = leaves != enters || (leaves && active.inside.len() == members);
        let none = LinkFaults::default();
        let cut = LinkFaults { is_cut: true, ..none };
        let (is_met, faults) = match active.what {
            F::Partition | F::Flap | F::Swizzle => (is_between_members && crosses, cut),
            F::Deaf => (is_between_members && enters && !leaves, cut),
            F::Mute => (is_between_members && leaves && !enters, cut),
            F::Isolate => (crosses, cut),
            F::CutClients => (!is_between_members && crosses, cut),
            F::Groups | F::Ring | F::Bridge => (active.links.contains(&(from, to)), cut),
            F::Slow => {
                (is_between_members && (leaves || enters), LinkFaults { delay: Some(SLOW), ..none })
            }
            F::Narrow => {
                let bytes_per_s = active.amount.map(i64::unsigned_abs);
                (is_between_members && (leaves || enters), LinkFaults { bytes_per_s, ..none })
            }
            F::Stall => (is_between_members && crosses, LinkFaults { is_stalled: true, ..none }),
            F::Refuse => (enters, LinkFaults { connects: Connects::Refuse, ..none }),
            F::Hang => (enters, LinkFaults { connects: Connects::Hang, ..none }),
            _ => (false, none),
        };
        is_met.then_some(faults)
    }
}

/// The worst of both.
fn worst(one: LinkFaults, other: LinkFaults) -> LinkFaults {
    let connects = match (one.connects, other.connects) {
        (Connects::Hang, _) | (_, Connects::Hang) => Connects::Hang,
        (Connects::Refuse, _) | (_, Connects::Refuse) => Connects::Refuse,
        (Connects::Work, Connects::Work) => Connects::Work,
    };
    LinkFaults {
        is_cut: one.is_cut || other.is_cut,
        is_stalled: one.is_stalled || other.is_stalled,
        connects,
        delay: one.delay.or(other.delay),
        bytes_per_s: [one.bytes_per_s, other.bytes_per_s].into_iter().flatten().min(),
    }
}
