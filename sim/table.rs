//! The summary table of a sweep: a line a scenario, and one for all.

use comfy_table::{CellAlignment, Table};

use crate::outcome::{Summary, Verdict};

/// Sums up runs by scenario, in the order in which scenarios first appear.
#[must_use]
pub fn table(summaries: &[Summary]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "scenario",
        "runs",
        "kept",
        "broken",
        "other",
        "ops",
        "simulated s",
        "sim s / wall s",
        "CPU µs / op",
        "faults",
    ]);
    let mut names: Vec<&str> = Vec::new();
    for summary in summaries {
        if !names.contains(&summary.scenario.as_str()) {
            names.push(&summary.scenario);
        }
    }
    for name in &names {
        let of_it: Vec<&Summary> =
            summaries.iter().filter(|summary| summary.scenario == *name).collect();
        table.add_row(row(name, &of_it));
    }
    if names.len() > 1 {
        table.add_row(row("all", &summaries.iter().collect::<Vec<_>>()));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn row(name: &str, summaries: &[&Summary]) -> Vec<String> {
    let count = |verdict: Verdict| summaries.iter().filter(|it| it.verdict == verdict).count();
    let sum = |get: fn(&Summary) -> f64| summaries.iter().map(|it| get(it)).sum::<f64>();
    let (kept, broken) = (count(Verdict::Kept), count(Verdict::Broken));
    let ops: u64 = summaries.iter().map(|it| it.ops).sum();
    let faults: u64 = summaries.iter().flat_map(|it| it.faults.values()).sum();
    let simulated_s = sum(|it| it.simulated_s);
    let others: Vec<String> = Verdict::ALL
        .iter()
        .filter(|verdict| {
            !matches!(verdict, Verdict::Kept | Verdict::Broken) && count(**verdict) > 0
        })
        .map(|verdict| format!("{} {}", count(*verdict), verdict.name()))
        .collect();
    vec![
        name.to_string(),
        summaries.len().to_string(),
        kept.to_string(),
        broken.to_string(),
        if others.is_empty() { "0".into() } else { others.join(", ") },
        ops.to_string(),
        format!("{simulated_s:.0}"),
        format!("{:.0}", simulated_s / sum(|it| it.wall_s).max(1e-9)),
        format!("{:.0}", sum(|it| it.cpu_s) * 1e6 / (ops.max(1) as f64)),
        faults.to_string(),
    ]
}
