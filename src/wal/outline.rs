//! The log without its data: which index has which term, and which changes are allowed.
//!
//! Writer and recovery drive the same outline: the writer refuses what recovery would refuse later.
//!
//! Invariants:
//! * Indexes have no gap; terms never decrease along the log.
//! * An entry at or below the commit index is never written again.
//! * Term and commit never decrease, and within a term a vote once given stays.
//! * After each append, commit is at most the last index and the last entry's term at most the term.

use super::{Entry, HardState, Mark};

/// What is known about the entry at some index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Released, or covered by a snapshot.
    Below,
    /// In the log, with this term.
    Term(u64),
    /// Beyond the end.
    Absent,
}

/// The log without its data.
#[derive(Clone, Debug)]
pub(super) struct Outline {
    /// The place before the first entry known here.
    base: Mark,
    last: Mark,
    /// First index of each run of equal terms, ascending.
    terms: Vec<(u64, u64)>,
    hard_state: HardState,
    /// A mark of a snapshot that is not part of this log. It replaces the log as soon as a hard
    /// state says that the snapshot's index is committed; should entries come first that lead up
    /// to that index, it does not.
    pending: Option<Mark>,
}

impl Outline {
    /// A log whose entries follow `base`.
    pub(super) fn new(base: Mark, hard_state: HardState) -> Self {
        Self { base, last: base, terms: Vec::new(), hard_state, pending: None }
    }

    pub(super) fn last(&self) -> Mark {
        self.last
    }

    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Takes one append; `true` when a snapshot has replaced all earlier entries.
    ///
    /// Errors: the sentence that says which rule is broken. The outline is then of no further use.
    pub(super) fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<HardState>,
    ) -> Result<bool, String> {
        let next = hard_state.unwrap_or(self.hard_state);
        self.check_hard_state(next)?;
        let replaced = self.settle(entries, next.commit);
        let committed = if replaced { self.base.index } else { self.hard_state.commit };
        if let Some(first) = entries.first() {
            if first.index > self.last.index + 1 {
                let last = self.last.index;
                return Err(format!("entry {} follows entry {last}: a gap", first.index));
            }
            if first.index <= committed || first.index <= self.base.index {
                return Err(format!(
                    "entry {} is written again, {committed} is committed",
                    first.index
                ));
            }
            self.truncate(first.index);
        }
        for entry in entries {
            self.push(entry)?;
        }
        if next.commit > self.last.index {
            let last = self.last.index;
            return Err(format!("commit {} is beyond the last entry {last}", next.commit));
        }
        if self.last.term > next.term {
            let Mark { index, term } = self.last;
            return Err(format!(
                "entry {index} has term {term}, the hard state only {}",
                next.term
            ));
        }
        self.hard_state = next;
        Ok(replaced)
    }

    /// Takes the mark of a snapshot. Errors: as [`Outline::append`].
    pub(super) fn mark(&mut self, mark: Mark) -> Result<(), String> {
        match self.at(mark.index) {
            At::Below => {}
            At::Term(term) if term == mark.term => {}
            At::Term(term) if mark.index <= self.hard_state.commit => {
                let Mark { index, term: other } = mark;
                return Err(format!("snapshot of entry {index} has term {other}, the log {term}"));
            }
            At::Term(_) | At::Absent => self.pending = Some(mark),
        }
        Ok(())
    }

    /// Forgets terms below `index`, which must be committed.
    pub(super) fn forget_below(&mut self, index: u64) {
        assert!(index <= self.hard_state.commit, "only committed entries are released");
        let At::Term(term) = self.at(index) else { return };
        self.base = Mark { index, term };
        self.terms.retain(|run| run.0 > index);
        if index < self.last.index && self.terms.first().is_none_or(|run| run.0 > index + 1) {
            self.terms.insert(0, (index + 1, term));
        }
    }

    fn check_hard_state(&self, next: HardState) -> Result<(), String> {
        let now = self.hard_state;
        if next.term < now.term {
            return Err(format!("term goes back from {} to {}", now.term, next.term));
        }
        if next.term == now.term && now.vote != 0 && next.vote != now.vote {
            let term = now.term;
            return Err(format!("vote of term {term} changes from {} to {}", now.vote, next.vote));
        }
        if next.commit < now.commit {
            return Err(format!("commit goes back from {} to {}", now.commit, next.commit));
        }
        Ok(())
    }

    /// Decides on a pending mark once its index is committed; `true` when it replaces the log.
    fn settle(&mut self, entries: &[Entry], commit: u64) -> bool {
        let Some(mark) = self.pending.filter(|mark| mark.index <= commit) else { return false };
        self.pending = None;
        let first = entries.first().map_or(u64::MAX, |entry| entry.index);
        let at = if first <= mark.index {
            let place = usize::try_from(mark.index - first).unwrap_or(usize::MAX);
            entries.get(place).map_or(At::Absent, |entry| At::Term(entry.term))
        } else {
            self.at(mark.index)
        };
        let replaced = at != At::Term(mark.term);
        if replaced {
            self.base = mark;
            self.last = mark;
            self.terms.clear();
        }
        replaced
    }

    fn push(&mut self, entry: &Entry) -> Result<(), String> {
        let Mark { index: last, term } = self.last;
        if entry.index != last + 1 {
            return Err(format!("entry {} follows entry {last}", entry.index));
        }
        if entry.term < term {
            let Entry { index, term: lower, .. } = entry;
            return Err(format!("entry {index} has term {lower}, the one before {term}"));
        }
        if entry.term > term || self.terms.is_empty() {
            self.terms.push((entry.index, entry.term));
        }
        self.last = Mark { index: entry.index, term: entry.term };
        Ok(())
    }

    /// Drops the entries from `index` on.
    fn truncate(&mut self, index: u64) {
        assert!(index > self.base.index, "a snapshot cannot be truncated");
        if index > self.last.index {
            return;
        }
        while self.terms.last().is_some_and(|run| run.0 >= index) {
            self.terms.pop();
        }
        let term = self.terms.last().map_or(self.base.term, |run| run.1);
        self.last = Mark { index: index - 1, term };
        assert_eq!(self.terms.is_empty(), self.last == self.base, "runs cover base to last");
    }

    fn at(&self, index: u64) -> At {
        if index > self.last.index {
            return At::Absent;
        }
        if index == self.base.index {
            return At::Term(self.base.term);
        }
        if index < self.base.index {
            return At::Below;
        }
        let run = self.terms.partition_point(|run| run.0 <= index);
        assert!(run > 0, "runs cover base to last");
        At::Term(self.terms[run - 1].1)
    }
}
