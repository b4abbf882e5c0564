//! `sim list`: what there is.

use std::process::ExitCode;

use crate::outcome::EXIT_USAGE;
use crate::scenario::{FaultKind, library};
use crate::workload;

/// Prints every scenario, workload and fault with its sentence.
#[expect(clippy::print_stdout, reason = "a command's answer")]
pub fn main_list(json: bool) -> ExitCode {
    let mut rows: Vec<(&str, String, String)> = Vec::new();
    for name in library::names() {
        match library::find(name) {
            Ok(scenario) => rows.push(("scenario", name.to_string(), scenario.about)),
            Err(error) => {
                eprint!("{error}");
                return ExitCode::from(EXIT_USAGE);
            }
        }
    }
    let faults = FaultKind::ALL.iter().map(|row| (row.1, row.2));
    rows.extend(
        workload::ALL
            .iter()
            .map(|(name, about)| ("workload", (*name).to_string(), (*about).to_string())),
    );
    rows.extend(faults.map(|(name, about)| ("fault", name.to_string(), about.to_string())));
    let mut last = "";
    for (kind, name, about) in &rows {
        if json {
            println!("{}", serde_json::json!({ "kind": kind, "name": name, "about": about }));
            continue;
        }
        if last != *kind {
            println!("{}{kind}s", if last.is_empty() { "" } else { "\n" });
            last = kind;
        }
        println!("  {name:<22} {about}");
    }
    ExitCode::SUCCESS
}
