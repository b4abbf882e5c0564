//! Drives the built `snowglobe` as real processes over real sockets: answers, refusals, crashes,
//! bad starts.
//!
//! Nothing here waits for a fixed time: each wait is for a condition, with a deadline.
#![cfg(not(madsim))] // The simulated build has no processes; the plain build runs all of this.
#![allow(clippy::unwrap_used, reason = "a panic is a test's way to say no")]
#![allow(clippy::disallowed_methods, reason = "real processes need real files and real time")]

mod answers;
mod auth;
mod bad_input;
mod certificates;
mod client;
mod crash;
mod gateway;
mod http;
mod jwt;
mod leases;
mod locks;
mod maintenance;
mod member;
mod members;
mod overload;
mod pages;
mod starts;
mod tls;
mod watches;
