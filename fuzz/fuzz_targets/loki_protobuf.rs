//! Any bytes as a decompressed body of Loki's push in protobuf.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::door(ingest::fuzz::Door::LokiProtobuf, body));
