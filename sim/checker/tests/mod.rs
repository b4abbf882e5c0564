//! Tests of the checker: it must accept what can happen, and name what cannot.

mod between;
mod brute;
mod cluster;
mod golden;
mod kept;
mod model;
mod mutate;
mod watch_breaks;
mod watch_golden;
mod watch_script;
mod watch_table;
mod watchers;
