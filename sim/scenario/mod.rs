//! Scenarios: what a run is made of, as a file, as plain values, and (with a seed) as a plan.
//!
//! * [`mod@file`] reads `scenarios/*.toml` and complains with line and suggestion.
//! * [`library`] finds them by name.
//! * [`draw`] turns a scenario and a seed into a [`plan::Plan`], in which no choice is left open;
//!   [`nemesis`] draws the faults, [`crate::workload`] the operations.
//!
//! Knows nothing of the world that executes a plan.

pub mod draw;
pub mod file;
pub mod flags;
pub mod library;
pub mod nemesis;
pub mod plan;
pub mod table;

use std::collections::BTreeMap;

use crate::workload::Workload;

/// From one number to another, both included, drawn anew at each use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
}

/// What a run is made of, before any dice are thrown. Times in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// What it tries, in a sentence.
    pub about: String,
    /// How long faults and workload last.
    pub duration_us: u64,
    /// How many members.
    pub members: u32,
    /// How many clients.
    pub clients: u32,
    /// How long a byte travels, one way.
    pub delay_us: Span,
    /// How long a disk takes to make something durable.
    pub sync_us: Span,
    /// Flags of the server.
    pub server: BTreeMap<String, String>,
    /// Limits of the server that have no flag.
    pub limits: BTreeMap<String, u64>,
    /// What clients do.
    pub workloads: Vec<Workload>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// How long the healed cluster has to recover.
    pub liveness_us: u64,
    /// How often named things must have happened in a sweep: counter → at least.
    pub require: BTreeMap<String, u64>,
    /// The text it was read from, kept for failure folders.
    pub source: String,
}

/// One `[[fault]]`: what goes wrong, to whom, when, for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What goes wrong.
    pub what: FaultKind,
    /// To whom.
    pub whom: Whom,
    /// When.
    pub when: When,
    /// For how long, in microseconds.
    pub lasts_us: Span,
}

/// What can go wrong.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// No byte passes between the members named and the other members; clients still reach both sides.
    Partition,
    /// The members named hear nothing from the other members; what they say is heard.
    Deaf,
    /// The members named are heard by no other member; what others say reaches them.
    Mute,
    /// The process ends at once; the page cache survives. It is started again at the end.
    Crash,
    /// The machine loses power: what was not synced is lost. It is started again at the end.
    PowerLoss,
    /// The process stands still; its connections stay open.
    Pause,
    /// Every byte between the members named and the other members travels long, and each as long as it likes.
    Slow,
    /// Who leads is asked to hand leadership to the members named.
    MoveLeader,
}

impl FaultKind {
    /// Each with its name in files and a sentence.
    pub const ALL: &[(FaultKind, &str, &str)] = &[
        (Self::Partition, "partition", "no byte passes between the members named and the others"),
        (Self::Deaf, "deaf", "the members named hear nothing from the others, but are heard"),
        (Self::Mute, "mute", "the members named are not heard by the others, but hear them"),
        (Self::Crash, "crash", "the process is killed and started again"),
        (Self::PowerLoss, "power-loss", "the machine loses power and what it had not synced"),
        (Self::Pause, "pause", "the process stands still for a while"),
        (Self::Slow, "slow", "bytes between the members named and the others travel long"),
        (Self::MoveLeader, "move-leader", "leadership is to be handed to the members named"),
    ];

    /// The name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|row| row.0 == self).expect("every kind has a row").1
    }
}

/// Whom a fault meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Who leads at that moment.
    Leader,
    /// Some member that does not lead at that moment.
    Follower,
    /// Any one.
    Random,
    /// Every one.
    All,
    /// The smallest number that is more than half.
    Majority,
    /// The largest number that is less than half.
    Minority,
    /// These.
    Named(Vec<String>),
}

impl Whom {
    /// The words that stand for a choice.
    pub const WORDS: &[&str] = &["leader", "follower", "random", "all", "majority", "minority"];
}

/// When a fault starts, in microseconds since the first member was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Once.
    At(Span),
    /// Again and again, with such gaps between starts.
    Every {
        /// From one start to the next.
        gap_us: Span,
        /// Within these times.
        from_us: u64,
        /// The end of them.
        until_us: u64,
    },
}

/// `n1`, `n2`, …
#[must_use]
pub fn member_names(members: u32) -> Vec<String> {
    (1..=members).map(|n| format!("n{n}")).collect()
}
