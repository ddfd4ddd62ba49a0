//! Any bytes as lines of a group, encoded and not.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzz::lines(data));
