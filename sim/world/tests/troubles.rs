//! Troubles of disks: each meets the operation, the file and the node that it is about, and no other.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use snowglobe::host::{File, Host, OpenMode};
use snowglobe::wal::{self, Mark, Wal};
use tokio::sync::mpsc;

use super::super::{Delay, Files, NodeId, Survival, Trouble, World, run_in_world};
use super::{MS, add_nodes, exact};

const WAL: &str = "/n/wal/1";
const BACKEND: &str = "/n/backend/1";

/// A file with these bytes, durable in data and name.
async fn durable(host: &Arc<dyn Host>, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let (disk, path) = (host.disk(), Path::new(path));
    let folder = path.parent().expect("in a folder");
    disk.create_dir_all(folder).expect("room");
    let file = disk.open(path, OpenMode::Create).expect("room");
    file.write_all_at(bytes, 0).expect("alive");
    file.sync().await.expect("alive");
    for folder in folder.ancestors() {
        disk.sync_dir(folder).await.expect("alive");
    }
    file
}

fn read(file: &dyn File) -> Result<String, ErrorKind> {
    let mut bytes = [0; 99];
    let count = file.read_at(&mut bytes, 0).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

/// What writing behind the end, writing in place, syncing, making and reading come to: `+` for those that work.
async fn tried(world: &World, node: NodeId, path: &str) -> String {
    let host = world.host(node);
    let file = durable(&host, &format!("{path}.tried"), b"12345").await;
    tried_on(&host, &*file, path).await
}

async fn tried_on(host: &Arc<dyn Host>, file: &dyn File, path: &str) -> String {
    let path = format!("{path}.made");
    let works = [
        file.write_all_at(b"x", 4).is_ok(),
        file.write_all_at(b"678", 5).is_ok(),
        file.sync().await.is_ok(),
        host.disk().open(Path::new(&path), OpenMode::Create).is_ok(),
        read(file).is_ok(),
    ];
    let names = ["write", "grow", "sync", "make", "read"];
    let failed = names.iter().zip(works).filter(|(_, works)| !works).map(|(name, _)| *name);
    failed.collect::<Vec<_>>().join(" ")
}

/// Each trouble with the log's files: what fails there, what it is counted as; nothing fails elsewhere, on another
/// node, or afterwards.
#[test]
fn troubles_meet_what_they_are_about() {
    let check = |trouble: Trouble, fails: &'static str, counter: &'static str| {
        run_in_world(1, exact(), |world| async move {
            let [a, b] = add_nodes(&world);
            let hosts = [a, b].map(|node| world.host(node));
            let log = durable(&hosts[0], WAL, b"12345").await;
            let backend = durable(&hosts[0], BACKEND, b"12345").await;
            let other = durable(&hosts[1], WAL, b"12345").await;
            assert_eq!(world.disk(a).bites(), 0);
            world.disk(a).begin(7, Files::Wal, trouble);
            assert_eq!(tried_on(&hosts[0], &*log, WAL).await, fails, "{trouble:?}");
            assert_eq!(tried_on(&hosts[0], &*backend, BACKEND).await, "", "{trouble:?}: elsewhere");
            assert_eq!(tried_on(&hosts[1], &*other, WAL).await, "", "{trouble:?}: another node");
            let counted = world.counters().get(counter).copied().unwrap_or(0);
            assert_eq!(counted, fails.split(' ').count() as u64, "{trouble:?}: {counter}");
            assert_eq!((world.disk(a).bites(), world.disk(b).bites()), (counted, 0));
            world.disk(a).end(7, true);
            assert_eq!(tried(&world, a, WAL).await, "", "{trouble:?}: afterwards");
        })
        .expect("no panic");
    };
    check(Trouble::SyncFails { evicts: false }, "sync", "disk.sync_failed_wal");
    check(Trouble::Full, "grow make", "disk.no_room_wal");
    check(Trouble::WriteErrors { one_in: 1 }, "write grow", "disk.write_failed_wal");
    check(Trouble::ReadErrors { one_in: 1 }, "read", "disk.read_failed_wal");
}

/// A write that fails for want of room leaves a first part, never more than there is room for.
#[test]
fn failed_writes_are_short() {
    let left = |seed, trouble| {
        run_in_world(seed, exact(), |world| async move {
            let [node] = add_nodes(&world);
            let file = durable(&world.host(node), WAL, b"123").await;
            world.disk(node).begin(7, Files::All, trouble);
            let error = file.write_all_at(b"abcdef", 0).expect_err("no room");
            assert_eq!(error.kind() == ErrorKind::StorageFull, trouble == Trouble::Full);
            read(&*file).expect("readable")
        })
        .expect("no panic")
    };
    let all = |trouble| {
        (0..40).map(|seed| left(seed, trouble)).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(all(Trouble::Full).into_iter().collect::<Vec<_>>(), ["123", "a23", "ab3", "abc"]);
    let errors = all(Trouble::WriteErrors { one_in: 1 });
    assert!(errors.contains("123") && errors.contains("abcde"), "{errors:?}");
    assert!(!errors.contains("abcdef"), "a write that failed was done");
}

/// A sync fails once; the next succeeds, and the power takes what the first should have saved.
#[test]
fn failed_syncs_lose_pages() {
    for (evicts, seen) in [(false, "new"), (true, "old")] {
        run_in_world(1, exact(), |world| async move {
            let [node] = add_nodes(&world);
            let file = durable(&world.host(node), WAL, b"old").await;
            world.disk(node).begin(7, Files::Wal, Trouble::SyncFails { evicts });
            file.write_all_at(b"new", 0).expect("room");
            assert_eq!(
                file.sync().await.expect_err("it is to fail").to_string(),
                format!("{WAL}: input/output error")
            );
            file.sync().await.expect("it fails once");
            assert_eq!(read(&*file).expect("readable"), seen);
            let loss = world.power_off(node, Survival::Everything);
            assert_eq!(loss.dropped, 1);
            world.restart(node);
            let file = world.host(node).disk().open(Path::new(WAL), OpenMode::Read).expect("there");
            assert_eq!(read(&*file).expect("readable"), "old");
        })
        .expect("no panic");
    }
}

/// A slow disk's syncs take as long as was said; on a disk that hangs they take until it goes on.
#[test]
fn slow_and_hung() {
    let check = |trouble: Trouble, takes_ms: std::ops::Range<u64>| {
        run_in_world(1, exact(), |world| async move {
            let [node] = add_nodes(&world);
            let file = durable(&world.host(node), WAL, b"old").await;
            world.disk(node).begin(7, Files::Wal, trouble);
            let (start_ns, other) = (world.now_ns(), world.clone());
            world.spawn(node, async move {
                other.sleep(500 * MS).await;
                other.disk(node).end(7, true);
            });
            file.sync().await.expect("it only takes long");
            let took_ms = (world.now_ns() - start_ns) / MS;
            assert!(takes_ms.contains(&took_ms), "{trouble:?} took {took_ms} ms");
            assert_eq!((world.counters()["disk.sync_slow_wal"], world.disk(node).bites()), (1, 0));
        })
        .expect("no panic");
    };
    check(Trouble::Slow(Delay::even(40 * MS, 60 * MS)), 41..62);
    check(Trouble::Hung, 500..507);
}

/// Rot flips one bit of one file of those that were asked for, until the file is restored.
#[test]
fn rot_flips_one_bit() {
    run_in_world(3, exact(), |world| async move {
        let [node] = add_nodes(&world);
        let log = durable(&world.host(node), WAL, b"the log").await;
        let backend = durable(&world.host(node), BACKEND, b"the backend").await;
        let (path, place) = world.disk(node).rot(7, Files::Backend).expect("there is a file");
        assert_eq!((path.as_str(), world.disk(node).rotten_bits()), (BACKEND, 1));
        assert_eq!(read(&*log).expect("readable"), "the log");
        let mut bytes = [0; 11];
        backend.read_at(&mut bytes, 0).expect("readable");
        let differ = bytes.iter().zip(b"the backend").map(|(a, b)| (a ^ b).count_ones());
        let differ: Vec<u32> = differ.collect();
        assert_eq!(
            (differ.iter().sum::<u32>(), differ[usize::try_from(place).expect("small")]),
            (1, 1)
        );
        assert_eq!((world.counters()["disk.rot_read_backend"], world.disk(node).bites()), (1, 1));
        world.disk(node).end(7, true);
        assert_eq!(read(&*backend).expect("readable"), "the backend");
        assert_eq!(world.disk(node).rot(8, Files::Snap), None);
    })
    .expect("no panic");
}

/// A write that a sync covered is not there once the power was gone: of the file and the sectors that were asked for,
/// until the file is restored. Where it was misdirected, another place of the same class has its bytes.
#[test]
fn writes_go_astray() {
    let check = |seed, trouble: Trouble, counter: &'static str| {
        run_in_world(seed, exact(), |world| async move {
            let [node] = add_nodes(&world);
            let host = world.host(node);
            let other = "/n/backend/2";
            let log = durable(&host, WAL, &[b'l'; 4096]).await;
            let backend = durable(&host, BACKEND, &[b'a'; 4096]).await;
            durable(&host, other, &[b'a'; 4096]).await;
            world.disk(node).begin(7, Files::Backend, trouble);
            for file in [&log, &backend] {
                file.write_all_at(&[b'b'; 512], 1024).expect("room");
                file.sync().await.expect("it says that all is well");
            }
            assert!(world.disk(node).is_damaged());
            world.power_off(node, Survival::Everything);
            world.restart(node);
            let disk = world.host(node).disk();
            let all = |path: &str| {
                let mut bytes = vec![0; 4096];
                let file = disk.open(Path::new(path), OpenMode::Read).expect("there");
                assert_eq!(file.read_at(&mut bytes, 0).expect("readable"), 4096);
                bytes
            };
            let count = |path: &str, byte| all(path).iter().filter(|it| **it == byte).count();
            assert_eq!((count(WAL, b'l'), count(WAL, b'b')), (4096 - 512, 512), "another class");
            assert_eq!(world.disk(node).bites(), 0);
            assert_eq!(all(BACKEND)[1024], b'a', "it was done after all");
            let astray = count(BACKEND, b'b') + count(other, b'b');
            let is_misdirected = counter.starts_with("disk.misdirected");
            assert_eq!(astray, if is_misdirected { 512 } else { 0 });
            assert!(world.counters()[counter] > 0 && world.disk(node).bites() > 0);
            world.disk(node).end(7, true);
            assert_eq!((count(BACKEND, b'b'), count(other, b'b')), (512, 0), "restored");
            assert!(!world.disk(node).is_damaged());
        })
        .expect("no panic");
    };
    for evicts in [false, true] {
        check(1, Trouble::LostWrite { evicts }, "disk.lost_write_read_backend");
        check(1, Trouble::MisdirectedWrite { evicts }, "disk.misdirected_write_read_backend");
    }
}

/// A strike ends the process at exactly the operation that was asked for; nothing of it works from then on.
#[test]
fn strikes_are_exact() {
    run_in_world(1, exact(), |world| async move {
        let [node] = add_nodes(&world);
        let file = durable(&world.host(node), WAL, b"").await;
        let other = durable(&world.host(node), BACKEND, b"").await;
        let (word, mut words) = mpsc::unbounded_channel();
        world.disk(node).arm((7, Files::Wal), 2, true, word);
        other.write_all_at(b"elsewhere", 0).expect("not counted");
        file.write_all_at(b"1", 0).expect("the first");
        assert!(words.try_recv().is_err() && !world.disk(node).is_struck());
        file.write_all_at(b"2", 1).expect("the second is done");
        assert!(file.write_all_at(b"3", 2).is_err() && other.sync().await.is_err());
        assert!(world.host(node).net().connect("a:1").await.is_err());
        assert_eq!((words.try_recv(), world.disk(node).is_struck()), (Ok(7), true));
        world.restart(node);
        let file = world.host(node).disk().open(Path::new(WAL), OpenMode::Read).expect("there");
        assert_eq!(
            (read(&*file).expect("readable").as_str(), world.disk(node).is_struck()),
            ("12", false)
        );
    })
    .expect("no panic");
}

/// What a log says that it has recovered is durable, even where the sync before the death had failed and the kernel
/// took the pages for clean.
#[test]
fn a_recovered_log_is_durable() {
    let entry = |index| wal::Entry { index, term: 1, data: vec![b'x'; 700].into() };
    let state = Some(wal::HardState { term: 1, vote: 1, commit: 0 });
    run_in_world(1, exact(), |world| async move {
        let [node] = add_nodes(&world);
        let dir = Path::new("/n/wal");
        let options = wal::Options { segment_bytes: 16 << 10 };
        let disk = world.host(node).disk();
        disk.create_dir_all(dir).expect("room");
        disk.sync_dir(Path::new("/")).await.expect("alive");
        let mut log = Wal::create(disk, dir, b"of a test", options).await.expect("room");
        log.append(&[entry(1)], state).expect("room");
        log.sync().await.expect("nothing is wrong yet");
        log.append(&[entry(2)], None).expect("room");
        world.disk(node).begin(7, Files::Wal, Trouble::SyncFails { evicts: false });
        log.sync().await.expect_err("it is to fail");
        let mut counts = Vec::new();
        for _ in 0..2 {
            world.restart(node);
            let disk = world.host(node).disk();
            let (_, found) = Wal::open(disk, dir, Mark::default(), options).await.expect("sound");
            counts.push(found.entries.len());
            world.power_off(node, Survival::Nothing);
        }
        assert_eq!(counts, [2, 2], "an entry that was recovered is gone");
    })
    .expect("no panic");
}
