//! Any bytes as a body of Loki's push in JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::door(ingest::fuzz::Door::LokiJson, body));
