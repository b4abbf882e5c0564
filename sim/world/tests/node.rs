//! Lives, deaths, clocks, dice and panics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Bend, Crash, Options, World, run_in_world};
use super::{Log, MS, add_nodes, exact};

/// A boot closure runs at once and after each restart, with a host of its own; a killed one stops where it is.
#[test]
fn processes_live_and_die() {
    let lines = run_in_world(1, exact(), |world| async move {
        let [node] = add_nodes(&world);
        let log = Log::new(&world);
        let seen = log.clone();
        world.boot(node, move |host| {
            let seen = seen.clone();
            async move {
                seen.add("start");
                for beat in 1..=3 {
                    host.clock().sleep(Duration::from_millis(10)).await;
                    seen.add(beat);
                }
            }
        });
        world.sleep_until(25 * MS).await;
        world.kill(node);
        assert!(!world.is_up(node));
        world.sleep_until(50 * MS).await;
        world.restart(node);
        world.sleep_until(65 * MS).await;
        world.pause(node);
        world.sleep_until(95 * MS).await;
        world.resume(node);
        world.sleep_until(200 * MS).await;
        log.lines()
    });
    let expected = ["0 start", "10 1", "20 2", "50 start", "60 1", "95 2", "105 3"];
    assert_eq!(lines.expect("no panic"), expected);
}

/// A paused process can be killed; the next one is not paused.
#[test]
fn paused_processes_die_too() {
    let lines = run_in_world(1, exact(), |world| async move {
        let [node] = add_nodes(&world);
        let log = Log::new(&world);
        let seen = log.clone();
        world.boot(node, move |host| {
            let seen = seen.clone();
            async move {
                let _port =
                    host.net().listen("0.0.0.0:80".parse().expect("valid")).await.expect("free");
                let _lock = host.disk().lock("/LOCK".as_ref()).expect("free");
                seen.add("start");
                host.clock().sleep(Duration::from_millis(10)).await;
                seen.add("woke");
            }
        });
        for (at_ms, lever) in
            [(5, World::pause as fn(&World, _)), (20, World::kill), (30, World::restart)]
        {
            world.sleep_until(at_ms * MS).await;
            lever(&world, node);
        }
        world.sleep_until(100 * MS).await;
        log.lines()
    });
    assert_eq!(lines.expect("no panic"), ["0 start", "30 start", "40 woke"]);
}

/// Sleeps are exact to the nanosecond-scale cost of a poll, also below madsim's own minimum of a millisecond.
#[test]
fn sleeps_are_short_and_exact() {
    run_in_world(1, exact(), |world| async move {
        let mut late_ns = 0;
        for _ in 0..100 {
            let start_ns = world.now_ns();
            world.sleep(1000).await;
            late_ns = late_ns.max(world.now_ns() - start_ns - 1000);
        }
        assert!(late_ns < 1000, "{late_ns} ns late");
    })
    .expect("no panic");
}

/// A bent clock runs fast or slow by exactly its drift; its sleeps agree with it; the wall clock has its offset.
#[test]
fn clocks_bend() {
    run_in_world(1, exact(), |world| async move {
        let [straight, fast] = add_nodes(&world);
        world.sleep_until(1000 * MS).await;
        world.bend_clock(
            fast,
            Bend { drift_ppm: 100_000, wall_offset_ns: -5_000_000_000, ..Bend::default() },
        );
        let (one, other) = (world.host(straight).clock(), world.host(fast).clock());
        let gap = one.wall().as_secs_f64() - other.wall().as_secs_f64();
        assert!((gap - 5.0).abs() < 1e-3, "{gap}");
        world.sleep_until(2000 * MS).await;
        let passed = [one.monotonic(), other.monotonic()].map(|time| time.as_micros());
        assert_eq!(passed, [2_000_000, 2_100_000]);
        other.sleep(Duration::from_millis(1100)).await;
        assert_eq!(world.now_ns() / MS, 3000);
    })
    .expect("no panic");
}

/// A wall clock that is stepped or stands comes back to the right time; the monotonic clock and others' never notice.
#[test]
fn wall_clocks_step_and_stand() {
    run_in_world(1, exact(), |world| async move {
        let [right, wrong] = add_nodes(&world);
        let ahead_ms = |clock: &dyn snowglobe::host::Clock| {
            let right = world.host(right).clock().wall().as_millis();
            clock.wall().as_millis().cast_signed() - right.cast_signed()
        };
        let clock = world.host(wrong).clock();
        let table = [
            (Bend { wall_offset_ns: 3_600_000_000_000, ..Bend::default() }, [3_600_000, 3_600_000]),
            (Bend { wall_offset_ns: -2_000_000_000, ..Bend::default() }, [-2000, -2000]),
            (Bend { is_wall_frozen: true, ..Bend::default() }, [0, -1000]),
        ];
        for (bend, ahead) in table {
            world.bend_clock(wrong, bend);
            let (first, start) = (ahead_ms(&*clock), clock.monotonic());
            world.sleep(1000 * MS).await;
            assert_eq!([first, ahead_ms(&*clock)], ahead, "{bend:?}");
            assert_eq!((clock.monotonic() - start).as_millis(), 1000);
            world.bend_clock(wrong, Bend::default());
            assert_eq!(ahead_ms(&*clock), 0);
        }
        assert!(world.counters()["clock.wrong_wall_read"] >= 6);
    })
    .expect("no panic");
}

/// raft-rs draws its election timeouts from the kernel; two runs of a seed draw the same, other seeds others.
#[test]
fn kernel_dice_are_seeded() {
    fn timeouts() -> Vec<usize> {
        let config = raft::Config { id: 1, ..raft::Config::default() };
        let storage = raft::storage::MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = raft::RawNode::new(&config, storage, &logger).expect("a valid config");
        let draw = |_| {
            node.raft.become_follower(node.raft.term + 1, 0);
            node.raft.randomized_election_timeout()
        };
        (0..30).map(draw).collect()
    }
    let run = |seed| run_in_world(seed, exact(), |_| async { timeouts() }).expect("no panic");
    assert_eq!(run(1), run(1));
    let distinct: BTreeSet<Vec<usize>> = (0..5).map(run).collect();
    assert_eq!(distinct.len(), 5);
}

/// A host's own dice depend on seed and node, and go on after a restart instead of repeating.
#[test]
fn hosts_draw_their_own_numbers() {
    let run = |seed| {
        run_in_world(seed, exact(), |world| async move {
            let [a, b] = add_nodes(&world);
            let mut drawn = vec![world.host(a).random_u64(), world.host(b).random_u64()];
            world.restart(a);
            drawn.push(world.host(a).random_u64());
            drawn
        })
        .expect("no panic")
    };
    assert_eq!(run(1), run(1));
    let all: BTreeSet<u64> = run(1).into_iter().chain(run(2)).collect();
    assert_eq!(all.len(), 6);
}

/// A panic in a node's task ends the run, and says on which node.
#[test]
fn panics_are_caught_with_their_node() {
    let crash = run_in_world(1, exact(), |world: World| async move {
        let [_, b] = add_nodes(&world);
        world.boot(b, |_| async { panic!("a bug on purpose") });
        world.sleep(MS).await;
    });
    let Crash { node, message, location } = crash.expect_err("it panicked");
    assert_eq!((&*node, &*message), ("b", "a bug on purpose"));
    assert!(location.contains("tests/node.rs"), "{location}");
    let crash = run_in_world(1, exact(), |_| async { panic!("the scenario's own") });
    assert_eq!(crash.expect_err("it panicked").node, "madsim-main");
}

/// Nothing of a world outlives its run, whether it ended well or not.
#[test]
fn worlds_leave_nothing_behind() {
    for panics in [false, true] {
        let kept = Arc::new(());
        let held = Arc::clone(&kept);
        let outcome = run_in_world(1, Options::default(), |world| async move {
            let [a, b] = add_nodes(&world);
            for node in [a, b] {
                let (held, world) = (Arc::clone(&held), world.clone());
                world.clone().boot(node, move |host| {
                    let (held, world) = (Arc::clone(&held), world.clone());
                    async move {
                        let _both = (
                            host.net().listen("0.0.0.0:80".parse().expect("valid")).await,
                            held,
                            world,
                        );
                        std::future::pending::<()>().await;
                    }
                });
            }
            world.sleep(MS).await;
            let _stream = world.host(a).net().connect("b:80").await;
            assert!(!panics, "a bug on purpose");
        });
        assert_eq!(outcome.is_err(), panics);
        assert_eq!(
            Arc::strong_count(&kept),
            1,
            "tasks of the run are still there (panics: {panics})"
        );
    }
}
