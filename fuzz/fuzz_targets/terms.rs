//! Any bytes as parts of a `terms.bin`, and as rows to be indexed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzz::terms(data));
