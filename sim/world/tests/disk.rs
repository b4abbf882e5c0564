//! The disk as a process sees it: what survives which death, and what the dead can still do.

use std::io;
use std::path::Path;
use std::sync::Arc;

use snowglobe::host::{Disk, File, OpenMode};

use super::super::{NodeId, Survival, World, run_in_world};
use super::{MS, add_nodes, exact};

const FILE: &str = "/data/file";

async fn write_synced(disk: &Arc<dyn Disk>, text: &[u8]) -> Box<dyn File> {
    disk.create_dir_all(Path::new("/data")).expect("room");
    let file = disk.open(Path::new(FILE), OpenMode::Create).expect("room");
    file.write_all_at(text, 0).expect("alive");
    file.sync().await.expect("alive");
    for dir in ["/data", "/"] {
        disk.sync_dir(Path::new(dir)).await.expect("alive");
    }
    file
}

fn read(world: &World, node: NodeId) -> io::Result<String> {
    let file = world.host(node).disk().open(Path::new(FILE), OpenMode::Read)?;
    let mut buffer = [0; 100];
    let count = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

/// Killing a process keeps the page cache; cutting the power keeps what was synced, at least and at most.
#[test]
fn deaths_keep_what_they_should() {
    type Death = fn(&World, NodeId);
    let table: [(Death, &str); 3] = [
        (|world, node| world.kill(node), "synced+more"),
        (|world, node| _ = world.power_off(node, Survival::Nothing), "synced"),
        (|world, node| _ = world.power_off(node, Survival::Everything), "synced+more"),
    ];
    for (death, left) in table {
        run_in_world(1, exact(), |world| async move {
            let [node] = add_nodes(&world);
            let file = write_synced(&world.host(node).disk(), b"synced").await;
            file.write_all_at(b"+more", 6).expect("alive");
            death(&world, node);
            world.restart(node);
            assert_eq!(read(&world, node).expect("there"), left);
        })
        .expect("no panic");
    }
}

/// A sync is durable at its end, not at its start, and covers what was written before it began.
#[test]
fn sync_takes_its_time() {
    for (cut_at_us, left) in [(900, "synced"), (1100, "synced+more")] {
        run_in_world(1, exact(), |world| async move {
            let [node] = add_nodes(&world);
            let file = write_synced(&world.host(node).disk(), b"synced").await;
            file.write_all_at(b"+more", 6).expect("alive");
            let start_ns = world.now_ns();
            let sync = world.spawn(node, async move { file.sync().await });
            world.sleep_until(start_ns + MS / 2).await;
            let late =
                world.host(node).disk().open(Path::new(FILE), OpenMode::Write).expect("there");
            late.write_all_at(b"+late", 11).expect("alive");
            world.sleep_until(start_ns + cut_at_us * 1000).await;
            world.power_off(node, Survival::Nothing);
            assert_eq!(
                sync.await.is_ok(),
                cut_at_us > 1000,
                "the sync ended too early or too late"
            );
            world.restart(node);
            assert_eq!(read(&world, node).expect("there"), left);
        })
        .expect("no panic");
    }
}

/// Handles of a dead process fail and change nothing, in whichever order they are dropped.
#[test]
fn the_dead_change_nothing() {
    run_in_world(1, exact(), |world| async move {
        let [node] = add_nodes(&world);
        let old = world.host(node).disk();
        let file = write_synced(&old, b"synced").await;
        let lock = old.lock(Path::new("/data/LOCK")).expect("free");
        world.restart(node);
        let new = world.host(node).disk();
        let held = new.lock(Path::new("/data/LOCK")).expect("a death releases locks");
        let before = world.trace().hash();
        let refused = [
            file.write_all_at(b"late", 0),
            file.set_length(0),
            file.sync().await,
            old.remove(Path::new(FILE)),
            old.rename(Path::new(FILE), Path::new("/data/other")),
            old.create_dir_all(Path::new("/late")),
            old.sync_dir(Path::new("/data")).await,
            old.open(Path::new("/data/late"), OpenMode::Create).map(drop),
            old.lock(Path::new("/data/other")).map(drop),
            old.list(Path::new("/data")).map(drop),
        ];
        drop(lock);
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        assert_eq!(world.trace().hash(), before, "something of it was done");
        let taken =
            new.lock(Path::new("/data/LOCK")).err().expect("a late drop must not release it");
        assert_eq!(taken.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        new.lock(Path::new("/data/LOCK")).expect("free again");
        assert_eq!(read(&world, node).expect("there"), "synced");
    })
    .expect("no panic");
}

/// Errors have the kinds that callers look for.
#[test]
fn errors_have_their_kinds() {
    run_in_world(1, exact(), |world| async move {
        let [node] = add_nodes(&world);
        let disk = world.host(node).disk();
        let kind = |result: io::Result<()>| result.expect_err("must fail").kind();
        let missing = Path::new("/none/file");
        assert_eq!(kind(disk.open(missing, OpenMode::Read).map(drop)), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.open(missing, OpenMode::Create).map(drop)), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.list(missing).map(drop)), io::ErrorKind::NotFound);
        let file = write_synced(&disk, b"x").await;
        file.allocate(1 << 20).expect("alive");
        assert_eq!(file.length().expect("alive"), 1 << 20);
        let reader = disk.open(Path::new(FILE), OpenMode::Read).expect("there");
        assert_eq!(kind(reader.write_all_at(b"y", 0)), io::ErrorKind::PermissionDenied);
        assert_eq!(disk.list(Path::new("/data")).expect("there"), ["file"]);
    })
    .expect("no panic");
}

/// The same seed loses the same part; over many seeds both extremes and parts between are seen.
#[test]
fn power_losses_vary_with_the_seed() {
    let run = |seed| {
        run_in_world(seed, exact(), |world| async move {
            let [node] = add_nodes(&world);
            let file = write_synced(&world.host(node).disk(), b"").await;
            for at in 0..4_u64 {
                file.write_all_at(&[b'a'; 1000], at * 1000).expect("alive");
            }
            world.power_off(node, Survival::Part);
            world.restart(node);
            let file =
                world.host(node).disk().open(Path::new(FILE), OpenMode::Read).expect("there");
            file.length().expect("alive")
        })
        .expect("no panic")
    };
    let lengths: Vec<u64> = (0..60).map(run).collect();
    assert_eq!(lengths, (0..60).map(run).collect::<Vec<_>>());
    let count = |wanted: u64| lengths.iter().filter(|length| **length == wanted).count();
    assert!(count(0) >= 6 && count(4000) >= 6, "{lengths:?}");
    assert!(
        lengths.iter().any(|length| length % 1000 != 0 && length % 512 == 0),
        "no torn write: {lengths:?}"
    );
}
