//! Reads the log back: every record of every segment, checked against everything known so far.
//!
//! An append counts when its last record is there; recovery never sees half of one.

use std::collections::BTreeMap;
use std::path::Path;

use super::outline::Outline;
use super::record::{FrameHead, Head, Record, decode};
use super::segment::{Reader, Segment};
use super::tail::{Stop, judge};
use super::{Entry, HardState, Mark, REMEDY, Repair};
use crate::error::{Error, Result};
use crate::host::Disk;

/// What a log holds.
pub(super) struct Replay {
    pub(super) metadata: Vec<u8>,
    pub(super) outline: Outline,
    /// Entries above the index that was asked for.
    pub(super) entries: Vec<Entry>,
    /// Each mark with the segment that holds it, committed or not.
    pub(super) marks: BTreeMap<Mark, u64>,
    /// The rolling checksum after the last complete append.
    pub(super) rolling: u32,
    /// Where the last segment's complete appends end, in bytes.
    pub(super) tail: u64,
    /// Up to where the last segment is known to be durable: its last sync point, or its opening.
    pub(super) proven: u64,
    /// Length of the last segment's file, in bytes.
    pub(super) length: u64,
    /// The torn write behind the tail, not yet removed.
    pub(super) repair: Option<Repair>,
}

/// Reads all `segments`, judges how the last one ends, and keeps entries above `after`. Changes nothing on disk.
pub(super) fn replay(disk: &dyn Disk, segments: &[Segment], after: u64) -> Result<Replay> {
    let (mut replay, mut scan, stop) = read(disk, segments, after)?;
    replay.repair = judge(&mut scan.reader, scan.sequence, scan.tail, scan.at, stop)?;
    Ok(replay)
}

/// The marks whose snapshots may be used. What follows the last complete append is not judged: whoever opens the log
/// does that, and looks for it at all that was preallocated.
pub(super) fn marks(disk: &dyn Disk, segments: &[Segment]) -> Result<Vec<Mark>> {
    Ok(read(disk, segments, u64::MAX)?.0.usable_marks())
}

/// Reads all complete appends; also the place where reading stopped, and why.
fn read(disk: &dyn Disk, segments: &[Segment], after: u64) -> Result<(Replay, Scan, Stop)> {
    let (first, rest) = segments.split_first().expect("the caller found a segment");
    let mut scan = Scan::open(disk, first)?;
    let (head, metadata, hard_state) = scan.opening()?;
    let mut replay = Replay {
        metadata,
        outline: Outline::new(head.last, hard_state),
        entries: Vec::new(),
        marks: BTreeMap::new(),
        rolling: 0,
        tail: 0,
        proven: 0,
        length: 0,
        repair: None,
    };
    let mut stop = replay.segment(&mut scan, after)?;
    for segment in rest {
        let mut next = Scan::open(disk, segment)?;
        let (head, metadata, hard_state) = next.opening()?;
        // The next segment proves how this one ends: what follows the proven end is of no account.
        if head.previous != scan.tail_rolling || head.last != replay.outline.last() {
            let reason = format!("records up to the next segment are missing here; {REMEDY}");
            return Err(Error::corrupt(scan.reader.path(), scan.at, reason));
        }
        if metadata != replay.metadata || hard_state != replay.outline.hard_state() {
            return Err(next.corrupt(0, "the opening differs from the segment before"));
        }
        scan = next;
        stop = replay.segment(&mut scan, after)?;
    }
    replay.rolling = scan.tail_rolling;
    replay.tail = scan.tail;
    replay.length = scan.reader.length();
    Ok((replay, scan, stop))
}

impl Replay {
    /// Takes the appends of one segment up to the first frame that is not there or not right.
    fn segment(&mut self, scan: &mut Scan, after: u64) -> Result<Stop> {
        self.proven = scan.tail;
        loop {
            let mut append = Append::default();
            loop {
                let at = scan.at;
                let (record, last) = match scan.next()? {
                    Step::Record(record, last) => (record, last),
                    Step::Stop(stop) => return Ok(stop),
                };
                append.take(record, at, scan.sequence).map_err(|why| scan.corrupt(at, &why))?;
                if last {
                    break;
                }
            }
            let at = scan.tail;
            self.proven = append.proves.unwrap_or(self.proven);
            self.append(append, after, scan.sequence).map_err(|why| scan.corrupt(at, &why))?;
            scan.complete();
        }
    }

    fn append(
        &mut self,
        append: Append,
        after: u64,
        sequence: u64,
    ) -> std::result::Result<(), String> {
        if let Some(mark) = append.mark {
            self.outline.mark(mark)?;
            self.marks.insert(mark, sequence);
        }
        if self.outline.append(&append.entries, append.hard_state)?.is_some() {
            self.entries.clear();
        }
        if let Some(first) = append.entries.first() {
            let kept = self.entries.partition_point(|entry| entry.index < first.index);
            self.entries.truncate(kept);
        }
        self.entries.extend(append.entries.into_iter().filter(|entry| entry.index > after));
        Ok(())
    }

    /// The marks whose snapshots may be used: committed ones, and the empty log's.
    fn usable_marks(&self) -> Vec<Mark> {
        let commit = self.outline.hard_state().commit;
        let mut marks = vec![Mark::default()];
        marks.extend(self.marks.keys().filter(|mark| mark.index > 0 && mark.index <= commit));
        marks
    }

    /// Checks that the kept entries lead on from `from` without a gap.
    pub(super) fn check_from(&self, from: Mark, dir: &Path) -> Result<()> {
        if !self.usable_marks().contains(&from) {
            let Mark { index, term } = from;
            let reason = format!("no mark of a snapshot of entry {index}, term {term}; {REMEDY}");
            return Err(Error::corrupt(dir, 0, reason));
        }
        let next = self.entries.first().map_or(self.outline.last().index + 1, |entry| entry.index);
        if next != from.index + 1 {
            let reason =
                format!("entries {} to {} are missing; {REMEDY}", from.index + 1, next - 1);
            return Err(Error::corrupt(dir, 0, reason));
        }
        // Where the log begins above an entry of an unknown term, nothing else has compared the two.
        let hard_state_term = self.outline.hard_state().term;
        let term = self.entries.first().map_or(hard_state_term, |entry| entry.term);
        if from.term > term {
            let Mark { index, term: higher } = from;
            let reason = format!(
                "a snapshot of entry {index}, term {higher}, is followed by term {term}; {REMEDY}"
            );
            return Err(Error::corrupt(dir, 0, reason));
        }
        Ok(())
    }
}

/// The records of one append.
#[derive(Default)]
struct Append {
    entries: Vec<Entry>,
    hard_state: Option<HardState>,
    mark: Option<Mark>,
    /// Up to where its sync point says that the segment was durable.
    proves: Option<u64>,
}

impl Append {
    fn take(&mut self, record: Record, at: u64, sequence: u64) -> std::result::Result<(), String> {
        match record {
            Record::Entry(entry) => self.entries.push(entry),
            Record::HardState(state) => self.hard_state = Some(state),
            Record::Mark(mark) => self.mark = Some(mark),
            Record::Sync(point) if point.offset == at && point.sequence == sequence => {
                self.proves = Some(at);
            }
            Record::Sync(_) => return Err("a sync point of another place".into()),
            Record::Head(_) | Record::Metadata(_) => {
                return Err("a record that belongs to the start of a segment".into());
            }
        }
        Ok(())
    }
}

/// What reading on gives.
enum Step {
    /// A record, and whether it is the last of its append.
    Record(Record, bool),
    Stop(Stop),
}

/// Reads the records of one segment in order.
struct Scan {
    reader: Reader,
    sequence: u64,
    first_index: u64,
    /// Where the next record starts, and the checksum before it.
    at: u64,
    rolling: Option<u32>,
    /// Where complete appends end, and the checksum there.
    tail: u64,
    tail_rolling: u32,
}

impl Scan {
    fn open(disk: &dyn Disk, segment: &Segment) -> Result<Self> {
        let reader = Reader::open(disk, &segment.path)?;
        let Segment { sequence, first_index, .. } = *segment;
        Ok(Self { reader, sequence, first_index, at: 0, rolling: None, tail: 0, tail_rolling: 0 })
    }

    /// Head, metadata and hard state: synced before the file had its name, so never torn.
    fn opening(&mut self) -> Result<(Head, Vec<u8>, HardState)> {
        let mut records = Vec::new();
        for last in [false, false, true] {
            match self.next()? {
                Step::Record(record, flag) if flag == last => records.push(record),
                Step::Stop(Stop::WrongBody { reason, .. }) => {
                    return Err(self.corrupt(self.at, reason));
                }
                Step::Record(..) | Step::Stop(_) => {
                    return Err(self.corrupt(self.at, "the segment's opening is damaged"));
                }
            }
        }
        self.complete();
        let opening: [Record; 3] = records.try_into().expect("three were read");
        let [Record::Head(head), Record::Metadata(metadata), Record::HardState(state)] = opening
        else {
            return Err(self.corrupt(0, "the segment's opening has other records"));
        };
        if head.sequence != self.sequence || head.last.index + 1 != self.first_index {
            return Err(self.corrupt(0, "the file has the name of another segment"));
        }
        // What holds after each append (`outline.rs`), and so where a segment begins.
        let is_possible = state.commit <= head.last.index && head.last.term <= state.term;
        if !is_possible || head.last.index == 0 && head.last.term > 0 {
            return Err(self.corrupt(0, "the segment's opening contradicts itself"));
        }
        Ok((head, metadata, state))
    }

    /// The next record and whether it ends an append, or why there is none.
    fn next(&mut self) -> Result<Step> {
        let bytes: [u8; 8] = self.reader.bytes(self.at, 8)?.try_into().expect("eight bytes");
        if bytes == [0; 8] {
            return Ok(Step::Stop(Stop::Zero));
        }
        let Some(head) = FrameHead::decode(bytes) else {
            return Ok(Step::Stop(Stop::WrongHead));
        };
        let frame_bytes = head.frame_bytes() as u64;
        // A frame's last byte is never zero, so none goes on where the file has ended.
        if self.at + frame_bytes > self.reader.length() {
            let reason = "it goes on behind the end of the file";
            return Ok(Step::Stop(Stop::WrongBody { frame_bytes, reason }));
        }
        let frame = self.reader.bytes(self.at, head.frame_bytes())?;
        match decode(&head, frame, self.rolling) {
            Ok((record, rolling)) => {
                self.at += frame_bytes;
                self.rolling = Some(rolling);
                Ok(Step::Record(record, head.last))
            }
            Err(reason) => Ok(Step::Stop(Stop::WrongBody { frame_bytes, reason })),
        }
    }

    /// Everything read so far is complete.
    fn complete(&mut self) {
        self.tail = self.at;
        self.tail_rolling = self.rolling.expect("a record was read");
    }

    fn corrupt(&self, offset: u64, reason: &str) -> Error {
        Error::corrupt(self.reader.path(), offset, format!("{reason}; {REMEDY}"))
    }
}
