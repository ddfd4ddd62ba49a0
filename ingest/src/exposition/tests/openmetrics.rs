//! OpenMetrics against what Prometheus' parser does with the same input.

use testkit::reference;

use super::super::{Exposition, Format};
use super::entries;

fn read(text: &[u8]) -> Result<Vec<String>, String> {
    entries(Exposition::new(Format::OpenMetrics, text))
}

#[track_caller]
fn check(text: &str, lines: &[&str]) {
    let text = format!("{text}# EOF\n");
    let lines = lines.iter().map(|l| (*l).to_owned()).collect();
    assert_eq!(read(text.as_bytes()), Ok(lines));
}

#[track_caller]
fn check_error(text: &str, what: &str) {
    let error = read(text.as_bytes()).expect_err("refused");
    assert!(error.contains(what), "{error}");
}

#[test]
fn what_prometheus_accepts() {
    check("", &[]);
    assert_eq!(read(b"# EOF"), Ok(vec![]), "the last line feed may be missing");
    assert_eq!(read(b""), Ok(vec![]), "an empty body is a scrape without series");
    check(
        "# HELP a he \\\"says\\\"\\n\\\\ x\n# TYPE a unknown\n# UNIT a_s s\n# HELP \"b.c\" \n",
        &[
            r#"help "a" "he \"says\"\n\\ x""#,
            r#"type "a" unknown"#,
            r#"unit "a_s" "s""#,
            r#"help "b.c" """#,
        ],
    );
    for kind in [
        "counter",
        "gauge",
        "histogram",
        "gaugehistogram",
        "summary",
        "info",
        "stateset",
        "unknown",
    ] {
        check(&format!("# TYPE a {kind}\n"), &[&format!("type \"a\" {kind}")]);
    }
    check(
        "a 1\na{} 2\na{b=\"1\",} 3\n",
        &["__name__=\"a\" 1", "__name__=\"a\" 2", "__name__=\"a\",b=\"1\" 3"],
    );
    check(
        "a 1 1.5\na 1 -0.0015\na 1 1e3\n",
        &["__name__=\"a\" 1 @1500", "__name__=\"a\" 1 @-1", "__name__=\"a\" 1 @1000000"],
    );
    check(
        "a 1 # {} 2\na 1 5 # {b=\"x\",c=\"y\"} 2 3.5\n",
        &["__name__=\"a\" 1 #  2", "__name__=\"a\" 1 @5000 # b=\"x\",c=\"y\" 2 @3500"],
    );
    check(
        "{\"a.b\",\"c d\"=\"1\"} 1\n{c=\"1\",\"a\"} 1\n",
        &["__name__=\"a.b\",c d=\"1\" 1", "__name__=\"a\",c=\"1\" 1"],
    );
    check("a{b=\"\\\"\\\\\\n# {\"} NaN\n", &["__name__=\"a\",b=\"\\\"\\\\\\n# {\" NaN"]);
    check(
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\n# TYPE s summary\ns{quantile=\"0.50\"} 1\ns{le=\"1\"} 1\n",
        &[
            "type \"h\" histogram",
            "__name__=\"h_bucket\",le=\"1.0\" 1",
            "type \"s\" summary",
            "__name__=\"s\",quantile=\"0.5\" 1",
            "__name__=\"s\",le=\"1\" 1",
        ],
    );
}

#[test]
fn what_prometheus_refuses() {
    check_error("a 1\n", "line 2: exposition does not end with # EOF");
    check_error("a 1", "expected the end of the line");
    check_error("# EOF\nx", "there is text after # EOF");
    check_error("# EOFx", "there is text after # EOF");
    check_error("# EOF\n\n", "there is text after # EOF");
    check_error("a 1\n\n# EOF", "line 2: expected a metric name");
    check_error("#\n# EOF", "expected # HELP, # TYPE, # UNIT or # EOF");
    check_error("# comment\n# EOF", "expected # HELP, # TYPE, # UNIT or # EOF");
    check_error("#  TYPE a gauge\n# EOF", "expected # HELP, # TYPE, # UNIT or # EOF");
    check_error("# TYPE  a gauge\n# EOF", "expected a metric name after HELP, TYPE or UNIT");
    check_error("# TYPE a untyped\n# EOF", "invalid metric type");
    check_error("# TYPE a\n# EOF", "expected a space after the name");
    check_error("# HELP a \u{fffd}", "expected the end of the line");
    check_error("# UNIT a_seconds s\n# EOF", "unit is not the end of the metric name");
    check_error("# UNIT seconds seconds\n# EOF", "unit is not the end of the metric name");
    check_error(" a 1\n# EOF", "expected a metric name");
    check_error("a  1\n# EOF", "expected a space and a value");
    check_error("a\t1\n# EOF", "expected a space and a value");
    check_error("a {} 1\n# EOF", "value is not a number");
    check_error("a 1 \n# EOF", "expected a timestamp");
    check_error("a 1 NaN\n# EOF", "timestamp is not finite");
    check_error("a 1 x\n# EOF", "timestamp is not a number");
    check_error("a 1 2 3\n# EOF", "expected the end of the line");
    check_error("a 1 # {} 1 2 3\n# EOF", "expected the end of the line");
    check_error("a 1 # {} \n# EOF", "expected a space and the exemplar's value");
    check_error("a 1 # {\"b\"} 1\n# EOF", "expected a label name");
    check_error("a 1 # {} 1 Inf\n# EOF", "timestamp is not finite");
    check_error("a{b=\"1\" c=\"2\"} 1\n# EOF", "expected a comma or the closing brace");
    check_error("a{b=\"1\",,} 1\n# EOF", "expected a label name");
    check_error("a{b=\"x\ny\"} 1\n# EOF", "expected a quoted label value");
    check_error("a{ b=\"x\"} 1\n# EOF", "expected a label name");
    check_error("a 1_0\n# EOF", "value is not a number");
    check_error("a 0x1p-3\n# EOF", "value is not a number");
}

/// What a real Prometheus does with each of the specification's cases.
#[test]
fn the_specifications_cases_are_taken_as_prometheus_takes_them() {
    let Some(dir) = reference("openmetrics") else { return };
    let table = std::fs::read_to_string(dir.join("prometheus-3.5.3.tsv")).expect("the table");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let text =
            std::fs::read(dir.join("parsers").join(columns[0]).join("metrics")).expect("a case");
        let found = read(&text);
        seen += 1;
        if found.is_ok() != (columns[2] == "accepts") {
            wrong.push(format!("{line}: {found:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen >= 150, "only {seen} cases");
}

proptest::proptest! {
    #[test]
    fn noise_is_survived(text in "([a#{}\"=,\\\\ \n0-9.NHELPTYUIO_]|\\PC){0,80}") {
        crate::fuzz::exposition_openmetrics(text.as_bytes());
        crate::fuzz::exposition_openmetrics(format!("# TYPE a gauge\n{text}\n# EOF\n").as_bytes());
    }
}
