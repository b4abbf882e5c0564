//! One record: its frame, its checksums, and the payload of each kind.
//!
//! Invariants:
//! * A frame starts at a multiple of eight: its first eight bytes never straddle two sectors.
//! * Every byte of a frame is covered by the rolling checksum, the first six also by a check.
//! * A frame's last byte is never zero, and no sector that it touches is zero within the frame:
//!   a zero there means "never reached the disk" (`tail.rs` draws conclusions from it).

use bytes::Bytes;

use super::{Entry, HardState, Mark};

/// Frames start at multiples of this.
pub(super) const ALIGN_BYTES: usize = 8;
/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;
/// Length, kind, mask and check; then the rolling checksum.
pub(super) const FRAME_HEAD_BYTES: usize = 12;
/// The largest payload; four times the largest request that etcd's documentation advises against.
pub(super) const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// No log comes to this index: behind every index there is another one.
const INDEX_END: u64 = u64::MAX;
/// Opens every segment.
pub(super) const MAGIC: [u8; 8] = *b"snowlog\n";
/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// Set in the kind's byte of the last record of an append.
const LAST_FLAG: u8 = 0x80;
/// Padding bytes are this plus their number: several bits, so that one flip cannot make them zero.
const PADDING_MARK: u8 = 0xA0;
/// A sector with fewer payload bytes that differ from the mask looks too much like a lost one.
const THIN_BYTES: usize = 8;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Opens a segment: [`Head`].
    Head = 1,
    /// Bytes of the log's owner, the same in each segment.
    Metadata = 2,
    /// [`HardState`].
    HardState = 3,
    /// [`Entry`].
    Entry = 4,
    /// [`Mark`].
    Mark = 5,
    /// [`SyncPoint`].
    Sync = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Head,
            2 => Self::Metadata,
            3 => Self::HardState,
            4 => Self::Entry,
            5 => Self::Mark,
            6 => Self::Sync,
            _ => return None,
        })
    }
}

/// The first record of a segment: ties it to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The rolling checksum where the previous segment ends.
    pub(super) previous: u32,
    /// The segment's place in the log, counted from zero.
    pub(super) sequence: u64,
    /// The last entry before this segment.
    pub(super) last: Mark,
}

/// States that everything before it had been synced when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyncPoint {
    /// The rolling checksum before this record.
    pub(super) previous: u32,
    /// The segment it was written to.
    pub(super) sequence: u64,
    /// Where in the segment it was written, which is also how far the segment was durable.
    pub(super) offset: u64,
}

/// A record's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Head(Head),
    Metadata(Vec<u8>),
    HardState(HardState),
    Entry(Entry),
    Mark(Mark),
    Sync(SyncPoint),
}

/// The first eight bytes of a frame, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: Kind,
    /// Whether the record is the last of its append.
    pub(super) last: bool,
    mask: u8,
    payload_bytes: usize,
}

impl FrameHead {
    /// Reads the first eight bytes of a frame; `None` where they are not what was written.
    pub(super) fn decode(bytes: [u8; 8]) -> Option<Self> {
        let payload_bytes = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let kind = Kind::from_byte(bytes[4] & !LAST_FLAG)?;
        let check = u16::from_le_bytes([bytes[6], bytes[7]]);
        let sound = check == head_check(&bytes[..6]) && payload_bytes <= PAYLOAD_BYTES_MAX;
        let last = bytes[4] & LAST_FLAG != 0;
        sound.then_some(Self { kind, last, mask: bytes[5], payload_bytes })
    }

    /// Length of the whole frame, padding included.
    pub(super) fn frame_bytes(&self) -> usize {
        FRAME_HEAD_BYTES + self.payload_bytes + padding_bytes(self.payload_bytes)
    }

    fn encode(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        let length = u32::try_from(self.payload_bytes).expect("payloads are far below 4 GiB");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = self.kind as u8 | if self.last { LAST_FLAG } else { 0 };
        bytes[5] = self.mask;
        let check = head_check(&bytes[..6]);
        bytes[6..].copy_from_slice(&check.to_le_bytes());
        bytes
    }
}

/// Frames that go to the file in one write.
#[derive(Debug)]
pub(super) struct Batch {
    /// What to write.
    pub(super) bytes: Vec<u8>,
    /// The rolling checksum after the last record.
    pub(super) rolling: u32,
    offset: u64,
}

impl Batch {
    /// Begins a write at `offset` of the file, in a `buffer` that is emptied first.
    pub(super) fn new(mut buffer: Vec<u8>, offset: u64, rolling: u32) -> Self {
        assert!(offset.is_multiple_of(ALIGN_BYTES as u64), "frame at odd offset {offset}");
        buffer.clear();
        Self { bytes: buffer, rolling, offset }
    }

    /// Adds a record; `last` is true for the final one of an append.
    pub(super) fn push(&mut self, record: &Record, last: bool) {
        match record {
            Record::Head(head) => {
                assert_eq!(head.previous, self.rolling, "a segment continues the rolling checksum");
                let mut fixed = [0; 40];
                fixed[..8].copy_from_slice(&MAGIC);
                fixed[8..12].copy_from_slice(&VERSION.to_le_bytes());
                fixed[12..16].copy_from_slice(&head.previous.to_le_bytes());
                fixed[16..24].copy_from_slice(&head.sequence.to_le_bytes());
                fixed[24..32].copy_from_slice(&head.last.index.to_le_bytes());
                fixed[32..40].copy_from_slice(&head.last.term.to_le_bytes());
                self.push_frame(Kind::Head, last, &fixed, &[]);
            }
            Record::Metadata(data) => self.push_frame(Kind::Metadata, last, data, &[]),
            Record::HardState(state) => {
                let mut fixed = [0; 24];
                fixed[..8].copy_from_slice(&state.term.to_le_bytes());
                fixed[8..16].copy_from_slice(&state.vote.to_le_bytes());
                fixed[16..].copy_from_slice(&state.commit.to_le_bytes());
                self.push_frame(Kind::HardState, last, &fixed, &[]);
            }
            Record::Entry(entry) => self.push_entry(entry, last),
            Record::Mark(mark) => {
                self.push_frame(Kind::Mark, last, &index_and_term(mark.index, mark.term), &[]);
            }
            Record::Sync(point) => {
                assert_eq!(point.previous, self.rolling, "a sync point states the checksum so far");
                let mut fixed = [0; 20];
                fixed[..4].copy_from_slice(&point.previous.to_le_bytes());
                fixed[4..12].copy_from_slice(&point.sequence.to_le_bytes());
                fixed[12..].copy_from_slice(&point.offset.to_le_bytes());
                self.push_frame(Kind::Sync, last, &fixed, &[]);
            }
        }
    }

    /// As [`Batch::push`], without wrapping the entry.
    pub(super) fn push_entry(&mut self, entry: &Entry, last: bool) {
        let fixed = index_and_term(entry.index, entry.term);
        self.push_frame(Kind::Entry, last, &fixed, &entry.data);
    }

    fn push_frame(&mut self, kind: Kind, last: bool, fixed: &[u8], data: &[u8]) {
        let payload_bytes = fixed.len() + data.len();
        assert!(payload_bytes <= PAYLOAD_BYTES_MAX, "payload of {payload_bytes} bytes");
        let padding = padding_bytes(payload_bytes);
        let start = self.bytes.len();
        self.bytes.resize(start + FRAME_HEAD_BYTES, 0);
        self.bytes.extend_from_slice(fixed);
        self.bytes.extend_from_slice(data);
        let padding_byte = PADDING_MARK + u8::try_from(padding).expect("at most eight");
        self.bytes.resize(self.bytes.len() + padding, padding_byte);

        let frame = &mut self.bytes[start..];
        let payload = FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + payload_bytes;
        let mask = choose_mask(self.offset + start as u64, &frame[payload.clone()]);
        apply_mask(&mut frame[payload], mask);
        let head = FrameHead { kind, last, mask, payload_bytes };
        frame[..8].copy_from_slice(&head.encode());
        self.rolling = roll(self.rolling, frame);
        frame[8..12].copy_from_slice(&self.rolling.to_le_bytes());
        assert_eq!(frame.len(), head.frame_bytes(), "a frame is as long as its head says");
        assert!(frame.len().is_multiple_of(ALIGN_BYTES), "frames keep the alignment");
    }
}

/// Reads the frame of `head`; `rolling` is the checksum before it.
///
/// Without `rolling`, only kinds that state the previous checksum themselves can be read.
/// Returns the record and the checksum after it, or what is wrong.
pub(super) fn decode(
    head: &FrameHead,
    frame: &[u8],
    rolling: Option<u32>,
) -> Result<(Record, u32), &'static str> {
    assert_eq!(frame.len(), head.frame_bytes(), "the caller reads a whole frame");
    let mut payload = frame[FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + head.payload_bytes].to_vec();
    apply_mask(&mut payload, head.mask);
    let previous = match (rolling, head.kind) {
        (Some(rolling), _) => rolling,
        (None, Kind::Head) => u32_at(&payload, 12).ok_or("a segment head of wrong length")?,
        (None, Kind::Sync) => u32_at(&payload, 0).ok_or("a sync point of wrong length")?,
        (None, _) => return Err("a record that does not open a segment"),
    };
    let checksum = roll(previous, frame);
    if u32_at(frame, 8) != Some(checksum) {
        return Err("the checksum does not match");
    }
    let record = decode_payload(head.kind, &payload)?;
    Ok((record, checksum))
}

fn decode_payload(kind: Kind, payload: &[u8]) -> Result<Record, &'static str> {
    const SHORT: &str = "a payload of wrong length";
    let exact = |bytes: usize| if payload.len() == bytes { Ok(()) } else { Err(SHORT) };
    let at = |place: usize| u64_at(payload, place).ok_or(SHORT);
    let index = |place: usize| match at(place)? {
        INDEX_END => Err("an index that no log comes to"),
        index => Ok(index),
    };
    Ok(match kind {
        Kind::Head => {
            exact(40)?;
            if payload[..8] != MAGIC {
                return Err("not a segment of this program");
            }
            if u32_at(payload, 8) != Some(VERSION) {
                return Err("a format version that this program does not know");
            }
            let last = Mark { index: index(24)?, term: at(32)? };
            let previous = u32_at(payload, 12).ok_or(SHORT)?;
            Record::Head(Head { previous, sequence: at(16)?, last })
        }
        Kind::Metadata => Record::Metadata(payload.to_vec()),
        Kind::HardState => {
            exact(24)?;
            Record::HardState(HardState { term: at(0)?, vote: at(8)?, commit: at(16)? })
        }
        Kind::Entry => {
            let data = Bytes::copy_from_slice(payload.get(16..).ok_or(SHORT)?);
            Record::Entry(Entry { index: index(0)?, term: at(8)?, data })
        }
        Kind::Mark => {
            exact(16)?;
            Record::Mark(Mark { index: index(0)?, term: at(8)? })
        }
        Kind::Sync => {
            exact(20)?;
            let previous = u32_at(payload, 0).ok_or(SHORT)?;
            Record::Sync(SyncPoint { previous, sequence: at(4)?, offset: at(12)? })
        }
    })
}

/// The rolling checksum after `frame`; its own field is left out.
fn roll(previous: u32, frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(previous, &frame[..8]), &frame[12..])
}

/// Sixteen bits over length, kind and mask; three flipped bits at least turn one head into another.
fn head_check(bytes: &[u8]) -> u16 {
    let crc = crc32c::crc32c(bytes);
    ((crc >> 16) ^ (crc & 0xFFFF)) as u16
}

/// One to eight: a frame always ends with a byte that is not zero.
fn padding_bytes(payload_bytes: usize) -> usize {
    ALIGN_BYTES - (FRAME_HEAD_BYTES + payload_bytes) % ALIGN_BYTES
}

/// The byte to combine the payload with so that no sector inside it is (nearly) zero.
fn choose_mask(frame_offset: u64, payload: &[u8]) -> u8 {
    let offset = frame_offset + FRAME_HEAD_BYTES as u64;
    let sectors = || {
        // The first sector of the frame holds its head and the last its padding: those are safe.
        let end = offset + payload.len() as u64;
        let first = frame_offset / SECTOR_BYTES + 1;
        let last = (end / SECTOR_BYTES).max(first);
        (first..last).map(move |sector| {
            let from = (sector * SECTOR_BYTES).max(offset) - offset;
            &payload[from as usize..((sector + 1) * SECTOR_BYTES - offset) as usize]
        })
    };
    let thin = |sector: &[u8], mask: u8| {
        sector.iter().filter(|byte| **byte != mask).take(THIN_BYTES).count() < THIN_BYTES
    };
    // A payload with thin sectors for all 256 masks is stored as it is: then a zero sector proves
    // less, and damage to the very last synced write may be taken for a torn one.
    (0..=u8::MAX).find(|mask| !sectors().any(|sector| thin(sector, *mask))).unwrap_or(0)
}

fn apply_mask(payload: &mut [u8], mask: u8) {
    if mask != 0 {
        payload.iter_mut().for_each(|byte| *byte ^= mask);
    }
}

fn index_and_term(index: u64, term: u64) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[..8].copy_from_slice(&index.to_le_bytes());
    fixed[8..].copy_from_slice(&term.to_le_bytes());
    fixed
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..place + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], place: usize) -> Option<u64> {
    bytes.get(place..place + 8)?.try_into().ok().map(u64::from_le_bytes)
}
