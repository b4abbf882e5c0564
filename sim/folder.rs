//! Failure folders: everything that is kept of one run, and how it is read again.
//!
//! | file | holds |
//! |---|---|
//! | `scenario.toml` | the scenario, as it was read |
//! | `plan.json` | the plan: enough to repeat the run |
//! | `history.jsonl` | what clients saw, one operation a line |
//! | `trace.jsonl` | what the world did, one event a line |
//! | `verdict.json` | the verdict, and everything that was counted |

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::history::Operation;
use crate::outcome::Summary;
use crate::scenario::plan::Plan;

/// What is kept of one run.
pub struct Folder<'a> {
    /// The scenario's text; empty where a plan was run without one.
    pub scenario: &'a str,
    /// The plan.
    pub plan: &'a Plan,
    /// What clients saw.
    pub history: &'a [Operation],
    /// What the world did, one JSON object a line.
    pub trace: &'a [String],
    /// The verdict.
    pub summary: &'a Summary,
}

impl Folder<'_> {
    /// Writes all files into `dir`, which is made. Errors: what could not be written.
    pub fn write(&self, dir: &Path) -> Result<(), String> {
        std::fs::create_dir_all(dir)
            .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        let history = self
            .history
            .iter()
            .map(|op| serde_json::to_string(op).expect("operations are plain data"));
        let verdict = serde_json::to_string_pretty(self.summary).expect("summaries are plain data");
        if !self.scenario.is_empty() {
            write_lines(
                &dir.join("scenario.toml"),
                std::iter::once(self.scenario.trim_end().to_string()),
            )?;
        }
        write_lines(
            &dir.join("plan.json"),
            std::iter::once(self.plan.to_json().trim_end().to_string()),
        )?;
        write_lines(&dir.join("history.jsonl"), history)?;
        write_lines(&dir.join("trace.jsonl"), self.trace.iter().cloned())?;
        write_lines(&dir.join("verdict.json"), std::iter::once(verdict))
    }
}

/// Writes lines to a file of the machine that the simulator runs on.
#[allow(clippy::disallowed_methods, reason = "a file of this machine, not of a simulated one")]
pub fn write_lines(path: &Path, lines: impl Iterator<Item = String>) -> Result<(), String> {
    let write = || {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for line in lines {
            writeln!(file, "{line}")?;
        }
        file.flush()
    };
    write().map_err(|error: std::io::Error| format!("cannot write {}: {error}", path.display()))
}

/// Reads the plan from a failure folder or a plan file, and the scenario's text where it is there.
/// Errors: what cannot be read, and where.
pub fn read_plan(path: &Path) -> Result<(Plan, String), String> {
    let file: PathBuf = if path.is_dir() { path.join("plan.json") } else { path.to_path_buf() };
    let shown = file.display();
    let text =
        std::fs::read_to_string(&file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let plan = Plan::from_json(&text).map_err(|error| format!("{shown} is not a plan: {error}"))?;
    let scenario = file.with_file_name("scenario.toml");
    Ok((plan, std::fs::read_to_string(scenario).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::{Folder, read_plan};
    use crate::outcome::{Summary, Verdict};
    use crate::scenario::{draw, library};

    /// What was written is read again; a folder without a plan says which file it misses.
    #[test]
    fn round_trip() {
        let dir = std::env::temp_dir().join(format!("snowglobe-folder-{}", std::process::id()));
        let scenario = library::find("smoke").unwrap();
        let plan = draw::plan(&scenario, 5);
        let summary = Summary {
            scenario: "smoke".into(),
            seed: 5,
            verdict: Verdict::Kept,
            rule: None,
            message: None,
            proof: vec![],
            stopped: None,
            trace_hash: "0".repeat(16),
            simulated_s: 1.0,
            wall_s: 1.0,
            cpu_s: 1.0,
            ops: 0,
            outcomes: Default::default(),
            faults: Default::default(),
            met: Default::default(),
            disk_faults: Default::default(),
            repeat: String::new(),
        };
        let folder = Folder {
            scenario: &scenario.source,
            plan: &plan,
            history: &[],
            trace: &[],
            summary: &summary,
        };
        folder.write(&dir).unwrap();
        let (again, source) = read_plan(&dir).unwrap();
        assert_eq!((&again, source.trim_end()), (&plan, scenario.source.trim_end()));
        assert_eq!(read_plan(&dir.join("plan.json")).unwrap().0, plan);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(read_plan(&dir).unwrap_err().starts_with("cannot read "));
    }
}
