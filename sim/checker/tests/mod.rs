//! Tests of the checker: it must accept what can happen, and name what cannot.

mod between;
mod break_leases;
mod brute;
mod brute_locks;
mod cluster;
mod golden;
mod kept;
mod locks;
mod model;
mod mutate;
mod services;
mod services_golden;
mod shrinks;
mod watch_breaks;
mod watch_golden;
mod watch_script;
mod watch_table;
mod watchers;
