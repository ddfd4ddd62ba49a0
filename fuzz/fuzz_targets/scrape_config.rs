//! A file of scrape jobs.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| ingest::fuzz::scrape_config(text));
