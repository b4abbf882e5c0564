//! Clients' requests, fuzzed: see `src/api/gateway/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowglobe::fuzzing::requests(bytes));
