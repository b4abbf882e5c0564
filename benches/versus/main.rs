//! This server against a real etcd on the same machine, row by row.
//!
//! Both are started as clusters of one and of three members: same flags, data folders on the same disk, every sync on.
//! Each row is a closed loop: so many clients on a few connections, each of which sends its next request when it has the
//! answer to the last one. A row runs in short rounds on etcd and on this server by turns, so that what else the machine
//! does meets both.
//!
//! Invariants:
//! * Every answer is looked at: counts, keys, revisions, order. What is not right is an error, and so is a refusal; errors
//!   are counted and shown, and end the program with 1.
//! * After each round the store has moved on by as many revisions as were acknowledged.
//! * Processor time is the servers' alone, over whole rounds: on a busy machine it says more than what the clock shows.
//! * Percentiles are taken over all answers of all rounds of a row, those of the warm-ups left out.
//!
//! `ETCD=path` names the etcd; otherwise the one in `PATH` is taken. Without one this server is measured alone.
//! `SNOWGLOBE=path` measures another build of this server than the one beside this program.
//!
//! Not here: open loops, and therefore queues that grow; more than one machine; what a figure should be (README).
#![cfg_attr(not(madsim), allow(clippy::disallowed_methods, reason = "real processes, real time"))]

#[cfg(not(madsim))]
mod cluster;
#[cfg(not(madsim))]
mod load;
#[cfg(not(madsim))]
mod rows;
#[cfg(not(madsim))]
mod run;
#[cfg(not(madsim))]
mod streams;
#[cfg(not(madsim))]
mod table;

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    run::main()
}

/// There are no processes in a simulated world.
#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    eprintln!("versus: built for the simulator; use `cargo bench --bench versus`");
    std::process::ExitCode::from(2)
}
