//! A plan: everything that a run will do, as plain data, with every choice made.
//!
//! Invariants:
//! * A plan and the program determine a run; the seed in it only names the dice of the world
//!   (delays of bytes, what a power cut leaves behind, the executor's order), which no list could hold.
//! * What depends on the run itself is a fixed question, answered at run time: who leads now,
//!   which revision the client saw last. Since runs are deterministic, the answer is too.
//! * Operations and faults stand in order of time, each with its number, so that leaving one out renames no other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FaultKind;
use super::change::Planned;
use crate::history::Request;
use crate::messages::MessageKind;

/// Everything that a run will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The scenario it was drawn from.
    pub scenario: String,
    /// The seed it was drawn from; names the world's dice.
    pub seed: u64,
    /// The members' names.
    pub members: Vec<String>,
    /// How many of the members, the last ones, are spare machines in the beginning.
    #[serde(default, skip_serializing_if = "is_none")]
    pub spares: u32,
    /// Whether somebody whom no fault meets watches everything from the beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observer: bool,
    /// Whether disks may be damaged beyond what a cluster can do without, and for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beyond_tolerance: bool,
    /// How many clients; they are numbered from 0.
    pub clients: u32,
    /// Shortest and longest travel of a byte, one way, in microseconds.
    pub delay_us: (u64, u64),
    /// Shortest and longest sync of a disk, in microseconds.
    pub sync_us: (u64, u64),
    /// Flags of the server, without the dashes.
    pub server: BTreeMap<String, String>,
    /// Limits of the server that have no flag.
    pub limits: BTreeMap<String, u64>,
    /// When faults and workload end, in microseconds.
    pub safety_us: u64,
    /// How long the healed cluster has to recover, in microseconds.
    pub liveness_us: u64,
    /// What goes wrong, by time.
    pub faults: Vec<Fault>,
    /// What becomes of the members, by time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Planned>,
    /// What clients do, by time.
    pub operations: Vec<Operation>,
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its number.
    pub id: u32,
    /// When it starts, in microseconds.
    pub at_us: u64,
    /// When it ends, in microseconds.
    pub until_us: u64,
    /// What goes wrong.
    pub what: FaultKind,
    /// To whom.
    pub whom: Target,
    /// What a power cut leaves of what was not synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survival: Option<Survival>,
    /// With which files; all where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// With messages of which kind; of any where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageKind>,
    /// How much, in the unit of the kind; clocks may be moved either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// The links that it cuts, from and to, where the kind chooses links rather than members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<(String, String)>,
    /// Where it waits for something to change on disk. It then lasts as long as from `at_us` to `until_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strike: Option<Strike>,
}

/// Classes of files, by the folder they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Files {
    /// Whatever the disk holds.
    All,
    /// Segments of the log.
    Wal,
    /// Snapshot files.
    Snap,
    /// RocksDB's.
    Backend,
}

impl Files {
    /// Each with its name in files.
    pub const ALL: &[(Self, &'static str)] =
        &[(Self::All, "all"), (Self::Wal, "wal"), (Self::Snap, "snap"), (Self::Backend, "backend")];
}

/// The moment that a fault waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strike {
    /// So many operations that change something on disk, from the fault's time on.
    pub operations: u64,
    /// And then so much later, in microseconds; 0: in the middle of what the process is doing.
    pub then_us: u64,
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// A part of it, drawn by the world's dice.
    Part,
    /// Everything: as a mere crash of the machine's processes.
    Everything,
}

/// Whom a fault meets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Who leads at that moment; if nobody does, the one named.
    Leader {
        /// The one met if nobody leads.
        otherwise: String,
    },
    /// The first of these that does not lead at that moment.
    Follower {
        /// In this order.
        first_of: Vec<String>,
    },
    /// These.
    Members(Vec<String>),
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Its number.
    pub id: u32,
    /// The client that does it.
    pub client: u32,
    /// Who the client says it is; absent where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Not before this time, in microseconds; later if the client is still busy.
    pub at_us: u64,
    /// What is asked, but for what [`Operation::fill`] says.
    pub request: Request,
    /// What is filled in from what the client has seen.
    #[serde(default, skip_serializing_if = "Fill::is_empty")]
    pub fill: Fill,
    /// The member asked, and those that come next after a failure, as indices into [`Plan::members`].
    pub members: Vec<u32>,
    /// When the client gives up, in microseconds after the call; of a watch, how long it lasts.
    pub timeout_us: u64,
    /// How long the client takes over each message of a watch, in microseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pace_us: u64,
}

fn is_none(number: &u32) -> bool {
    *number == 0
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is filled into a request from what its client has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fill {
    /// The revision of a range or compaction, the start of a watch, or every range inside a txn that names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Seen>,
    /// The filter `min_mod_revision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_mod_revision: Option<Seen>,
    /// The filter `max_mod_revision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_mod_revision: Option<Seen>,
    /// The filter `min_create_revision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_create_revision: Option<Seen>,
    /// The filter `max_create_revision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_create_revision: Option<Seen>,
    /// The lease: one that the client was granted, so many before the newest; none where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<u32>,
    /// The lock or leadership that the client was last given under the name in the request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Every condition of a txn is compared with what the client last saw of its key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compare: bool,
}

impl Fill {
    /// Whether nothing is filled in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A revision relative to the highest that the client has seen, written `seen-3` or `seen+10`; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seen(pub i64);

impl Seen {
    /// The revision, given the highest that was seen.
    #[must_use]
    pub fn resolve(self, seen: i64) -> i64 {
        (seen + self.0).max(1)
    }
}

impl From<Seen> for String {
    fn from(seen: Seen) -> Self {
        format!("seen{:+}", seen.0)
    }
}

impl TryFrom<String> for Seen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.strip_prefix("seen")
            .and_then(|offset| offset.parse().ok())
            .map(Seen)
            .ok_or_else(|| format!("`{text}` is not like `seen-3`"))
    }
}

impl Plan {
    /// As JSON, one fault and one operation a line, so that plans can be read and compared.
    #[must_use]
    pub fn to_json(&self) -> String {
        fn lines<T: Serialize>(items: &[T]) -> String {
            let lines: Vec<String> =
                items.iter().map(|item| format!("\n    {}", json(item))).collect();
            lines.join(",") + if lines.is_empty() { "" } else { "\n  " }
        }
        // Every field by name: one that is added and not written below is told by the compiler.
        let Self {
            scenario,
            seed,
            members,
            spares,
            observer,
            beyond_tolerance,
            clients,
            delay_us,
            sync_us,
            server,
            limits,
            safety_us,
            liveness_us,
            faults,
            changes,
            operations,
        } = self;
        let head = [
            ("scenario", json(scenario)),
            ("seed", json(seed)),
            ("members", json(members)),
            ("clients", json(clients)),
            ("delay_us", json(delay_us)),
            ("sync_us", json(sync_us)),
            ("server", json(server)),
            ("limits", json(limits)),
            ("safety_us", json(safety_us)),
            ("liveness_us", json(liveness_us)),
        ];
        let mut out = String::from("{\n");
        for (key, value) in head {
            out += &format!("  \"{key}\": {value},\n");
        }
        if *spares > 0 {
            out += &format!("  \"spares\": {spares},\n");
        }
        if *observer {
            out += "  \"observer\": true,\n";
        }
        if *beyond_tolerance {
            out += "  \"beyond_tolerance\": true,\n";
        }
        if !changes.is_empty() {
            out += &format!("  \"changes\": [{}],\n", lines(changes));
        }
        out += &format!("  \"faults\": [{}],\n", lines(faults));
        out + &format!("  \"operations\": [{}]\n}}\n", lines(operations))
    }

    /// Reads what [`Plan::to_json`] wrote. Errors: what is wrong, with line and column.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plans have no maps with odd keys")
}
