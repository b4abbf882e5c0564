//! What the runner itself watches while the cluster runs, from inside the members.
//!
//! * `one-leader-per-term`: no two members ever believe to lead in the same term, restarts or not.
//!
//! Looks every few milliseconds: a leadership lasts at least until the next heartbeat is missed.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::recorder::Recorder;

/// Shorter than any leadership; long enough to cost nothing.
const LOOK_EVERY_NS: u64 = 20_000_000;

/// Watches until nothing that follows could change the verdict for the better.
pub async fn until_over(cluster: &Cluster, recorder: &Recorder) {
    let mut leaders: BTreeMap<u64, usize> = BTreeMap::new();
    let mut last = None;
    let mut were_believed = 0;
    while !recorder.is_over() {
        cluster.world.sleep(LOOK_EVERY_NS).await;
        cluster.reap();
        let mut believed = 0;
        for member in 0..cluster.count() {
            let Some(term) = cluster.leads(member) else { continue };
            believed += 1;
            let first = *leaders.entry(term).or_insert(member);
            if first != member {
                let (one, other) = (cluster.name(first), cluster.name(member));
                let sentence = format!(
                    "{one} and {other} have both led in term {term}: some member voted twice in that term"
                );
                recorder.broken("one-leader-per-term", sentence);
            }
        }
        recorder.met("two_believed_to_lead", u64::from(believed > 1 && were_believed <= 1));
        were_believed = believed;
        let leader = cluster.leader();
        if leader.is_some() && leader != last {
            recorder.met("leader_changes", u64::from(last.is_some()));
            let writes = u64::from(last.is_some() && recorder.awaits_a_write());
            recorder.met("leader_changed_with_writes_in_flight", writes);
            last = leader;
        }
    }
}
