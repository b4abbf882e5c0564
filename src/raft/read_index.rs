//! Linearizable reads: which reads wait for which answer of the leader.
//!
//! A read joins `waiting`. A round takes all that wait, **then** its request is sent with a context that was
//! never used before; the answer to that context alone confirms the round, at an index. Once the state machine
//! has applied that index, and the term and leader are still those that the request was sent under, the reads
//! may look at the state.
//!
//! Invariants:
//! * No read is in a round whose request was sent before the read arrived.
//! * A context is never used twice, not for a retry and not after a restart: a late answer to an earlier try,
//!   delayed across a change of leader, can confirm nothing.
//! * Nothing is asked before a leader is known and an entry of its term is known to be committed: raft-rs
//!   drops such requests silently.
//! * At most one round is under way; the number of reads is bounded.
//!
//! Not here: time. `tick` counts, and a reader gives up by dropping its end (see [`Reader::is_gone`]).

use std::collections::VecDeque;

use crate::error::Refusal;

/// Who waits for a confirmation.
pub(super) trait Reader {
    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool;
}

/// Term and leader as this member knows them; leader 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leadership {
    /// The term.
    pub(super) term: u64,
    /// The leader's id.
    pub(super) leader: u64,
}

/// A source of contexts that are never used twice.
#[derive(Debug)]
pub(super) struct Contexts {
    member_id: u64,
    nonce: u64,
    counter: u64,
}

impl Contexts {
    /// `nonce` must differ between starts of one member.
    pub(super) fn new(member_id: u64, nonce: u64) -> Self {
        Self { member_id, nonce, counter: 0 }
    }

    fn next(&mut self) -> Vec<u8> {
        self.counter += 1;
        [self.member_id, self.nonce, self.counter].map(u64::to_be_bytes).concat()
    }
}

struct Round<T> {
    context: Vec<u8>,
    sent_under: Leadership,
    ticks: u64,
    reads: Vec<T>,
}

struct Confirmed<T> {
    index: u64,
    sent_under: Leadership,
    reads: Vec<T>,
}

/// See the module.
pub(super) struct ReadIndex<T> {
    contexts: Contexts,
    retry_ticks: u64,
    limit: usize,
    waiting: Vec<T>,
    round: Option<Round<T>>,
    confirmed: VecDeque<Confirmed<T>>,
}

impl<T: Reader> ReadIndex<T> {
    /// `retry_ticks`: how long an answer is awaited; `limit`: how many reads may be here at once.
    pub(super) fn new(contexts: Contexts, retry_ticks: u64, limit: usize) -> Self {
        let (waiting, confirmed) = (Vec::new(), VecDeque::new());
        Self { contexts, retry_ticks: retry_ticks.max(1), limit, waiting, round: None, confirmed }
    }

    fn len(&self) -> usize {
        let round = self.round.as_ref().map_or(0, |round| round.reads.len());
        let confirmed: usize = self.confirmed.iter().map(|c| c.reads.len()).sum();
        self.waiting.len() + round + confirmed
    }

    /// Takes a read in, or gives it back with the reason.
    pub(super) fn push(&mut self, read: T) -> Result<(), (T, Refusal)> {
        if self.waiting.len() >= self.limit || self.len() >= self.limit {
            return Err((read, Refusal::TooManyRequests));
        }
        self.waiting.push(read);
        Ok(())
    }

    /// The context to ask the leader with now, if a round can start.
    ///
    /// `committed_in_term`: whether this member knows a committed entry of the current term.
    pub(super) fn ask(&mut self, now: Leadership, committed_in_term: bool) -> Option<Vec<u8>> {
        if now.leader == 0 || !committed_in_term {
            return None;
        }
        if let Some(round) = &mut self.round {
            if round.ticks < self.retry_ticks {
                return None;
            }
            // Lost on the way, or dropped by a leader that was not ready. A later read must not join:
            // the batch was closed when its first request left.
            round.context = self.contexts.next();
            round.ticks = 0;
            assert_eq!(round.sent_under, now, "a round outlived its leadership");
            return Some(round.context.clone());
        }
        if self.waiting.is_empty() {
            return None;
        }
        let context = self.contexts.next();
        let reads = std::mem::take(&mut self.waiting);
        self.round = Some(Round { context: context.clone(), sent_under: now, ticks: 0, reads });
        Some(context)
    }

    /// Time passes: rounds grow old, readers that left are forgotten.
    pub(super) fn tick(&mut self) {
        self.waiting.retain(|read| !read.is_gone());
        for confirmed in &mut self.confirmed {
            confirmed.reads.retain(|read| !read.is_gone());
        }
        self.confirmed.retain(|confirmed| !confirmed.reads.is_empty());
        if let Some(round) = &mut self.round {
            round.ticks += 1;
            round.reads.retain(|read| !read.is_gone());
        }
        if self.round.as_ref().is_some_and(|round| round.reads.is_empty()) {
            self.round = None;
        }
    }

    /// The leader answered `context` with `index`.
    pub(super) fn confirm(&mut self, context: &[u8], index: u64) {
        match self.round.take_if(|round| round.context == context) {
            Some(Round { sent_under, reads, .. }) => {
                self.confirmed.push_back(Confirmed { index, sent_under, reads });
            }
            None => tracing::debug!("an answer to an earlier read index request is ignored"),
        }
    }

    /// Term or leader are now these; gives back the reads that must be told so.
    ///
    /// While no leader is known nothing can be said yet: the same one may come back.
    #[must_use]
    pub(super) fn leadership(&mut self, now: Leadership) -> Vec<T> {
        let mut changed = Vec::new();
        let outlived = |under: Leadership| {
            under.term != now.term || (now.leader != 0 && under.leader != now.leader)
        };
        if let Some(round) = self.round.take_if(|round| outlived(round.sent_under)) {
            changed.extend(round.reads);
        }
        for confirmed in std::mem::take(&mut self.confirmed) {
            if outlived(confirmed.sent_under) {
                changed.extend(confirmed.reads);
            } else {
                self.confirmed.push_back(confirmed);
            }
        }
        if let Some(round) = &mut self.round {
            // raft-rs forgets requests whenever a role changes: ask again at once.
            round.ticks = self.retry_ticks;
        }
        changed
    }

    /// The reads that may look at the state, now that `applied` is.
    #[must_use]
    pub(super) fn take_ready(&mut self, applied: u64) -> Vec<T> {
        let mut ready = Vec::new();
        while self.confirmed.front().is_some_and(|confirmed| confirmed.index <= applied) {
            ready.extend(self.confirmed.pop_front().map(|c| c.reads).unwrap_or_default());
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Clone, Copy)]
    struct Name(&'static str);

    impl Reader for Name {
        fn is_gone(&self) -> bool {
            self.0.starts_with("gone")
        }
    }

    const ONE: Leadership = Leadership { term: 1, leader: 7 };
    const TWO: Leadership = Leadership { term: 2, leader: 8 };

    fn reads(names: &[&'static str]) -> ReadIndex<Name> {
        let mut reads = ReadIndex::new(Contexts::new(1, 9), 5, 4);
        for name in names {
            reads.push(Name(name)).unwrap();
        }
        reads
    }

    fn names(ready: Vec<Name>) -> Vec<&'static str> {
        ready.into_iter().map(|name| name.0).collect()
    }

    /// A read that arrives after the request has left waits for the next round.
    #[test]
    fn a_late_read_is_in_the_next_round() {
        let mut reads = reads(&["a", "b"]);
        let first = reads.ask(ONE, true).unwrap();
        reads.push(Name("late")).unwrap();
        assert_eq!(reads.ask(ONE, true), None, "one round at a time");
        reads.confirm(&first, 10);
        assert_eq!(names(reads.take_ready(10)), ["a", "b"]);
        let second = reads.ask(ONE, true).unwrap();
        assert_ne!(first, second);
        reads.confirm(&second, 10);
        assert_eq!(names(reads.take_ready(10)), ["late"]);
    }

    /// A read waits until the confirmed index is applied.
    #[test]
    fn applied_index() {
        let mut reads = reads(&["a"]);
        let context = reads.ask(ONE, true).unwrap();
        reads.confirm(&context, 10);
        assert_eq!(names(reads.take_ready(9)), [""; 0]);
        assert_eq!(names(reads.take_ready(11)), ["a"]);
    }

    /// Nothing is asked without a leader, or before an entry of its term is committed.
    #[test]
    fn requests_that_raft_would_drop() {
        let check = |now, committed_in_term, expected: bool| {
            assert_eq!(reads(&["a"]).ask(now, committed_in_term).is_some(), expected);
        };
        check(ONE, true, true);
        check(ONE, false, false);
        check(Leadership { term: 1, leader: 0 }, true, false);
    }

    /// A retry has a fresh context, and the answer to the first try no longer counts.
    #[test]
    fn retries() {
        let mut reads = reads(&["a"]);
        let first = reads.ask(ONE, true).unwrap();
        for _ in 0..4 {
            reads.tick();
            assert_eq!(reads.ask(ONE, true), None);
        }
        reads.tick();
        let second = reads.ask(ONE, true).unwrap();
        assert_ne!(first, second);
        reads.confirm(&first, 10);
        assert_eq!(names(reads.take_ready(10)), [""; 0]);
        reads.confirm(&second, 10);
        assert_eq!(names(reads.take_ready(10)), ["a"]);
    }

    /// What was asked, or confirmed and not yet read, under another term or leader is told so.
    #[test]
    fn changes_of_leadership() {
        let check = |now, confirm: bool, expected: &[&str]| {
            let mut reads = reads(&["a"]);
            let context = reads.ask(ONE, true).unwrap();
            if confirm {
                reads.confirm(&context, 10);
            }
            reads.push(Name("waiting")).unwrap();
            assert_eq!(names(reads.leadership(now)), expected, "{now:?}, confirmed: {confirm}");
        };
        check(TWO, false, &["a"]);
        check(TWO, true, &["a"]);
        check(Leadership { term: 1, leader: 8 }, true, &["a"]);
        check(Leadership { term: 2, leader: 0 }, false, &["a"]);
        check(Leadership { term: 1, leader: 0 }, false, &[]);
        check(ONE, true, &[]);
    }

    /// After the leader was lost and came back in the same term, the round is asked again at once.
    #[test]
    fn same_leader_again() {
        let mut reads = reads(&["a"]);
        let first = reads.ask(ONE, true).unwrap();
        assert!(reads.leadership(Leadership { term: 1, leader: 0 }).is_empty());
        assert!(reads.leadership(ONE).is_empty());
        let second = reads.ask(ONE, true).expect("asked again without waiting for the retry");
        assert_ne!(first, second);
    }

    /// More reads than the limit are refused, wherever the others are.
    #[test]
    fn bounded() {
        let mut reads = reads(&["a", "b"]);
        let context = reads.ask(ONE, true).unwrap();
        reads.confirm(&context, 10);
        reads.push(Name("c")).unwrap();
        reads.push(Name("d")).unwrap();
        assert_eq!(reads.push(Name("e")), Err((Name("e"), Refusal::TooManyRequests)));
    }

    /// Readers that gave up are forgotten, and a round without readers ends.
    #[test]
    fn readers_that_left() {
        let mut reads = reads(&["gone 1", "a", "gone 2"]);
        reads.ask(ONE, true).unwrap();
        reads.tick();
        assert_eq!(reads.len(), 1);
        let mut reads = super::tests::reads(&["gone"]);
        reads.ask(ONE, true).unwrap();
        reads.tick();
        reads.push(Name("next")).unwrap();
        assert!(reads.ask(ONE, true).is_some(), "the next round does not wait for the empty one");
    }
}
