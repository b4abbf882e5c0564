//! Changes of members that a scenario asks for: `[[change]]`, read and drawn.
//!
//! ```toml
//! [[change]]
//! what = "add-learner"        # add, add-learner, promote, remove, replace
//! every = "4s..8s"
//! during = "2s..50s"          # the whole run, if left out
//! ```
//!
//! Which member is meant can only be told when the time has come; a change carries a number to choose by.

use serde::{Deserialize, Serialize};

use super::Span;
use super::table::{Table, did_you_mean};
use crate::dice::Dice;

/// What is to become of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// A spare machine becomes a member with a vote.
    Add,
    /// A spare machine becomes a member without a vote.
    AddLearner,
    /// A learner is given a vote.
    Promote,
    /// A member is removed.
    Remove,
    /// A member loses its disk for good, is removed, and comes back as a new one.
    Replace,
}

impl ChangeKind {
    const ALL: &[(Self, &str)] = &[
        (Self::Add, "add"),
        (Self::AddLearner, "add-learner"),
        (Self::Promote, "promote"),
        (Self::Remove, "remove"),
        (Self::Replace, "replace"),
    ];
}

/// One `[[change]]`: what, and when, in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    what: ChangeKind,
    every: Span,
    during: Span,
}

/// One change of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// Its number.
    pub id: u32,
    /// Not before this time, in microseconds.
    pub at_us: u64,
    /// What is to happen.
    pub what: ChangeKind,
    /// Chooses among those that it could happen to.
    pub pick: u64,
}

/// Reads one block; `None` only after a complaint.
pub fn read(table: Table<'_>, duration_us: u64) -> Option<Change> {
    let names = || ChangeKind::ALL.iter().map(|row| row.1);
    let what = match table.text("what") {
        None => {
            table.missing("what", &format!("one of: {}", names().collect::<Vec<_>>().join(", ")));
            None
        }
        Some((text, place)) => {
            let found = ChangeKind::ALL.iter().find(|row| row.1 == text).map(|row| row.0);
            if found.is_none() {
                let help = did_you_mean(&text, names());
                table.complain(place, format!("there is no change `{text}`"), "not known", help);
            }
            found
        }
    };
    let every = table.span("every");
    if every.is_none() {
        table.missing("every", "say how often: every = \"4s..8s\"");
    }
    let during = table.span("during").map_or(Span { min: 0, max: duration_us }, |(span, _)| span);
    table.finish();
    Some(Change { what: what?, every: every?.0, during })
}

/// All changes of a run, by time, numbered. Each block has dice of its own.
#[must_use]
pub fn draw(changes: &[Change], duration_us: u64, seed: u64) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (nth, change) in changes.iter().enumerate() {
        let mut dice = Dice::new(seed, &format!("change/{nth}"));
        let mut at_us = change.during.min + dice.within(0, change.every.max);
        while at_us < change.during.max.min(duration_us) {
            planned.push(Planned { id: 0, at_us, what: change.what, pick: dice.below(1000) });
            at_us += dice.within(change.every.min, change.every.max).max(1_000);
        }
    }
    planned.sort_by_key(|change| change.at_us);
    for (id, change) in (0..).zip(&mut planned) {
        change.id = id;
    }
    planned
}
