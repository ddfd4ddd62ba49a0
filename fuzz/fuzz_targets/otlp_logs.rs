//! Any bytes as a decompressed body of OTLP logs in protobuf.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::door(ingest::fuzz::Door::OtlpLogs, body));
