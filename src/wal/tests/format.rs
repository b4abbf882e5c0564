//! The bytes on disk are what they have always been.

use std::path::Path;

use super::super::record::{Batch, FrameHead, Record};
use super::super::snapshot_file::Encoder;
use super::super::testdisk::{TestDisk, block_on};
use super::super::{Mark, SnapshotMeta};
use super::{create, entry, files, hard_state};

/// Sixteen bytes a line; runs of zeros to the end are left out.
fn hexdump(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let lines = bytes[..end].chunks(16).enumerate().map(|(number, line)| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = line
            .iter()
            .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' })
            .collect();
        format!("{:04x}  {:<47}  {text}\n", number * 16, hex.join(" "))
    });
    lines.collect::<String>() + &format!("{:04x}  end\n", bytes.len())
}

/// A small segment with each kind of record, and the head of the one after it.
#[test]
fn segment() {
    let disk = TestDisk::default();
    let mut wal = create(&disk, 400).unwrap();
    wal.append(&[entry(1, 2, "one"), entry(2, 2, "two")], hard_state(2, 3, 1)).unwrap();
    block_on(wal.sync()).unwrap();
    wal.append_mark(Mark { index: 1, term: 2 }).unwrap();
    wal.append(&[entry(3, 2, [7; 100])], None).unwrap();
    block_on(wal.sync()).unwrap();
    let dumps: Vec<String> = files(&disk)
        .iter()
        .map(|path| format!("{}\n{}", path.display(), hexdump(&disk.read(path))))
        .collect();
    insta::assert_snapshot!(dumps.join("\n"));
}

/// A snapshot file with two chunks.
#[test]
fn snapshot() {
    let meta = SnapshotMeta {
        mark: Mark { index: 300, term: 4 },
        conf_state: b"conf".to_vec(),
        has_state: true,
        members: b"n1,n2".to_vec(),
    };
    let mut encoder = Encoder::new(&meta);
    assert_eq!(encoder.push(b"the body"), b"");
    encoder.end();
    insta::assert_snapshot!(hexdump(&encoder.take()));
}

/// Any two flipped bits in the first eight bytes of a record are noticed.
#[test]
fn frame_head_check() {
    for (record, last) in [
        (Record::Metadata(Vec::new()), false),
        (Record::Metadata(vec![1; 300]), true),
        (Record::Entry(entry(1, 1, vec![0; 5000])), true),
    ] {
        let mut batch = Batch::new(Vec::new(), 0, 0);
        batch.push(&record, last);
        let head: [u8; 8] = batch.bytes[..8].try_into().unwrap();
        assert!(FrameHead::decode(head).is_some());
        for first in 0..64 {
            for second in first..64 {
                let mut flipped = u64::from_le_bytes(head) ^ (1 << first);
                if second != first {
                    flipped ^= 1 << second;
                }
                let decoded = FrameHead::decode(flipped.to_le_bytes());
                assert!(decoded.is_none(), "{record:?} bits {first} {second}");
                assert_ne!(flipped, 0, "two flips make a head look unwritten");
            }
        }
    }
}

/// No sector of a record is zero within the record, whatever it holds and wherever it starts.
#[test]
fn no_sector_is_zero() {
    let zeros = vec![0; 3000];
    let mut single = zeros.clone();
    single[1700] = 1;
    let mut every_mask: Vec<u8> = (0..=255).flat_map(|byte| [byte; 512]).collect();
    every_mask.truncate(254 * 512);
    let aligned = |data: &Vec<u8>| if data.len() > 9000 { 512 } else { 8 };
    for data in [zeros, single, vec![0x5A; 3000], every_mask, Vec::new(), vec![0; 485]] {
        for offset in (0..512).step_by(aligned(&data)) {
            let mut batch = Batch::new(Vec::new(), offset, 0);
            batch.push(&Record::Entry(entry(1, 1, &data)), true);
            let mut file = vec![0; offset as usize];
            file.extend_from_slice(&batch.bytes);
            assert_ne!(file.last(), Some(&0), "the last byte");
            for (number, sector) in file.chunks(512).enumerate() {
                let part =
                    &sector[(offset as usize).saturating_sub(number * 512).min(sector.len())..];
                let bits: u32 = part.iter().map(|byte| byte.count_ones()).sum();
                assert!(part.is_empty() || bits > 2, "{} bytes at {offset}", data.len());
            }
        }
    }
}

/// A segment's name is read only in the spelling that is written.
#[test]
fn names() {
    let disk = TestDisk::default();
    drop(create(&disk, 512).unwrap());
    let written = "member/wal/0000000000000000-0000000000000001.wal";
    assert_eq!(files(&disk), [Path::new(written)]);
    for name in [
        "0-1.wal",
        "0000000000000000-000000000000000A.wal",
        "x.wal",
        "+00000000000000a-0000000000000001.wal",
    ] {
        let path = Path::new("member/wal").join(name);
        drop(crate::host::Disk::open(&disk, &path, crate::host::OpenMode::Create).unwrap());
    }
    let segments = super::super::segment::list(&disk, Path::new("member/wal")).unwrap();
    assert_eq!(segments.len(), 1, "{segments:?}");
}
