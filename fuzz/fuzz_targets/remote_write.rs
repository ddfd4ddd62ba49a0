//! Any bytes as a decompressed remote-write body.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| ingest::fuzz::remote_write(body));
