//! The `sim` program: runs, sweeps, replays and judges simulated clusters.
//!
//! A map; to follow one run from its seed to its verdict, read them in this order:
//!
//! * [`cli`]: the command line.
//! * [`scenario`]: what a run is made of; with a seed it becomes a plan, in which no choice is open.
//! * [`dice`]: named streams of random numbers, all from one seed.
//! * [`workload`]: what clients do.
//! * [`run`]: executes a plan in the world, and judges it.
//! * [`world`]: the simulated machines: network, disks, clocks, power.
//! * [`trace`]: what happened in the world, as a hash.
//! * [`history`]: what clients saw.
//! * [`messages`]: kinds of messages between members.
//! * [`checker`]: history → verdict; knows neither the world nor the server.
//! * [`outcome`]: verdicts, exit codes and what is printed of a run.
//! * [`situations`], [`grid`]: what a sweep should come to, and which disk faults it did where.
//! * [`sweep`], [`replay`], [`folder`]: many runs, one run again, what is kept of a failure.
//! * [`bugs`], [`mod@bench`]: what it takes to find known bugs, and what everything costs.
#![cfg_attr(not(madsim), allow(dead_code))]
#![allow(unreachable_pub, reason = "in a program `pub` says: meant for the other modules")]

mod bench;
mod bugs;
mod check;
mod checker;
mod cli;
mod dice;
mod folder;
mod grid;
mod history;
mod junit;
mod list;
mod messages;
mod outcome;
mod replay;
mod run;
mod scenario;
mod situations;
mod sweep;
mod table;
mod trace;
mod workload;
mod world;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::List { json } => list::main_list(json),
        Command::Run(args) => replay::main_run(&args),
        Command::Sweep(_) if !run::AVAILABLE => {
            eprintln!("{}", run::UNAVAILABLE);
            ExitCode::from(outcome::EXIT_USAGE)
        }
        Command::Sweep(args) => sweep::main_sweep(&args),
        Command::Replay(args) => replay::main_replay(&args),
        Command::Check(args) => {
            let options = check::Options {
                model: args.model,
                format: args.format,
                json: args.json,
                shrink: args.shrink,
            };
            check::main_check(&args.histories, &options)
        }
        Command::Bugs(args) => bugs::main_bugs(&args),
        Command::Bench { .. } if !run::AVAILABLE => {
            eprintln!("{}", run::UNAVAILABLE);
            ExitCode::from(outcome::EXIT_USAGE)
        }
        Command::Bench { json } => bench::main_bench(json),
    }
}
