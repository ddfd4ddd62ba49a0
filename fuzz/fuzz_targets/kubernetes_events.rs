//! Any bytes as Kubernetes events.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::door(ingest::fuzz::Door::Events, body));
