//! Inputs that mean harm: they are answered, soon.

use std::time::{Duration, Instant};

use testkit::SeededRandom;

use crate::logql::{TEXT_BYTES_MAX, parse, pretty};

#[track_caller]
fn check(text: &str, message: Option<&str>) {
    let result = parse(text).map(|expr| assert!(expr.to_string().len() + pretty(&expr).len() > 0));
    let start: String = text.chars().take(30).collect();
    match (result, message) {
        (Ok(()), None) => {}
        (Err(error), Some(message)) => {
            assert!(error.message.contains(message), "{start}…: {error}");
        }
        (result, message) => panic!("{start}…: {result:?}, not {message:?}"),
    }
}

const TOO_DEEP: Option<&str> = Some("levels");

#[test]
fn long_and_deep_texts_are_answered() {
    let begun = Instant::now();
    check(&"(".repeat(TEXT_BYTES_MAX), TOO_DEEP);
    check(&format!("vector(1){}", "+vector(1)".repeat(10_000)), TOO_DEEP);
    check(&format!("vector(1){}", "^vector(1)".repeat(10_000)), TOO_DEEP);
    check(&"sum by(a)(".repeat(10_000), TOO_DEEP);
    check(&format!("rate({}", "(".repeat(60_000)), TOO_DEEP);
    check(&format!("{{a=\"b\"}} | {}", "(".repeat(60_000)), TOO_DEEP);
    check(&format!("{{a=\"b\"}} | x=1{}", ",x=1".repeat(20_000)), TOO_DEEP);
    check(&format!("{{a=\"b\"}} | x=1{}", " or x=1".repeat(10_000)), TOO_DEEP);
    check(&format!("{{a=\"b\"}} {}", "|=\"x\"".repeat(20_000)), Some("parts"));
    check(&format!("{{a=\"b\"}} |=\"x\" {}", "or\"x\"".repeat(20_000)), Some("parts"));
    check(
        &format!("{{{}a=\"b\"}}", "a=~\"(x|y){1,99}\",".repeat(2_000)),
        Some("regular expressions"),
    );
    check(&format!("{{{}a=\"b\"}}", "a=\"b\",".repeat(10_000)), None);
    check(&format!("{{a=\"b\"}} | regexp \"(?P<n>{})\"", "(a{1,1000}){1,1000}"), Some("regexp"));
    // Texts that a careless reader would look at again and again.
    check(&"-".repeat(100_000), Some("unexpected"));
    check(&format!("1{}", ".1".repeat(60_000)), Some("unexpected"));
    check(&format!("1{}", "m".repeat(100_000)), Some("unexpected"));
    check(&format!("sum{}", " sum".repeat(30_000)), Some("unexpected"));
    check(&format!("[{}", "5".repeat(100_000)), Some("missing closing"));
    check(&"<".repeat(100_000), Some("unexpected"));
    check(&format!("{{a=\"b\"}} | pattern \"{}\"", "<".repeat(100_000)), Some("at least one"));
    check(&format!("1{}", " ".repeat(TEXT_BYTES_MAX)), Some("input size too long"));
    // Unoptimised, on a busy machine.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn any_text_is_answered() {
    let words = [
        "{", "}", "(", ")", "[5m]", "[", "]", "|", "|=", "!=", "=~", "=", ",", "\"a\"", "`b`", "a",
        "rate", "sum", "by", "json", "logfmt", "--strict", "-", "5", "5m", "5KB", "ip", "or",
        "unwrap", "offset", "vector", "#", "\n", "é", "'", "\\", "variants", "of", "on", "bool",
    ];
    let random = SeededRandom::new(7);
    for _ in 0..20_000 {
        let count = random.below(12);
        let text: Vec<_> =
            (0..count).map(|_| words[random.below(words.len() as u64) as usize]).collect();
        let text = text.join(if random.below(2) == 0 { " " } else { "" });
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            assert_eq!(parse(&printed).map(|again| again.to_string()), Ok(printed), "{text}");
        }
    }
}
