//! Any bytes as a file of destinations to forward to.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| ingest::fuzz::forward_config(text));
