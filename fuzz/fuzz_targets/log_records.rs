//! Any bytes as records of a head's log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzz::log_records(data));
