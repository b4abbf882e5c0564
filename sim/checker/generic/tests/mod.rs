//! Tests of the generic checker: against every order, and against itself.

mod brute;
mod dice;
mod metamorphic;
