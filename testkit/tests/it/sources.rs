//! How source files look: a header that says what the file is, a length one can read, no
//! unchecked memory outside a short list.

use std::io::Write;

use crate::workspace::{Source, sources};
use crate::{complains, none};

/// Longest source file, in lines. Files of 100 to 350 are the aim.
const LINES_MAX: usize = 700;

/// Files that may hold code the compiler does not check, each with a reason beside the code.
const UNCHECKED: &[&str] = &["server/src/allocator.rs"];

/// The keyword, put together so that this file does not name it.
const KEYWORD: &str = concat!("un", "safe");

fn header_complaints(sources: &[Source]) -> Vec<String> {
    let bare = sources.iter().filter(|s| !s.text.starts_with("//! "));
    bare.map(|s| format!("{} does not open with a `//!` line that says what it is", s.path))
        .collect()
}

fn length_complaints(sources: &[Source]) -> Vec<String> {
    let lengths = sources
        .iter()
        .map(|s| (s.text.lines().count(), &s.path))
        .filter(|(lines, _)| *lines > LINES_MAX);
    lengths
        .map(|(lines, path)| format!("{path} has {lines} lines, at most {LINES_MAX} can be read"))
        .collect()
}

fn unchecked_complaints(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|s| !UNCHECKED.contains(&s.path.as_str())) {
        for (i, line) in source.text.lines().enumerate() {
            if words(code_of(line)).any(|word| word == KEYWORD) {
                found.push(format!(
                    "{}:{} is {KEYWORD}, which only listed files may be",
                    source.path,
                    i + 1
                ));
            }
        }
    }
    found
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    // `unsafe-inline` is a word of HTTP.
    code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')
}

/// A line without its comment. Good enough here: a keyword hidden behind `//` inside a string is
/// not code either.
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// Half and nine tenths of the files are at most this long.
fn percentiles(sources: &[Source]) -> (usize, usize) {
    let mut lines: Vec<usize> = sources.iter().map(|s| s.text.lines().count()).collect();
    lines.sort_unstable();
    let at = |share: usize| lines.get(lines.len() * share / 100).copied().unwrap_or(0);
    (at(50), at(90))
}

#[test]
fn files_open_with_a_header() {
    none(&header_complaints(&sources()));
}

#[test]
fn files_can_be_read() {
    let sources = sources();
    let (half, most) = percentiles(&sources);
    let told = format!("\n{} source files: p50 {half} lines, p90 {most} lines\n", sources.len());
    drop(std::io::stderr().write_all(told.as_bytes()));
    assert!(sources.len() > 20, "the walk found only {} files", sources.len());
    none(&length_complaints(&sources));
}

#[test]
fn memory_is_checked() {
    none(&unchecked_complaints(&sources()));
}

#[test]
fn wrong_files_are_seen() {
    let one = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let files = [
        one("a.rs", "use std::fs;\n"),
        one(
            "b.rs",
            &format!(
                "//! What it is.\n#[deny({KEYWORD}_code)]\n// {KEYWORD} in words\n{KEYWORD} {{ x() }}\n"
            ),
        ),
        one("c.rs", &format!("//! Long.\n{}", "\n".repeat(LINES_MAX))),
    ];
    complains(
        &header_complaints(&files),
        &["a.rs does not open with a `//!` line that says what it is"],
    );
    complains(&length_complaints(&files), &["c.rs has 701 lines, at most 700 can be read"]);
    complains(
        &unchecked_complaints(&files),
        &[&format!("b.rs:4 is {KEYWORD}, which only listed files may be")],
    );
    assert_eq!(percentiles(&files), (4, 701));
}
