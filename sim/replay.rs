//! One run: by scenario and seed, or again from a failure folder or a plan file.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::{ReplayArgs, RunArgs};
use crate::folder::{Folder, read_plan};
use crate::outcome::EXIT_USAGE;
use crate::run::{self, Manner};
use crate::scenario::plan::Plan;
use crate::scenario::{draw, library, swarm};

/// `sim run`.
#[expect(clippy::print_stdout, reason = "a command's answer")]
pub fn main_run(args: &RunArgs) -> ExitCode {
    let scenario = match library::find(&args.scenario) {
        Ok(scenario) => scenario,
        Err(error) => {
            eprint!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let plan = draw::plan(&scenario, args.seed);
    if args.plan {
        print!("{}", plan.to_json());
        return ExitCode::SUCCESS;
    }
    let repeat = format!("cargo sim run {} --seed {}", args.scenario, args.seed);
    once(
        &plan,
        &swarm::settle(&scenario, args.seed).source,
        repeat,
        &How {
            json: args.json,
            out: args.out.as_deref(),
            twice: args.twice,
            log: args.log.clone(),
        },
    )
}

/// `sim replay`.
pub fn main_replay(args: &ReplayArgs) -> ExitCode {
    let (plan, source) = match read_plan(&args.path) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("sim: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let repeat = format!("cargo sim replay {}", args.path.display());
    once(
        &plan,
        &source,
        repeat,
        &How {
            json: args.json,
            out: args.out.as_deref(),
            twice: args.twice,
            log: args.log.clone(),
        },
    )
}

/// How one run is done and told.
struct How<'a> {
    json: bool,
    out: Option<&'a Path>,
    twice: bool,
    log: Option<String>,
}

#[expect(clippy::print_stdout, reason = "a command's answer")]
fn once(plan: &Plan, source: &str, repeat: String, how: &How<'_>) -> ExitCode {
    if !run::AVAILABLE {
        eprintln!("{}", run::UNAVAILABLE);
        return ExitCode::from(EXIT_USAGE);
    }
    let trace_lines = if how.out.is_some() { run::TRACE_LINES } else { 0 };
    let finished =
        run::execute(plan, &Manner { trace_lines, twice: how.twice, log: how.log.clone() });
    let summary = finished.summary(plan, repeat);
    if how.json {
        println!("{}", summary.to_json());
    } else {
        print!("{}", summary.to_text());
    }
    if let Some(dir) = how.out {
        let folder = Folder {
            scenario: source,
            plan,
            history: &finished.history,
            trace: &finished.trace,
            summary: &summary,
        };
        if let Err(error) = folder.write(dir) {
            eprintln!("sim: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    }
    ExitCode::from(summary.verdict.exit_code())
}
