//! Proposals on their way: who waits for which request, and the numbers that tell requests apart.
//!
//! Invariants:
//! * A number is used once: never again by this member, nor after a restart.
//! * The number of waiters is bounded; a waiter that gave up is forgotten at the next tick.
//!
//! Not here: time. Whoever waits has the deadline (`handle.rs`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use crate::error::Refusal;
use crate::state::Response;

/// The answer to a proposal.
pub(super) type Answer = oneshot::Sender<Result<Response, Refusal>>;

/// Bits of a request's number that count; the others say which member made it.
const COUNTER_BITS: u32 = 48;

/// A source of request numbers.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Starts at a random place: with 2^48 places, two starts of a member do not meet.
    pub(super) fn new(member_id: u64, nonce: u64) -> Self {
        Self { prefix: member_id << COUNTER_BITS, next: AtomicU64::new(nonce) }
    }

    /// A number that was not used before; never 0.
    pub(super) fn next(&self) -> u64 {
        let mask = (1 << COUNTER_BITS) - 1;
        loop {
            let id = self.prefix | (self.next.fetch_add(1, Ordering::Relaxed) & mask);
            if id != 0 {
                return id;
            }
        }
    }
}

/// Who waits for which request to be applied.
#[derive(Debug)]
pub(super) struct Waiters {
    limit: usize,
    waiting: BTreeMap<u64, Answer>,
}

impl Waiters {
    /// At most `limit` at once.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, waiting: BTreeMap::new() }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// `answer` waits for request `id`.
    pub(super) fn insert(&mut self, id: u64, answer: Answer) {
        assert!(self.len() < self.limit, "more waiters than the limit of {}", self.limit);
        let before = self.waiting.insert(id, answer);
        assert!(before.is_none(), "request number {id:x} was used twice");
    }

    /// Request `id` came out like this; nobody may be waiting for it.
    pub(super) fn answer(&mut self, id: u64, result: Result<Response, Refusal>) {
        if let Some(answer) = self.waiting.remove(&id) {
            // The one who waited may have given up in this moment; the outcome is then unknown to them.
            let _ = answer.send(result);
        }
    }

    /// Forgets those that gave up.
    pub(super) fn tick(&mut self) {
        self.waiting.retain(|_, answer| !answer.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers differ, carry the member, skip zero and wrap within their bits.
    #[test]
    fn request_numbers() {
        let check = |member_id, nonce, expected: &[u64]| {
            let ids = RequestIds::new(member_id, nonce);
            let got: Vec<u64> = expected.iter().map(|_| ids.next()).collect();
            assert_eq!(got, expected, "member {member_id:x}, nonce {nonce:x}");
        };
        check(0xabcd, 5, &[0xabcd_0000_0000_0005, 0xabcd_0000_0000_0006]);
        check(1, u64::MAX, &[0x0001_ffff_ffff_ffff, 0x0001_0000_0000_0000]);
        check(0xffff_0000, 0, &[1, 2]);
    }

    /// An answer reaches the one who waits for that number, once.
    #[test]
    fn answers() {
        let mut waiters = Waiters::new(2);
        let (answer, mut mine) = oneshot::channel();
        let (other, mut theirs) = oneshot::channel();
        waiters.insert(1, answer);
        waiters.insert(2, other);
        assert_eq!(waiters.len(), 2);
        waiters.answer(1, Err(Refusal::Compacted));
        waiters.answer(3, Err(Refusal::Compacted));
        assert!(matches!(mine.try_recv(), Ok(Err(Refusal::Compacted))));
        assert!(theirs.try_recv().is_err());
    }

    /// Who gave up makes room at the next tick.
    #[test]
    fn gave_up() {
        let mut waiters = Waiters::new(1);
        let (answer, mine) = oneshot::channel();
        waiters.insert(1, answer);
        drop(mine);
        assert_eq!(waiters.len(), 1);
        waiters.tick();
        assert_eq!(waiters.len(), 0);
    }
}
