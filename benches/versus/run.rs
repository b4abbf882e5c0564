//! The command: starts both servers, runs every row on each by turns, prints what came of it.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::cluster::{Cluster, Failure, Program};
use crate::load::{Round, Times};
use crate::rows::{self, ROWS, Row};
use crate::table::{self, Measured, Side};

/// Sizes of clusters.
const MEMBERS: [usize; 2] = [1, 3];

/// The wrong command line, or something that could not be measured.
const EXIT_USAGE: u8 = 2;

/// Compares this server with a real etcd: `$ETCD`, or the one in `PATH`
#[derive(Parser)]
struct Args {
    /// One JSON object a row on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Rounds of each row on each server
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    rounds: usize,
    /// Milliseconds that a round is counted
    #[arg(long, default_value_t = 1500, value_name = "MS")]
    round_ms: u64,
    /// Milliseconds of a round before that
    #[arg(long, default_value_t = 300, value_name = "MS")]
    warm_up_ms: u64,
    /// Only rows whose name has this in it, such as `put` or `3 members`
    #[arg(long, default_value = "", value_name = "TEXT")]
    row: String,
    /// This server alone, even where there is an etcd
    #[arg(long)]
    alone: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// Runs it. Exit codes: 0 measured; 1 some answers were wrong or refused; 2 it could not be measured.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let compared = match runtime {
        Ok(runtime) => runtime.block_on(compare(&args)),
        Err(error) => Err(error.into()),
    };
    match compared {
        Ok(0) => ExitCode::SUCCESS,
        Ok(errors) => {
            eprintln!("versus: {errors} answers were wrong or refused");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Measures everything, prints it, and tells how many errors there were.
async fn compare(args: &Args) -> Result<u64, Failure> {
    let mut programs = Vec::new();
    match Program::etcd()?.filter(|_| !args.alone) {
        Some((program, version)) => {
            eprintln!("{version}");
            programs.push(program);
        }
        None if args.alone => {}
        None => eprintln!(
            "no etcd in PATH, and $ETCD names none: this server alone is measured \
             (apt-get install etcd-server, or a release from github.com/etcd-io/etcd)"
        ),
    }
    programs.push(Program::snowglobe());
    let begun = Instant::now();
    let mut measured = Vec::new();
    for members in MEMBERS {
        let name = |row: &Row| table::name(row, members);
        let rows: Vec<&Row> = ROWS.iter().filter(|row| name(row).contains(&args.row)).collect();
        if !rows.is_empty() {
            measured.extend(measure(args, &programs, members, &rows).await?);
        }
    }
    let text = if args.json { table::json(&measured)? } else { table::text(&measured) };
    say(&text);
    eprintln!("measured in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(measured.iter().flat_map(|row| &row.sides).map(|side| side.errors).sum())
}

/// Measures rows on clusters of so many members.
async fn measure(
    args: &Args,
    programs: &[Program],
    members: usize,
    rows: &[&Row],
) -> Result<Vec<Measured>, Failure> {
    let times = Times {
        warm_up: Duration::from_millis(args.warm_up_ms),
        counted: Duration::from_millis(args.round_ms),
    };
    // Beside the build: on a disk, where a folder for temporary files may be memory.
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("versus-{}", std::process::id()));
    let mut clusters = Vec::new();
    for program in programs {
        let cluster = Cluster::start(program, members, &folder).await?;
        rows::fill(&cluster).await?;
        clusters.push((program.name, cluster));
    }
    let mut measured = Vec::new();
    for row in rows {
        let name = table::name(row, members);
        eprintln!("{name} …");
        let mut rounds: Vec<Vec<Round>> = clusters.iter().map(|_| Vec::new()).collect();
        for _ in 0..args.rounds {
            for ((_, cluster), rounds) in clusters.iter().zip(&mut rounds) {
                rounds.push(row.round(cluster, times).await?);
            }
        }
        let sides = clusters.iter().zip(rounds).map(|((name, _), rounds)| Side::of(name, rounds));
        measured.push(Measured { name, sides: sides.collect() });
    }
    drop(clusters);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(measured)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn say(text: &str) {
    println!("{text}");
}
