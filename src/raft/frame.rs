//! Checksums of what members send each other: made by the sender, looked at before anything else.
//!
//! TCP's own sum of sixteen bits lets one damaged segment in some tens of thousands through, and says nothing of what
//! happens to bytes in the memory of machines on the way.
//!
//! Invariants:
//! * Every field that is acted upon is covered, who sent it and who is meant included, and so is where one message ends
//!   and the next begins.
//! * A chunk's checksum covers all chunks before it: one that is lost, repeated or out of order shows.

use crc32c::crc32c_append;

use crate::proto::peer::{Frame, SnapshotChunk};

/// `frame` with the checksum of what is in it.
#[must_use]
pub fn sealed(frame: Frame) -> Frame {
    Frame { checksum: checksum(&frame), ..frame }
}

/// Whether a frame is as it was sent.
#[must_use]
pub fn is_whole(frame: &Frame) -> bool {
    frame.checksum == checksum(frame)
}

fn checksum(frame: &Frame) -> u32 {
    let Frame { cluster_id, from, to, messages, checksum: _ } = frame;
    messages.iter().fold(numbers(0, &[*cluster_id, *from, *to]), |sum, message| bytes(sum, message))
}

/// The checksum of a chunk; `before`: that of the chunk before it, 0 for the first.
pub(super) fn chunk_checksum(before: u32, chunk: &SnapshotChunk) -> u32 {
    let SnapshotChunk { cluster_id, from, to, message, data, checksum: _, last } = chunk;
    let sum = numbers(before, &[*cluster_id, *from, *to, u64::from(*last)]);
    bytes(bytes(sum, message), data)
}

fn numbers(sum: u32, numbers: &[u64]) -> u32 {
    numbers.iter().fold(sum, |sum, number| crc32c_append(sum, &number.to_le_bytes()))
}

/// With their number first: the same bytes cut elsewhere are others.
fn bytes(sum: u32, bytes: &[u8]) -> u32 {
    crc32c_append(numbers(sum, &[bytes.len() as u64]), bytes)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// Whatever single bit of the bytes on the wire is turned over: it is no frame any more, or one that is not whole.
    #[test]
    fn every_single_bit_shows() {
        let messages = vec![b"one".as_slice().into(), b"the other".as_slice().into()];
        let frame = Frame { cluster_id: 1, from: 2, to: 3, messages, checksum: 0 };
        assert!(!is_whole(&frame));
        let frame = sealed(frame);
        assert!(is_whole(&frame));
        let bytes = frame.encode_to_vec();
        let mut decoded = 0;
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(damaged) = Frame::decode(damaged.as_slice()) {
                assert!(!is_whole(&damaged), "bit {bit}: {damaged:?}");
                decoded += 1;
            }
        }
        assert!(decoded > bytes.len(), "hardly any damage was looked at: {decoded}");
    }

    /// Messages that are cut, ordered or repeated otherwise make another frame, though their bytes are the same.
    #[test]
    fn the_cut_between_messages_shows() {
        let frame = |messages: &[&'static str]| {
            let messages = messages.iter().map(|message| (*message).into()).collect();
            sealed(Frame { messages, ..Frame::default() }).checksum
        };
        let whole = frame(&["ab", "c"]);
        for other in [&["a", "bc"][..], &["abc"], &["c", "ab"], &["ab", "c", "c"], &["ab", "", "c"]]
        {
            assert_ne!(frame(other), whole, "{other:?}");
        }
    }

    /// A chunk that is lost, repeated, out of order, or of another snapshot shows at the latest with the next one.
    #[test]
    fn chunks_follow_each_other() {
        let chunk = |data: &'static str, last| SnapshotChunk {
            data: data.into(),
            last,
            ..SnapshotChunk::default()
        };
        let sum = |chunks: &[&SnapshotChunk]| {
            chunks.iter().fold(0, |before, chunk| chunk_checksum(before, chunk))
        };
        let (first, second, last) = (chunk("a", false), chunk("b", false), chunk("", true));
        let announced = SnapshotChunk { message: "snapshot".into(), ..first.clone() };
        let whole = sum(&[&first, &second, &last]);
        for other in [
            &[&first, &last][..],
            &[&first, &second, &second, &last],
            &[&second, &first, &last],
            &[&announced, &second, &last],
            &[&first, &second, &chunk("", false)],
        ] {
            assert_ne!(sum(other), whole, "{other:?}");
        }
    }
}
