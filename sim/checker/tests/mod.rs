//! Tests of the checker: it must accept what can happen, and name what cannot.

mod brute;
mod cluster;
mod golden;
mod kept;
mod model;
mod mutate;
