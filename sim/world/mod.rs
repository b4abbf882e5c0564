//! The simulated world: machines with clocks, disks and a network between them, all drawn from one seed.
//!
//! A [`World`] lives inside one madsim runtime on one thread ([`run_in_world`] makes both). It hands each node a
//! [`Host`](snowglobe::host::Host), which is all the server ever sees, and gives scenarios the levers: kill, power
//! off, restart, pause; cut, stall, reset; bend clocks.
//!
//! | module | what |
//! |---|---|
//! | [`base`] | virtual time, trace, counters, lives: what all others stand on |
//! | [`timer`] | everything that is due, in one heap |
//! | [`net`] | byte streams over links that fail |
//! | [`wire`] | single messages between members, met by proxies |
//! | [`disk`] | files that forget what was not synced |
//! | [`rocks`] | RocksDB's environment on that disk |
//! | [`clock`] | each node's own time |
//! | [`entropy`] | the kernel's dice |
//! | [`node`] | life and death of nodes |
//! | [`apart`] | a copy of a machine that nobody reaches |
//! | [`harness`] | one run: thread, runtime, panics, leaving nothing behind |
//!
//! Invariants:
//! * A seed and the calls made determine everything that happens, in every process (see [`crate::trace`]).
//! * Handles of a dead process do nothing but fail.
//! * No lock is held across an await or while foreign code runs.
#![allow(dead_code, reason = "levers that no scenario pulls yet")]

#[cfg(madsim)]
pub(crate) mod apart;
#[cfg(madsim)]
pub(crate) mod base;
#[cfg(madsim)]
pub(crate) mod clock;
pub(crate) mod disk;
#[cfg(madsim)]
pub(crate) mod entropy;
#[cfg(madsim)]
pub(crate) mod harness;
#[cfg(madsim)]
pub(crate) mod net;
#[cfg(madsim)]
pub(crate) mod node;
#[cfg(madsim)]
pub(crate) mod rocks;
#[cfg(all(test, madsim))]
mod tests;
#[cfg(madsim)]
pub(crate) mod timer;
#[cfg(madsim)]
pub(crate) mod wire;

#[cfg(madsim)]
#[allow(unused_imports, reason = "the world's face, whoever looks at it")]
pub use {
    apart::Apart,
    base::Delay,
    clock::Bend,
    disk::{Disk, Files, Image, Loss, Survival, Trouble},
    harness::{Crash, run_here, run_in_world},
    net::{Connects, LinkFaults, Net, NetOptions},
    node::{NodeId, Options, World},
    wire::{Meddling, Rule, Wires},
};
