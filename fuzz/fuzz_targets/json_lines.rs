//! Any bytes as JSON lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::door(ingest::fuzz::Door::JsonLines, body));
