//! What Loki itself says about queries: it must be said here too.

use std::fs;

use serde::Deserialize;

use crate::logql::ast::{RangeOp, VectorOp};
use crate::logql::error::ParseError;
use crate::logql::lexer::Lexer;
use crate::logql::token::Kind;
use crate::logql::{Expr, parse, pretty};

#[derive(Debug, Deserialize)]
struct ParseCase {
    query: String,
    valid: bool,
    kind: Option<String>,
    canonical: Option<String>,
    pretty: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LexCase {
    query: String,
    tokens: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct FormatCase {
    r#in: String,
    formatted: String,
}

fn cases<T: for<'a> Deserialize<'a>>(file: &str) -> Option<Vec<T>> {
    let path = testkit::reference("logql")?.join(file);
    let text = fs::read_to_string(path).expect("read the cases");
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a case")).collect())
}

/// What is wrong with the answer to a case, if anything.
fn judge(case: &ParseCase) -> Option<String> {
    let query = &case.query;
    let expr = match (parse(query), case.valid) {
        (Ok(expr), true) => expr,
        (Err(_), false) => return None,
        (Ok(_), false) => return Some(format!("accepted {query:?}: {:?}", case.error)),
        (Err(error), true) => return Some(format!("refused {query:?}: {error}")),
    };
    let kind = if matches!(expr, Expr::Log(_)) { "log" } else { "metric" };
    let printed = expr.to_string();
    if case.kind.as_deref() != Some(kind) {
        return Some(format!("{query:?} is {:?}, not {kind}", case.kind));
    }
    if case.canonical.as_deref() != Some(&printed) {
        return Some(format!("{query:?}\n  gives  {printed:?}\n  wanted {:?}", case.canonical));
    }
    if case.pretty.as_deref() != Some(&pretty(&expr)) {
        let found = pretty(&expr);
        return Some(format!("{query:?}\n  pretty {found:?}\n  wanted {:?}", case.pretty));
    }
    match parse(&printed) {
        Ok(again) if again.to_string() == printed => None,
        other => Some(format!("{printed:?} read again: {other:?}")),
    }
}

#[test]
fn every_verdict_and_every_text_is_loki_s() {
    let Some(cases) = cases::<ParseCase>("parse_cases.jsonl") else { return };
    let failures: Vec<_> = cases.iter().filter_map(judge).collect();
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(cases.len(), 918, "as the data's README says");
}

/// Where the words of Go's regular expressions are not those of Rust's, and where Loki's
/// message lists what its grammar's tables happen to have left over.
const OTHER_WORDS_MAX: usize = 20;

#[test]
fn messages_are_loki_s_but_for_a_few() {
    let Some(cases) = cases::<ParseCase>("parse_cases.jsonl") else { return };
    let mut others = Vec::new();
    for case in cases.iter().filter(|case| !case.valid) {
        let found = parse(&case.query).expect_err("a refusal").to_string();
        let wanted = case.error.as_deref().unwrap_or_default();
        if found != wanted {
            others.push(format!("{:?}\n  {found}\n  {wanted}", case.query));
        }
    }
    assert!(others.len() <= OTHER_WORDS_MAX, "{}:\n{}", others.len(), others.join("\n"));
}

#[test]
fn queries_are_broken_into_lines_as_loki_does() {
    let Some(cases) = cases::<FormatCase>("format_cases.jsonl") else { return };
    for case in &cases {
        let expr = parse(&case.r#in).expect("a query");
        assert_eq!(pretty(&expr), case.formatted, "{}", case.r#in);
    }
    assert_eq!(cases.len(), 16, "as the data's README says");
}

/// As Loki's grammar names a token.
fn grammar_name(kind: Kind) -> String {
    let name = kind.name();
    let known = [
        ("{", "OPEN_BRACE"),
        ("}", "CLOSE_BRACE"),
        ("(", "OPEN_PARENTHESIS"),
        (")", "CLOSE_PARENTHESIS"),
        ("=", "EQ"),
        ("!=", "NEQ"),
        ("==", "CMP_EQ"),
        (">", "GT"),
        (">=", "GTE"),
        ("<", "LT"),
        ("<=", "LTE"),
        (",", "COMMA"),
        ("|", "PIPE"),
        ("|=", "PIPE_EXACT"),
        ("|~", "PIPE_MATCH"),
        ("-", "SUB"),
    ];
    let found = known.iter().find(|(sign, _)| *sign == name);
    found.map_or_else(|| name.to_ascii_uppercase(), |(_, name)| (*name).to_owned())
}

/// The tokens of a text up to what cannot be read.
fn tokens(query: &str) -> (Vec<String>, Option<ParseError>) {
    let mut lexer = Lexer::new(query);
    let mut names = Vec::new();
    loop {
        match lexer.next() {
            Ok(token) if token.kind == Kind::Eof => return (names, None),
            Ok(token) => names.push(grammar_name(token.kind)),
            Err(error) => return (names, Some(*error)),
        }
    }
}

#[test]
fn tokens_are_loki_s() {
    let Some(cases) = cases::<LexCase>("lex_cases.jsonl") else { return };
    for case in &cases {
        let (found, error) = tokens(&case.query);
        // Loki's reader goes on behind an error; what it says after one is of no use.
        let wanted = match error {
            Some(_) => &case.tokens[..found.len()],
            None => &case.tokens[..],
        };
        assert_eq!(found, wanted, "{}", case.query);
    }
    assert_eq!(cases.len(), 43, "as the data's README says");
    assert_eq!(RangeOp::ALL.len() + VectorOp::ALL.len(), 27);
}
