//! Why an operation was not chosen for a hole: the earlier choices that kept it out are to blame too.

use std::ops::Range;

use super::History;
use super::evidence::{Evidence, Suspects, Unknown};
use super::replay::Replay;
use super::search::{Blame, Choice, Search};
use super::timeline::Timeline;
use crate::history::Request;

/// A txn whose revision is settled: what it did to its keys rests upon what it compared.
pub(super) struct Branching {
    puts: Vec<u32>,
    deletes: Vec<Range<u32>>,
    compared: Vec<u32>,
}

impl Branching {
    /// All of them.
    pub(super) fn list(history: &History<'_>, evidence: &Evidence<'_>) -> Vec<Self> {
        let settled = evidence.unknowns.iter().zip(&evidence.reserved);
        let settled = settled.filter(|(unknown, hole)| unknown.is_txn && hole.is_some());
        let branching = settled.map(|(unknown, _)| Self {
            puts: unknown.puts.iter().map(|put| put.key).collect(),
            deletes: unknown.deletes.clone(),
            compared: compared_keys(history, unknown.request),
        });
        branching.filter(|one| !one.compared.is_empty()).collect()
    }

    fn touches(&self, key: u32) -> bool {
        self.puts.contains(&key) || self.deletes.iter().any(|span| span.contains(&key))
    }
}

impl Search {
    /// Blames what settled txns compared before they did something to a blamed key.
    pub(super) fn spread(&self, timeline: &Timeline, blame: &mut Blame) {
        if self.branching.is_empty() {
            return;
        }
        let mut open: Vec<u32> = blame.keys.keys().copied().collect();
        while let Some(key) = open.pop() {
            let (_, until) = blame.keys[&key];
            let branching = self.branching.iter().filter(|one| one.touches(key));
            for compared in branching.flat_map(|one| &one.compared) {
                let known = blame.keys.get(compared);
                let is_new = known.is_none_or(|(since, last)| *since > 0 || *last < until);
                if is_new && timeline.is_open[*compared as usize] {
                    blame.add_up_to(*compared, 0, until);
                    open.push(*compared);
                }
            }
        }
    }
}

impl Replay<'_, '_> {
    /// Adds to the blame why operations that could mend the conflict were not tried for a choice: an earlier
    /// choice used them, or the state of their keys kept them out.
    pub(super) fn exclude(&self, choice: &Choice, blame: &mut Blame) {
        let deadline = self.order.deadline[choice.revision as usize];
        let everyone: Vec<u32>;
        let list = match &self.evidence.holes[choice.hole].suspects {
            Suspects::Some(list) => list,
            _ => {
                everyone = (0..self.evidence.unknowns.len() as u32).collect();
                &everyone
            }
        };
        for number in list {
            let unknown = &self.evidence.unknowns[*number as usize];
            if self.evidence.reserved[*number as usize].is_some()
                || unknown.call > deadline
                || !unknown.fits(choice.revision)
                || self.is_impossible(unknown, choice.revision)
                || !choice.admits(unknown)
            {
                continue;
            }
            let used = self.search.used[*number as usize];
            if used != 0 && used < choice.revision {
                blame.choices.insert(used);
                continue;
            }
            self.exclude_by_lease(unknown, choice.revision, blame);
            let request = unknown.request;
            let puts = unknown.puts.iter().map(|put| put.key);
            let deletes = unknown.deletes.iter().cloned().flatten();
            for key in puts.chain(deletes).chain(compared_keys(self.history, request)) {
                blame.add(key, self.search.confirmed_before(key, choice.revision));
            }
        }
        self.search.spread(&self.timeline, blame);
    }

    /// Whether sightings alone keep a single write from a revision, whatever was chosen before.
    fn is_impossible(&self, unknown: &Unknown<'_>, revision: i64) -> bool {
        if unknown.is_txn {
            return false;
        }
        let numbers = |key| self.timeline.next_seen(key, revision).and_then(|seen| seen.numbers());
        let put = unknown.puts.first().is_some_and(|put| {
            numbers(put.key).is_some_and(|(_, modified, _)| modified < revision)
        });
        let delete = unknown.deletes.first().is_some_and(|span| {
            span.len() == 1 && numbers(span.start).is_some_and(|(create, ..)| create <= revision)
        });
        put || delete
    }
}

/// Every key that a compare of a request looks at.
pub(super) fn compared_keys(history: &History<'_>, request: &Request) -> Vec<u32> {
    let mut keys = Vec::new();
    if let Request::Txn(txn) = request {
        for compare in &txn.compare {
            keys.extend(history.keys.span(&compare.key.0, &compare.range_end.0));
        }
        for inner in txn.success.iter().chain(&txn.failure) {
            keys.extend(compared_keys(history, inner));
        }
    }
    keys
}
