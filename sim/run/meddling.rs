//! Faults of single messages between members, turned from what a plan says into rules for the links' proxies.
//!
//! Invariants:
//! * Only links that some fault of the plan may be about have a proxy: other runs are as they are without any.
//! * A fault is about the links between the members named and all other machines, in both directions.

use super::cluster::Cluster;
use crate::scenario::FaultKind;
use crate::scenario::plan::{Fault, Plan, Target};
use crate::world::{Meddling, Rule};

/// What a kind of fault does to messages, if it is one of theirs.
#[must_use]
pub fn meddling(what: FaultKind) -> Option<Meddling> {
    Some(match what {
        FaultKind::LoseMessages => Meddling::Lose,
        FaultKind::RepeatMessages => Meddling::Repeat,
        FaultKind::ReorderMessages => Meddling::Reorder,
        FaultKind::CorruptMessages => Meddling::Corrupt,
        FaultKind::HoldMessages => Meddling::Hold,
        _ => return None,
    })
}

/// The links, as places in [`Plan::members`], that faults of the plan may be about.
#[must_use]
pub fn links(plan: &Plan) -> Vec<(usize, usize)> {
    let mut is_met = vec![false; plan.members.len()];
    for fault in plan.faults.iter().filter(|fault| meddling(fault.what).is_some()) {
        for (member, name) in is_met.iter_mut().zip(&plan.members) {
            // Who leads then is not known before.
            *member |= match &fault.whom {
                Target::Leader { .. } | Target::Follower { .. } => true,
                Target::Members(names) => names.contains(name),
            };
        }
    }
    let all = 0..plan.members.len();
    let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
    pairs.filter(|(from, to)| from != to && (is_met[*from] || is_met[*to])).collect()
}

/// A fault begins. False where no link is its own.
pub fn begin(cluster: &Cluster, fault: &Fault, members: &[usize]) -> bool {
    let Some(what) = meddling(fault.what) else { return false };
    let one_in = fault.amount.map_or(1, i64::unsigned_abs);
    let rule = Rule { what, kind: fault.messages, one_in };
    let mut is_met = false;
    for from in 0..cluster.count() {
        for to in (0..cluster.count()).filter(|to| *to != from) {
            if members.contains(&from) || members.contains(&to) {
                let link = (cluster.node(from), cluster.node(to));
                is_met |= cluster.wires.begin(fault.id, link, rule);
            }
        }
    }
    is_met
}

#[cfg(test)]
mod tests {
    use super::links;
    use crate::scenario::{draw, file};

    fn check(faults: &str, expected: &[(usize, usize)]) {
        let text = format!(
            "about = \"Some faults of messages.\"\nduration = \"9s\"\n[[workload]]\nkind = \"kv\"\n{faults}"
        );
        let scenario = file::parse("some", "some.toml", &text).unwrap();
        assert_eq!(links(&draw::plan(&scenario, 1)), expected, "{faults}");
    }

    /// A run has proxies for the links that its faults may be about, and for no others.
    #[test]
    fn only_links_that_are_met() {
        let fault = |what: &str, whom: &str| {
            format!("[[fault]]\nwhat = \"{what}\"\nwhom = {whom}\nat = \"1s\"\nlasts = \"1s\"\n")
        };
        let all = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
        check(&fault("partition", "\"leader\""), &[]);
        check(&fault("lose-messages", "\"leader\""), &all);
        check(&fault("hold-messages", "\"n1\""), &[(0, 1), (0, 2), (1, 0), (2, 0)]);
        check(&(fault("crash", "\"all\"") + &fault("repeat-messages", "\"all\"")), &all);
    }
}
