//! Answers that were made and that nobody has taken yet: counted, so that clients who do not read cannot fill the
//! memory.
//!
//! Invariants:
//! * No answer is given out while as much is held as may be; one that begins below the bound always fits, however
//!   large.
//! * Small answers may use as much again: those who read one key do not wait for those who do not read everything.
//! * What was counted is given back when its [`Held`] is dropped, wherever that happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Limits;

/// The account.
#[derive(Debug)]
pub(super) struct Answers {
    bytes: AtomicUsize,
    bytes_max: usize,
    small_bytes: usize,
}

/// An answer's part of the account.
#[derive(Debug)]
pub struct Held {
    answers: Arc<Answers>,
    bytes: usize,
}

impl Answers {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let Limits { answers_bytes_max: bytes_max, answer_small_bytes: small_bytes, .. } = *limits;
        Arc::new(Self { bytes: AtomicUsize::new(0), bytes_max, small_bytes })
    }

    /// Counts an answer of so many bytes, if it may be given out.
    pub(super) fn admit(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let before = self.bytes.load(Ordering::Relaxed);
        let share = if bytes <= self.small_bytes { 2 } else { 1 };
        (before < share * self.bytes_max).then(|| self.hold(bytes))
    }

    /// Counts an answer that must be given out.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Held { answers: Arc::clone(self), bytes }
    }

    /// Whether even a small answer would be refused.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= 2 * self.bytes_max
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is room until the bound is reached, one answer may go beyond it, small ones until twice the bound, and what
    /// is dropped makes room again.
    #[test]
    fn counted_until_dropped() {
        let limits = Limits { answers_bytes_max: 10, answer_small_bytes: 1, ..Limits::default() };
        let answers = Answers::new(&limits);
        let first = answers.admit(9).unwrap();
        let second = answers.admit(5).unwrap();
        assert!(answers.admit(2).is_none(), "14 of 10 are held");
        let small: Vec<Held> = (0..6).map(|_| answers.admit(1).unwrap()).collect();
        assert!(answers.admit(1).is_none() && answers.is_full(), "20 of 10 are held");
        drop(first);
        assert!(!answers.is_full());
        assert!(answers.admit(2).is_none(), "11 of 10 are held");
        drop(second);
        assert!(answers.admit(100).is_some());
        drop(small);
    }
}
