//! Any text: it is refused, or it prints as a text that reads as the same.

#![no_main]

use query::promql::{Features, parse_matchers, parse_with};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = parse_matchers(text);
    let Ok(expr) = parse_with(text, Features::ALL) else { return };
    let printed = expr.to_string();
    for again in [&printed, &expr.pretty()] {
        match parse_with(again, Features::ALL) {
            Ok(read) => assert_eq!(read.to_string(), printed, "{text:?}"),
            // Printing adds blanks and spells names out: what was near the bound may be over it.
            Err(error) => assert!(error.message.contains("bytes long"), "{text:?} printed {again:?}: {error}"),
        }
    }
});
