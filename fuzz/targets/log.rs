//! The log's reader, fuzzed: see `src/wal/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowglobe::fuzzing::log(bytes));
