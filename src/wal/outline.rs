//! The log without its data: which index has which term, and which changes are allowed.
//!
//! Writer and recovery drive the same outline: the writer refuses what recovery would refuse later.
//!
//! Invariants:
//! * Indexes have no gap; terms never decrease along the log.
//! * An entry at or below the commit index is never written again.
//! * Term and commit never decrease, and within a term a vote once given stays.
//! * After each append, commit is at most the last index, and the last term at most the term.

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
    /// The place before the first entry known here, and its term where that is known.
    base_index: u64,
    base_term: Option<u64>,
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
        Self {
            base_index: base.index,
            base_term: Some(base.term),
            last: base,
            terms: Vec::new(),
            hard_state,
            pending: None,
        }
    }

    pub(super) fn last(&self) -> Mark {
        self.last
    }

    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Takes one append; returns the mark of the snapshot that now replaces earlier entries.
    ///
    /// Errors: the sentence that says which rule is broken. The outline is then of no further use.
    pub(super) fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<HardState>,
    ) -> Result<Option<Mark>, String> {
        let next = hard_state.unwrap_or(self.hard_state);
        self.check_hard_state(next)?;
        let replaced = self.settle(entries, next.commit);
        let committed = replaced.map_or(self.hard_state.commit, |mark| mark.index);
        if let Some(first) = entries.first() {
            if first.index > self.last.index + 1 {
                let last = self.last.index;
                return Err(format!("entry {} follows entry {last}: a gap", first.index));
            }
            if first.index <= committed {
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
        self.base_index = index;
        self.base_term = Some(term);
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

    /// Decides on a pending mark once its index is committed; returns it when it replaces the log.
    fn settle(&mut self, entries: &[Entry], commit: u64) -> Option<Mark> {
        let mark = self.pending.filter(|mark| mark.index <= commit)?;
        self.pending = None;
        let first = entries.first().map_or(u64::MAX, |entry| entry.index);
        let at = if first <= mark.index {
            let place = usize::try_from(mark.index - first).unwrap_or(usize::MAX);
            entries.get(place).map_or(At::Absent, |entry| At::Term(entry.term))
        } else {
            self.at(mark.index)
        };
        if at == At::Term(mark.term) {
            return None;
        }
        self.base_index = mark.index;
        self.base_term = Some(mark.term);
        self.last = mark;
        self.terms.clear();
        Some(mark)
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
        if index > self.last.index {
            return;
        }
        if index <= self.base_index {
            // Only a log that was released starts above its commit index: with a segment that
            // was made before these entries were replaced.
            self.base_index = index - 1;
            self.base_term = None;
        }
        while self.terms.last().is_some_and(|run| run.0 >= index) {
            self.terms.pop();
        }
        let term = self.terms.last().map_or(self.base_term.unwrap_or(0), |run| run.1);
        self.last = Mark { index: index - 1, term };
        assert!(self.terms.is_empty() == (self.last.index == self.base_index), "runs cover all");
    }

    fn at(&self, index: u64) -> At {
        if index > self.last.index {
            return At::Absent;
        }
        if index <= self.base_index {
            let term = self.base_term.filter(|_| index == self.base_index);
            return term.map_or(At::Below, At::Term);
        }
        let run = self.terms.partition_point(|run| run.0 <= index);
        assert!(run > 0, "runs cover base to last");
        At::Term(self.terms[run - 1].1)
    }
}
