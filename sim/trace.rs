//! What happened in a run, as a running hash and, where asked for, as lines.
//!
//! Every delivery, disk operation, fault and client event is one [`Event`]. Two runs of one plan are the same run
//! if and only if their hashes are equal; when they are not, the first differing line says where they parted.
//!
//! Invariants:
//! * The hash depends on the events and their order alone: not on the process, the machine's word order or a map.
//! * Keeping lines does not change the hash.
//! * Lines take bounded memory: past the limit only hash and count go on, and the last line says so.
//!
//! Not here: what clients saw (`history`).

use std::fmt::Write as _;
use std::sync::Mutex;

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When, in nanoseconds of virtual time.
    pub at_ns: u64,
    /// What, such as `disk.write`.
    pub kind: &'static str,
    /// To which node; empty for the world itself.
    pub node: &'a str,
    /// To which file, link or thing; may be empty.
    pub target: &'a str,
    /// Numbers with their names; the names are for people and are not hashed.
    pub numbers: &'a [(&'static str, u64)],
    /// Contents, where they are ours to determine; lines carry their hash alone.
    pub bytes: &'a [u8],
}

/// The record of one run.
pub struct Trace {
    inner: Mutex<Inner>,
}

struct Inner {
    hash: u64,
    count: u64,
    lines: Vec<String>,
    lines_max: usize,
}

impl Trace {
    /// A trace that keeps up to `lines_max` lines; 0 for the hash alone.
    pub fn new(lines_max: usize) -> Self {
        Self { inner: Mutex::new(Inner { hash: SEED, count: 0, lines: Vec::new(), lines_max }) }
    }

    /// Adds one event.
    pub fn record(&self, event: Event<'_>) {
        let mut inner = self.inner.lock().expect("one thread, no panic inside");
        let mut hash = mix(inner.hash, event.at_ns);
        for text in [event.kind, event.node, event.target] {
            hash = hash_bytes(hash, text.as_bytes());
        }
        for (_, number) in event.numbers {
            hash = mix(hash, *number);
        }
        if !event.bytes.is_empty() {
            hash = hash_bytes(hash, event.bytes);
        }
        inner.hash = hash;
        inner.count += 1;
        if inner.lines.len() < inner.lines_max {
            let line = line(&event);
            inner.lines.push(line);
            if inner.lines.len() == inner.lines_max {
                inner.lines.push(String::from(r#"{"kind":"trace.full"}"#));
            }
        }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.inner.lock().expect("one thread, no panic inside").hash
    }

    /// How many events there were.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.inner.lock().expect("one thread, no panic inside").count
    }

    /// Takes the lines out: one JSON object each.
    pub fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().expect("one thread, no panic inside").lines)
    }
}

fn line(event: &Event<'_>) -> String {
    let mut line = format!(r#"{{"at":{},"kind":"{}""#, event.at_ns, event.kind);
    for (name, text) in [("node", event.node), ("target", event.target)] {
        if !text.is_empty() {
            let text = serde_json::Value::from(text);
            write!(line, r#","{name}":{text}"#).expect("strings take everything");
        }
    }
    for (name, number) in event.numbers {
        write!(line, r#","{name}":{number}"#).expect("strings take everything");
    }
    if !event.bytes.is_empty() {
        let hash = hash_bytes(SEED, event.bytes);
        write!(line, r#","bytes":"{hash:016x}""#).expect("strings take everything");
    }
    line.push('}');
    line
}

/// Where every hash starts.
pub const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds a number into a hash: both halves of a 128-bit product, as wyhash does.
#[must_use]
pub fn mix(hash: u64, value: u64) -> u64 {
    let product =
        u128::from(hash ^ 0xa076_1d64_78bd_642f) * u128::from(value ^ 0xe703_7ed1_a0b4_28db);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    (low ^ high).wrapping_add(hash.rotate_left(23))
}

/// Folds bytes and their number into a hash.
#[must_use]
pub fn hash_bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    for word in words.by_ref() {
        hash = mix(hash, u64::from_le_bytes(word.try_into().expect("eight bytes")));
    }
    let mut last = [0; 8];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    hash = mix(hash, u64::from_le_bytes(last));
    mix(hash, bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(target: &'a str, bytes: &'a [u8]) -> Event<'a> {
        Event {
            at_ns: 7,
            kind: "disk.write",
            node: "n1",
            target,
            numbers: &[("offset", 512)],
            bytes,
        }
    }

    /// The hash is a constant of the events: a new process, a new machine or kept lines do not change it.
    #[test]
    fn hash_is_stable() {
        let (plain, kept) = (Trace::new(0), Trace::new(10));
        for trace in [&plain, &kept] {
            trace.record(event("/data/wal", b"some bytes that are ours"));
            trace.record(event("/data/wal", b""));
        }
        assert_eq!(plain.hash(), kept.hash());
        insta::assert_snapshot!(format!("{:016x}", plain.hash()), @"e1d508b1bc88633b");
        let bytes = format!("{:016x}", hash_bytes(SEED, b"some bytes that are ours"));
        let start = r#"{"at":7,"kind":"disk.write","node":"n1","target":"/data/wal","offset":512"#;
        assert_eq!(
            kept.take_lines(),
            [format!(r#"{start},"bytes":"{bytes}"}}"#), format!("{start}}}")]
        );
    }

    /// Whatever differs in an event shows in the hash, empty strings and the place of a boundary included.
    #[test]
    fn hash_sees_every_part() {
        let base = event("/data/wal", b"abc");
        let others = [
            Event { at_ns: 8, ..base },
            Event { kind: "disk.sync", ..base },
            Event { node: "n2", ..base },
            Event { node: "n1/data", target: "/wal", ..base },
            Event { target: "", ..base },
            Event { numbers: &[("offset", 513)], ..base },
            Event { bytes: b"abd", ..base },
            Event { bytes: b"abc\0", ..base },
        ];
        let hash_of = |event: Event<'_>| {
            let trace = Trace::new(0);
            trace.record(event);
            trace.hash()
        };
        let mut hashes: Vec<u64> = others.into_iter().map(hash_of).collect();
        hashes.push(hash_of(base));
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }

    /// Lines stop at the limit, with a mark; the count goes on.
    #[test]
    fn lines_are_bounded() {
        let trace = Trace::new(2);
        for _ in 0..5 {
            trace.record(event("x", b""));
        }
        let lines = trace.take_lines();
        assert_eq!((lines.len(), trace.count()), (3, 5));
        assert_eq!(lines[2], r#"{"kind":"trace.full"}"#);
    }
}
