//! An expression of a relabelling rule and a value for it.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| ingest::fuzz::relabel(text));
