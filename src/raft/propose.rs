//! Proposals that raft has not been given yet: they wait for a leader, or for their turn.
//!
//! Invariants:
//! * A proposal here has reached neither the log nor another member: dropping it is a certain failure.
//! * Number and bytes are bounded.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::Entry;

use super::waiters::Answer;

/// One request on its way into the log.
pub(super) struct Proposal {
    pub(super) id: u64,
    pub(super) data: Bytes,
    pub(super) answer: Answer,
}

impl Proposal {
    /// The entry that raft is given; the bytes are shared.
    pub(super) fn entry(&self) -> Entry {
        Entry { data: self.data.clone(), ..Entry::default() }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Proposals {
    waiting: VecDeque<Proposal>,
    bytes: usize,
}

impl Proposals {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The bytes of all that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one in; the caller keeps the bounds.
    pub(super) fn push(&mut self, proposal: Proposal) {
        self.bytes += proposal.data.len();
        self.waiting.push_back(proposal);
    }

    /// The oldest ones, until they reach `bytes_max`; at least one.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<Proposal> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            if !batch.is_empty() && bytes + next.data.len() > bytes_max {
                break;
            }
            bytes += next.data.len();
            batch.extend(self.waiting.pop_front());
        }
        self.bytes -= bytes;
        batch
    }

    /// Forgets those whose proposer gave up.
    pub(super) fn tick(&mut self) {
        self.waiting.retain(|proposal| !proposal.answer.is_closed());
        self.bytes = self.waiting.iter().map(|proposal| proposal.data.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch takes the oldest proposals up to its size, and always one.
    #[test]
    fn batches() {
        let check = |bytes_max: usize, expected: &[&[u64]]| {
            let mut proposals = Proposals::default();
            let mut receivers = Vec::new();
            for (id, length) in [(1, 10), (2, 10), (3, 30), (4, 5)] {
                let (answer, receiver) = tokio::sync::oneshot::channel();
                let data = Bytes::from(vec![0; length]);
                proposals.push(Proposal { id, data, answer });
                receivers.push(receiver);
            }
            let mut got = Vec::new();
            while !proposals.is_empty() {
                let batch = proposals.take(bytes_max);
                got.push(batch.into_iter().map(|proposal| proposal.id).collect::<Vec<_>>());
            }
            assert_eq!(got, expected, "at most {bytes_max} bytes");
            assert_eq!(proposals.bytes(), 0);
        };
        check(0, &[&[1], &[2], &[3], &[4]]);
        check(20, &[&[1, 2], &[3], &[4]]);
        check(35, &[&[1, 2], &[3, 4]]);
        check(1000, &[&[1, 2, 3, 4]]);
    }

    /// A proposal whose proposer gave up is not proposed.
    #[test]
    fn gave_up() {
        let mut proposals = Proposals::default();
        let (answer, _) = tokio::sync::oneshot::channel();
        proposals.push(Proposal { id: 1, data: Bytes::from_static(b"xx"), answer });
        proposals.tick();
        assert_eq!((proposals.len(), proposals.bytes()), (0, 0));
    }
}
