//! What was measured, as a table and as JSON.

use serde::Serialize;

use crate::cluster::Failure;
use crate::load::Round;
use crate::rows::Row;

/// One row on one server.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    server: &'static str,
    /// Answers (or events) a second, over all rounds.
    per_s: f64,
    /// The same for each round.
    rounds_per_s: Vec<f64>,
    p50_ms: f64,
    p99_ms: f64,
    /// Processor time of all members for one answer.
    cpu_us: f64,
    answers: usize,
    pub(crate) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One row on all servers.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) sides: Vec<Side>,
}

impl Side {
    /// What all rounds of a row on one server come to.
    pub(crate) fn of(server: &'static str, rounds: Vec<Round>) -> Self {
        let rounds_per_s = rounds.iter().map(Round::rate).collect();
        let mut all =
            Round { seconds: rounds.iter().map(|each| each.seconds).sum(), ..Round::default() };
        rounds.into_iter().for_each(|round| all.add(round));
        all.times_us.sort_unstable();
        Self {
            server,
            per_s: all.rate(),
            rounds_per_s,
            p50_ms: percentile_ms(&all.times_us, 50),
            p99_ms: percentile_ms(&all.times_us, 99),
            cpu_us: all.cpu_s * 1e6 / all.acknowledged as f64,
            answers: all.times_us.len(),
            errors: all.errors,
            error: all.error,
        }
    }
}

/// The name of a row with so many members.
pub(crate) fn name(row: &Row, members: usize) -> String {
    let plural = |count: usize, one: &str| {
        if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
    };
    format!("{}, {}, {}", row.name, plural(row.clients, "client"), plural(members, "member"))
}

/// The time that so many percent of the answers took at most, in milliseconds.
fn percentile_ms(sorted_us: &[u32], percent: usize) -> f64 {
    let rank = (sorted_us.len() * percent).div_ceil(100).saturating_sub(1);
    sorted_us.get(rank).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
}

/// One JSON object a line.
pub(crate) fn json(rows: &[Measured]) -> Result<String, Failure> {
    let lines = rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.join("\n"))
}

/// A table; ratios above 1 speak for this server.
pub(crate) fn text(rows: &[Measured]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    let has_both = rows.iter().any(|row| row.sides.len() > 1);
    let measures = ["op/s", "p50 ms", "p99 ms", "CPU µs"];
    let mut head = vec!["row".to_owned()];
    for measure in measures {
        if has_both {
            head.extend([format!("etcd {measure}"), "ours".to_owned(), "ratio".to_owned()]);
        } else {
            head.push(measure.to_owned());
        }
    }
    table.set_header(head);
    for row in rows {
        let mut cells = vec![row.name.clone()];
        let values = |side: &Side| [side.per_s, side.p50_ms, side.p99_ms, side.cpu_us];
        for measure in 0..measures.len() {
            let values: Vec<f64> = row.sides.iter().map(|side| values(side)[measure]).collect();
            cells.extend(values.iter().copied().map(short));
            if let [theirs, ours] = values[..] {
                // Of answers more is better, of time less.
                let ratio = if measure == 0 { ours / theirs } else { theirs / ours };
                cells.push(format!("{ratio:.2}"));
            }
        }
        table.add_row(cells);
    }
    let mut text = table.to_string();
    for row in rows {
        for side in row.sides.iter().filter(|side| side.errors > 0) {
            let first = side.error.as_deref().unwrap_or_default();
            text += &format!(
                "\n{}: {}: {} errors, the first: {first}",
                row.name, side.server, side.errors
            );
        }
    }
    if has_both {
        text += "\nRatios above 1: this server is ahead. Watches: events a second, and their delay.\n\
                 CPU: all members' together, for one answer; what least depends on how busy the machine is.";
    }
    text
}

/// Three significant digits, more or less.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
