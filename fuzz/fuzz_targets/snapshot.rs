//! Any bytes as a head's snapshot.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzz::snapshot(data));
