//! The log's reader, fed with files that nobody need have written like this.
//!
//! The input says which files there are and which records are in them. Their checksums are right, so that what is
//! behind the checksums is reached too; the numbers in them are mostly those that belong there. Then the files are
//! harmed: bytes between the records, sectors of zeros, a changed bit, a missing end.
//!
//! Invariants:
//! * Opening the log gives what it holds or refuses it; it never panics.
//! * Nothing is read that was not written, as far as the checksums can tell.
//! * What was read is a log as raft wants it, and is read again after a power cut; so is what is appended to it.

use std::path::Path;
use std::sync::Arc;

use arbitrary::Unstructured;
use bytes::Bytes;

use super::record::{Batch, Head, Record, SyncPoint};
use super::testdisk::{TestDisk, block_on};
use super::{Entry, HardState, Mark, Options, Recovered, Wal};
use crate::error::{Error, Result};
use crate::host::{Disk, OpenMode};

const DIR: &str = "wal";
const SECTOR_BYTES: usize = 512;
/// Files of one log: enough for one in the middle that is wrong.
const FILES_MAX: u64 = 4;
/// Marks at which a log is opened.
const MARKS_MAX: usize = 4;

/// Reads a log that the bytes describe. Panics where an invariant of this file is broken.
pub fn log(bytes: &[u8]) {
    let mut maker = Maker::new(bytes);
    // What was made until the bytes were used up is as good as any other.
    let _ = maker.files();
    let Maker { disk, written, is_sure, segment_bytes, .. } = maker;
    let options = Options { segment_bytes };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let marks = match block_on(Wal::marks(&shared, Path::new(DIR))) {
        Ok(marks) => marks,
        Err(error) => {
            check_refusal(&error);
            let opened = open(&disk.copy(), Mark::default(), options);
            return check_refusal(&opened.err().expect("what has no marks cannot be opened"));
        }
    };
    for from in marks.into_iter().rev().take(MARKS_MAX) {
        let disk = disk.copy();
        match open(&disk, from, options) {
            Ok((wal, recovered)) => {
                check_rules(from, &recovered);
                if is_sure {
                    check_written(&written, from, &recovered);
                }
                check_again(&disk, wal, from, options, &recovered);
            }
            Err(error) => check_refusal(&error),
        }
    }
}

fn open(disk: &TestDisk, from: Mark, options: Options) -> Result<(Wal, Recovered)> {
    block_on(Wal::open(Arc::new(disk.clone()), Path::new(DIR), from, options))
}

fn check_refusal(error: &Error) {
    assert!(matches!(error, Error::Corrupt { .. } | Error::Io { .. }), "{error}");
}

/// What was read is without gaps, and its terms and its commit index are possible ones.
fn check_rules(from: Mark, recovered: &Recovered) {
    let state = recovered.hard_state;
    let mut last = from;
    for entry in &recovered.entries {
        assert_eq!(entry.index, last.index + 1, "a gap");
        assert!(entry.term >= last.term, "terms go back");
        last = Mark { index: entry.index, term: entry.term };
    }
    assert!(from.index <= state.commit, "a snapshot of what is not committed");
    assert!(state.commit <= last.index, "committed beyond the end");
    assert!(last.term <= state.term, "an entry of a later term");
}

/// All of what was read had been written.
fn check_written(written: &[Record], from: Mark, recovered: &Recovered) {
    let is_written = |record: Record| assert!(written.contains(&record), "{record:?}");
    is_written(Record::Metadata(recovered.metadata.clone()));
    is_written(Record::HardState(recovered.hard_state));
    recovered.entries.iter().for_each(|entry| is_written(Record::Entry(entry.clone())));
    if from.index > 0 {
        is_written(Record::Mark(from));
    }
}

/// What was read is there after a power cut, and what is appended then as well.
fn check_again(disk: &TestDisk, wal: Wal, from: Mark, options: Options, recovered: &Recovered) {
    drop(wal);
    disk.power_cut(|| false);
    let mut expected = Recovered { repaired: None, ..recovered.clone() };
    let (mut wal, again) = open(disk, from, options).expect("what was opened once opens again");
    assert_eq!(again, expected);
    let last = expected.entries.last().map_or(from.index, |entry| entry.index);
    if last + 1 == u64::MAX {
        return;
    }
    let term = expected.hard_state.term;
    expected.entries.push(Entry { index: last + 1, term, data: Bytes::from_static(b"more") });
    wal.append(&expected.entries[expected.entries.len() - 1..], None).expect("a next entry");
    block_on(wal.sync()).expect("the disk works");
    drop(wal);
    disk.power_cut(|| false);
    let (_, again) = open(disk, from, options).expect("what was synced opens again");
    assert_eq!(again, expected);
}

/// Makes files of what the input says.
struct Maker<'a> {
    input: Unstructured<'a>,
    disk: TestDisk,
    segment_bytes: u64,
    /// All records with right checksums.
    written: Vec<Record>,
    /// Whether only checksums stand between what is in the files and `written`: not where the input has put bytes of
    /// its own there, which may be good records.
    is_sure: bool,
    rolling: u32,
    last: Mark,
    hard_state: HardState,
}

impl<'a> Maker<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut input = Unstructured::new(bytes);
        Self {
            segment_bytes: u64::from(input.arbitrary::<u8>().unwrap_or_default()) * 16,
            input,
            disk: TestDisk::default(),
            written: Vec::new(),
            is_sure: true,
            rolling: 0,
            last: Mark::default(),
            hard_state: HardState::default(),
        }
    }

    fn files(&mut self) -> arbitrary::Result<()> {
        for sequence in 0..FILES_MAX {
            let name = (self.number(sequence)?, self.number(self.last.index.wrapping_add(1))?);
            let mut bytes = self.records(sequence)?;
            self.harm(&mut bytes)?;
            let zeros = usize::from(self.input.arbitrary::<u8>()?) * 8;
            bytes.resize(bytes.len() + zeros, 0);
            let path = Path::new(DIR).join(format!("{:016x}-{:016x}.wal", name.0, name.1));
            let file = self.disk.open(&path, OpenMode::Create).expect("the disk works");
            file.write_all_at(&bytes, 0).expect("the disk works");
            if self.input.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The number that belongs here; now and then another one.
    fn number(&mut self, right: u64) -> arbitrary::Result<u64> {
        Ok(match self.input.arbitrary::<u8>()? {
            0..=215 => right,
            216..=239 => right.wrapping_add_signed(i64::from(self.input.arbitrary::<i8>()?)),
            240..=247 => u64::MAX - u64::from(self.input.arbitrary::<u8>()?),
            _ => self.input.arbitrary()?,
        })
    }

    fn records(&mut self, sequence: u64) -> arbitrary::Result<Vec<u8>> {
        let previous = self.number(u64::from(self.rolling))? as u32;
        let mut batch = Batch::new(Vec::new(), 0, previous);
        for (kind, last) in [(Kind::Head, false), (Kind::Metadata, false), (Kind::HardState, true)]
        {
            if self.input.ratio(250u8, 255u8)? {
                let state = self.hard_state;
                self.record(&mut batch, kind, sequence, last)?;
                self.hard_state = state;
            }
        }
        while self.input.arbitrary()? {
            let kind = match self.input.arbitrary::<u8>()? {
                0..=119 => Kind::Entry,
                120..=169 => Kind::HardState,
                170..=209 => Kind::Sync,
                210..=244 => Kind::Mark,
                245..=248 => Kind::Metadata,
                249..=251 => Kind::Head,
                _ => Kind::Raw,
            };
            let last = self.input.ratio(3u8, 4u8)?;
            self.record(&mut batch, kind, sequence, last)?;
        }
        self.rolling = batch.rolling;
        Ok(batch.bytes)
    }

    fn record(
        &mut self,
        batch: &mut Batch,
        kind: Kind,
        sequence: u64,
        last: bool,
    ) -> arbitrary::Result<()> {
        let previous = batch.rolling;
        let Mark { index, term } = self.last;
        let record = match kind {
            Kind::Head => {
                let place = Mark { index: self.number(index)?, term: self.number(term)? };
                Record::Head(Head { previous, sequence: self.number(sequence)?, last: place })
            }
            Kind::Metadata => Record::Metadata(vec![b'm'; self.number(8)? as usize % 64]),
            Kind::HardState => {
                let HardState { term, vote, commit } = self.hard_state;
                let (term, vote) = (self.number(term)?, self.number(vote)?);
                let commit = if batch.bytes.len() < 100 { commit } else { index };
                self.hard_state = HardState { term, vote, commit: self.number(commit)? };
                Record::HardState(self.hard_state)
            }
            Kind::Entry => {
                let (index, term) = (index.wrapping_add(1), self.hard_state.term);
                self.last = Mark { index: self.number(index)?, term: self.number(term)? };
                let Mark { index, term } = self.last;
                Record::Entry(Entry { index, term, data: self.data()?.into() })
            }
            Kind::Mark => {
                let index = self.number(self.hard_state.commit)?;
                Record::Mark(Mark { index, term: self.number(term)? })
            }
            Kind::Sync => {
                let (sequence, offset) = (self.number(sequence)?, batch.bytes.len() as u64);
                Record::Sync(SyncPoint { previous, sequence, offset: self.number(offset)? })
            }
            Kind::Raw => {
                let mut raw = self.data()?;
                raw.resize(raw.len().next_multiple_of(8), 0);
                batch.bytes.extend_from_slice(&raw);
                self.is_sure = false;
                return Ok(());
            }
        };
        batch.push(&record, last);
        self.written.push(record);
        Ok(())
    }

    /// Bytes of the input's own, or many alike.
    fn data(&mut self) -> arbitrary::Result<Vec<u8>> {
        let length = usize::from(self.input.arbitrary::<u8>()?);
        if self.input.arbitrary()? {
            let count = length.min(self.input.len());
            return Ok(self.input.bytes(count)?.to_vec());
        }
        Ok(vec![self.input.arbitrary()?; length * 6])
    }

    fn harm(&mut self, bytes: &mut Vec<u8>) -> arbitrary::Result<()> {
        // Two flips could undo each other as far as a checksum can tell.
        let mut has_flipped = false;
        while !bytes.is_empty() && self.input.arbitrary::<u8>()? > 191 {
            let place = self.input.choose_index(bytes.len())?;
            match self.input.arbitrary::<u8>()? % 4 {
                0 => bytes.truncate(place),
                1 => {
                    let sector = place / SECTOR_BYTES * SECTOR_BYTES;
                    let end = bytes.len().min(sector + SECTOR_BYTES);
                    bytes[sector..end].fill(0);
                }
                2 if !has_flipped => {
                    has_flipped = true;
                    bytes[place] ^= 1 << (self.input.arbitrary::<u8>()? % 8);
                }
                _ => {
                    self.is_sure = false;
                    let data = self.data()?;
                    let end = bytes.len().min(place + data.len());
                    bytes[place..end].copy_from_slice(&data[..end - place]);
                }
            }
        }
        Ok(())
    }
}

/// What the input can ask for.
#[derive(Clone, Copy)]
enum Kind {
    Head,
    Metadata,
    HardState,
    Entry,
    Mark,
    Sync,
    /// Bytes that are no record, or one that the input has made itself.
    Raw,
}
