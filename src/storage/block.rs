//! Where RocksDB's own log is within its blocks, and when it must be synced before it goes on.
//!
//! RocksDB reads its log in blocks of 32 KiB. Where it meets zeros it passes over the rest of the block without a
//! word, and goes on with the next one. A power cut can leave such zeros: of what was not synced, a disk may keep a
//! later sector and lose an earlier one. So nothing is ever written into a block while the one before it is not
//! durable: what a power cut takes is then always the end.
//!
//! The format is that of `log_writer.cc`: records are cut into pieces at the ends of blocks, each with a header of
//! its own; an end that is too short for a header is left empty.

/// Length of a block.
const BLOCK_BYTES: usize = 32 << 10;

/// Length of the header of each piece of a record.
const HEADER_BYTES: usize = 7;

/// Where the log is after a record of `bytes` that is written at `place`.
pub(super) fn after(mut place: usize, mut bytes: usize) -> usize {
    loop {
        let room = BLOCK_BYTES - place % BLOCK_BYTES;
        if room < HEADER_BYTES {
            place += room;
            continue;
        }
        let piece = bytes.min(room - HEADER_BYTES);
        place += HEADER_BYTES + piece;
        bytes -= piece;
        if bytes == 0 {
            return place;
        }
    }
}

/// Whether a record of `bytes` at `place` reaches into another block.
pub(super) fn crosses(place: usize, bytes: usize) -> bool {
    place / BLOCK_BYTES != after(place, bytes) / BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records are cut at the ends of blocks, and an end that is too short for a header is left empty.
    #[test]
    fn places() {
        let check =
            |place, bytes, expected| assert_eq!(after(place, bytes), expected, "{place} {bytes}");
        check(0, 10, 17);
        check(32_762, 172, 32_768 + 179);
        check(32_761, 1, 32_768 + 8);
        check(32_700, 61, 32_768);
        check(32_700, 62, 32_768 + 8);
        check(0, 70_000, 70_000 + 3 * 7);
    }

    /// What ends within its block needs no sync.
    #[test]
    fn crossings() {
        assert!(!crosses(32_700, 60) && crosses(32_700, 61) && crosses(32_762, 1));
    }
}
