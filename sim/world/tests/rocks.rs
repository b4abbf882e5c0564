//! A real RocksDB on the simulated disk.

use std::sync::Arc;

use rocksdb::{DB, Options as RocksOptions, WriteBatch};
use snowglobe::host::{Backend, Host};

use super::super::{Survival, World, run_in_world};
use super::{MS, add_nodes, exact};
use crate::dice::Dice;

struct Store {
    db: DB,
    backend: Backend,
}

fn open(host: &Arc<dyn Host>) -> Store {
    let backend = host.backend().expect("alive");
    host.disk().create_dir_all(std::path::Path::new("/data")).expect("alive");
    let mut options = RocksOptions::default();
    options.set_env(backend.env.as_ref().expect("a simulated one"));
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_write_buffer_size(64 * 1024);
    let db = DB::open_cf(&options, "/data/db", ["key", "meta"]).expect("opens");
    (backend.finish_background_jobs)();
    Store { db, backend }
}

impl Store {
    /// One batch: a new key and, in the same batch, its number.
    fn put(&self, number: u64, dice: &mut Dice) {
        let mut value = vec![0; usize::try_from(dice.within(10, 1500)).expect("small")];
        value.iter_mut().for_each(|byte| *byte = dice.bits().to_le_bytes()[0]);
        let (key, meta) =
            (self.db.cf_handle("key").expect("made"), self.db.cf_handle("meta").expect("made"));
        let mut batch = WriteBatch::default();
        batch.put_cf(&key, number.to_be_bytes(), value);
        batch.put_cf(&meta, b"applied", number.to_be_bytes());
        self.db.write(batch).expect("alive");
        (self.backend.finish_background_jobs)();
    }

    fn sync(&self) {
        self.db.flush_wal(true).expect("alive");
        (self.backend.finish_background_jobs)();
    }

    /// The number of the last batch, after checking that exactly the batches up to it are there.
    fn applied(&self) -> u64 {
        let (key, meta) =
            (self.db.cf_handle("key").expect("made"), self.db.cf_handle("meta").expect("made"));
        let applied = self.db.get_cf(&meta, b"applied").expect("alive");
        let applied =
            applied.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("eight")));
        let keys = self.db.iterator_cf(&key, rocksdb::IteratorMode::Start);
        let keys = keys
            .map(|entry| u64::from_be_bytes((*entry.expect("alive").0).try_into().expect("eight")));
        assert!(keys.eq(1..=applied), "the keys are not those of the batches up to {applied}");
        applied
    }
}

/// Through 20 crashes of both kinds a store keeps what it synced, atomically, and each seed does the same twice.
#[test]
fn recovers_from_crashes() {
    fn run(seed: u64) -> (u64, u64, u64) {
        run_in_world(seed, exact(), |world| async move {
            let [node] = add_nodes(&world);
            let mut dice = world.dice("test");
            let (mut synced, mut last, mut lost) = (0, 0, 0);
            let mut old = None;
            for cycle in 0..20_u64 {
                let store = open(&world.host(node));
                drop(old.take()); // the dead process's store is closed only now, as late destructors do
                let applied = store.applied();
                assert!(
                    (synced..=last).contains(&applied),
                    "synced {synced}, applied {applied}, wrote {last}"
                );
                lost += last - applied;
                last = applied;
                if cycle == 0 {
                    world.host(node).disk().sync_dir("/data".as_ref()).await.expect("alive");
                    world.host(node).disk().sync_dir("/".as_ref()).await.expect("alive");
                }
                for _ in 0..dice.within(10, 120) {
                    last += 1;
                    store.put(last, &mut dice);
                    if dice.below(20) == 0 {
                        store.sync();
                        synced = last;
                    }
                }
                if cycle % 2 == 0 {
                    world.kill(node);
                    synced = last;
                } else {
                    world.power_off(node, Survival::Part);
                }
                world.restart(node);
                old = Some(store);
                world.sleep(MS).await;
            }
            let counters = world.counters();
            let count = |name| counters.get(name).copied().unwrap_or(0);
            assert!(count("disk.torn_writes") + count("disk.lost_writes") > 0, "no power cut bit");
            (world.trace().hash(), world.trace().count(), lost)
        })
        .expect("no panic")
    }
    let first: Vec<_> = (0..4).map(run).collect();
    assert_eq!(first, (0..4).map(run).collect::<Vec<_>>());
    assert!(first.iter().any(|(.., lost)| *lost > 0), "no power cut ever took an unsynced batch");
}

/// A dead process's store fails in every call, does not wait, and leaves the living one's files alone.
#[test]
fn the_dead_store_is_harmless() {
    run_in_world(1, exact(), |world: World| async move {
        let [node] = add_nodes(&world);
        let mut dice = world.dice("test");
        let dead = open(&world.host(node));
        for number in 1..=200 {
            dead.put(number, &mut dice);
        }
        dead.db.flush().err();
        world.restart(node);
        let alive = open(&world.host(node));
        let before = world.trace().hash();
        assert!(dead.db.put(b"late", b"write").is_err());
        (dead.backend.finish_background_jobs)();
        drop(dead);
        assert_eq!(world.trace().hash(), before, "a dead store changed something");
        assert_eq!(alive.applied(), 200);
        assert!(
            world.host(node).disk().lock("/data/db/LOCK".as_ref()).is_err(),
            "its lock was released"
        );
    })
    .expect("no panic");
}

/// RocksDB starts no thread in a world. (A thread has the name of the one that made it, or RocksDB's own.)
#[test]
fn starts_no_threads() {
    let names = run_in_world(987_654, exact(), |world| async move {
        let [node] = add_nodes(&world);
        let mut dice = world.dice("test");
        let store = open(&world.host(node));
        for number in 1..=500 {
            store.put(number, &mut dice);
        }
        let tasks = std::fs::read_dir("/proc/self/task").expect("Linux").flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names
            .filter(|name| name.starts_with("rocksdb") || name.starts_with("seed-987654"))
            .collect::<Vec<_>>()
    });
    assert_eq!(names.expect("no panic"), ["seed-987654\n"]);
}
