//! Any bytes as the form of a question.
#![no_main]

libfuzzer_sys::fuzz_target!(|form: &[u8]| query::http::read_parameters(form));
