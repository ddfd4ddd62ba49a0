//! Patterns against the regex library, and what they may cost.

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text, &mut PatternBudget::default()).expect("a valid pattern")
}

/// The same question, asked of the library.
fn reference(text: &str) -> regex::Regex {
    regex::Regex::new(&format!("^(?s:{text})$")).expect("a valid pattern")
}

fn form(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Literals(literals) => literals.join(","),
        Pattern::Around { before, text, after } => format!("{before:?} {text} {after:?}"),
        Pattern::Compiled(_) => "compiled".to_owned(),
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(form(&pattern(text)), expected, "{text}");
}

#[test]
fn simple_patterns_are_not_compiled() {
    check("", "");
    check("abc", "abc");
    check("^abc$", "abc");
    check("b|a|a", "a,b");
    check("web-1|web-2|db", "db,web-1,web-2");
    check("(foo|ba[rz])-(1|22)", "bar-1,bar-22,baz-1,baz-22,foo-1,foo-22");
    check("https?|", ",http,https");
    check("(?i)ab", "AB,Ab,aB,ab");
    check(r"10\.0\.0\.1:80", "10.0.0.1:80");
    check(".*", "Any  None");
    check("(.+)", "Some  None");
    check("^abc.*", "None abc Any");
    check("abc.+$", "None abc Some");
    check(".*abc", "Any abc None");
    check(".+(?:a|a)bc.*", "Some abc Any");
    for compiled in ["[a-z]+", "a.c", "a.*c", "(?-s:a.*)", r"\w{3}", "a{2,5}", r"\bab", "(a|b).*"] {
        check(compiled, "compiled");
    }
    check(&"(a|b)".repeat(40), "compiled");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_form_says_what_the_library_says(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "a", "b", "é", ".*", ".+", ".", "(a|bc)", "(|a)", "[ab]", "(.*)", "a|b", "|", "b?", "(?i:a)",
                "^", "$", r"\n", ".*?", "[^a]", "a{2}", "(?-s:.)*", r"[\s\S]+",
            ]),
            0..5,
        ),
        values in proptest::collection::vec("[abcAé\n]{0,5}", 12),
    ) {
        let text = parts.concat();
        let (pattern, reference) = (pattern(&text), reference(&text));
        for value in values.iter().map(String::as_str).chain([""]) {
            prop_assert_eq!(
                pattern.matches(value), reference.is_match(value), "{} is {}, {:?}", text, form(&pattern), value
            );
        }
    }
}

/// Spends on one pattern again and again, and gives what ended it and how many there were.
fn spent(text: &str) -> (usize, String) {
    let mut budget = PatternBudget::default();
    let mut kept = Vec::new();
    loop {
        match Pattern::new(text, &mut budget) {
            Ok(pattern) => kept.push(pattern),
            Err(reason) => return (kept.len(), reason),
        }
    }
}

#[track_caller]
fn check_refused(text: &str, most: usize, reason: &str) {
    let (count, refused) = spent(text);
    assert!(count <= most && refused.contains(reason), "after {count}: {refused}");
}

#[test]
fn all_patterns_of_a_request_share_a_budget() {
    check_refused("a", 256, "at most 256 regular expressions");
    check_refused(&"a".repeat(10_000), 6, "at most 65536 bytes");
    check_refused(&"[a-z]".repeat(100), 5, "at most 512 character classes");
    check_refused(&r"\pL".repeat(600), 0, "at most 512 character classes");
    // Each takes some hundred kilobytes.
    check_refused(r"\w{10}", 100, "may take 16777216 bytes");
    check_refused(r"\w{30}", 0, "more than 1048576 bytes");
    check_refused("(?:(?:(?:a{1000}){1000}){1000})", 0, "more than 1048576 bytes");
    let four_thousand: Vec<String> = (0..4_000).map(|i| format!("pod-{i}")).collect();
    check_refused(&four_thousand.join("|"), 1, "at most 65536 bytes");
    check_refused("(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)", 150, "may take");
}

#[test]
fn classes_are_counted_as_they_are_read() {
    for (text, count) in [("a", 0), ("[a]", 1), (r"\w\\w\[\\[", 2), (r"\pL\P{Greek}\.", 2)] {
        assert_eq!(classes(text), count, "{text}");
    }
}
