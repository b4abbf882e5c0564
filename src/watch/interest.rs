//! Who is interested in which keys: single keys by lookup, ranges by a tree.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::intervals::{End, Intervals};

/// What a watch watches, in etcd's words: no end is a single key, the end `\0` is all that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    start: Bytes,
    /// `None` for a single key.
    end: Option<End>,
}

impl Keys {
    /// The keys that `key` and `range_end` of a request select; `None` where there can be none.
    #[must_use]
    pub fn new(key: &[u8], range_end: &[u8]) -> Option<Self> {
        // Copies: slices of a request would keep its frame in memory for the life of the watch. No key
        // at all means the first there can be.
        let start = Bytes::copy_from_slice(if key.is_empty() { b"\0" } else { key });
        let end = match range_end {
            [] => None,
            [0] => Some(End::open()),
            end if end <= &start[..] => return None,
            end => Some(End::before(Bytes::copy_from_slice(end))),
        };
        Some(Self { start, end })
    }
}

/// Watchers by what they watch.
#[derive(Debug, Default)]
pub(super) struct Interest {
    keys: BTreeMap<Bytes, BTreeSet<u64>>,
    ranges: Intervals,
}

impl Interest {
    pub(super) fn insert(&mut self, keys: &Keys, watcher: u64) {
        match &keys.end {
            None => drop(self.keys.entry(keys.start.clone()).or_default().insert(watcher)),
            Some(end) => self.ranges.insert(&keys.start, end, watcher),
        }
    }

    pub(super) fn remove(&mut self, keys: &Keys, watcher: u64) {
        match &keys.end {
            None => {
                if let Some(watchers) = self.keys.get_mut(&keys.start) {
                    watchers.remove(&watcher);
                    if watchers.is_empty() {
                        self.keys.remove(&keys.start);
                    }
                }
            }
            Some(end) => self.ranges.remove(&keys.start, end, watcher),
        }
    }

    /// Visits everybody who watches `key`.
    pub(super) fn visit(&self, key: &[u8], mut visit: impl FnMut(u64)) {
        if let Some(watchers) = self.keys.get(key) {
            watchers.iter().for_each(|watcher| visit(*watcher));
        }
        self.ranges.visit(key, &mut visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys, prefixes and open ranges are told apart as etcd does, and an empty range is none.
    #[test]
    fn what_is_watched() {
        let check = |key: &str, end: &str, watched: &str, not: &str| {
            let keys = Keys::new(key.as_bytes(), end.as_bytes()).expect("not empty");
            let mut interest = Interest::default();
            interest.insert(&keys, 7);
            let found = |interest: &Interest, key: &str| {
                let mut found = Vec::new();
                interest.visit(key.as_bytes(), |watcher| found.push(watcher));
                found
            };
            for word in watched.split(' ') {
                assert_eq!(found(&interest, word), [7], "{word} in {key}..{end}");
            }
            for word in not.split(' ') {
                assert_eq!(found(&interest, word), [0; 0], "{word} in {key}..{end}");
            }
            interest.remove(&keys, 7);
            assert_eq!(found(&interest, watched), [0; 0]);
        };
        check("a", "", "a", "aa b \0");
        check("a", "b", "a a\0 az", "b \0");
        check("b", "\0", "b z", "a");
        check("", "\0", "a \0", "");
        check("", "", "\0", "a");
        assert_eq!(Keys::new(b"b", b"a"), None);
        assert_eq!(Keys::new(b"b", b"b"), None);
    }
}
