//! The key index, fuzzed: see `src/state/index/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowglobe::fuzzing::index(bytes));
