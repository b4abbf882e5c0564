//! Sparse bytes: what was never written reads as zero and takes no memory.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes per chunk of the map.
pub(super) const CHUNK: u64 = 64 * 1024;

/// Sparse bytes: what was never written reads as zero.
#[derive(Clone, Default)]
pub(super) struct Bytes {
    /// Chunk number → its bytes; what lies behind the end of the vector is zero.
    chunks: BTreeMap<u64, Vec<u8>>,
    length: u64,
}

/// Splits a range of bytes at chunk boundaries: chunk number, start within it, length.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        (at < range.end).then(|| {
            let (chunk, start) = (at / CHUNK, at % CHUNK);
            let length = (CHUNK - start).min(range.end - at);
            at += length;
            (chunk, index(start), index(length))
        })
    })
}

pub(super) fn index(value: u64) -> usize {
    usize::try_from(value).expect("below the size of memory")
}

impl Bytes {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.chunks.values().map(Vec::len).sum()
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let end = self.length.min(offset.saturating_add(buffer.len() as u64));
        if offset >= end {
            return 0;
        }
        let mut done = 0;
        for (chunk, start, length) in pieces(offset..end) {
            let target = &mut buffer[done..done + length];
            done += length;
            let stored =
                self.chunks.get(&chunk).and_then(|bytes| bytes.get(start..)).unwrap_or(&[]);
            let stored = &stored[..stored.len().min(length)];
            target[..stored.len()].copy_from_slice(stored);
            target[stored.len()..].fill(0);
        }
        done
    }

    /// The first place at or behind `offset` at which bytes are stored, zeros among them.
    pub(super) fn next_stored(&self, offset: u64) -> Option<u64> {
        self.chunks.range(offset / CHUNK..).find_map(|(number, bytes)| {
            let (start, end) = (number * CHUNK, number * CHUNK + bytes.len() as u64);
            (end > offset).then_some(start.max(offset))
        })
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        let mut done = 0;
        for (chunk, start, length) in pieces(offset..offset + data.len() as u64) {
            let bytes = self.chunks.entry(chunk).or_default();
            let source = &data[done..done + length];
            done += length;
            if bytes.len() <= start {
                bytes.resize(start, 0);
                bytes.extend_from_slice(source);
            } else {
                let overlap = (bytes.len() - start).min(length);
                bytes[start..start + overlap].copy_from_slice(&source[..overlap]);
                bytes.extend_from_slice(&source[overlap..]);
            }
        }
        self.length = self.length.max(offset + data.len() as u64);
    }

    /// Makes a range zero; the length stays.
    pub(super) fn clear(&mut self, range: Range<u64>) {
        let numbers: Vec<u64> = self
            .chunks
            .range(range.start / CHUNK..=range.end / CHUNK)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let first = number * CHUNK;
            let start = index(range.start.saturating_sub(first).min(CHUNK));
            let end = index(range.end.saturating_sub(first).min(CHUNK));
            let bytes = self.chunks.get_mut(&number).expect("just listed");
            if end >= bytes.len() {
                bytes.truncate(start);
            } else {
                bytes[start..end].fill(0);
            }
            if bytes.is_empty() {
                self.chunks.remove(&number);
            }
        }
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.clear(length..self.length);
        }
        self.length = length;
    }

    /// Ends the bytes at `length`, whatever is stored behind it.
    pub(super) fn end_at(&mut self, length: u64) {
        let stored = self.chunks.last_key_value().map_or(0, |(number, _)| (number + 1) * CHUNK);
        if length < stored {
            self.clear(length..stored);
        }
        self.length = length;
    }

    /// Puts back what a range held before; `before` has its bytes, the rest was zero. The length stays as it is.
    pub(super) fn restore(&mut self, range: Range<u64>, before: &[(u64, Vec<u8>)]) {
        let length = self.length;
        self.clear(range.clone());
        for (offset, old) in before {
            let (from, to) =
                ((*offset).max(range.start), (offset + old.len() as u64).min(range.end));
            if from < to {
                self.write(&old[index(from - offset)..index(to - offset)], from);
            }
        }
        self.length = length;
    }

    /// The places of all stored bytes that are not zero, in order: how many there are, and the `nth`.
    pub(super) fn nth_byte_set(&self, nth: u64) -> (u64, Option<u64>) {
        let (mut count, mut found) = (0, None);
        for (number, bytes) in &self.chunks {
            for (place, _) in (0..).zip(bytes).filter(|(_, byte)| **byte != 0) {
                if count == nth {
                    found = Some(number * CHUNK + place);
                }
                count += 1;
            }
        }
        (count, found)
    }

    /// The stored (non-hole) bytes of a range.
    pub(super) fn stored(&self, range: Range<u64>) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        for (number, bytes) in self.chunks.range(range.start / CHUNK..=range.end / CHUNK) {
            let first = number * CHUNK;
            let start = index(range.start.saturating_sub(first)).min(bytes.len());
            let end = index(range.end.saturating_sub(first)).min(bytes.len());
            if start < end {
                found.push((first + start as u64, bytes[start..end].to_vec()));
            }
        }
        found
    }
}
