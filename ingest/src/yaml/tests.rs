//! YAML in, values or the place of what is wrong out.

use super::units::bytes;
use super::{Content, Fields, Node, duration_ms, shown_duration};

/// A tree in one line.
fn shown(node: &Node) -> String {
    match &node.content {
        Content::Null => "null".to_owned(),
        Content::Text { text, is_plain: true } => text.clone(),
        Content::Text { text, .. } => format!("{text:?}"),
        Content::List(nodes) => {
            format!("[{}]", nodes.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Content::Map(entries) => {
            let entries =
                entries.iter().map(|(key, node)| format!("{}: {}", key.name, shown(node)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

#[track_caller]
fn check(text: &str, tree: &str) {
    let read = Node::parse(text).map_or_else(|e| e.to_string(), |node| shown(&node));
    assert_eq!(read, tree);
}

#[test]
fn documents_become_trees() {
    check("", "null");
    check("a: 1\nb: [x, '1', \"y\\n\"]\nc:\n", "{a: 1, b: [x, \"1\", \"y\\n\"], c: null}");
    check("a: 1e3\nb: 0x10\nc: yes\n", "{a: 1e3, b: 0x10, c: yes}");
    check("a: &x {b: 1}\nc: *x\n", "{a: {b: 1}, c: {b: 1}}");
    check("x: &x {b: 1, c: 2}\ny:\n  <<: *x\n  c: 3\n", "{x: {b: 1, c: 2}, y: {c: 3, b: 1}}");
    check("a: |\n  b\n  c\n", "{a: \"b\\nc\\n\"}");
    check("a: 1\na: 2\n", "line 2, column 1: field \"a\" occurs twice");
    check("a: 1\n---\nb: 2\n", "line 2, column 1: the file holds more than one document");
    check("? [a]\n: 1\n", "line 1, column 3: expected a name, found a list");
    assert!(Node::parse("a: [1\n").is_err_and(|e| e.what.starts_with("not YAML: ")));
}

#[test]
fn bombs_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let before = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![before; 10].join(", "));
    }
    let error = Node::parse(&bomb).expect_err("too many nodes");
    assert!(error.what.contains("nodes"), "{error}");
    let deep = "[".repeat(100);
    assert!(Node::parse(&deep).is_err());
}

#[test]
fn fields_are_taken_once_and_none_is_left() {
    let node = Node::parse("a: 1\nb: {c: x}\nd: [1, 2]\ne: maybe\n").expect("YAML");
    let mut fields = Fields::of(&node, "thing").expect("a mapping");
    assert_eq!(fields.read("a", Node::count_value), Ok(Some(1)));
    assert_eq!(fields.read("a", Node::count_value), Ok(None));
    let wrong = fields.read("b", Node::text).expect_err("a mapping");
    assert_eq!(wrong.to_string(), "line 2, column 4: b: expected a text, found a mapping");
    let wrong = fields.read("e", Node::switch).expect_err("no switch");
    assert_eq!(wrong.to_string(), "line 4, column 4: e: expected true or false, found \"maybe\"");
    let left = fields.done().expect_err("a field is left");
    assert_eq!(left.to_string(), "line 3, column 1: field d not found in thing");
}

#[test]
fn durations_are_those_of_prometheus() {
    for (text, ms) in [
        ("0", 0),
        ("0s", 0),
        ("15s", 15_000),
        ("1h30m", 5_400_000),
        ("1m500ms", 60_500),
        ("1y", 31_536_000_000),
        ("2w3d", 1_468_800_000),
        ("90m", 5_400_000),
    ] {
        assert_eq!(duration_ms(text), Ok(ms), "{text}");
    }
    for text in
        ["", "1", "s", "1s1m", "1m1m", "-1s", "1.5s", "1 s", "300y", "99999999999999999999s"]
    {
        assert!(duration_ms(text).is_err(), "{text}");
    }
    for (ms, text) in [
        (0, "0s"),
        (15_000, "15s"),
        (5_400_000, "1h30m"),
        (60_500, "1m500ms"),
        (604_800_000, "1w"),
        (694_800_000, "8d1h"),
        (86_400_000 * 365, "1y"),
        (86_400_000 * 366, "366d"),
    ] {
        assert_eq!(shown_duration(ms), text);
        assert_eq!(duration_ms(text), Ok(ms));
    }
}

#[test]
fn sizes_are_those_of_prometheus() {
    for (text, size) in [("0", Ok(0)), ("10MB", Ok(10 << 20)), ("1.5KiB", Ok(1536)), ("7B", Ok(7))]
    {
        assert_eq!(bytes(text), size, "{text}");
    }
    for text in ["", "10", "MB", "1XB", "1..2MB"] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn noise_is_survived(text in "([-a:{}\\[\\]&*!|>'\"#, \n<?%]|\\PC){0,60}") {
        let _ = Node::parse(&text);
    }
}
