//! Any pattern, any value: the pattern is refused, or matching ends. The first line is the pattern.

#![no_main]

use model::{MatchOp, Matcher};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (pattern, value) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(matcher) = Matcher::new(MatchOp::Regex, "label", pattern) else { return };
    let inverse = Matcher::new(MatchOp::NotRegex, "label", pattern).expect("the same pattern");
    for value in [value, "", pattern] {
        assert_ne!(matcher.matches(value), inverse.matches(value));
    }
    assert_eq!(matcher.matches_empty(), matcher.matches(""));
});
