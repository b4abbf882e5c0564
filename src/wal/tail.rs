//! Judges what follows the last complete append of a log: nothing, a torn write, or damage.
//!
//! What a power cut may do to bytes that were not synced: each sector holds the new bytes or the
//! old ones, and old ones are zeros (segments are preallocated, a repaired tail is zeroed).
//! What a failed or killed write may do: its end is missing. Damage is everything else:
//!
//! * A sync point behind the place says that the place was durable: damage.
//! * A frame whose head is wrong although something follows it: heads lie within one sector, so
//!   the sector was written and has changed since: damage.
//! * A frame that is wrong although its last byte is there and none of its sectors is zero: each
//!   sector was written, so one has changed since: damage.
//! * A frame that begins with zeros in a sector that goes on with something else: damage.
//!
//! What remains is a write that did not reach the disk in full. It cannot have been acknowledged:
//! a sync that succeeds brings every sector. One case stays open, as in CTRL (FAST'18): a disk
//! that loses whole sectors of the last synced write before anything was written after it.
//! Only others can tell then: the backend's consistent index, or the cluster.

use super::record::{ALIGN_BYTES, FrameHead, Kind, Record, SECTOR_BYTES, decode};
use super::segment::Reader;
use super::{REMEDY, Repair};
use crate::error::{Error, Result};

/// Where reading stopped, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The first eight bytes of the frame are zero.
    Zero,
    /// The first eight bytes are not what a writer writes.
    WrongHead,
    /// The head is right, the rest is not.
    WrongBody {
        /// Length of the whole frame.
        frame_bytes: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Judges the end of the last segment: complete appends end at `tail`, reading stopped at `at`.
///
/// `None` when nothing but zeros follows. Errors: the log is damaged.
pub(super) fn judge(
    reader: &mut Reader,
    sequence: u64,
    tail: u64,
    at: u64,
    stop: Stop,
) -> Result<Option<Repair>> {
    assert!(tail <= at, "reading goes on behind complete appends");
    let data_end = reader.data_end(tail)?;
    if let Some(reason) = damage(reader, sequence, at, stop, data_end)? {
        return Err(Error::corrupt(reader.path(), at, format!("{reason}; {REMEDY}")));
    }
    let bytes = data_end - tail;
    Ok((bytes > 0).then(|| Repair { path: reader.path().to_path_buf(), offset: tail, bytes }))
}

/// Why this cannot be a torn write.
fn damage(
    reader: &mut Reader,
    sequence: u64,
    at: u64,
    stop: Stop,
    data_end: u64,
) -> Result<Option<String>> {
    match stop {
        Stop::Zero => {
            let rest = SECTOR_BYTES - at % SECTOR_BYTES;
            if !is_zero(reader.bytes(at, rest as usize)?) {
                return Ok(Some("a record's first bytes are zero, its sector is not".into()));
            }
        }
        Stop::WrongHead => {
            if data_end > at + ALIGN_BYTES as u64 {
                return Ok(Some("a record's head has changed since it was written".into()));
            }
        }
        Stop::WrongBody { frame_bytes, reason } => {
            let end = at + frame_bytes;
            if data_end >= end && !lacks_sector(reader, at, end)? {
                return Ok(Some(format!("a complete record has changed: {reason}")));
            }
        }
    }
    Ok(sync_point_behind(reader, sequence, at, data_end)?.map(|point| {
        format!("a record is damaged, and offset {point} says that it had been synced")
    }))
}

/// Whether a sector of the frame between `at` and `end` is zero within the frame.
fn lacks_sector(reader: &mut Reader, at: u64, end: u64) -> Result<bool> {
    let mut from = at;
    while from < end {
        let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        if is_zero(reader.bytes(from, (to - from) as usize)?) {
            return Ok(true);
        }
        from = to;
    }
    Ok(false)
}

/// The offset of a sync point of this segment behind `at`.
fn sync_point_behind(
    reader: &mut Reader,
    sequence: u64,
    at: u64,
    data_end: u64,
) -> Result<Option<u64>> {
    let length = reader.length();
    let mut place = at + ALIGN_BYTES as u64;
    while place < data_end {
        let bytes = reader.bytes(place, 8)?.try_into().expect("eight bytes");
        let head = FrameHead::decode(bytes).filter(|head| head.kind == Kind::Sync);
        let is_there = |head: &FrameHead| place + head.frame_bytes() as u64 <= length;
        if let Some(head) = head.filter(is_there) {
            let frame = reader.bytes(place, head.frame_bytes())?;
            if let Ok((Record::Sync(point), _)) = decode(&head, frame, None)
                && point.sequence == sequence
                && point.offset == place
            {
                return Ok(Some(place));
            }
        }
        place += ALIGN_BYTES as u64;
    }
    Ok(None)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
