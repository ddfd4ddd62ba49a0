//! Any bytes as the JSON of a manifest.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzz::manifest(data));
