//! The `sim` program: runs, sweeps, replays and judges simulated clusters.
#![cfg_attr(not(madsim), allow(dead_code))]

mod history;

fn main() {}
