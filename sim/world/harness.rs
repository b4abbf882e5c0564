//! One run of a world: a fresh thread, a runtime, the dice that are per thread, and what to do with panics.
//!
//! Each run has its own OS thread, because std's hash keys, RocksDB's dice and rand's generators are per thread
//! and must begin anew. Runs in several threads at once do not touch each other.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use madsim::runtime::Runtime;

use super::entropy::current_node;
use super::node::{Options, World};
use super::rocks;

/// A panic inside a run: a bug of the server or of the simulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The node whose task panicked; `madsim-main` for the scenario's own.
    pub node: String,
    /// What the panic said.
    pub message: String,
    /// Where, as file, line and column.
    pub location: String,
}

thread_local! {
    /// The first panic of the run on this thread; `None` outside of runs.
    static CRASH: RefCell<Option<Option<Crash>>> = const { RefCell::new(None) };
}

/// Runs `scenario` in a new world of `seed`, and nothing else on its thread. `Err` is a panic somewhere inside.
pub fn run_in_world<T, F>(
    seed: u64,
    options: Options,
    scenario: impl FnOnce(World) -> F + Send,
) -> Result<T, Crash>
where
    T: Send,
    F: Future<Output = T>,
{
    hook_panics();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(format!("seed-{seed}")).stack_size(8 << 20);
        let run = thread.spawn_scoped(scope, move || run_here(seed, options, scenario));
        run.expect("the system has room for a thread").join().expect("panics are caught inside")
    })
}

/// As [`run_in_world`], on this thread, which must be fresh and is of no use for another run.
pub fn run_here<T, F>(
    seed: u64,
    options: Options,
    scenario: impl FnOnce(World) -> F,
) -> Result<T, Crash>
where
    F: Future<Output = T>,
{
    hook_panics();
    CRASH.set(Some(None));
    rocks::seed_dice(seed);
    let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
    let world = RefCell::new(None);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let made = World::new(seed, options);
            *world.borrow_mut() = Some(made.clone());
            scenario(made).await
        })
    }));
    let crash = CRASH.replace(Some(None)).flatten();
    // The world's tasks and handles hold each other; what is not taken apart here stays until the process ends.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        if let Some(world) = world.take() {
            runtime.block_on(async move { world.end().await });
        }
    }));
    let late = CRASH.take().flatten();
    match (outcome, ended) {
        (Ok(value), Ok(())) => Ok(value),
        _ => Err(crash.or(late).unwrap_or_else(|| Crash {
            node: String::new(),
            message: String::from("a panic that left no message"),
            location: String::new(),
        })),
    }
}

/// Has panics of runs kept instead of printed; those of other threads go where they went.
fn hook_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_kept = CRASH.with_borrow_mut(|crash| {
                let Some(first) = crash else { return false };
                first.get_or_insert_with(|| Crash {
                    node: current_node(),
                    message: info.payload_as_str().unwrap_or("a panic without words").to_owned(),
                    location: info.location().map(ToString::to_string).unwrap_or_default(),
                });
                true
            });
            if !is_kept {
                print(info);
            }
        }));
    });
}
