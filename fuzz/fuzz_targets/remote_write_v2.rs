//! Any bytes as a decompressed remote-write 2.0 body.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::remote_write_v2(body));
