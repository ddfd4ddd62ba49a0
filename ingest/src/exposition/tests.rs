//! The text format against what Prometheus' parser does with the same input.

use std::borrow::Cow;

use model::{Buckets, Histogram, MetricKind, ResetHint, Span};
use proptest::prelude::*;

use super::{Entry, Exposition, Format, TextParser};

mod converting;
mod openmetrics;
mod openmetrics2;
mod protobuf;

/// All entries in one line each, or the error.
fn entries(mut exposition: Exposition<'_>) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    while let Some(entry) = exposition.next_entry().map_err(|e| e.to_string())? {
        let (value, timestamp_ms) = match entry {
            Entry::Help { family, text } => {
                lines.push(format!("help {family:?} {text:?}"));
                continue;
            }
            Entry::Type { family, kind } => {
                lines.push(format!("type {family:?} {}", kind.as_str()));
                continue;
            }
            Entry::Unit { family, unit } => {
                lines.push(format!("unit {family:?} {unit:?}"));
                continue;
            }
            Entry::Sample { value, timestamp_ms, .. } => (value.to_string(), timestamp_ms),
            Entry::Histogram { histogram, timestamp_ms, .. } => (shown(&histogram), timestamp_ms),
        };
        let pairs = |pairs: &[(Cow<'_, str>, Cow<'_, str>)]| {
            pairs.iter().map(|(n, v)| format!("{n}={v:?}")).collect::<Vec<_>>().join(",")
        };
        let at = |at: Option<i64>| at.map_or(String::new(), |at| format!(" @{at}"));
        let mut line = format!("{} {value}{}", pairs(exposition.labels()), at(timestamp_ms));
        match exposition.start_ms() {
            0 => {}
            start_ms => line += &format!(" since {start_ms}"),
        }
        for e in exposition.exemplars() {
            line += &format!(" # {} {}{}", pairs(&e.labels), e.value, at(e.timestamp_ms));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// A native histogram in a few words.
fn shown(h: &Histogram) -> String {
    let spans = |spans: &[Span]| {
        spans.iter().map(|s| format!("{}:{}", s.offset, s.length)).collect::<Vec<_>>().join(",")
    };
    let (positive, negative) = (spans(&h.positive_spans), spans(&h.negative_spans));
    let counts = match &h.buckets {
        Buckets::Integer { count, zero_count, positive_deltas: p, negative_deltas: n } => {
            format!("{count}, {zero_count} in 0, [{positive}] {p:?} [{negative}] {n:?}")
        }
        Buckets::Float { count, zero_count, positive: p, negative: n } => {
            format!("{count}, {zero_count} in 0, [{positive}] {p:?} [{negative}] {n:?} float")
        }
    };
    let gauge = if h.reset_hint == ResetHint::Gauge { " gauge" } else { "" };
    let (schema, width, bounds) = (h.schema, h.zero_threshold, &h.custom_values);
    format!("schema {schema} {bounds:?} zero {width} sum {} count {counts}{gauge}", h.sum)
}

/// Series, values and times of all samples; whether the exposition is refused; how many samples were
/// those expected.
type Samples = (Vec<(Vec<u8>, u64, Option<i64>)>, bool, usize);

/// Reads, expecting at each sample what was written so many samples later.
fn samples_of(format: Format, text: &str, written: &[Vec<u8>], shift: usize) -> Samples {
    let mut exposition = Exposition::new(format, text.as_bytes());
    let (mut found, mut expected) = (Vec::new(), 0);
    loop {
        let next = written.get(found.len() + shift).map_or(&[][..], |series| series);
        match exposition.next_entry_expecting(next) {
            Ok(Some(Entry::Sample { series, value, timestamp_ms })) => {
                expected += usize::from(exposition.is_expected());
                assert!(!exposition.is_expected() || *series == *next);
                found.push((series.into_owned(), value.to_bits(), timestamp_ms));
            }
            Ok(Some(_)) => {}
            Ok(None) => return (found, false, expected),
            Err(_) => return (found, true, expected),
        }
    }
}

/// All entries of an exposition in one line each, or the error.
fn read(text: &[u8]) -> Result<Vec<String>, String> {
    let mut parser = TextParser::new(text);
    let mut lines = Vec::new();
    while let Some(entry) = parser.next_entry().map_err(|e| e.to_string())? {
        lines.push(match entry {
            Entry::Help { family, text } => format!("help {family:?} {text:?}"),
            Entry::Type { family, kind } => format!("type {family:?} {}", kind.as_str()),
            Entry::Unit { .. } | Entry::Histogram { .. } => unreachable!("not in this format"),
            Entry::Sample { series, value, timestamp_ms } => {
                let labels =
                    parser.labels().iter().map(|(n, v)| format!("{n}={v:?}")).collect::<Vec<_>>();
                let at = timestamp_ms.map_or(String::new(), |at| format!(" @{at}"));
                format!("[{}] {} {value}{at}", String::from_utf8_lossy(&series), labels.join(","))
            }
        });
    }
    Ok(lines)
}

#[track_caller]
fn check(text: &str, lines: &[&str]) {
    assert_eq!(
        read(text.as_bytes()).as_deref(),
        Ok(&lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>()[..])
    );
}

#[track_caller]
fn check_error(text: &[u8], error: &str) {
    assert_eq!(read(text), Err(error.to_owned()));
}

#[test]
fn samples() {
    check("", &[]);
    check("\n\n \t\n", &[]);
    check("a 1", &[r#"[a] __name__="a" 1"#]); // the last line feed may be missing
    check("a:b_9 1 123\n", &[r#"[a:b_9] __name__="a:b_9" 1 @123"#]);
    check("a{} 1\n", &[r#"[a{}] __name__="a" 1"#]);
    check("a+1\n", &[r#"[a] __name__="a" 1"#]);
    check("  a\t{b=\"1\"}\t-1.5e3\t7 \n", &["[a\t{b=\"1\"}] __name__=\"a\",b=\"1\" -1500 @7"]);
    check(
        "a { b = \"1\" , c=\"2\" , } 1\n",
        &[r#"[a { b = "1" , c="2" , }] __name__="a",b="1",c="2" 1"#],
    );
    check("a{b=\"1\" c=\"2\"} 1\n", &[r#"[a{b="1" c="2"}] __name__="a",b="1",c="2" 1"#]); // as lenient as Prometheus
    check(
        r#"a{b="\\\"\n\x{},="} 1"#,
        &[r#"[a{b="\\\"\n\x{},="}] __name__="a",b="\\\"\n\\x{},=" 1"#],
    );
    check(
        "a{b=\"x\ny\"} 1\nc 2\n",
        &["[a{b=\"x\ny\"}] __name__=\"a\",b=\"x\\ny\" 1", r#"[c] __name__="c" 2"#],
    );
    check(r#"{"a.b", "c d"="1"} 1"#, &[r#"[{"a.b", "c d"="1"}] __name__="a.b",c d="1" 1"#]);
    check(r#"{c="1","a"} 1"#, &[r#"[{c="1","a"}] __name__="a",c="1" 1"#]);
    check("a{b=\"ä\u{1F600}\"} 1\n", &["[a{b=\"ä\u{1F600}\"}] __name__=\"a\",b=\"ä\u{1F600}\" 1"]);
}

#[test]
fn values() {
    let of = |text: &str| {
        read(format!("a {text}\n").as_bytes())
            .map(|lines| lines[0].rsplit(' ').next().unwrap_or("").to_owned())
    };
    for (text, value) in [
        ("+Inf", "inf"),
        ("-inf", "-inf"),
        ("Infinity", "inf"),
        ("NaN", "NaN"),
        ("nan", "NaN"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+1e-3", "0.001"),
        ("1e-999", "0"),
        ("9007199254740993", "9007199254740992"),
    ] {
        assert_eq!(of(text), Ok(value.to_owned()), "{text}");
    }
    for text in ["+NaN", "0x1p3", "0x10", "1_000", "1e", "", "e1", "--1", "1,5", "1\r", "١"] {
        assert!(of(text).is_err(), "{text}");
    }
    assert_eq!(of("1e999"), Err("line 1: value is out of range: \"a 1e999\"".to_owned()));
    let mut parser = TextParser::new(b"a NaN");
    let Ok(Some(Entry::Sample { value, .. })) = parser.next_entry() else { panic!("a sample") };
    assert_eq!(value.to_bits(), 0x7ff8_0000_0000_0001);
}

#[test]
fn metadata_and_comments() {
    check("# HELP a some \\\\ text\\n \\\" here \n", &[r#"help "a" "some \\ text\n \\\" here ""#]);
    check(
        "#   HELP \t a\tx\n# HELP b\n# HELP c \n",
        &[r#"help "a" "x""#, r#"help "b" """#, r#"help "c" """#],
    );
    for (word, kind) in [
        ("counter", MetricKind::Counter),
        ("gauge", MetricKind::Gauge),
        ("histogram", MetricKind::Histogram),
        ("summary", MetricKind::Summary),
        ("untyped", MetricKind::Unknown),
    ] {
        check(&format!("# TYPE a {word}\n"), &[&format!("type \"a\" {}", kind.as_str())]);
    }
    check("# TYPE \"a.b\" gauge\n", &[r#"type "a.b" gauge"#]);
    check("#\n# \n#HELP a b\n# anything { \" \n# EOF\n# HELPa b\n# HELP\n", &[]);
    check("# \u{fffd} a\na 1\n", &[r#"[a] __name__="a" 1"#]);
}

#[test]
fn what_prometheus_refuses() {
    check_error(b"a", "line 1: expected a value: \"a\"");
    check_error(b"b 1\n\na{ 1\n", "line 3: expected a label name: \"a{ 1\"");
    check_error(b"a{b} 1", "line 1: expected = after a label name: \"a{b} 1\"");
    check_error(b"a{b=1} 1", "line 1: expected a quoted label value: \"a{b=1} 1\"");
    check_error(b"a{b=\"1} 1", "line 1: expected a quoted label value: \"a{b=\\\"1} 1\"");
    check_error(b"a{b=\"1\\\n\"} 1", "line 1: expected a quoted label value: \"a{b=\\\"1\\\\\"");
    check_error(b"a{,} 1", "line 1: expected a label name: \"a{,} 1\"");
    check_error(b"a{b=\"1\",,} 1", "line 1: expected a label name: \"a{b=\\\"1\\\",,} 1\"");
    check_error(b"a{:b=\"1\"} 1", "line 1: expected a label name: \"a{:b=\\\"1\\\"} 1\"");
    check_error(b"a{\"b\"} 1", "line 1: metric name is given twice: \"a{\\\"b\\\"} 1\"");
    check_error(b"{b=\"1\"} 1", "line 1: metric name is missing: \"{b=\\\"1\\\"} 1\"");
    check_error(
        b"{__name__=\"a\"} 1",
        "line 1: metric name is missing: \"{__name__=\\\"a\\\"} 1\"",
    );
    check_error(b"9a 1", "line 1: expected a metric name: \"9a 1\"");
    check_error(b"a 1 -5", "line 1: expected the end of the line: \"a 1 -5\"");
    check_error(b"a 1 5 6", "line 1: expected the end of the line: \"a 1 5 6\"");
    check_error(b"a 1 5.0", "line 1: expected the end of the line: \"a 1 5.0\"");
    check_error(b"a 1{", "line 1: expected the end of the line: \"a 1{\"");
    check_error(
        b"a 1 9223372036854775808",
        "line 1: timestamp is out of range: \"a 1 9223372036854775808\"",
    );
    check_error(b"a{b=\"\xff\"} 1", "line 1: text is not UTF-8: \"a{b=\\\"\u{fffd}\\\"} 1\"");
    check_error(b"# HELP a \xff", "line 1: text is not UTF-8: \"# HELP a \u{fffd}\"");
    check_error(b"# TYPE a  gauge", "line 1: invalid metric type: \"# TYPE a  gauge\"");
    check_error(b"# TYPE a gauge ", "line 1: invalid metric type: \"# TYPE a gauge \"");
    check_error(b"# TYPE a info", "line 1: invalid metric type: \"# TYPE a info\"");
    check_error(b"# HELP 9 x", "line 1: expected a metric name after HELP or TYPE: \"# HELP 9 x\"");
    check_error(b"# HELP \n", "line 1: expected a metric name after HELP or TYPE: \"# HELP \"");
    check_error(b"\0", "line 1: expected a metric name: \"\\0\"");
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,8}",
        labels in prop::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,5}", "\\PC{0,8}|[\"\\\\\n]{0,5}"), 0..5),
        value in any::<f64>(),
        at in prop::option::of(0..i64::MAX),
    ) {
        let escaped = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{}\"", escaped(v))).collect();
        let at_text = at.map_or(String::new(), |at| format!(" {at}"));
        let text = format!("{name}{{{}}} {value:?}{at_text}\n", pairs.join(","));
        let mut parser = TextParser::new(text.as_bytes());
        let Some(Entry::Sample { value: got, timestamp_ms, .. }) = parser.next_entry().expect("valid") else {
            panic!("a sample");
        };
        prop_assert!(got.to_bits() == value.to_bits() || (got.is_nan() && value.is_nan()));
        prop_assert_eq!(timestamp_ms, at);
        let got: Vec<(String, String)> =
            parser.labels()[1..].iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        prop_assert_eq!(got, labels);
        prop_assert!(parser.next_entry().expect("valid").is_none());
    }

    #[test]
    fn what_is_expected_changes_nothing(
        lines in prop::collection::vec("(a|ab|a\\{b=\"[c\\\\\"]{0,2}\"\\}|\\{\"a\"\\}|a \\{\\})[ \t]{0,2}[0-9]{1,2}( 5)?", 0..6),
        shift in 0..3usize,
    ) {
        let text = lines.join("\n") + "\n";
        let open_metrics = format!("{text}# EOF\n");
        for (format, text) in [
            (Format::Text, &text),
            (Format::OpenMetrics, &open_metrics),
            (Format::OpenMetrics2, &open_metrics),
        ] {
            let plain = samples_of(format, text, &[], 0);
            let written: Vec<Vec<u8>> = plain.0.iter().map(|(series, ..)| series.clone()).collect();
            let expecting = samples_of(format, text, &written, shift);
            prop_assert_eq!((&plain.0, plain.1), (&expecting.0, expecting.1));
        }
    }

    #[test]
    fn a_series_is_known_by_its_bytes(value in 0..100u32, series in "a|a\\{b=\"c\"\\}|\\{\"a.b\",c=\"1\"\\}") {
        let text = format!("{series} {value}\n# EOF\n");
        for format in [Format::Text, Format::OpenMetrics] {
            let (found, is_refused, expected) =
                samples_of(format, &text, &[series.clone().into_bytes()], 0);
            prop_assert_eq!((found.len(), is_refused, expected), (1, false, 1));
        }
    }

    #[test]
    fn noise_is_survived(text in "([a#{}\"=,\\\\ \t\n0-9.NHELPTY_]|\\PC){0,80}", cut in any::<prop::sample::Index>()) {
        crate::fuzz::exposition_text(text.as_bytes());
        crate::fuzz::exposition_text(&text.as_bytes()[cut.index(text.len() + 1)..]);
    }
}
