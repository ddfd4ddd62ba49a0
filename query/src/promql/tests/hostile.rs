//! Inputs that mean harm: they are answered, with work in proportion to their length.

use std::time::Instant;

use model::Random;
use testkit::SeededRandom;

use crate::promql::error::Fallible;
use crate::promql::parser::Parser;
use crate::promql::{DEPTH_MAX, Features, TEXT_BYTES_MAX, parse_with};

/// Parses, prints what came out, and counts the work: characters looked at and nodes built.
fn counted(text: &str) -> (Fallible<()>, usize) {
    let mut parser = Parser::new(text, Features::ALL).expect("short enough");
    let result = parser.query().map(|expr| {
        assert!(expr.to_string().len() + expr.pretty().len() > 0);
    });
    (result, parser.steps())
}

#[track_caller]
fn check(text: &str, message: Option<&str>) {
    let (result, steps) = counted(text);
    let start: String = text.chars().take(30).collect();
    assert!(steps <= 4 * text.len() + 16, "{start}…: {steps} steps for {} bytes", text.len());
    match (result, message) {
        (Ok(()), None) => {}
        (Err(error), Some(message)) => {
            assert!(error.message.contains(message), "{start}…: {error}")
        }
        (result, message) => panic!("{start}…: {result:?}, not {message:?}"),
    }
}

const TOO_DEEP: Option<&str> = Some("levels");

#[test]
fn long_and_deep_texts_are_answered() {
    let begun = Instant::now();
    check(&format!("1{}", "+1".repeat(20_000)), TOO_DEEP);
    check(&format!("1{}", "^1".repeat(20_000)), TOO_DEEP);
    check(&format!("{}1", "-".repeat(60_000)), TOO_DEEP);
    check(&"(".repeat(60_000), TOO_DEEP);
    check(&"abs(".repeat(15_000), TOO_DEEP);
    check(&"sum by(a)(".repeat(6_000), TOO_DEEP);
    check(&format!("x{}", "[1m:]".repeat(10_000)), TOO_DEEP);
    check(&format!("x[{}", "(".repeat(60_000)), TOO_DEEP);
    check(&format!("x[1{}]", "+1".repeat(20_000)), TOO_DEEP);
    check(&format!("x[{}1]", "-".repeat(60_000)), TOO_DEEP);
    check(&format!("x offset {}1", "-".repeat(60_000)), TOO_DEEP);
    check(&format!("x offset {}1", "(".repeat(60_000)), TOO_DEEP);
    check(&format!("label_join(x{})", ",''".repeat(20_000)), Some("parts"));
    check(&format!("{{{}}}", "a=~'(x|y){1,99}',".repeat(2_000)), Some("regular expressions"));
    check(&format!("{{{}}}", "a='x',".repeat(10_000)), None);
    check(&format!("sum by ({}) (x)", "a,".repeat(30_000)), None);
    check(
        &format!("a * on ({}b) group_left ({}c) d", "a,".repeat(10_000), "c,".repeat(10_000)),
        None,
    );
    check(&format!("fill{}", " ".repeat(60_000)), None);
    check(&format!("'{}'", "\\x41".repeat(15_000)), None);
    check(&"\n#\n".repeat(20_000), Some("no expression"));
    check(&format!("{}?", "\n".repeat(60_000)), Some("unexpected character"));
    check(&format!("x{}", " offset 0".repeat(6_000)), None);
    check(&format!("x{}", " smoothed".repeat(6_000)), None);
    // Generous: what counts is that nothing takes quadratic time, which steps cannot show of drops.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn too_long_texts_are_not_read() {
    let text = "1".repeat(TEXT_BYTES_MAX + 1);
    let error = parse_with(&text, Features::ALL).expect_err("too long");
    assert_eq!(
        error.to_string(),
        "1:1: parse error: the query is 65537 bytes long, at most 65536 are allowed"
    );
    for deep in ["(", "-", "1+", "1^", "x["] {
        assert!(parse_with(&deep.repeat(200_000), Features::ALL).is_err());
    }
}

/// The deepest trees that are allowed, in every way to be deep, on the smallest stack that a
/// thread of ours has; the engine has as much again for itself.
#[test]
fn the_deepest_trees_fit_half_a_stack() {
    let n = DEPTH_MAX - 1;
    let texts = [
        format!("{}1{}", "(".repeat(n), ")".repeat(n)),
        format!("{}x{}", "abs(".repeat(n), ")".repeat(n)),
        format!("{}x{}", "sum by (a) (".repeat(n), ")".repeat(n)),
        format!("1{}", "+1".repeat(n)),
        format!("x{}", " or x".repeat(n)),
        format!("1{}", "^1".repeat(n)),
        format!("{}x", "-".repeat(n)),
        format!("x[{}1{}]", "(step()+".repeat(n / 2 - 1), ")".repeat(n / 2 - 1)),
        format!("{}x{}", "max_over_time(".repeat(n / 2), "[1m:])".repeat(n / 2)),
    ];
    let run = move || {
        for text in texts {
            let expr =
                parse_with(&text, Features::ALL).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(!expr.pretty().is_empty());
            let again = parse_with(&expr.to_string(), Features::ALL).expect("printed");
            assert_eq!(again.to_string(), expr.to_string());
            let mut nodes = 0;
            again.walk(&mut |_| nodes += 1);
            assert!(nodes > 0 && expr.clone() == expr);
        }
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run).expect("spawn");
    thread.join().expect("no panic, no overflow");
}

const TOKENS: [&str; 74] = [
    "1",
    "0x1f",
    "1e3",
    ".5",
    "5m",
    "1h30m",
    "inf",
    "nan",
    "'a'",
    "\"b\\xff\"",
    "`c`",
    "foo",
    "job:x",
    "sum",
    "topk",
    "count_values",
    "rate",
    "time",
    "info",
    "abs",
    "label_replace",
    "(",
    ")",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "=",
    "!=",
    "=~",
    "!~",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "<",
    ">",
    "</",
    ">/",
    "<=",
    "@",
    "and",
    "or",
    "unless",
    "atan2",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "by",
    "without",
    "offset",
    "anchored",
    "smoothed",
    "fill",
    "fill_left",
    "start",
    "end",
    "step",
    "range",
    "min_of",
    "max_of",
    "#",
    "\n",
    "é",
    "\\",
];

#[test]
fn token_soup_never_panics() {
    let random = SeededRandom::new(20_26);
    let mut accepted = 0;
    for _ in 0..40_000 {
        let mut text = String::new();
        for _ in 0..1 + below(&random, 14) {
            text.push_str(TOKENS[below(&random, TOKENS.len())]);
            text.push_str(if below(&random, 4) == 0 { "" } else { " " });
        }
        let (result, steps) = counted(&text);
        assert!(steps <= 4 * text.len() + 16, "{text}: {steps} steps");
        accepted += usize::from(result.is_ok());
    }
    assert!(accepted > 100, "too few of them were queries: {accepted}");
}

#[test]
fn random_bytes_never_panic() {
    let random = SeededRandom::new(7);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..below(&random, 40)).map(|_| below(&random, 256) as u8).collect();
        let text = String::from_utf8_lossy(&bytes);
        let (_, steps) = counted(&text);
        assert!(steps <= 4 * text.len() + 16, "{text}: {steps} steps");
    }
}

fn below(random: &SeededRandom, bound: usize) -> usize {
    (random.next_u64() % bound as u64) as usize
}
