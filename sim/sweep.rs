//! Many runs: every scenario over a range of seeds, several at once, summed up in a table.
//!
//! Invariants:
//! * What is printed does not depend on the number of jobs: results appear in the order of seeds, then scenarios.
//! * A sweep cut short, by its budget or by Ctrl-C, has done a prefix of the full one, and sums that up.
//!
//! Not here: what a run is (`run`), what is kept of a failure (`folder`).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::SIGINT;

use crate::cli::SweepArgs;
use crate::folder::{Folder, write_lines};
use crate::outcome::{EXIT_UNMET, EXIT_USAGE, Summary, Verdict, exit_code};
use crate::run::{self, Manner};
use crate::scenario::{Scenario, draw, library, swarm};
use crate::{grid, junit, situations, table};

/// One run of a sweep.
struct Item<'a> {
    /// The scenario as it was named, for the repeating command.
    named: &'a str,
    scenario: &'a Scenario,
    seed: u64,
}

/// `sim sweep`.
pub fn main_sweep(args: &SweepArgs) -> ExitCode {
    let names: Vec<String> = match args.scenarios.as_slice() {
        [] => library::names().into_iter().map(str::to_string).collect(),
        named => named.to_vec(),
    };
    let mut scenarios = Vec::new();
    for name in &names {
        match library::find(name) {
            Ok(scenario) => scenarios.push((name.as_str(), scenario)),
            Err(error) => {
                eprint!("{error}");
                return ExitCode::from(EXIT_USAGE);
            }
        }
    }
    let (index, count) = args.shard.unwrap_or((0, 1));
    let items: Vec<Item<'_>> = args
        .seeds
        .clone()
        .flat_map(|seed| {
            scenarios.iter().map(move |(named, scenario)| Item { named, scenario, seed })
        })
        .zip(0u64..)
        .filter(|(_, nth)| nth % count == index)
        .map(|(item, _)| item)
        .collect();
    let summaries = run_all(&items, args);
    let unmet = unmet(&scenarios, &summaries);
    if !args.json {
        print_end(&summaries, &unmet);
    }
    if let Some(path) = &args.junit
        && let Err(error) = write_lines(path, junit::lines(&summaries).into_iter())
    {
        eprintln!("sim: {error}");
        return ExitCode::from(EXIT_USAGE);
    }
    for text in &unmet {
        eprintln!("sim: {text}");
    }
    match exit_code(summaries.iter().map(|summary| summary.verdict)) {
        0 if !unmet.is_empty() => ExitCode::from(EXIT_UNMET),
        code => ExitCode::from(code),
    }
}

#[expect(clippy::print_stdout, reason = "a command's answer")]
fn print_end(summaries: &[Summary], unmet: &[String]) {
    println!("{}", table::table(summaries));
    println!("{}", situations::report(summaries));
    let disks = grid::report(summaries);
    if !disks.is_empty() {
        println!("{disks}");
    }
    let failures: Vec<&Summary> =
        summaries.iter().filter(|it| it.verdict != Verdict::Kept).collect();
    for summary in failures.iter().take(FAILURES_SHOWN) {
        print!("\n{}", summary.to_text());
    }
    if failures.len() > FAILURES_SHOWN {
        println!("\nand {} more that were not kept", failures.len() - FAILURES_SHOWN);
    }
    if failures.is_empty() && unmet.is_empty() {
        println!("all {} runs kept every promise", summaries.len());
    }
}

/// More would hide the table.
const FAILURES_SHOWN: usize = 5;

/// Does all items, `args.jobs` at once, and hands back their summaries in order.
#[expect(clippy::print_stdout, reason = "a command's answer")]
fn run_all(items: &[Item<'_>], args: &SweepArgs) -> Vec<Summary> {
    let progress = Progress::new(items.len() as u64, args.json);
    let (next, stop) = (AtomicUsize::new(0), interrupted());
    let over = deadline(args);
    let (send, receive) = mpsc::channel();
    let mut summaries = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            let (send, next, stop, over) = (send.clone(), &next, &stop, &over);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && !over() {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(nth) else { break };
                    if send.send((nth, one(item, args))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        for (nth, summary) in receive {
            early.insert(nth, summary);
            while let Some(summary) = early.remove(&summaries.len()) {
                if args.json {
                    println!("{}", summary.to_json());
                }
                let failed = summary.verdict != Verdict::Kept;
                if failed && args.first {
                    stop.store(true, Ordering::Relaxed);
                }
                progress.done(&summary);
                summaries.push(summary);
            }
        }
    });
    progress.bar.finish_and_clear();
    if args.first
        && let Some(at) = summaries.iter().position(|summary| summary.verdict != Verdict::Kept)
    {
        // Runs that other jobs had under way would make the result depend on the number of jobs.
        summaries.truncate(at + 1);
    }
    if summaries.len() < items.len() && !args.json {
        println!("stopped after {} of {} runs", summaries.len(), items.len());
    }
    summaries
}

/// Turns true at the first Ctrl-C, so that what was done is summed up; the second one ends the program.
fn interrupted() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let end = signal_hook::flag::register_conditional_shutdown(
        SIGINT,
        EXIT_INTERRUPTED,
        Arc::clone(&stop),
    );
    let sum_up = end.and_then(|_| signal_hook::flag::register(SIGINT, Arc::clone(&stop)));
    sum_up.expect("Ctrl-C can be listened to");
    stop
}

/// What a shell says of a program that Ctrl-C has ended.
const EXIT_INTERRUPTED: i32 = 130;

/// One failure in one line.
fn headline(summary: &Summary) -> String {
    let rule = summary.rule.as_deref().unwrap_or("");
    format!(
        "{} seed {}: {} {rule} — {}",
        summary.scenario,
        summary.seed,
        summary.verdict.name(),
        summary.repeat
    )
}

#[allow(clippy::disallowed_methods, reason = "the budget is wall time of this machine")]
fn deadline(args: &SweepArgs) -> impl Fn() -> bool + Sync + use<> {
    let (start, budget) = (std::time::Instant::now(), args.budget);
    move || budget.is_some_and(|budget| start.elapsed() >= budget)
}

/// How far a sweep is: a bar on a terminal; elsewhere, where nobody would see it move, a line from time to time.
struct Progress {
    bar: ProgressBar,
    /// Whether lines are printed in place of the bar.
    lines: bool,
}

/// Runs between two lines.
const RUNS_PER_LINE: u64 = 100;

impl Progress {
    fn new(length: u64, json: bool) -> Self {
        let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template(
            "{bar:40} {pos}/{len} runs, {elapsed} so far, {eta} to go",
        )
        .expect("the template is well formed");
        let bar = ProgressBar::with_draw_target(Some(length), target).with_style(style);
        let lines = !json && bar.is_hidden();
        Self { bar, lines }
    }

    /// A run has ended.
    fn done(&self, summary: &Summary) {
        self.bar.inc(1);
        let failed = summary.verdict != Verdict::Kept;
        if !self.lines {
            if failed {
                self.bar.println(headline(summary));
            }
            return;
        }
        if failed {
            eprintln!("{}", headline(summary));
        }
        let done = self.bar.position();
        if done.is_multiple_of(RUNS_PER_LINE) {
            let (all, elapsed) = (self.bar.length().unwrap_or(0), self.bar.elapsed().as_secs());
            eprintln!("{done}/{all} runs, {elapsed} s so far");
        }
    }
}

fn one(item: &Item<'_>, args: &SweepArgs) -> Summary {
    let plan = draw::plan(item.scenario, item.seed);
    let repeat = format!("cargo sim run {} --seed {}", item.named, item.seed);
    let finished = run::execute(&plan, &Manner { twice: args.twice, ..Manner::default() });
    let mut summary = finished.summary(&plan, repeat);
    if summary.verdict == Verdict::Kept {
        return summary;
    }
    let Some(out) = &args.out else { return summary };
    // Traces cost too much to keep for runs that are kept; a failure is worth a second run with lines.
    let finished =
        run::execute(&plan, &Manner { trace_lines: run::TRACE_LINES, ..Manner::default() });
    let dir = out.join(format!("{}-{}", item.scenario.name, item.seed));
    let folder = Folder {
        scenario: &swarm::settle(item.scenario, item.seed).source,
        plan: &plan,
        history: &finished.history,
        trace: &finished.trace,
        summary: &summary,
    };
    if let Err(error) = folder.write(&dir) {
        summary.message = Some(format!("{}\n{error}", summary.message.unwrap_or_default()));
    }
    summary
}

/// What `[require]` asks for and the sweep did not bring about, in words.
fn unmet(scenarios: &[(&str, Scenario)], summaries: &[Summary]) -> Vec<String> {
    let mut unmet = Vec::new();
    for (_, scenario) in scenarios {
        let of_it: Vec<&Summary> =
            summaries.iter().filter(|it| it.scenario == scenario.name).collect();
        if of_it.is_empty() {
            continue;
        }
        for (name, least) in &scenario.require {
            let count: u64 = of_it.iter().map(|it| situations::count(it, name)).sum();
            if count < *least {
                let name = format!("{}: `{name}` occurred {count} times", scenario.name);
                unmet
                    .push(format!("{name} in {} runs; at least {least} are required", of_it.len()));
            }
        }
    }
    unmet
}
