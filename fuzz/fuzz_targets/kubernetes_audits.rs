//! Any bytes as audit records.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::door(ingest::fuzz::Door::Audits, body));
