//! Any bytes as a decompressed OTLP body in protobuf.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::otlp(body));
