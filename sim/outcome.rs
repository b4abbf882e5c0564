//! Verdicts, exit codes, and what is printed of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::grid::Count;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every promise was kept.
    Kept,
    /// The checker could not decide within its budget.
    Undecided,
    /// The healed cluster did not recover in time.
    Stuck,
    /// Two runs of one plan differed.
    Differs,
    /// The server died of something that no fault explains.
    Crashed,
    /// A rule was broken.
    Broken,
}

impl Verdict {
    /// All of them, in the order of the summary table.
    pub const ALL: &[Verdict] =
        &[Self::Kept, Self::Broken, Self::Undecided, Self::Stuck, Self::Differs, Self::Crashed];

    /// The word that is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Undecided => "undecided",
            Self::Stuck => "stuck",
            Self::Differs => "differs",
            Self::Crashed => "crashed",
            Self::Broken => "broken",
        }
    }

    /// The program's exit code for it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Kept => 0,
            // A run that could not be judged is no success.
            Self::Broken | Self::Undecided => 1,
            Self::Stuck => 3,
            Self::Differs => 4,
            Self::Crashed => 5,
        }
    }
}

/// Exit code for a wrong command line or a file that cannot be read.
pub const EXIT_USAGE: u8 = 2;
/// Exit code for a sweep in which a required situation never occurred.
pub const EXIT_UNMET: u8 = 6;

/// Several verdicts as one exit code: that of the gravest.
#[must_use]
pub fn exit_code(verdicts: impl IntoIterator<Item = Verdict>) -> u8 {
    verdicts.into_iter().max().map_or(0, Verdict::exit_code)
}

/// What is kept, and printed, of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// The rule that was broken, or another short name of what went wrong.
    pub rule: Option<String>,
    /// What went wrong, in words.
    pub message: Option<String>,
    /// The operations that prove it.
    pub proof: Vec<u64>,
    /// Why a cluster whose disks were damaged beyond tolerance has stopped, as it may; absent where it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Hash over everything that happened, 16 hex digits.
    pub trace_hash: String,
    /// Length of the run in virtual time.
    pub simulated_s: f64,
    /// Length of the run on the wall.
    pub wall_s: f64,
    /// Time on the processor.
    pub cpu_s: f64,
    /// Operations that clients began.
    pub ops: u64,
    /// How they ended: ok, failed, unknown.
    pub outcomes: BTreeMap<String, u64>,
    /// Faults that were done, by kind.
    pub faults: BTreeMap<String, u64>,
    /// What the code met of them, and other situations, by name.
    pub met: BTreeMap<String, u64>,
    /// Disk faults by kind, role of the member and class of file ([`crate::grid`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disk_faults: BTreeMap<String, Count>,
    /// The command that repeats it.
    pub repeat: String,
}

impl Summary {
    /// For `--json`: one object on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a summary has only text keys")
    }

    /// For people: what happened, and on failure what to type next.
    #[must_use]
    pub fn to_text(&self) -> String {
        let counts = |map: &BTreeMap<String, u64>| match map.len() {
            0 => "none".to_string(),
            _ => map
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let mut out = format!(
            "{} seed {}: {}\n  trace      {}\n  simulated  {:.1} s in {:.2} s of wall time ({:.2} s of CPU)\n",
            self.scenario,
            self.seed,
            self.verdict.name(),
            self.trace_hash,
            self.simulated_s,
            self.wall_s,
            self.cpu_s,
        );
        out += &format!("  operations {} ({})\n", self.ops, counts(&self.outcomes));
        out +=
            &format!("  faults     {}\n  met        {}\n", counts(&self.faults), counts(&self.met));
        if let Some(rule) = &self.rule {
            out += &format!("  rule       {rule}\n");
        }
        if let Some(message) = &self.message {
            out +=
                &format!("  why        {}\n", message.trim_end().replace('\n', "\n             "));
        }
        if let Some(stopped) = &self.stopped {
            out += &format!("  stopped    because {stopped}\n");
        }
        if !self.proof.is_empty() {
            let proof: Vec<String> = self.proof.iter().map(|op| format!("#{op}")).collect();
            out += &format!("  proof      operations {}\n", proof.join(", "));
        }
        if self.verdict != Verdict::Kept {
            out += &format!("  repeat     {}\n", self.repeat);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, exit_code};

    /// Exit codes are those that the design promises, and the gravest verdict of a sweep decides.
    #[test]
    fn exit_codes() {
        let codes: Vec<_> =
            Verdict::ALL.iter().map(|verdict| (verdict.name(), verdict.exit_code())).collect();
        let expected = [
            ("kept", 0),
            ("broken", 1),
            ("undecided", 1),
            ("stuck", 3),
            ("differs", 4),
            ("crashed", 5),
        ];
        assert_eq!(codes, expected);
        assert_eq!(exit_code([]), 0);
        assert_eq!(exit_code([Verdict::Kept, Verdict::Stuck, Verdict::Kept]), 3);
        assert_eq!(exit_code([Verdict::Crashed, Verdict::Broken, Verdict::Stuck]), 1);
    }
}
