//! `sim list`: what there is.

use std::process::ExitCode;

use crate::messages::MessageKind;
use crate::outcome::EXIT_USAGE;
use crate::scenario::fault::{Amount, Says};
use crate::scenario::{FaultKind, library};
use crate::{situations, workload};

/// Prints every scenario, workload, situation, fault and kind of message with its sentence.
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
    let faults = FaultKind::ALL.iter().map(|row| match row.says.amount() {
        None => (row.name, row.about.to_string()),
        Some(Amount(unit, low, usual, high)) => {
            let more = if matches!(row.says, Says::MessagesAmount(_)) { "; messages" } else { "" };
            let about = row.about;
            (row.name, format!("{about} (amount: {unit}, {low} to {high}, usually {usual}{more})"))
        }
    });
    let kinds = MessageKind::ALL.iter();
    let kinds =
        kinds.map(|(_, name, about)| ("message", (*name).to_string(), (*about).to_string()));
    rows.extend(
        workload::ALL
            .iter()
            .map(|(name, about)| ("workload", (*name).to_string(), (*about).to_string())),
    );
    let situations = situations::SITUATIONS.iter();
    rows.extend(
        situations.map(|(name, about)| ("situation", (*name).to_string(), (*about).to_string())),
    );
    rows.extend(faults.map(|(name, about)| ("fault", name.to_string(), about)));
    rows.extend(kinds);
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
