//! Reads a scenario file: every key is known or refused, every value is checked, every mistake is shown in place.
//!
//! ```toml
//! about = "One sentence that says what this tries."
//! swarm = true                    # the seed draws whatever is not said below
//! beyond_tolerance = true         # more disks are damaged than a majority can do without: stopping is allowed then
//! duration = "60s"                # how long faults and workload last
//! [cluster]
//! members = 3
//! clients = 5
//! observer = true                 # somebody whom no fault meets watches everything; writes without answers are resolved
//! delay = "200us..2ms"            # how long a byte travels, one way
//! sync = "200us..2ms"             # how long a disk takes to make something durable
//! [server]                        # any flag of `snowglobe serve`
//! snapshot-count = 50
//! [limits]                        # limits of the server that have no flag
//! wal_segment_bytes = 16384
//! [[workload]]
//! kind = "kv"
//! rate = 20                       # operations a simulated second, all clients together
//! [[fault]]
//! what = "partition"
//! whom = "leader"                 # leader, follower, random, all, majority, minority, or names
//! every = "4s..8s"                # or: at = "10s"
//! during = "5s..50s"
//! lasts = "1s..3s"
//! when = "writes-in-flight"       # from that time on, as soon as something changes on the disk of whom it meets
//! files = "wal"                   # faults of disks, and what `when` waits for: wal, snap, backend or all
//! messages = "append"             # faults of messages: which kind, else any
//! amount = 20_000                 # how much, in the unit of the fault (`sim list`)
//! [liveness]
//! deadline = "30s"
//! [require]                       # what must have happened in a sweep, by counter
//! leader_changes = 1
//! ```

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault_file;
use super::table::{Complaints, Table, did_you_mean};
use super::{Scenario, Span};
use crate::situations;
use crate::workload::{self, Workload};

/// Reads `source`, the text of the file at `path`, as the scenario `name`. Errors: all mistakes, as text to print.
pub fn parse(name: &str, path: &str, source: &str) -> Result<Scenario, String> {
    let complaints = Complaints::default();
    let document = match DeTable::parse(source) {
        Ok(document) => document,
        Err(error) => {
            let place = error.span().unwrap_or(0..0);
            complaints.add(place, format!("not TOML: {}", error.message()), "here", None);
            return Err(complaints.render(path, source));
        }
    };
    let root = Table::new(document.get_ref(), "the scenario", 0..0, &complaints);
    let scenario = read(name, source, root);
    match scenario {
        Some(scenario) if complaints.is_empty() => Ok(scenario),
        _ => Err(complaints.render(path, source)),
    }
}

/// Reads the whole document; `None` only after a complaint.
fn read(name: &str, source: &str, root: Table<'_>) -> Option<Scenario> {
    let about = about(&root);
    let duration_us = duration(&root, "duration", 60_000_000);
    let switch = |key| root.boolean(key).unwrap_or(false);
    let (is_swarm, is_beyond_tolerance) = (switch("swarm"), switch("beyond_tolerance"));
    let cluster = root.table("cluster");
    let (members, clients) = match &cluster {
        Some(table) => (
            table.number("members", 1, 9).unwrap_or(3) as u32,
            table.number("clients", 1, 500).unwrap_or(5) as u32,
        ),
        None => (3, 5),
    };
    let spares =
        cluster.as_ref().and_then(|table| table.number("spares", 0, 9)).unwrap_or(0) as u32;
    let observer = cluster.as_ref().and_then(|table| table.boolean("observer")).unwrap_or(false);
    let span = |key| cluster.as_ref().and_then(|table| table.span(key)).map(|(span, _)| span);
    let (delay_us, sync_us) = (span("delay").unwrap_or(DELAY_US), span("sync").unwrap_or(SYNC_US));
    let server = root.table("server").map(|table| flags(&table)).unwrap_or_default();
    let limits = root.table("limits").map(|table| limits(&table)).unwrap_or_default();
    let workloads: Vec<Workload> =
        root.tables("workload").into_iter().map(workload::read).collect();
    if workloads.is_empty() && !is_swarm {
        root.missing("[[workload]]", "add: [[workload]] with kind = \"kv\" and rate = 20");
    }
    let faults = root
        .tables("fault")
        .into_iter()
        .filter_map(|table| fault_file::read(table, members, duration_us))
        .collect();
    let changes = root.tables("change").into_iter();
    let changes = changes.filter_map(|table| super::change::read(table, duration_us)).collect();
    let liveness_us = root.table("liveness").map_or(LIVENESS_US, |table| {
        let deadline = duration(&table, "deadline", LIVENESS_US);
        table.finish();
        deadline
    });
    let require = root.table("require").map(|table| requirements(&table)).unwrap_or_default();
    if let Some(table) = cluster {
        table.finish();
    }
    root.finish();
    Some(Scenario {
        name: name.to_string(),
        about: about?,
        is_swarm,
        duration_us,
        members,
        spares,
        observer,
        is_beyond_tolerance,
        clients,
        delay_us,
        sync_us,
        server,
        limits,
        workloads,
        faults,
        changes,
        liveness_us,
        require,
        source: source.to_string(),
    })
}

/// The sentence that a file begins with.
fn about(root: &Table<'_>) -> Option<String> {
    let about = root.text("about");
    match &about {
        None => {
            root.missing("about", "begin with: about = \"One sentence that says what this tries.\"")
        }
        Some((text, place)) if !text.trim_end().ends_with('.') || text.trim().len() < 10 => {
            let mark = "write a sentence, with its full stop";
            root.complain(place.clone(), "`about` is not a sentence".into(), mark, None);
        }
        Some(_) => {}
    }
    about.map(|(text, _)| text)
}

/// Within one data centre.
const DELAY_US: Span = Span { min: 100, max: 1_000 };

/// An SSD.
const SYNC_US: Span = Span { min: 200, max: 2_000 };

/// Some elections with back-off, and a snapshot, fit in here.
const LIVENESS_US: u64 = 30_000_000;

/// No run is longer than a simulated day.
const DURATION_MAX_US: u64 = 86_400_000_000;

fn duration(table: &Table<'_>, key: &'static str, default_us: u64) -> u64 {
    let Some((us, place)) = table.duration(key) else { return default_us };
    if !(1_000_000..=DURATION_MAX_US).contains(&us) {
        let text = format!("`{key}` is out of range");
        table.complain(place, text, "must be from 1s to 24h", None);
        return default_us;
    }
    us
}

/// Flags of the server, tried together on the server's own command line.
fn flags(table: &Table<'_>) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let mut places = BTreeMap::new();
    let known = super::flags::known();
    for (key, place, value) in table.entries() {
        if !known.iter().any(|flag| flag == key) {
            let help = did_you_mean(key, known.iter().map(String::as_str));
            table.complain(place, format!("the server has no flag `--{key}`"), "in [server]", help);
        } else if let Some(text) = scalar(value) {
            flags.insert(key.to_string(), text);
            places.insert(key.to_string(), value.span());
        } else {
            let text = format!("`{key}` in [server] must be a number, a text or a boolean");
            table.complain(value.span(), text, "not a flag's value", None);
        }
    }
    if let Err(reason) = super::flags::try_out(&flags) {
        // The server names the flag it complains of; the mark goes there.
        let named = places.iter().find(|(flag, _)| reason.contains(&format!("--{flag}")));
        let place = named.map_or(table.place(), |(_, place)| place.clone());
        table.complain(place, "the server refuses its flags".into(), reason, None);
    }
    flags
}

/// `[limits]`: limits of the server that have no flag.
fn limits(table: &Table<'_>) -> BTreeMap<String, u64> {
    let mut limits = BTreeMap::new();
    for (key, place, value) in table.entries() {
        let number =
            scalar(value).and_then(|text| text.parse::<u64>().ok()).filter(|number| *number > 0);
        if !super::flags::LIMITS.contains(&key) {
            let help = did_you_mean(key, super::flags::LIMITS.iter().copied());
            table.complain(place, format!("the server has no limit `{key}`"), "in [limits]", help);
        } else if let Some(number) = number {
            limits.insert(key.to_string(), number);
        } else {
            let text = format!("`{key}` in [limits] must be a whole number above 0");
            table.complain(value.span(), text, "not a limit", None);
        }
    }
    limits
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().replace('_', "")),
        DeValue::Float(number) => Some(number.as_str().to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// `[require]`: counter → at least.
fn requirements(table: &Table<'_>) -> BTreeMap<String, u64> {
    let mut require = BTreeMap::new();
    for (key, place, value) in table.entries() {
        if !situations::is_known(key) {
            let help = did_you_mean(key, situations::names());
            table.complain(place, format!("there is no situation `{key}`"), "in [require]", help);
        }
        match value.get_ref().as_integer().and_then(|n| n.as_str().parse::<u64>().ok()) {
            Some(least) => {
                require.insert(key.to_string(), least);
            }
            None => table.complain(
                value.span(),
                format!("`{key}` in [require] must be a whole number"),
                "how often it must have happened",
                None,
            ),
        }
    }
    require
}

#[cfg(test)]
mod tests {
    use super::parse;

    const GOOD: &str = "about = \"Tries a good deal.\"\n[[workload]]\nkind = \"kv\"\n";

    /// A file with one mistake each: the message names file, line and mark, and says how to mend it.
    #[test]
    fn mistakes_are_shown_in_place() {
        let check = |name: &str, text: &str| {
            let error = parse("wrong", "scenarios/wrong.toml", text).expect_err(name);
            insta::assert_snapshot!(format!("mistake-{name}"), error);
        };
        let with = |text: &str| format!("{GOOD}{text}");
        check("not-toml", "about = \"No end.\nduration");
        check("no-about", "duration = \"10s\"\n");
        check("not-a-sentence", "about = \"smoke\"\n[[workload]]\nkind = \"kv\"\n");
        check("unknown-key", &with("[cluster]\nmember = 3\n"));
        check("unknown-table", &with("[[faults]]\nwhat = \"crash\"\n"));
        check("out-of-range", &with("[cluster]\nmembers = 12\nclients = 0\n"));
        check("wrong-kind", &with("[cluster]\nmembers = \"three\"\n"));
        check("bad-duration", &with("[liveness]\ndeadline = \"30\"\n"));
        check("unknown-flag", &with("[server]\nsnapshot-cuont = 50\n"));
        check("refused-flag", &with("[server]\nsnapshot-count = 50\nelection-timeout = 200\n"));
        check("unknown-limit", &with("[limits]\nwal_segment_byte = 50\n"));
        check(
            "unknown-fault",
            &with(
                "[[fault]]\nwhat = \"partiton\"\nwhom = \"leader\"\nat = \"5s\"\nlasts = \"1s\"\n",
            ),
        );
        check(
            "unknown-member",
            &with(
                "[[fault]]\nwhat = \"crash\"\nwhom = [\"n1\", \"n4\"]\nat = \"5s\"\nlasts = \"1s\"\n",
            ),
        );
        check("fault-without-time", &with("[[fault]]\nwhat = \"crash\"\nwhom = \"leader\"\n"));
        check(
            "fault-after-the-end",
            &with("[[fault]]\nwhat = \"crash\"\nwhom = \"all\"\nat = \"90s\"\nlasts = \"1s\"\n"),
        );
        let fault = "[[fault]]\nwhat = \"crash\"\nwhom = \"all\"\nat = \"5s\"\nlasts = \"1s\"\n";
        check("unknown-moment", &with(&format!("{fault}when = \"write-in-flight\"\n")));
        check("files-of-no-disk", &with(&format!("{fault}files = \"wall\"\n")));
        check("messages-of-no-kind", &with(&format!("{fault}messages = \"apend\"\n")));
        let repeat = fault.replace("crash", "repeat-messages");
        check("messages-never-repeated", &with(&format!("{repeat}messages = \"propose\"\n")));
        check("amount-of-nothing", &with(&format!("{fault}amount = 3\n")));
        check("unknown-situation", &with("[require]\nleader_change = 1\n"));
        check(
            "unknown-workload",
            "about = \"Tries a good deal.\"\n[[workload]]\nkind = \"kw\"\nmix = { putt = 3 }\n",
        );
    }

    /// Several mistakes are told at once, in the order of the file.
    #[test]
    fn all_mistakes_at_once() {
        let text = format!("{GOOD}speed = 3\n[cluster]\nmembers = 0\n[server]\nsnapshots = 1\n");
        insta::assert_snapshot!(
            "mistakes-together",
            parse("wrong", "scenarios/wrong.toml", &text).unwrap_err()
        );
    }

    /// What is left out has a usual value.
    #[test]
    fn defaults() {
        let scenario = parse("good", "good.toml", GOOD).unwrap();
        assert_eq!((scenario.members, scenario.clients, scenario.duration_us), (3, 5, 60_000_000));
        assert!(scenario.faults.is_empty() && scenario.server.is_empty());
    }
}
