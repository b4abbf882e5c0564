//! What clients do: one file per workload, each a list of weighted kinds of operation.
//!
//! A workload draws a client's whole list of operations beforehand, from that client's own stream of dice;
//! what depends on answers (a revision seen, a value to compare with) is left as a question in the plan
//! and answered by [`seen::Seen`] at run time.

pub mod auth;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod seen;
pub mod watch;

use crate::dice::Dice;
use crate::history::Request;
use crate::scenario::Span;
use crate::scenario::plan::{Fill, Operation};
use crate::scenario::table::{Table, did_you_mean};

/// A request and what is filled into it at run time.
type Drawn = (Request, Fill);

/// A request that says all there is to say.
fn plain(request: Request) -> Drawn {
    (request, Fill::default())
}

/// What sort of client a workload has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Reads and writes keys.
    Kv,
    /// Takes locks and leaderships.
    Lock,
    /// Administers users, or is one.
    Auth,
}

/// One `[[workload]]` of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// What its clients do.
    pub sort: Sort,
    /// Operations a simulated second, all clients together.
    pub rate: u64,
    /// How many keys there are.
    pub keys: u64,
    /// Length of a value, in bytes.
    pub value_bytes: Span,
    /// When a client gives up, in microseconds.
    pub timeout_us: Span,
    /// How long a watch lasts, in microseconds.
    pub watch_us: Span,
    /// How long leases are granted for, in seconds.
    pub ttl_s: Span,
    /// Weight of each kind of step, in the order of the workload's own list.
    pub mix: Vec<u64>,
}

/// The workloads' names, each with a sentence.
pub const ALL: &[(&str, &str)] = &[
    (
        "kv",
        "reads, writes, deletes, transactions, old revisions, compactions, leases and watches on a few keys",
    ),
    (
        "auth",
        "users, roles and permissions that change all the time, and users who try what they may",
    ),
    ("lock", "locks and elections by the server's own services, on leases of a few seconds"),
];

/// Reads one `[[workload]]`.
#[must_use]
pub fn read(table: Table<'_>) -> Workload {
    let mut sort = Sort::Kv;
    match table.text("kind") {
        None => {
            if table.raw("kind").is_none() {
                table.missing("kind", "say which: kind = \"kv\"");
            }
        }
        Some((kind, place)) => {
            let names = || ALL.iter().map(|row| row.0);
            if !names().any(|name| name == kind) {
                let text = format!("there is no workload `{kind}`");
                table.complain(place, text, "not known", did_you_mean(&kind, names()));
            }
            sort = match kind.as_str() {
                "lock" => Sort::Lock,
                "auth" => Sort::Auth,
                _ => Sort::Kv,
            };
        }
    }
    let low = table.number("value-bytes-min", 8, 1 << 20).unwrap_or(8);
    let high = table.number("value-bytes-max", 8, 1 << 20).unwrap_or(64.max(low));
    let mix = match sort {
        Sort::Kv => read_mix(&table, kv::Kind::ALL.iter().map(|row| (row.1, row.2))),
        Sort::Lock => read_mix(&table, lock::KINDS.iter().copied()),
        Sort::Auth => read_mix(&table, auth::KINDS.iter().copied()),
    };
    let ttl = table.span("ttl").map_or(TTL_US, |(span, _)| span);
    let workload = Workload {
        sort,
        rate: table.number("rate", 1, 100_000).unwrap_or(20),
        keys: table.number("keys", 1, 10_000).unwrap_or(8),
        value_bytes: Span { min: low.min(high), max: high },
        timeout_us: table.span("timeout").map_or(TIMEOUT_US, |(span, _)| span),
        watch_us: table.span("watch").map_or(WATCH_US, |(span, _)| span),
        ttl_s: Span { min: ttl.min.div_ceil(1_000_000), max: ttl.max.div_ceil(1_000_000) },
        mix,
    };
    table.finish();
    workload
}

/// Reads the table `mix`: kinds that are left out have weight 0; without the table, the usual weights hold.
fn read_mix(
    table: &Table<'_>,
    kinds: impl Iterator<Item = (&'static str, u64)> + Clone,
) -> Vec<u64> {
    let usual = kinds.clone().map(|row| row.1).collect();
    let Some(mix) = table.table("mix") else { return usual };
    for (key, place, _) in mix.entries() {
        if !kinds.clone().any(|row| row.0 == key) {
            let text = format!("there is no kind of operation `{key}`");
            let help = did_you_mean(key, kinds.clone().map(|row| row.0));
            mix.complain(place, text, "not known", help);
        }
    }
    let weights: Vec<u64> = kinds.map(|row| mix.number(row.0, 0, 1_000).unwrap_or(0)).collect();
    if weights.iter().all(|weight| *weight == 0) {
        mix.complain(mix.place(), "`mix` has no weight above 0".into(), "nothing to do", None);
        return usual;
    }
    weights
}

/// Shorter than the server's own limit on purpose: writes given up while under way are the interesting ones.
const TIMEOUT_US: Span = Span { min: 500_000, max: 2_000_000 };

/// Long enough to live through a fault or two.
const WATCH_US: Span = Span { min: 1_000_000, max: 10_000_000 };

/// Longer than any run.
const TTL_US: Span = Span { min: 3_600_000_000, max: 3_600_000_000 };

/// All operations of one client, by time; numbers are given later.
#[must_use]
pub fn draw(workload: &Workload, dice: &mut Dice, shape: &Shape) -> Vec<Operation> {
    let gap_us = 1_000_000 * u64::from(shape.clients) / workload.rate;
    let mut at_us = dice.within(0, gap_us);
    let mut kv = kv::Client::new(workload, shape.client);
    let mut lock = lock::Client::new(workload, shape.client);
    let mut auth = auth::Client::new(workload, shape.client, shape.clients);
    let user = (workload.sort == Sort::Auth).then(|| auth::user(shape.client, shape.clients));
    let user = user.flatten();
    let mut operations = Vec::new();
    while at_us < shape.until_us {
        let steps = match workload.sort {
            Sort::Kv => kv.draw(dice),
            Sort::Lock => lock.draw(dice),
            Sort::Auth => auth.draw(dice),
        };
        for (request, fill) in steps {
            operations.push(Operation {
                id: 0,
                client: shape.client,
                user: user.clone(),
                at_us,
                request,
                fill,
                members: order(dice, shape, operations.len()),
                timeout_us: dice.within(workload.timeout_us.min, workload.timeout_us.max),
                pace_us: 0,
            });
            if let Some(Operation { request: Request::Watch(_), timeout_us, pace_us, .. }) =
                operations.last_mut()
            {
                *timeout_us = dice.within(workload.watch_us.min, workload.watch_us.max);
                *pace_us = if dice.percent(15) { dice.within(100_000, 1_000_000) } else { 0 };
            }
            at_us += dice.within(gap_us / 2, gap_us + gap_us / 2).max(1);
        }
    }
    operations
}

/// What a client's list depends on besides its workload.
pub struct Shape {
    /// The client.
    pub client: u32,
    /// How many clients there are.
    pub clients: u32,
    /// How many members there are.
    pub members: u32,
    /// When the last operation may start, in microseconds.
    pub until_us: u64,
}

/// Most operations go to the client's next member in turn; some anywhere. The others follow, should it fail.
fn order(dice: &mut Dice, shape: &Shape, nth: usize) -> Vec<u32> {
    let turn = (u64::from(shape.client) + nth as u64) % u64::from(shape.members);
    let first = if dice.percent(20) { dice.below(u64::from(shape.members)) } else { turn };
    (0..shape.members).map(|n| (first as u32 + n) % shape.members).collect()
}
