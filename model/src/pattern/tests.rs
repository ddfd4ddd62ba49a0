//! Patterns against the regex library, and what they may cost.

use proptest::prelude::*;

use super::*;
use crate::Cancel;

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
        Pattern::Compiled { .. } => "compiled".to_owned(),
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

#[track_caller]
fn check_beginnings(text: &str, expected: &[(&str, bool)]) {
    let pattern = pattern(text);
    let found = pattern.beginnings();
    let text_of = |b: &Beginning<'_>| std::str::from_utf8(b.text).expect("text").to_owned();
    let found: Vec<_> = found.iter().map(|b| (text_of(b), b.is_whole)).collect();
    let expected: Vec<_> = expected.iter().map(|(t, whole)| ((*t).to_owned(), *whole)).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn patterns_say_how_values_begin() {
    check_beginnings("a|b", &[("a", true), ("b", true)]);
    check_beginnings("node-.*", &[("node-", false)]);
    check_beginnings("node-.+", &[("node-", false)]);
    check_beginnings("5..", &[("5", false)]);
    check_beginnings(".*x", &[("", false)]);
    check_beginnings("[^a]*", &[("", false)]);
    check_beginnings("api|api-.+", &[("api", true), ("api-", false)]);
    check_beginnings("(web|db)-[a-z]+", &[("db-", false), ("web-", false)]);
    check_beginnings("(?i)ab.*c", &[("AB", false), ("Ab", false), ("aB", false), ("ab", false)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_form_says_what_the_library_says(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "a", "b", "é", ".*", ".+", ".", "(a|bc)", "(|a)", "[ab]", "(.*)", "a|b", "|", "b?", "(?i:a)",
                "^", "$", r"\n", ".*?", "[^a]", "a{2}", "(?-s:.)*", r"[\s\S]+", r"\b", r"\B", r"\w*", "(?i)b",
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
            prop_assert_eq!(pattern.matches_at(value, &mut Pace::default()), Ok(reference.is_match(value)));
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
    check_refused(r"\w{60}", 0, "more than 1048576 bytes");
    check_refused("(?:(?:(?:a{1000}){1000}){1000})", 0, "more than 1048576 bytes");
    let four_thousand: Vec<String> = (0..4_000).map(|i| format!("pod-{i}")).collect();
    check_refused(&four_thousand.join("|"), 1, "at most 65536 bytes");
    check_refused("(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)", 150, "may take");
}

/// Values that are all different and of the letters that keep automata busy.
fn busy_values(count: u64, bytes: usize) -> impl Iterator<Item = String> {
    let mut noise = 7_u64;
    (0..count).map(move |_| {
        let letter = |_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if noise >> 63 == 0 { 'a' } else { 'b' }
        };
        (0..bytes).map(letter).collect()
    })
}

/// Each letter makes another of 2^20 states and more: what lies so many letters back counts.
const BUSY: [&str; 3] = [".*a.{30}c", "[ab]*a[ab]{40}c", "(?i).*(a.{20}b|b.{15}a).{5}c"];

#[test]
fn all_patterns_of_a_question_share_their_effort() {
    for text in BUSY {
        let cancel = Cancel::with_effort(1 << 21);
        let (pattern, other) = (pattern(text), pattern("[ab]+(?i:x)"));
        let mut ended = Ok(false);
        let mut compared = 0;
        for value in busy_values(100_000, 200) {
            ended = pattern.matches_at(&value, &mut Pace::new(&cancel));
            compared += 1;
            if ended.is_err() {
                break;
            }
        }
        assert_eq!(ended, Err(Stopped::Laborious), "{text}");
        assert!((1..10_000).contains(&compared), "{text}: {compared} values");
        let fresh = other.matches_at("abababababababx", &mut Pace::new(&cancel));
        assert_eq!(fresh, Err(Stopped::Laborious), "{text}: nothing is left for others");
        let next = other.matches_at("abababababababx", &mut Pace::default());
        assert_eq!(next, Ok(true), "the next question has its own");
        assert_eq!(pattern.matches_at("aaa", &mut Pace::endless()), Ok(false));
    }
    // What people write does not get there.
    for text in [r"(?i)\w+ab\w*", "(aab|bba|abab|baba).*", r"\d+|[ab]+c?"] {
        let cancel = Cancel::with_effort(1 << 21);
        let pattern = pattern(text);
        for value in busy_values(5_000, 20) {
            pattern.matches_at(&value, &mut Pace::new(&cancel)).expect(text);
        }
    }
}

#[test]
fn a_comparison_stops_within_a_value() {
    for text in BUSY {
        let pattern = pattern(text);
        let value: String = busy_values(1, 1 << 16).collect();
        let cancel = Cancel::default();
        let mut pace = Pace::new(&cancel);
        cancel.set();
        assert_eq!(pattern.matches_at(&value, &mut pace), Err(Stopped::Canceled), "{text}");
    }
    // Where letters beyond ASCII meet word boundaries nothing stops, so that it does not begin.
    let word = pattern(r"(\bé*\w*){2}");
    let long = "éa ".repeat(100_000);
    assert_eq!(word.matches_at(&long, &mut Pace::default()), Err(Stopped::Laborious));
    assert_eq!(word.matches_at("éa éa", &mut Pace::default()), Ok(false));
    assert_eq!(word.matches_at("éa", &mut Pace::default()), Ok(true));
}

#[test]
fn a_pattern_read_elsewhere_is_taken_from_the_budget() {
    let mut first = PatternBudget::default();
    let read = Pattern::new("[ab]+c", &mut first).expect("a valid pattern");
    let mut second = PatternBudget::default();
    second.take("[ab]+c", &read);
    let left = |b: &PatternBudget| (b.patterns, b.text_bytes, b.classes, b.compiled_bytes);
    assert_eq!(left(&first), left(&second));
}

#[test]
fn classes_are_counted_as_they_are_read() {
    for (text, count) in [("a", 0), ("[a]", 1), (r"\w\\w\[\\[", 2), (r"\pL\P{Greek}\.", 2)] {
        assert_eq!(classes(text), count, "{text}");
    }
}
