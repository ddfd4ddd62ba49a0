//! Any bytes as a exposition in OpenMetrics.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::exposition_openmetrics(body));
