//! Any bytes as an exposition in OpenMetrics 2.0.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::exposition_openmetrics2(body));
