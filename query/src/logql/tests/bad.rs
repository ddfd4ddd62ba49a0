//! Texts that are no queries: what is said of them, and where.

use crate::logql::{parse, parse_log, parse_matchers};

#[track_caller]
fn check(query: &str, message: &str) {
    let error = parse(query).expect_err(query);
    assert_eq!(error.to_string(), format!("parse error {message}"), "{query}");
}

#[test]
fn tokens_that_do_not_belong() {
    check("", "at line 1, col 1: syntax error: unexpected $end");
    check("{a}", "at line 1, col 3: syntax error: unexpected }, expecting = or =~ or !~ or !=");
    check("{a=\"b\",}", "at line 1, col 8: syntax error: unexpected }, expecting IDENTIFIER");
    check("{a=\"b\"", "at line 1, col 7: syntax error: unexpected $end, expecting } or ,");
    check("{a=\"b\"}\n\n  {", "at line 3, col 3: syntax error: unexpected {");
    check(
        "{a=\"é\"} |= 5",
        "at line 1, col 12: syntax error: unexpected NUMBER, expecting STRING or ip",
    );
    check("{a=\"b\"} | distinct c", "at line 1, col 11: syntax error: unexpected distinct");
    check("sum(rate({a=\"b\"}))", "at line 1, col 17: syntax error: unexpected )");
    check("rate(5)", "at line 1, col 7: syntax error: unexpected ), expecting ,");
    check("{a=\"b\"} | unwrap c", "at line 1, col 11: syntax error: unexpected unwrap");
    check("quantile(0.5, vector(1))", "at line 1, col 1: syntax error: unexpected IDENTIFIER");
    check("vector(1) + [5m]", "at line 0, col 13: syntax error: unexpected RANGE");
}

#[test]
fn texts_that_cannot_be_read() {
    check("{a=\"b}", "at line 1, col 4: literal not terminated");
    check("{a=`b}", "at line 1, col 4: literal not terminated");
    check("{a=\"\\q\"}", "at line 1, col 4: invalid char escape");
    check("{a=\"\\xff\"}", "at line 1, col 4: a string must be UTF-8, also after its escapes");
    check("rate({a=\"b\"}[5m", "at line 0, col 13: missing closing ']' in duration");
    check("rate({a=\"b\"}[5x])", "at line 0, col 13: unknown unit \"x\" in duration \"5x\"");
    check("rate({a=\"b\"}[])", "at line 0, col 13: empty duration string");
    check("1 /* never ends", "at line 1, col 3: comment not terminated");
    check("0x", "at line 1, col 1: decimal literal has no digits");
    check("1e", "at line 1, col 1: exponent has no digits");
}

#[test]
fn what_reads_well_and_cannot_be() {
    let empty = ": queries require at least one regexp or equality matcher that does not have an \
        empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but \
        app=~\".+\" will";
    for query in ["{}", "{a=~\".*\"}", "{a!=\"b\"}", "{a=\"\"}", "1 + rate({a!~\"b\"}[1m])"] {
        check(query, empty);
    }
    check("topk(rate({a=\"b\"}[1m]))", ": parameter required for operation topk");
    check("topk(0, rate({a=\"b\"}[1m]))", ": invalid parameter (must be greater than 0) topk(0");
    check("topk(1.5, rate({a=\"b\"}[1m]))", ": invalid parameter topk(1.5,");
    check("sum(2, rate({a=\"b\"}[1m]))", ": unsupported parameter for operation sum(2,");
    check("rate({a=\"b\"}[1m]) by (c)", ": grouping not allowed for rate aggregation");
    check("sort(rate({a=\"b\"}[1m])) by (c)", ": sort and sort_desc doesn't allow grouping by ");
    check(
        "count_over_time({a=\"b\"} | unwrap c [1m])",
        ": invalid aggregation count_over_time with unwrap",
    );
    check("avg_over_time({a=\"b\"}[1m])", ": invalid aggregation avg_over_time without unwrap");
    check(
        "quantile_over_time({a=\"b\"} | unwrap c [1m])",
        ": parameter required for operation quantile_over_time",
    );
    check("rate(5, {a=\"b\"}[1m])", ": parameter 5 not supported for operation rate");
    check(
        "{a=\"b\"} + 1",
        ": unexpected type for left leg of binary operation (+): *syntax.MatchersExpr",
    );
    check(
        "1 + {a=\"b\"} | json",
        ": unexpected type for right leg of binary operation (+): *syntax.PipelineExpr",
    );
    check(
        "1 and vector(1)",
        ": unexpected literal for left leg of logical/set binary operation (and): 1.000000",
    );
    check(
        "{a=\"b\"} | regexp \"c\"",
        ": invalid regexp parser: at least one named capture must be supplied",
    );
    check(
        "{a=\"b\"} | regexp \"(?P<c>.)(?P<c>.)\"",
        ": invalid regexp parser: duplicate extracted label name 'c'",
    );
    check(
        "{a=\"b\"} | pattern \"<c><d>\"",
        ": invalid pattern parser: found consecutive capture '<c><d>': invalid expression",
    );
    check(
        "{a=\"b\"} | pattern \"<_> c\"",
        ": invalid pattern parser: at least one capture is required",
    );
    check(
        "1e999",
        ": unable to parse literal as a float: strconv.ParseFloat: parsing \"1e999\": value out of range",
    );
}

#[test]
fn selectors_alone() {
    assert_eq!(parse_matchers("{}"), Ok(Vec::new()));
    assert_eq!(parse_matchers("{a=\"b\", c!=\"d\"}").map(|matchers| matchers.len()), Ok(2));
    for query in ["", "a", "{a=\"b\"} |= \"c\"", "rate({a=\"b\"}[1m])"] {
        assert!(parse_matchers(query).is_err(), "{query}");
    }
    assert!(parse_log("{a=\"b\"} | json").is_ok());
    assert!(parse_log("rate({a=\"b\"}[1m])").is_err());
}
