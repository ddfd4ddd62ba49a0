//! OpenMetrics 2.0: what the specification and Prometheus' parser say of the same input.

use super::super::{Exposition, Format, Forms};
use super::entries;

fn read(text: &str, forms: Forms) -> Result<Vec<String>, String> {
    entries(Exposition::in_forms(Format::OpenMetrics2, text.as_bytes(), forms))
}

#[track_caller]
fn check_in(forms: Forms, text: &str, lines: &[&str]) {
    let lines = lines.iter().map(|l| (*l).to_owned()).collect();
    assert_eq!(read(&format!("{text}# EOF\n"), forms), Ok(lines), "{text}");
}

#[track_caller]
fn check(text: &str, lines: &[&str]) {
    check_in(Forms::NATIVE, text, lines);
}

#[track_caller]
fn check_error(text: &str, what: &str) {
    let error = read(text, Forms::NATIVE).expect_err(text);
    assert!(error.contains(what), "{error}");
}

#[test]
fn numbers_have_times_starts_and_exemplars() {
    check("", &[]);
    assert_eq!(read("", Forms::NATIVE), Ok(vec![]), "an empty body is a scrape without series");
    assert_eq!(read("# EOF", Forms::NATIVE), Ok(vec![]), "the last line feed may be missing");
    check(
        "# TYPE a counter\n# UNIT a other\na 1\na{} 2 1.5\na{b=\"1\"} 3 st@2\na 4 1.5 st@-0.5\n",
        &[
            r#"type "a" counter"#,
            r#"unit "a" "other""#,
            r#"__name__="a" 1"#,
            r#"__name__="a" 2 @1500"#,
            r#"__name__="a",b="1" 3 since 2000"#,
            r#"__name__="a" 4 @1500 since -500"#,
        ],
    );
    check(
        "a 1 # {b=\"x\"} 2 3\na 1 5 st@4 # {} 2 3 # {\"c.d\"=\"y\"} 4 5\n",
        &[
            r#"__name__="a" 1 # b="x" 2 @3000"#,
            r#"__name__="a" 1 @5000 since 4000 #  2 @3000 # c.d="y" 4 @5000"#,
        ],
    );
    check(
        "{\"a.b\",c=\"1\"} 1\n# TYPE b_info info\nb_info{c=\"d\"} 1\n# TYPE s stateset\ns{s=\"on\"} 0\nbare NaN\n",
        &[
            r#"__name__="a.b",c="1" 1"#,
            r#"type "b_info" info"#,
            r#"__name__="b_info",c="d" 1"#,
            r#"type "s" stateset"#,
            r#"__name__="s",s="on" 0"#,
            r#"__name__="bare" NaN"#,
        ],
    );
}

const SUMMARY: &str = "s{a=\"1\"} {count:3,sum:6.5,quantile:[0:1,0.99:NaN]} 7 st@5\n";

#[test]
fn summaries_become_series() {
    let series = [
        r#"__name__="s_count",a="1" 3 @7000 since 5000"#,
        r#"__name__="s_sum",a="1" 6.5 @7000 since 5000"#,
        r#"__name__="s",a="1",quantile="0.0" 1 @7000 since 5000"#,
        r#"__name__="s",a="1",quantile="0.99" NaN @7000 since 5000"#,
    ];
    check(SUMMARY, &series);
    let typed = [&[r#"type "s" summary"#][..], &series].concat();
    check(&format!("# TYPE s summary\n{SUMMARY}"), &typed);
    check(
        "# TYPE \"a b\" summary\n{\"a b\"} {quantile:[],sum:0,count:0}\n",
        &[r#"type "a b" summary"#, r#"__name__="a b_count" 0"#, r#"__name__="a b_sum" 0"#],
    );
}

#[test]
fn classic_histograms_become_series() {
    check(
        "# TYPE h histogram\nh{a=\"1\"} {count:3,sum:6,bucket:[-Inf:0,0.5:1,1:2,+Inf:3]} # {id=\"x\"} 0.7 1 # {id=\"y\"} 9 2\n",
        &[
            r#"type "h" histogram"#,
            r#"__name__="h_count",a="1" 3"#,
            r#"__name__="h_sum",a="1" 6"#,
            r#"__name__="h_bucket",a="1",le="-Inf" 0"#,
            r#"__name__="h_bucket",a="1",le="0.5" 1"#,
            r#"__name__="h_bucket",a="1",le="1.0" 2 # id="x" 0.7 @1000"#,
            r#"__name__="h_bucket",a="1",le="+Inf" 3 # id="y" 9 @2000"#,
        ],
    );
    check(
        "# TYPE h gaugehistogram\nh {gcount:-1.5,gsum:NaN,bucket:[+Inf:-1.5]}\n",
        &[
            r#"type "h" gaugehistogram"#,
            r#"__name__="h_gcount" -1.5"#,
            r#"__name__="h_gsum" NaN"#,
            r#"__name__="h_bucket",le="+Inf" -1.5"#,
        ],
    );
    let converted = Forms { convert_classic: true, ..Forms::default() };
    check_in(
        converted,
        "# TYPE h histogram\nh {count:3,sum:6,bucket:[1:2,+Inf:3]} st@1 # {} 0.5 2\n# TYPE g gaugehistogram\ng {gcount:1,gsum:1,bucket:[+Inf:1]}\n",
        &[
            r#"type "h" histogram"#,
            r#"__name__="h" schema -53 [1.0] zero 0 sum 6 count 3, 0 in 0, [0:2] [2, -1] [] [] since 1000 #  0.5 @2000"#,
            r#"type "g" gaugehistogram"#,
            r#"__name__="g" schema -53 [] zero 0 sum 1 count 1, 0 in 0, [0:1] [1] [] [] gauge"#,
        ],
    );
    let both = Forms { classic_too: true, ..converted };
    let found = read("h {count:1,sum:6,bucket:[+Inf:1]}\n# EOF\n", both).expect("valid");
    assert_eq!(found.len(), 4, "{found:?}");
}

const NATIVE: &str = "{count:9,sum:2.5,schema:3,zero_threshold:1e-3,zero_count:2,negative_spans:[-4:1],negative_buckets:[1],positive_spans:[1:2,3:1],positive_buckets:[1,2,3]";

#[test]
fn native_histograms_are_native() {
    let line = r#"__name__="h" schema 3 [] zero 0.001 sum 2.5 count 9, 2 in 0, [1:2,3:1] [1, 1, 1] [-4:1] [1]"#;
    let declared = "# TYPE h histogram\n";
    let told = r#"type "h" histogram"#;
    check(&format!("{declared}h {NATIVE}}}\n"), &[told, line]);
    let text = format!("{declared}h {NATIVE},bucket:[1:4,+Inf:9]}} 5 # {{}} 0.5 1\n");
    let own = format!("{line} @5000 #  0.5 @1000");
    check(&text, &[told, &own]);
    let classic = [
        r#"__name__="h_count" 9 @5000"#,
        r#"__name__="h_sum" 2.5 @5000"#,
        r#"__name__="h_bucket",le="1.0" 4 @5000 #  0.5 @1000"#,
        r#"__name__="h_bucket",le="+Inf" 9 @5000"#,
    ];
    let all = [&[told, &own][..], &classic].concat();
    check_in(Forms { classic_too: true, ..Forms::NATIVE }, &text, &all);
    check_in(Forms::default(), &text, &[&[told][..], &classic].concat());
    check_in(
        Forms::default(),
        &format!("{declared}h {NATIVE}}}\n"),
        &[
            told,
            r#"__name__="h_count" 9"#,
            r#"__name__="h_sum" 2.5"#,
            r#"__name__="h_bucket",le="+Inf" 9"#,
        ],
    );
    check(
        "g {gcount:3.0,gsum:1,schema:-4,zero_threshold:0,zero_count:1,positive_spans:[0:2],positive_buckets:[1.5,.5]}\n",
        &[
            r#"__name__="g" schema -4 [] zero 0 sum 1 count 3, 1 in 0, [0:2] [1.5, 0.5] [] [] float gauge"#,
        ],
    );
    check(
        "h {count:18446744073709551615,sum:NaN,schema:8,zero_threshold:0,zero_count:0}\n",
        &[
            r#"__name__="h" schema 8 [] zero 0 sum NaN count 18446744073709551615, 0 in 0, [] [] [] []"#,
        ],
    );
}

#[test]
fn what_is_wrong_around_values_is_refused() {
    for (text, what) in [
        ("a 1\n", "line 2: exposition does not end with # EOF"),
        ("a 1", "expected the end of the line"),
        ("# EOF\nx", "there is text after # EOF"),
        ("# comment\n# EOF", "expected # HELP, # TYPE, # UNIT or # EOF"),
        ("# TYPE a gauge\r\n# EOF", "carriage return"),
        ("# TYPE a untyped\n# EOF", "invalid metric type"),
        ("# TYPE a info\n# EOF", "does not end with _info"),
        ("# TYPE a_info info\n# UNIT a_info s\n# EOF", "no unit"),
        ("# UNIT a s\n# TYPE a stateset\n# EOF", "no unit"),
        ("# TYPE \"\" gauge\n# EOF", "expected a metric name"),
        ("{\"\"} 1\n# EOF", "is empty"),
        ("a{\"\"=\"1\"} 1\n# EOF", "is empty"),
        ("{b=\"1\",\"a\"} 1\n# EOF", "expected a metric name"),
        ("{\"b\"=\"1\",\"a\"} 1\n# EOF", "expected a metric name"),
        ("a{\"b\"} 1\n# EOF", "metric name is given twice"),
        ("# TYPE c counter\nc NaN\n# EOF", "line 2: counter is not a number"),
        ("# TYPE i_info info\ni_info 2\n# EOF", "not 1"),
        ("# TYPE s stateset\ns{s=\"a\"} 2\n# EOF", "neither 0 nor 1"),
        ("# TYPE s stateset\ns{a=\"s\"} 1\n# EOF", "no label of the name"),
        ("# TYPE h histogram\nh 1\n# EOF", "have composite values"),
        ("# TYPE g gauge\ng {count:1,sum:1,bucket:[+Inf:1]}\n# EOF", "only histograms"),
        ("a 1 2 3\n# EOF", "expected the end of the line"),
        ("a 1 st@2 3\n# EOF", "expected the end of the line"),
        ("a 1 st@2 st@3\n# EOF", "expected the end of the line"),
        ("a 1 st@\n# EOF", "timestamp is not a number"),
        ("a 1 st@NaN\n# EOF", "timestamp is not finite"),
        ("a 1 ST@1\n# EOF", "timestamp is not a number"),
        ("a 1 # {} 2\n# EOF", "exemplar has no timestamp"),
        ("a 1 # {} 2 3 4\n# EOF", "expected the end of the line"),
        ("a 1 # {\"\"=\"x\"} 2 3\n# EOF", "label name of an exemplar is empty"),
        ("a 1 # {} 2 3 # {} 2\n# EOF", "exemplar has no timestamp"),
    ] {
        check_error(text, what);
    }
}

#[test]
fn what_is_wrong_in_composite_values_is_refused() {
    for (value, what) in [
        ("{}", "unknown field"),
        ("{count:1,sum:1,bucket:[+Inf:1]", "closing brace"),
        ("{count:1,sum:1,bucket:[+Inf:1],}", "unknown field"),
        ("{count:1, sum:1,bucket:[+Inf:1]}", "unknown field"),
        ("{count:1,sum:1,bucket:[+Inf:1 ]}", "not a number"),
        ("{count:1,sum:1,buckets:[+Inf:1]}", "unknown field"),
        ("{count=1,sum:1,bucket:[+Inf:1]}", "expected a colon"),
        ("{count:1,sum:1,sum:1,bucket:[+Inf:1]}", "told twice"),
        ("{sum:1,bucket:[+Inf:1]}", "no count"),
        ("{count:1,bucket:[+Inf:1]}", "no sum"),
        ("{count:1,sum:1}", "without schema and buckets"),
        ("{count:1,sum:1,bucket:[]}", "without the one up to +Inf"),
        ("{count:1,sum:1,bucket:[1:1]}", "without the one up to +Inf"),
        ("{count:1,sum:1,bucket:[+Inf:1,1:1]}", "not ascending"),
        ("{count:1,sum:1,bucket:[1:1,1:1,+Inf:1]}", "not ascending"),
        ("{count:1,sum:1,bucket:[NaN:1,+Inf:1]}", "bound of a bucket is not a number"),
        ("{count:1,sum:1,bucket:[1:-1,+Inf:1]}", "negative"),
        ("{count:1,sum:1,bucket:[1,+Inf:1]}", "no colon"),
        ("{count:1,sum:1,bucket:[,+Inf:1]}", "no colon"),
        ("{count:1,sum:1,bucket:[+Inf:1}", "list does not end"),
        ("{count:1,sum:1,bucket:1}", "expected a list"),
        ("{count:x,sum:1,bucket:[+Inf:1]}", "not a number"),
        ("{gcount:1,gsum:1,bucket:[+Inf:1]}", "that its type does not have"),
        ("{count:1,sum:1,quantile:[0.5:1]}", "that its type does not have"),
        ("{count:1,sum:1,schema:0,zero_count:0}", "no zero_threshold"),
        ("{count:1,sum:1,schema:0,zero_threshold:0}", "no zero_count"),
        ("{count:1,sum:1,schema:9,zero_threshold:0,zero_count:1}", "not between -4 and 8"),
        ("{count:1,sum:1,schema:-53,zero_threshold:0,zero_count:1}", "not between -4 and 8"),
        ("{count:1,sum:1,schema:1.0,zero_threshold:0,zero_count:1}", "not an integer"),
        ("{count:1,sum:1,schema:0,zero_threshold:-1,zero_count:1}", "zero threshold"),
        ("{count:1,sum:1,schema:0,zero_threshold:+Inf,zero_count:1}", "zero threshold"),
        ("{count:-1,sum:1,schema:0,zero_threshold:0,zero_count:1}", "is negative"),
        (
            "{count:1,sum:1,schema:0,zero_threshold:0,zero_count:1,positive_spans:[0:1]}",
            "do not fit",
        ),
        (
            "{count:1,sum:1,schema:0,zero_threshold:0,zero_count:0,positive_spans:[0:1,-1:1],positive_buckets:[1,0]}",
            "do not fit",
        ),
        (
            "{count:1,sum:1,schema:0,zero_threshold:0,zero_count:0,positive_spans:[0:4294967296],positive_buckets:[1]}",
            "not an offset and a length",
        ),
        (
            "{count:1,sum:1,schema:0,zero_threshold:0,zero_count:0,positive_spans:[0:1],positive_buckets:[x]}",
            "not a number",
        ),
    ] {
        check_error(&format!("# TYPE h histogram\nh {value}\n# EOF\n"), what);
    }
    for (value, what) in [
        ("{count:1,sum:1}", "without quantiles"),
        ("{count:1,sum:1,quantile:[1.5:1]}", "not between 0 and 1"),
        ("{count:1,sum:1,quantile:[NaN:1]}", "not between 0 and 1"),
        ("{count:1,sum:1,quantile:[0.9:1,0.5:1]}", "not ascending"),
        ("{count:1,sum:1,bucket:[+Inf:1]}", "that its type does not have"),
    ] {
        check_error(&format!("# TYPE s summary\ns {value}\n# EOF\n"), what);
    }
}

/// What a series was before says nothing of what it is now.
#[test]
fn what_is_expected_is_still_looked_at() {
    for (text, expected, is_refused) in [
        ("a 1\n# EOF\n", "a", false),
        ("# TYPE a histogram\na 1\n# EOF\n", "a", true),
        ("a {count:1,sum:1,bucket:[+Inf:1]}\n# EOF\n", "a", false),
        ("# TYPE a stateset\na{b=\"1\"} 1\n# EOF\n", "a{b=\"1\"}", true),
        ("# TYPE a counter\na 1\nb NaN\n# EOF\n", "b", false),
    ] {
        let mut exposition = Exposition::new(Format::OpenMetrics2, text.as_bytes());
        let found = loop {
            match exposition.next_entry_expecting(expected.as_bytes()) {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert_eq!(found, is_refused, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn noise_is_survived(text in "([a#{}\\[\\]\"=:,@ \n0-9.TYPEI]|count:|sum:|bucket:|schema:|st@|\\PC){0,80}") {
        crate::fuzz::exposition_openmetrics2(text.as_bytes());
        crate::fuzz::exposition_openmetrics2(format!("# TYPE h histogram\nh {{count:1,{text}\n# EOF\n").as_bytes());
    }
}
