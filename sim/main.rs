//! The `sim` program: runs, sweeps, replays and judges simulated clusters.
#![cfg_attr(not(madsim), allow(dead_code))]
#![allow(unreachable_pub, reason = "in a program `pub` says: meant for the other modules")]

mod check;
mod checker;
mod history;

fn main() {}
