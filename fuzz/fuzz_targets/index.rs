//! Any bytes as the sections of an `index.bin`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzz::index(data));
