//! Any bytes as a bulk body of Elasticsearch.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::door(ingest::fuzz::Door::Elasticsearch, body));
