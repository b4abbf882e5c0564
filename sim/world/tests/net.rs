//! Streams over links that fail: who sees what, and when.

use std::net::SocketAddr;
use std::sync::Arc;

use snowglobe::host::{Host, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::{Connects, Delay, LinkFaults, NodeId, Options, Survival, World, run_in_world};
use super::{Log, MS, add_nodes, exact, ip};

async fn read_all(mut stream: impl tokio::io::AsyncRead + Unpin, who: &'static str, log: Log) {
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return log.add(format_args!("{who} end")),
            Ok(count) => log.add(format_args!("{who} read {:?}", &buffer[..count])),
            Err(error) => return log.add(format_args!("{who} read {:?}", error.kind())),
        }
    }
}

/// Accepts on port 80 for ever and logs what comes.
async fn serve(host: Arc<dyn Host>, log: Log) {
    let net = host.net();
    let mut listener = net.listen(SocketAddr::new(ip(2), 80)).await.expect("the port is free");
    loop {
        let (stream, from) = listener.accept().await.expect("the process lives");
        log.add(format_args!("b accepted {}", from.ip()));
        tokio::spawn(read_all(stream, "b", log.clone()));
    }
}

/// Connects, then writes 1, 2, … 6 at 10, 20, … 60 ms, logging what goes wrong and what comes back.
async fn talk(world: World, host: Arc<dyn Host>, log: Log) {
    let stream = match host.net().connect("b:80").await {
        Ok(stream) => stream,
        Err(error) => return log.add(format_args!("a connect {:?}", error.kind())),
    };
    log.add("a connected");
    let (reader, mut writer) = tokio::io::split(stream);
    tokio::spawn(read_all(reader, "a", log.clone()));
    for number in 1..=6_u8 {
        world.sleep_until(u64::from(number) * 10 * MS).await;
        if let Err(error) = writer.write_all(&[number]).await {
            return log.add(format_args!("a write {:?}", error.kind()));
        }
    }
    world.sleep_until(70 * MS).await;
    writer.shutdown().await.expect("the stream lives");
}

type Fault = fn(&World, NodeId, NodeId);

fn off(world: &World, _: NodeId, b: NodeId) {
    world.power_off(b, Survival::Nothing);
}

/// Runs [`talk`] against [`serve`] with faults at milliseconds, for 200 ms, and compares what both logged.
fn check(options: Options, faults: &[(u64, Fault)], expected: &[&str]) {
    let lines = run_in_world(1, options, |world| async move {
        let [a, b] = add_nodes(&world);
        let log = Log::new(&world);
        let served = log.clone();
        world.boot(b, move |host| serve(host, served.clone()));
        world.spawn(a, talk(world.clone(), world.host(a), log.clone()));
        for (at_ms, fault) in faults {
            world.sleep_until(at_ms * MS).await;
            fault(&world, a, b);
        }
        world.sleep_until(200 * MS).await;
        log.lines()
    });
    let mut lines = lines.expect("no panic");
    // Who runs first within a moment is up to the seed.
    lines.sort_by_key(|line| {
        (line.split(' ').next().and_then(|ms| ms.parse::<u64>().ok()), line.clone())
    });
    assert_eq!(lines, expected);
}

const START: [&str; 4] =
    ["2 a connected", "3 b accepted 10.0.0.1", "11 b read [1]", "21 b read [2]"];

fn after_start(more: &[&'static str]) -> Vec<&'static str> {
    [&START, more].concat()
}

/// Without faults everything arrives after one delay, in order, the end last.
#[test]
fn delivers_in_order() {
    let expected = [
        "31 b read [3]",
        "41 b read [4]",
        "51 b read [5]",
        "61 b read [6]",
        "71 b end",
        "72 a end",
    ];
    check(exact(), &[], &after_start(&expected));
}

/// A cut holds bytes back; after healing they arrive together, none lost.
#[test]
fn cut_holds_and_heal_delivers() {
    let expected = ["46 b read [3, 4]", "51 b read [5]", "61 b read [6]", "71 b end", "72 a end"];
    let faults: &[(u64, Fault)] =
        &[(25, |w, a, b| w.net().cut(a, b)), (45, |w, a, b| w.net().heal(a, b))];
    check(exact(), faults, &after_start(&expected));
}

/// A narrow link takes one byte after the other, at its rate; the way back is as wide as ever.
#[test]
fn narrow_links_queue() {
    let expected = [
        "51 b read [3]",
        "71 b read [4]",
        "91 b read [5]",
        "111 b end",
        "111 b read [6]",
        "112 a end",
    ];
    let narrow: Fault = |world, a, b| {
        let faults = LinkFaults { bytes_per_s: Some(50), ..LinkFaults::default() };
        world.net().set_link(a, b, faults);
    };
    check(exact(), &[(25, narrow)], &after_start(&expected));
}

/// What is set wrong with a link replaces what was wrong before: a stall that becomes nothing lets all through.
#[test]
fn links_are_set_as_a_whole() {
    let stall: Fault = |world, a, b| {
        let faults = LinkFaults { is_stalled: true, ..LinkFaults::default() };
        world.net().set_link(a, b, faults);
    };
    let nothing: Fault = |world, a, b| world.net().set_link(a, b, LinkFaults::default());
    let expected = ["46 b read [3, 4]", "51 b read [5]", "61 b read [6]", "71 b end", "72 a end"];
    check(exact(), &[(25, stall), (45, nothing)], &after_start(&expected));
}

/// A cut of the way back does not touch the way there; only the answer to the end is missing.
#[test]
fn cut_is_one_way() {
    let expected = ["31 b read [3]", "41 b read [4]", "51 b read [5]", "61 b read [6]", "71 b end"];
    check(exact(), &[(25, |w, a, b| w.net().cut(b, a))], &after_start(&expected));
}

/// The end of a stream does not cross a cut either.
#[test]
fn end_does_not_cross_a_cut() {
    let expected = [
        "31 b read [3]",
        "41 b read [4]",
        "51 b read [5]",
        "61 b read [6]",
        "101 b end",
        "102 a end",
    ];
    let faults: &[(u64, Fault)] =
        &[(65, |w, a, b| w.net().cut(a, b)), (100, |w, a, b| w.net().heal(a, b))];
    check(exact(), faults, &after_start(&expected));
}

/// A sender whose bytes stay unanswered gives up after its time-out, and nothing arrives later.
#[test]
fn cut_for_too_long_times_out() {
    let mut options = exact();
    options.net.user_timeout_ns = 20 * MS;
    let faults: &[(u64, Fault)] =
        &[(25, |w, a, b| w.net().cut(a, b)), (100, |w, a, b| w.net().heal(a, b))];
    check(options, faults, &after_start(&["51 a read TimedOut", "60 a write TimedOut"]));
}

/// A stall behaves like a cut that needs no retransmission.
#[test]
fn stall_delivers_at_once_when_over() {
    let mut options = exact();
    options.net.retransmit_max_ns = 100 * MS;
    let expected = ["46 b read [3, 4]", "51 b read [5]", "61 b read [6]", "71 b end", "72 a end"];
    let faults: &[(u64, Fault)] =
        &[(25, |w, a, b| w.net().stall(a, b)), (45, |w, a, b| w.net().heal(a, b))];
    check(options, faults, &after_start(&expected));
}

/// A reset breaks both sides at once.
#[test]
fn reset_breaks_both() {
    let faults: &[(u64, Fault)] = &[(25, |w, a, b| w.net().reset(a, b))];
    let mut expected = after_start(&["25 a read ConnectionReset", "25 b read ConnectionReset"]);
    expected.push("30 a write ConnectionReset");
    check(exact(), faults, &expected);
}

/// A process that dies closes its streams: the other side reads the end, and a write meets a reset.
#[test]
fn kill_ends_streams() {
    let faults: &[(u64, Fault)] = &[(25, |w, _, b| w.kill(b))];
    check(exact(), faults, &after_start(&["26 a end", "40 a write ConnectionReset"]));
}

/// A machine without power says nothing; back again, it answers what is sent again with a reset.
#[test]
fn power_loss_is_silent() {
    let lost: (u64, Fault) = (25, off);
    check(exact(), &[lost], &after_start(&[]));
    let expected = after_start(&["47 a read ConnectionReset", "50 a write ConnectionReset"]);
    check(exact(), &[lost, (45, |w, _, b| w.restart(b))], &expected);
}

/// With keepalive a stream to a dead machine breaks even if nobody writes.
#[test]
fn keepalive_finds_dead_machines() {
    let mut options = exact();
    options.net.keepalive_ns = Some(15 * MS);
    let faults: &[(u64, Fault)] = &[(5, off)];
    let expected =
        ["2 a connected", "3 b accepted 10.0.0.1", "20 a read TimedOut", "20 a write TimedOut"];
    check(options, faults, &expected);
}

/// A paused process is still connected to; its kernel takes what fits, and it reads all of it later.
#[test]
fn pause_lets_bytes_pile_up() {
    let faults: &[(u64, Fault)] = &[(1, |w, _, b| w.pause(b)), (65, |w, _, b| w.resume(b))];
    let expected = [
        "2 a connected",
        "65 b accepted 10.0.0.1",
        "65 b read [1, 2, 3, 4, 5, 6]",
        "71 b end",
        "72 a end",
    ];
    check(exact(), faults, &expected);
}

/// Connects: when and how each kind of trouble shows.
#[test]
fn connects_fare_as_the_link_says() {
    type Case = (&'static str, &'static [(u64, Fault)], &'static str);
    let table: &[Case] = &[
        ("b:80", &[], "2 connected"),
        ("10.0.0.2:80", &[], "2 connected"),
        ("b:81", &[], "2 ConnectionRefused"),
        ("localhost:80", &[], "0 ConnectionRefused"),
        ("c:80", &[], "0 NotFound"),
        ("b:80", &[(0, |w, a, b| w.net().cut(a, b))], "127000 TimedOut"),
        (
            "b:80",
            &[(0, |w, a, b| w.net().cut(b, a)), (500, |w, a, b| w.net().heal(b, a))],
            "1002 connected",
        ),
        (
            "b:80",
            &[(0, |w, a, b| w.net().set_connects(a, b, Connects::Refuse))],
            "2 ConnectionRefused",
        ),
        ("b:80", &[(0, |w, a, b| w.net().set_connects(a, b, Connects::Hang))], "127000 TimedOut"),
        ("b:80", &[(0, off)], "127000 TimedOut"),
        ("b:80", &[(0, |w, _, b| w.kill(b))], "2 ConnectionRefused"),
    ];
    for (authority, faults, expected) in table {
        let line = run_in_world(1, exact(), |world| async move {
            let [a, b] = add_nodes(&world);
            let log = Log::new(&world);
            world.boot(b, move |host| async move {
                let mut listener =
                    host.net().listen(SocketAddr::new(ip(2), 80)).await.expect("free");
                let _held = listener.accept().await;
                std::future::pending::<()>().await;
            });
            world.sleep(1000).await;
            for (at_ms, fault) in *faults {
                if *at_ms == 0 {
                    fault(&world, a, b);
                }
            }
            let (host, connected) = (world.host(a), log.clone());
            let task = world.spawn(a, async move {
                match host.net().connect(authority).await {
                    Ok(_) => connected.add("connected"),
                    Err(error) => connected.add(format_args!("{:?}", error.kind())),
                }
            });
            for (at_ms, fault) in faults.iter().filter(|(at_ms, _)| *at_ms > 0) {
                world.sleep_until(at_ms * MS).await;
                fault(&world, a, b);
            }
            task.await.expect("not aborted");
            log.lines().join(" / ")
        });
        assert_eq!(line.expect("no panic"), *expected, "{authority}, {} faults", faults.len());
    }
}

/// A reader that does not read stops the writer at the window, exactly; nothing is lost when it goes on.
#[test]
fn window_pushes_back() {
    let mut options = exact();
    options.net.window_bytes = 1000;
    let (stopped_at, received) = run_in_world(1, options, |world| async move {
        let (mut client, mut server) = connected(&world).await;
        let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let progress = Arc::clone(&written);
        tokio::spawn(async move {
            for chunk in (0..250_000_u32).map(u32::to_le_bytes).collect::<Vec<_>>().chunks(25) {
                client.write_all(chunk.as_flattened()).await.expect("alive");
                progress.fetch_add(100, std::sync::atomic::Ordering::Relaxed);
            }
        });
        world.sleep(50 * MS).await;
        let stopped_at = written.load(std::sync::atomic::Ordering::Relaxed);
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.expect("alive");
        (stopped_at, received)
    })
    .expect("no panic");
    assert_eq!(stopped_at, 1000);
    let numbers =
        received.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four")));
    assert!(numbers.eq(0..250_000));
}

async fn connected(world: &World) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let [a, b] = add_nodes(world);
    let (client, server) = (world.host(a).net(), world.host(b).net());
    let mut listener = server.listen(SocketAddr::new(ip(2), 80)).await.expect("free");
    let client = client.connect("b:80").await.expect("a listener is there");
    let (server, _) = listener.accept().await.expect("a connection is there");
    (client, server)
}

/// Under random delays, cuts and writes of all sizes a stream stays a stream, and a seed stays a seed.
#[test]
fn streams_hold_under_faults() {
    let mut options = Options::default();
    options.net.delay =
        Delay { min_ns: MS / 10, max_ns: 5 * MS, tail_ppm: 50_000, tail_max_ns: 30 * MS };
    options.net.window_bytes = 20_000;
    let run = |seed| {
        run_in_world(seed, options, |world| async move {
            let (mut client, mut server) = connected(&world).await;
            let (a, b) = (NodeId(0), NodeId(1));
            let mut dice = world.dice("test");
            let nemesis = world.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    nemesis.sleep(dice.within(1, 20) * MS).await;
                    nemesis.net().cut(a, b);
                    nemesis.sleep(dice.within(1, 20) * MS).await;
                    nemesis.net().heal(a, b);
                }
            });
            let mut sizes = world.dice("sizes");
            let sent: Vec<u8> =
                (0..600_000_u32).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
            let expected = sent.clone();
            tokio::spawn(async move {
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let size =
                        usize::try_from(sizes.within(1, 5000)).expect("small").min(rest.len());
                    client.write_all(&rest[..size]).await.expect("alive");
                    rest = &rest[size..];
                }
            });
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.expect("alive");
            assert!(received == expected, "bytes were lost, doubled or reordered");
            assert!(world.counters()["net.held"] > 0, "no cut ever met a byte");
            (world.trace().hash(), world.now_ns())
        })
        .expect("no panic")
    };
    let first: Vec<_> = (0..5).map(run).collect();
    assert_eq!(first, (0..5).map(run).collect::<Vec<_>>());
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
}

/// A port is taken while its listener lives, and free again when it is dropped or its process dies.
#[test]
fn ports_are_released() {
    run_in_world(1, exact(), |world| async move {
        let [a] = add_nodes(&world);
        let address = SocketAddr::new(ip(1), 80);
        let host = world.host(a);
        let first = host.net().listen(address).await.expect("free");
        let taken = host.net().listen(address).await.err().expect("taken");
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        drop(first);
        let late = host.net().listen(address).await.expect("free again");
        world.restart(a);
        let mut second = world.host(a).net().listen(address).await.expect("free after a death");
        drop(late); // a dead process's listener must not close the living one's port
        let accepted =
            world.spawn(a, async move { second.accept().await.map(|(_, from)| from.ip()) });
        let stream = world.host(a).net().connect("localhost:80").await;
        assert!(stream.is_ok(), "the port was closed by a dead process");
        assert_eq!(accepted.await.expect("alive").expect("accepted"), ip(1));
        let foreign =
            world.host(a).net().listen(SocketAddr::new(ip(9), 80)).await.err().expect("not ours");
        assert_eq!(foreign.kind(), std::io::ErrorKind::AddrNotAvailable);
    })
    .expect("no panic");
}
