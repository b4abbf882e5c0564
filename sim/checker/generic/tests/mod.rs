//! Tests of the generic checker: against every order, and against itself.

pub(in crate::checker) mod breaks;
mod brute;
mod dice;
mod metamorphic;
