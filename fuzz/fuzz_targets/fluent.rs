//! Any bytes as a message of Fluent forward.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::door(ingest::fuzz::Door::Fluent, body));
