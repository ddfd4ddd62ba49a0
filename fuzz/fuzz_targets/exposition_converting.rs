//! Any bytes as an exposition in text whose classic histograms become native ones.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::exposition_converting(body));
