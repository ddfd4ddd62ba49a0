//! Any text: it is refused, or it prints as a text that reads as the same.

#![no_main]

use query::logql::{parse, parse_matchers, pretty};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = parse_matchers(text);
    let Ok(expr) = parse(text) else { return };
    let printed = expr.to_string();
    // No literal of the language says these, which arithmetic on literals may give.
    if printed.contains("NaN") || printed.contains("Inf") {
        return;
    }
    for again in [&printed, &pretty(&expr)] {
        match parse(again) {
            Ok(read) => assert_eq!(read.to_string(), printed, "{text:?}"),
            // Printing adds blanks and parentheses: what was near a bound may be over it.
            Err(error) => assert!(
                ["too long", "levels"].iter().any(|bound| error.message.contains(bound)),
                "{text:?} printed {again:?}: {error}"
            ),
        }
    }
});
