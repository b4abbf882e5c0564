//! The swarm: a scenario whose every knob, fault, topology and workload is drawn from the seed.
//!
//! The draw is the text of a scenario file, so that it can be read, is checked like any other, and stands in the
//! failure folder; the plan is then drawn from it as always.
//!
//! Invariants:
//! * A seed draws the same text for ever, as long as this file stays as it is; each part has a stream of its own.
//! * Much is switched off in each draw: what only shows without the rest must have its chance (swarm testing, ISSTA'12).
//! * Whatever is drawn, a correct server keeps every promise and recovers when all is healed.

use std::fmt::Write as _;

use super::fault::{FaultKind, Says};
use super::{Scenario, file};
use crate::dice::Dice;
use crate::messages::MessageKind;

/// The scenario that `seed` draws from `scenario`, where that is a swarm; otherwise itself.
#[must_use]
pub fn settle(scenario: &Scenario, seed: u64) -> Scenario {
    if !scenario.is_swarm {
        return scenario.clone();
    }
    let text = text(scenario, seed);
    let drawn = file::parse(&scenario.name, "what the swarm has drawn", &text);
    drawn.unwrap_or_else(|mistakes| panic!("the swarm drew mistakes from seed {seed}:\n{mistakes}"))
}

/// What `seed` draws, as the text of a scenario file.
fn text(scenario: &Scenario, seed: u64) -> String {
    let dice = |part: &str| Dice::new(seed, &format!("swarm/{part}"));
    let mut shape = Shape::draw(scenario, &mut dice("shape"));
    let mut text = format!("about = \"What the swarm drew from seed {seed}.\"\n");
    shape.write(&mut text);
    server(&mut text, &mut dice("server"), shape.has_long_delays);
    limits(&mut text, &mut dice("limits"));
    workload(&mut text, &mut dice("workload"), shape.members);
    faults(&mut text, &mut dice("faults"), &mut shape);
    let liveness_s = scenario.liveness_us / 1_000_000;
    line(&mut text, format!("[liveness]\ndeadline = \"{liveness_s}s\""));
    text
}

fn line(text: &mut String, line: impl std::fmt::Display) {
    writeln!(text, "{line}").expect("strings take everything");
}

/// Cluster and length of the run.
struct Shape {
    members: u64,
    clients: u64,
    duration_s: u64,
    delay: &'static str,
    sync: &'static str,
    /// Elections need longer then.
    has_long_delays: bool,
}

impl Shape {
    fn draw(scenario: &Scenario, dice: &mut Dice) -> Self {
        let longest_s = (scenario.duration_us / 1_000_000).max(10);
        let delays = ["100us..1ms", "100us..5ms", "1ms..10ms", "5ms..60ms"];
        let syncs = ["50us..200us", "200us..2ms", "1ms..30ms", "5ms..80ms"];
        let delay = dice.weighted(&[4, 3, 2, 1]);
        Self {
            members: [1, 2, 3, 4, 5, 7, 9][dice.weighted(&[8, 3, 60, 5, 18, 4, 2])],
            clients: dice.within(2, 8),
            duration_s: *dice.pick(&[longest_s / 4, longest_s / 2, longest_s]),
            delay: delays[delay],
            sync: syncs[dice.weighted(&[2, 4, 3, 1])],
            has_long_delays: delay == 3,
        }
    }

    fn write(&self, text: &mut String) {
        let Self { members, clients, duration_s, delay, sync, .. } = self;
        line(text, format!("duration = \"{duration_s}s\"\n[cluster]"));
        // With an observer, what clients were never told of does not stay a riddle.
        line(text, format!("members = {members}\nclients = {clients}\nobserver = true"));
        line(text, format!("delay = \"{delay}\"\nsync = \"{sync}\""));
    }
}

/// A line for each of the choices, or none: half of them are left as usual.
fn choices(text: &mut String, dice: &mut Dice, choices: &[(&str, &[u64])]) {
    for (key, values) in choices {
        if dice.percent(50) {
            line(text, format!("{key} = {}", dice.pick(values)));
        }
    }
}

fn server(text: &mut String, dice: &mut Dice, has_long_delays: bool) {
    line(text, "[server]");
    if !has_long_delays && dice.percent(30) {
        line(text, "heartbeat-interval = 50\nelection-timeout = 500");
    }
    // Small: snapshots, the end of the log and compaction must come within seconds.
    line(text, format!("snapshot-count = {}", dice.pick(&[10, 20, 50, 50, 200, 10_000])));
    line(text, format!("snapshot-catchup-entries = {}", dice.pick(&[2, 10, 20, 100])));
    choices(text, dice, &[("max-snapshots", &[1, 2]), ("compaction-batch-limit", &[5, 10, 100])]);
}

fn limits(text: &mut String, dice: &mut Dice) {
    line(text, "[limits]");
    line(text, format!("wal_segment_bytes = {}", dice.pick(&[4096, 16_384, 16_384, 65_536])));
    choices(
        text,
        dice,
        &[
            ("backend_write_buffer_bytes", &[16_384, 32_768, 65_536]),
            ("snapshot_chunk_bytes", &[64, 1024, 16_384]),
            ("watch_feed_slices", &[2, 4, 64]),
            ("watch_stream_news", &[1, 2, 16]),
            ("watch_catch_up_watchers", &[1, 3]),
            ("watch_piece_changes", &[2, 4, 16]),
            ("watch_progress_interval_ms", &[200, 500, 2000]),
            ("raft_inflight_messages_max", &[2, 8]),
            ("raft_message_bytes_max", &[256, 4096]),
            ("peer_queue_messages", &[16, 64]),
        ],
    );
}

/// Kinds of operation, and how often each is there when it is there.
const MIX: &[(&str, u64)] = &[
    ("get", 16),
    ("get-stale", 8),
    ("list", 8),
    ("list-stale", 6),
    ("list-some", 6),
    ("get-old", 8),
    ("delete", 8),
    ("compare-and-swap", 10),
    ("txn", 12),
    ("compact", 4),
    ("refused", 1),
    ("watch", 4),
];

/// The same for leases: all of them or none. No key hangs on one: the checker cannot say yet which revisions the end of
/// a lease makes.
const LEASES: &[(&str, u64)] = &[
    ("lease-grant", 6),
    ("lease-keep-alive", 6),
    ("lease-revoke", 3),
    ("lease-time-to-live", 4),
    ("lease-list", 2),
];

fn workload(text: &mut String, dice: &mut Dice, members: u64) {
    // Large clusters cost more for each operation.
    let rates: &[u64] = if members > 5 { &[5, 10, 20] } else { &[5, 15, 30, 60] };
    line(text, format!("[[workload]]\nkind = \"kv\"\nrate = {}", dice.pick(rates)));
    line(text, format!("keys = {}", dice.pick(&[1, 2, 4, 8, 8, 20])));
    line(text, format!("value-bytes-max = {}", dice.pick(&[16, 64, 256, 512, 4096])));
    if dice.percent(30) {
        line(text, "timeout = \"100ms..600ms\"");
    }
    line(text, "watch = \"1s..15s\"");
    // Something must be written.
    let mut mix = vec![format!("put = {}", dice.within(8, 40))];
    let has_leases = dice.percent(40);
    for (kind, usual) in MIX.iter().chain(LEASES.iter().filter(|_| has_leases)) {
        let weight = dice.within(1, 2 * usual);
        if dice.percent(65) {
            mix.push(format!("{kind} = {weight}"));
        }
    }
    line(text, format!("mix = {{ {} }}", mix.join(", ")));
}

/// How likely each kind of fault is to be in a draw, in percent. What is not here is in none.
const LIKELY: &[(FaultKind, u64)] = &[
    (FaultKind::Crash, 35),
    (FaultKind::PowerLoss, 45),
    (FaultKind::Pause, 20),
    (FaultKind::Stutter, 8),
    (FaultKind::MoveLeader, 15),
    (FaultKind::Partition, 25),
    (FaultKind::Deaf, 8),
    (FaultKind::Mute, 8),
    (FaultKind::Isolate, 10),
    (FaultKind::CutClients, 6),
    (FaultKind::Groups, 8),
    (FaultKind::Ring, 5),
    (FaultKind::Bridge, 6),
    (FaultKind::Flap, 6),
    (FaultKind::Swizzle, 12),
    (FaultKind::Slow, 10),
    (FaultKind::Narrow, 6),
    (FaultKind::Stall, 8),
    (FaultKind::Reset, 8),
    (FaultKind::Refuse, 4),
    (FaultKind::Hang, 4),
    (FaultKind::LoseMessages, 12),
    (FaultKind::RepeatMessages, 8),
    (FaultKind::ReorderMessages, 10),
    (FaultKind::CorruptMessages, 6),
    (FaultKind::HoldMessages, 10),
    (FaultKind::SyncFails, 15),
    (FaultKind::DiskFull, 10),
    (FaultKind::WriteErrors, 8),
    (FaultKind::ReadErrors, 8),
    (FaultKind::BitRot, 12),
    (FaultKind::SlowDisk, 8),
    (FaultKind::HungDisk, 8),
    (FaultKind::ClockStep, 8),
    (FaultKind::ClockDrift, 8),
    (FaultKind::ClockFreeze, 4),
    (FaultKind::CrashStates, 6),
    (FaultKind::LostWrite, 8),
    (FaultKind::MisdirectedWrite, 6),
    (FaultKind::ForeignDisk, 4),
];

/// No more kinds than this in one draw: a cluster that never works shows nothing.
const KINDS_MAX: usize = 5;

fn faults(text: &mut String, dice: &mut Dice, shape: &mut Shape) {
    let mut kinds: Vec<FaultKind> =
        LIKELY.iter().filter(|row| dice.percent(row.1)).map(|row| row.0).collect();
    kinds = dice.shuffled(&kinds);
    kinds.truncate(KINDS_MAX);
    // Rot and lost pages show when files are read again.
    let is_latent = |kind: &FaultKind| {
        use FaultKind as F;
        matches!(kind, F::BitRot | F::SyncFails | F::LostWrite | F::MisdirectedWrite)
    };
    if kinds.iter().any(is_latent) && !kinds.contains(&FaultKind::PowerLoss) {
        kinds.push(FaultKind::PowerLoss);
    }
    let links_matter = shape.members > 1;
    // A lease ends early by as much as its leader's clock runs fast, and the rule about it knows nothing of clocks.
    let has_leases = text.contains("lease-");
    for kind in kinds {
        let is_unfair = has_leases && kind == FaultKind::ClockDrift;
        if !is_unfair && (links_matter || !needs_others(kind)) {
            fault(text, dice, kind, shape.duration_s);
        }
    }
}

/// Whether a fault is about what lies between members.
fn needs_others(kind: FaultKind) -> bool {
    use FaultKind as F;
    matches!(
        kind,
        F::Partition
            | F::Deaf
            | F::Mute
            | F::Groups
            | F::Ring
            | F::Bridge
            | F::Flap
            | F::Swizzle
            | F::Slow
            | F::Narrow
            | F::Stall
            | F::MoveLeader
            | F::LoseMessages
            | F::RepeatMessages
            | F::ReorderMessages
            | F::CorruptMessages
            | F::HoldMessages
            | F::BitRot
            | F::LostWrite
            | F::MisdirectedWrite
            | F::ForeignDisk
    )
}

fn fault(text: &mut String, dice: &mut Dice, kind: FaultKind, duration_s: u64) {
    line(text, format!("[[fault]]\nwhat = \"{}\"", kind.name()));
    let whom = ["leader", "follower", "random", "minority", "majority", "all"];
    line(text, format!("whom = \"{}\"", whom[dice.weighted(&[30, 20, 35, 6, 3, 6])]));
    let gap_ms = *dice.pick(&[1_500, 3_000, 6_000, 12_000]);
    line(text, format!("every = \"{}ms..{}ms\"", gap_ms / 2, gap_ms * 3 / 2));
    line(text, format!("during = \"1s..{}s\"", duration_s - 1));
    let longest_ms = *dice.pick(&[100, 800, 3_000, 6_000]).min(&(gap_ms * 2));
    line(text, format!("lasts = \"{}ms..{longest_ms}ms\"", longest_ms / 10));
    use FaultKind as F;
    let strikes = matches!(
        kind,
        F::Crash | F::PowerLoss | F::CrashStates | F::Pause | F::Partition | F::Isolate
    );
    let awaits_writes = strikes && dice.percent(50);
    if awaits_writes {
        line(text, "when = \"writes-in-flight\"");
    }
    let is_of_files = matches!(
        kind,
        F::SyncFails
            | F::DiskFull
            | F::WriteErrors
            | F::ReadErrors
            | F::BitRot
            | F::LostWrite
            | F::MisdirectedWrite
            | F::SlowDisk
            | F::HungDisk
    );
    if (awaits_writes || is_of_files) && dice.percent(60) {
        line(text, format!("files = \"{}\"", dice.pick(&["wal", "wal", "snap", "backend"])));
    }
    if kind == F::CrashStates {
        line(text, "amount = 8");
    }
    if matches!(kind, F::WriteErrors | F::ReadErrors) {
        line(text, format!("amount = {}", dice.pick(&[1, 5, 40])));
    }
    if let Says::MessagesAmount(_) = kind.row().says {
        messages(text, dice, kind);
    }
}

/// One in how many messages, and of which kind: half of the time of one alone, and then more of them.
fn messages(text: &mut String, dice: &mut Dice, kind: FaultKind) {
    let (_, name, _) = *dice.pick(MessageKind::ALL);
    let is_impossible = matches!(
        (kind, name),
        (FaultKind::RepeatMessages, "propose") | (FaultKind::HoldMessages, "snapshot")
    );
    let is_of_kind = dice.percent(50) && !is_impossible;
    if is_of_kind {
        line(text, format!("messages = \"{name}\""));
    }
    let amounts: &[u64] = if is_of_kind { &[1, 2, 5] } else { &[3, 10, 40] };
    line(text, format!("amount = {}", dice.pick(amounts)));
}

#[cfg(test)]
mod tests {
    use super::{settle, text};
    use crate::scenario::{FaultKind, library};

    /// Every draw is a scenario without mistakes, the same for the same seed; over some seeds clusters of one to nine, and
    /// every kind of fault but the one that only a cluster at peace can bear, are drawn; a draw without any fault is there
    /// too.
    #[test]
    fn draws_are_scenarios() {
        let swarm = library::find("swarm").expect("it is compiled in");
        let (mut kinds, mut sizes, mut quiet) = (Vec::new(), Vec::new(), 0);
        for seed in 0..300 {
            let drawn = settle(&swarm, seed);
            assert_eq!(drawn, settle(&swarm, seed));
            kinds.extend(drawn.faults.iter().map(|fault| fault.what));
            sizes.push(drawn.members);
            quiet += u32::from(drawn.faults.is_empty());
        }
        let missing: Vec<&str> = FaultKind::ALL
            .iter()
            .filter(|row| !kinds.contains(&row.kind) && row.kind != FaultKind::OldDisk)
            .map(|row| row.name)
            .collect();
        assert!(missing.is_empty(), "never drawn: {missing:?}");
        assert!([1, 3, 5, 7, 9].iter().all(|size| sizes.contains(size)), "{sizes:?}");
        assert!(quiet < 30, "{quiet} of 300 draws have no fault");
    }

    /// One draw, to be looked at: a change here means that every seed of the swarm now means another run.
    #[test]
    fn one_draw() {
        let swarm = library::find("swarm").expect("it is compiled in");
        insta::assert_snapshot!("swarm-7", text(&swarm, 7));
    }

    /// What is no swarm stays as it is.
    #[test]
    fn others_stay() {
        let smoke = library::find("smoke").expect("it is compiled in");
        assert_eq!(settle(&smoke, 7), smoke);
    }
}
