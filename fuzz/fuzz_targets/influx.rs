//! Any bytes as a body in Influx line protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::influx(body));
