//! Scenarios: what a run is made of, as a file, as plain values, and (with a seed) as a plan.
//!
//! * [`mod@file`] reads `scenarios/*.toml` and complains with line and suggestion.
//! * [`library`] finds them by name.
//! * [`draw`] turns a scenario and a seed into a [`plan::Plan`], in which no choice is left open;
//!   [`nemesis`] draws the faults of [`fault`], [`crate::workload`] the operations.
//! * [`swarm`] draws the scenario itself.
//!
//! Knows nothing of the world that executes a plan.

pub mod change;
pub mod draw;
pub mod fault;
mod fault_file;
pub mod file;
pub mod flags;
pub mod library;
pub mod nemesis;
pub mod plan;
pub mod swarm;
pub mod table;

use std::collections::BTreeMap;

use crate::workload::Workload;
pub use fault::{Fault, FaultKind, When, Whom};

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
    /// Whether the seed draws everything that the file leaves open ([`swarm`]).
    pub is_swarm: bool,
    /// How long faults and workload last.
    pub duration_us: u64,
    /// How many members.
    pub members: u32,
    /// Machines that are no members yet.
    pub spares: u32,
    /// Whether somebody whom no fault meets watches everything from the beginning.
    pub observer: bool,
    /// Whether more disks may be damaged, and for good, than a cluster can do without: it may stop, but never be wrong.
    pub is_beyond_tolerance: bool,
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
    /// What becomes of the members.
    pub changes: Vec<change::Change>,
    /// How long the healed cluster has to recover.
    pub liveness_us: u64,
    /// How often named things must have happened in a sweep: counter → at least.
    pub require: BTreeMap<String, u64>,
    /// The text it was read from, kept for failure folders.
    pub source: String,
}

/// `n1`, `n2`, …
#[must_use]
pub fn member_names(members: u32) -> Vec<String> {
    (1..=members).map(|n| format!("n{n}")).collect()
}
