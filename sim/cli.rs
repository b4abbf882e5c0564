//! The command line: names, arguments, examples, exit codes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::scenario::table::parse_duration;

const EXAMPLES: &str = "\
Examples:
  sim list                                  what there is: scenarios, workloads, faults
  sim run smoke --seed 42                   one run, told in full
  sim run partition-leader --seed 42 --twice   the same plan twice: the traces must be equal
  sim sweep --seeds 0..200 --jobs 2         every scenario, 200 seeds each
  sim sweep power-loss-all --budget 60s     as many seeds as fit into a minute
  sim replay failures/smoke-42              the same run again, from its folder
  sim check history.jsonl                   judge a history, wherever it came from
  sim bugs                                  plant each known bug: how many seeds find it?

Exit codes:
  0  every promise was kept
  1  a rule was broken, or could not be decided
  2  wrong usage, or a file that cannot be read
  3  the healed cluster did not recover
  4  two runs of one plan differed
  5  the server crashed
  6  a required situation never occurred in a sweep";

/// Runs a whole cluster in a seeded world, breaks it, and judges what clients saw.
#[derive(Debug, Parser)]
#[command(name = "sim", version, after_help = EXAMPLES, max_term_width = 100, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what there is: scenarios, workloads, faults
    List {
        /// One JSON object a line on stdout, and nothing else there
        #[arg(long)]
        json: bool,
    },
    /// Run one scenario with one seed
    Run(RunArgs),
    /// Run scenarios over many seeds and sum up
    Sweep(SweepArgs),
    /// Run the same again, from a failure folder or a plan
    Replay(ReplayArgs),
    /// Judge histories, wherever they came from
    Check(CheckArgs),
    /// Plant each known bug and measure what it takes to find it
    Bugs(BugsArgs),
    /// Print the cost model: idling, an operation, a seed, a check
    Bench {
        /// One JSON object a figure on stdout, and nothing else there
        #[arg(long)]
        json: bool,
    },
}

/// `sim bugs`.
#[derive(Debug, Args)]
pub struct BugsArgs {
    /// Folders of `scenarios/bugs`; all of them, if none is named
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Seeds to try for each bug, at most
    #[arg(long, value_name = "A..B", default_value = "0..200", value_parser = parse_seeds)]
    pub seeds: std::ops::Range<u64>,
    /// Only see whether the server still compiles with each bug in it
    #[arg(long, conflicts_with_all = ["seeds", "json"])]
    pub check: bool,
    /// One JSON object a bug on stdout, and nothing else there
    #[arg(long)]
    pub json: bool,
}

/// `sim run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A scenario's name, or a scenario file
    #[arg(value_name = "SCENARIO|FILE")]
    pub scenario: String,
    /// The seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// One JSON object on stdout, and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Write plan, history, trace and verdict into this folder, whatever the verdict
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Run the plan twice and compare the traces
    #[arg(long)]
    pub twice: bool,
    /// Print the server's log lines to stderr: a level, or a filter such as snowglobe::raft=debug
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Print the plan and run nothing
    #[arg(long)]
    pub plan: bool,
}

/// `sim sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Scenarios by name or file; all of them, if none is named
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// From the first seed to before the last
    #[arg(long, value_name = "A..B", default_value = "0..20", value_parser = parse_seeds)]
    pub seeds: std::ops::Range<u64>,
    /// Runs at once; the results are the same for any number
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// Start no further run after this time, such as 60s or 10m
    #[arg(long, value_name = "TIME", value_parser = parse_budget)]
    pub budget: Option<Duration>,
    /// Only every Nth run, beginning with the Ith (from 0): to share a sweep among machines
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    pub shard: Option<(u64, u64)>,
    /// Write a folder for each failure into this one
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// One JSON object a run on stdout, in the order of seeds, and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Write a report that CI servers understand
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Run each plan twice and compare the traces
    #[arg(long)]
    pub twice: bool,
    /// Stop at the first failure
    #[arg(long)]
    pub first: bool,
}

/// `sim replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A failure folder, or a plan
    #[arg(value_name = "DIR|PLAN")]
    pub path: PathBuf,
    /// One JSON object on stdout, and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Write plan, history, trace and verdict into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Run the plan twice and compare the traces
    #[arg(long)]
    pub twice: bool,
    /// Print the server's log lines to stderr: a level, or a filter such as snowglobe::raft=debug
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// `sim check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// History files
    #[arg(value_name = "HISTORY", required = true)]
    pub histories: Vec<PathBuf>,
    /// What they are histories of; told by their operations if absent
    #[arg(long, value_name = "MODEL")]
    pub model: Option<crate::check::Model>,
    /// How they are written; told by their content if absent
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<crate::check::Format>,
    /// Write the smallest history found that still breaks the same rule into this file
    #[arg(long, value_name = "FILE")]
    pub shrink: Option<PathBuf>,
    /// One JSON object a history on stdout, and nothing else there
    #[arg(long)]
    pub json: bool,
}

fn parse_seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (low, high) = text.split_once("..").ok_or("write a range, such as 0..200")?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a seed"));
    let range = number(low)?..number(high)?;
    if range.is_empty() {
        Err("the range is empty: it ends before the last number".into())
    } else {
        Ok(range)
    }
}

fn parse_budget(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(Duration::from_micros)
}

fn parse_shard(text: &str) -> Result<(u64, u64), String> {
    let (index, count) = text.split_once('/').ok_or("write I/N, such as 0/4")?;
    match (index.parse(), count.parse()) {
        (Ok(index), Ok(count)) if index < count => Ok((index, count)),
        _ => Err(format!("`{text}`: I must be below N, as in 0/4")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    /// The help teaches by example and names every exit code.
    #[test]
    fn help() {
        insta::assert_snapshot!("help", Cli::command().render_help());
    }

    /// Each command's help, as a newcomer sees it.
    #[test]
    fn help_of_commands() {
        for name in ["run", "sweep", "replay", "check"] {
            let mut command = Cli::command();
            command.build();
            let help =
                command.find_subcommand_mut(name).expect("the command is there").render_help();
            insta::assert_snapshot!(format!("help-{name}"), help);
        }
    }

    /// A wrong argument is refused with a reason that says how to mend it.
    #[test]
    fn refusals() {
        let check = |line: &str, reason: &str| {
            let error = Cli::try_parse_from(line.split_whitespace()).expect_err(line).to_string();
            assert!(error.contains(reason), "{line}: {error}");
        };
        check("sim sweep --seeds 5", "write a range, such as 0..200");
        check("sim sweep --seeds 5..5", "the range is empty");
        check("sim sweep --shard 4/4", "I must be below N");
        check("sim sweep --budget 60", "`60` has no unit");
        check("sim run smoke --seed x", "invalid digit");
        check("sim sweep --jobs 0", "0 is not in 1..=256");
    }
}
