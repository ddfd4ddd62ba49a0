//! Any bytes as an exposition in text format.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| ingest::fuzz::exposition_text(text));
