//! Any bytes as a file of a forwarding queue, and as what a record of it holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ingest::fuzz::forward_queue(bytes));
