//! Tests of the checker: it must accept what can happen, and name what cannot.

mod cluster;
mod kept;
mod model;
