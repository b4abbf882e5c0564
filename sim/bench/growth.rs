//! How the cost of smoke grows with its members and its clients.

use serde::Serialize;

use super::runs::kept;
use super::{RUNS, median, short};
use crate::scenario::{draw, library};

/// How many members, each with how many clients.
const MEMBERS: [u32; 4] = [3, 5, 7, 9];
const CLIENTS: [u32; 2] = [5, 200];

/// One size, and what smoke costs at it: medians.
#[derive(Debug, Serialize)]
pub(super) struct Size {
    name: &'static str,
    members: u32,
    clients: u32,
    simulated_s_per_wall_s: f64,
    cpu_ms_per_simulated_s: f64,
    cpu_us_per_operation: f64,
}

/// Smoke at every size. Errors: a run that was not kept.
pub(super) fn measure() -> Result<Vec<Size>, String> {
    let smoke = library::find("smoke")?;
    let mut sizes = Vec::new();
    for (members, clients) in MEMBERS.into_iter().flat_map(|m| CLIENTS.map(|c| (m, c))) {
        eprintln!("{members} members, {clients} clients …");
        let scenario = crate::scenario::Scenario { members, clients, ..smoke.clone() };
        let runs: Vec<_> = (0..RUNS as u64)
            .map(|seed| kept(&draw::plan(&scenario, seed)))
            .collect::<Result<_, String>>()?;
        let of = |cost: &dyn Fn(&crate::run::Finished) -> f64| {
            median(&runs.iter().map(cost).collect::<Vec<_>>())
        };
        sizes.push(Size {
            name: "smoke at a size",
            members,
            clients,
            simulated_s_per_wall_s: of(&|run| run.simulated_s / run.wall_s),
            cpu_ms_per_simulated_s: of(&|run| run.cpu_s * 1e3 / run.simulated_s),
            cpu_us_per_operation: of(&|run| run.cpu_s * 1e6 / run.history.len() as f64),
        });
    }
    Ok(sizes)
}

/// The sizes as a table for people.
pub(super) fn table(sizes: &[Size]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "members",
        "clients",
        "simulated s / wall s",
        "ms of CPU / simulated s",
        "µs of CPU / op",
    ]);
    for size in sizes {
        table.add_row([
            size.members.to_string(),
            size.clients.to_string(),
            short(size.simulated_s_per_wall_s),
            short(size.cpu_ms_per_simulated_s),
            short(size.cpu_us_per_operation),
        ]);
    }
    table.to_string()
}
