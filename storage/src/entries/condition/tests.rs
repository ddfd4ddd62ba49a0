//! Filters against a look at each line alone.

use model::{MatchOp, Pace};
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::*;
use crate::entries::needs::{Blocks, Part, Token};
use crate::entries::page::{Mark, Row, put_field};
use crate::entries::tokens;

fn page(lines: &[&[u8]]) -> Page {
    let mut page = Page::default();
    for (i, line) in lines.iter().enumerate() {
        let mut fields = Vec::new();
        put_field(&mut fields, "n", &i.to_string());
        let mark = Mark::new(Level::ALL[i % 8], true, false);
        page.push(Row { stream: 0, at_ns: i as i64, mark, line, fields: &fields });
    }
    page
}

fn keep(page: &Page, filter: &EntryFilter) -> Vec<u32> {
    let all = (0..page.rows() as u32).collect();
    let filter = filter.compile().expect("a filter that can be used");
    filter.keep(page, all, &mut Pace::endless()).expect("nobody stops it")
}

const LINES: [&str; 9] = [
    "GET /api 200",
    "error: disk full",
    "",
    "Errors: none\nerror in the second line",
    "terror",
    "ERROR",
    "an error",
    "grüße error_code",
    "line feed\n",
];

#[track_caller]
fn check(any: &[LineTest], (is_negative, ignores_case): (bool, bool), rows: &[u32]) {
    let lines: Vec<&[u8]> = LINES.iter().map(|line| line.as_bytes()).collect();
    let condition = LineCondition { any: any.to_vec(), is_negative, ignores_case };
    let filter = EntryFilter { lines: vec![condition], ..EntryFilter::default() };
    assert_eq!(keep(&page(&lines), &filter), rows);
}

fn contains(text: &str) -> LineTest {
    LineTest::Contains(text.to_owned())
}

fn words(text: &str) -> LineTest {
    LineTest::Words(text.to_owned())
}

fn regex(text: &str) -> LineTest {
    LineTest::Regex(text.to_owned())
}

#[test]
fn lines_are_found() {
    let (plain, no_case, not) = ((false, false), (false, true), (true, false));
    check(&[contains("error")], plain, &[1, 3, 4, 6, 7]);
    check(&[contains("error")], no_case, &[1, 3, 4, 5, 6, 7]);
    check(&[contains("error")], not, &[0, 2, 5, 8]);
    check(&[contains("")], plain, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    check(&[contains("")], not, &[]);
    check(&[contains("none\nerror")], plain, &[3]);
    check(&[contains("full\n")], plain, &[]);
    check(&[contains("\n")], plain, &[3, 8]);
    check(&[contains("GET"), contains("full")], plain, &[0, 1]);
    check(&[contains("GET"), contains("full")], not, &[2, 3, 4, 5, 6, 7, 8]);
    check(&[words("error")], plain, &[1, 3, 6]);
    check(&[words("error")], no_case, &[1, 3, 5, 6]);
    check(&[words("error:")], no_case, &[1]);
    check(&[words("full")], plain, &[1]);
    check(&[words("grüße")], plain, &[7]);
    check(&[words("gr")], plain, &[]);
    check(&[words("in the")], no_case, &[3]);
    check(&[regex("^error")], plain, &[1]);
    check(&[regex("(?m)^error")], plain, &[1, 3]);
    check(&[regex("error$")], plain, &[4, 6]);
    check(&[regex(r"\berror\b")], plain, &[1, 3, 6]);
    check(&[regex(r"error\s")], plain, &[3]);
    check(&[regex(r"d\s*$")], plain, &[8]);
    check(&[regex("^$")], plain, &[2]);
    check(&[regex("(?s)^.*line$")], plain, &[3]);
    check(&[regex("^.*line$")], plain, &[]);
    check(&[regex("x*")], plain, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    check(&[regex("[^a-z]+none")], plain, &[3]);
    check(&[regex("errors?")], no_case, &[1, 3, 4, 5, 6, 7]);
}

#[test]
fn fields_and_levels_are_compared() {
    let lines: Vec<&[u8]> = LINES.iter().map(|line| line.as_bytes()).collect();
    let page = page(&lines);
    let matcher = |op, name: &str, value: &str| Matcher::new(op, name, value).expect("a matcher");
    let of = |fields: Vec<Matcher>, level_min| {
        keep(&page, &EntryFilter { fields, level_min, ..EntryFilter::default() })
    };
    assert_eq!(of(vec![Matcher::equal("n", "3")], None), [3]);
    assert_eq!(of(vec![matcher(MatchOp::Regex, "n", "[2-4]")], None), [2, 3, 4]);
    assert_eq!(of(vec![matcher(MatchOp::NotEqual, "absent", "")], None), [] as [u32; 0]);
    assert_eq!(of(vec![Matcher::equal("absent", "")], Some(Level::Critical)), [6, 7]);
}

#[test]
fn what_cannot_be_used_is_refused() {
    for (pattern, reason) in [
        ("(", "unclosed group"),
        (r"(?:(?:a{1000}){1000}){1000}", "bytes compiled"),
        (&"(".repeat(5_000), ""),
    ] {
        let any = vec![regex(pattern)];
        let filter = EntryFilter {
            lines: vec![LineCondition { any, ..Default::default() }],
            ..Default::default()
        };
        let text = filter.compile().expect_err(pattern).to_string();
        assert!(text.contains(reason), "{text}");
    }
    let long = EntryFilter {
        lines: vec![LineCondition {
            any: vec![contains(&"x".repeat(70_000))],
            ..Default::default()
        }],
        ..Default::default()
    };
    assert!(long.compile().is_err());
}

fn test() -> impl Strategy<Value = LineTest> {
    let text = "[aAbBkKsS_ .\n\u{212a}é0]{0,6}";
    let pattern = prop::sample::select(vec![
        "a+b",
        "(?i)ab",
        r"\ba\b",
        "^a",
        "b$",
        "(?m)^a",
        "(?m)b$",
        "a|b",
        "[^a]b",
        r"\s",
        ".",
        "a.b",
        "(?s)a.b",
        "é",
        "(?i)k",
        r"\W",
        "",
        "a{2,3}",
        "(a|b)+ ",
        r"\Ba",
        "ab ab",
        "(?-u:\\xc3)",
    ]);
    prop_oneof![
        text.prop_map(LineTest::Contains),
        text.prop_map(LineTest::Words),
        pattern.prop_map(|p| LineTest::Regex(p.to_owned())),
    ]
}

/// What one test says of one line, in the plainest way.
fn naive(test: &LineTest, ignores_case: bool, line: &[u8]) -> bool {
    let find = |pattern: &str, line: &[u8]| {
        let config = syntax::Config::new().utf8(false).case_insensitive(ignores_case);
        let meta = Regex::config().utf8_empty(false);
        let regex =
            Regex::builder().syntax(config).configure(meta).build(pattern).expect("a pattern");
        regex.find_iter(line).map(|m| m.range()).collect::<Vec<_>>()
    };
    match test {
        LineTest::Contains(text) => !find(&regex_syntax::escape(text), line).is_empty(),
        LineTest::Regex(pattern) => !find(pattern, line).is_empty(),
        LineTest::Words(text) if text.is_empty() => true,
        LineTest::Words(text) => (0..line.len()).any(|from| {
            let pattern = format!("\\A{}", regex_syntax::escape(text));
            let Some(found) = find(&pattern, &line[from..]).first().cloned() else { return false };
            let joins = |a: Option<&u8>, b: Option<&u8>| {
                a.zip(b).is_some_and(|(a, b)| is_token(*a) && is_token(*b))
            };
            let needle = text.as_bytes();
            !joins(from.checked_sub(1).and_then(|i| line.get(i)), needle.first())
                && !joins(needle.last(), line.get(from + found.end))
        }),
    }
}

/// Whether a line, as the only block there is, has a token, in the plainest way.
fn blocks_of(need: &Need, line: &[u8]) -> Blocks {
    let Need::Token(Token { text, part, .. }) = need else { return None };
    let has = tokens::places(line).any(|place| {
        let token = line[place].to_ascii_lowercase();
        match part {
            Part::Whole => token == *text,
            Part::Start => token.starts_with(text),
            Part::End => token.ends_with(text),
            Part::Anywhere => token.windows(text.len()).any(|w| w == text),
        }
    });
    Some(if has { RoaringBitmap::from([0]) } else { RoaringBitmap::new() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn searching_the_buffer_finds_what_looking_at_each_line_finds(
        lines in prop::collection::vec("[aAbBkKsS_ .\n\u{212a}ſé0]{0,12}", 0..12),
        cut in prop::collection::vec(any::<u8>(), 0..12),
        any in prop::collection::vec(test(), 1..3),
        is_negative in any::<bool>(),
        ignores_case in any::<bool>(),
    ) {
        let mut lines: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
        // Lines that are not UTF-8.
        for (line, cut) in lines.iter_mut().zip(cut) {
            line.truncate(line.len().saturating_sub(usize::from(cut % 4)));
        }
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let page = page(&lines);
        let condition = LineCondition { any: any.clone(), is_negative, ignores_case };
        let filter = EntryFilter { lines: vec![condition], ..EntryFilter::default() };
        let expected: Vec<u32> = (0..)
            .zip(&lines)
            .filter(|(_, line)| any.iter().any(|t| naive(t, ignores_case, line)) != is_negative)
            .map(|(row, _)| row)
            .collect();
        prop_assert_eq!(&keep(&page, &filter), &expected);
        // Whatever passes has the tokens that a filter says it must have.
        for need in filter.compile().expect("a filter").needs() {
            for row in &expected {
                let line = page.line(*row as usize);
                let has: Vec<u64> = tokens::hashes(line).collect();
                prop_assert!(need.may_be(&|token| has.contains(&token)), "{:?}", need);
                let blocks = need.blocks(&|one| blocks_of(one, line));
                prop_assert!(blocks != Some(RoaringBitmap::new()), "{:?}", need);
            }
        }
    }
}
