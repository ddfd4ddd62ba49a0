//! What is PromQL, and what it means: each text beside its printed form.

use crate::promql::{ExprKind, Features, ValueType, parse_matchers, parse_with};

#[track_caller]
fn check(text: &str, printed: &str) {
    let expr = parse_with(text, Features::ALL).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(expr.to_string(), printed, "{text}");
    let again =
        parse_with(printed, Features::ALL).unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(again.to_string(), printed, "{text}, printed and read");
}

/// A text that prints as it is.
#[track_caller]
fn same(text: &str) {
    check(text, text);
}

#[test]
fn numbers_and_strings() {
    check("1_000", "1000");
    check("0x1F", "31");
    check("017", "15");
    check(".5", "0.5");
    check("5.", "5");
    check("1e3", "1000");
    check("+5", "5");
    check("-0", "-0");
    check("inf", "+Inf");
    check("-Inf", "-Inf");
    check("nan", "NaN");
    same("1h30m");
    check("-5m", "-5m");
    check("inf ^ 2", "Inf ^ 2");
    check("- - 1", "1");
    check("'it\\'s'", "\"it's\"");
    check("`a\\b`", "\"a\\\\b\"");
    check("\"\\xff\"", "\"\\xff\"");
    check("1 # one\n+ 2 # two", "1 + 2");
}

#[test]
fn operators_bind_as_in_mathematics() {
    #[track_caller]
    fn grouped(text: &str, expected: &str) {
        fn show(expr: &crate::promql::Expr) -> String {
            match &expr.kind {
                ExprKind::Binary(b) => format!("({} {} {})", show(&b.lhs), b.op, show(&b.rhs)),
                ExprKind::Unary(sign, inner) => format!("({sign}{})", show(inner)),
                _ => expr.to_string(),
            }
        }
        let expr =
            parse_with(text, Features::ALL).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(show(&expr), expected, "{text}");
    }
    grouped("a + b * c", "(a + (b * c))");
    grouped("a * b + c", "((a * b) + c)");
    grouped("a - b - c", "((a - b) - c)");
    grouped("a ^ b ^ c", "(a ^ (b ^ c))");
    grouped("-a ^ b", "(-(a ^ b))");
    grouped("-1 ^ 2", "(-(1 ^ 2))");
    grouped("-a * b", "((-a) * b)");
    grouped("2 ^ -a * b", "((2 ^ (-a)) * b)");
    grouped("2 ^ -a ^ b", "(2 ^ (-(a ^ b)))");
    grouped("a or b and c unless d", "(a or ((b and c) unless d))");
    grouped("a == b + c", "(a == (b + c))");
    grouped("a atan2 b % c", "((a atan2 b) % c)");
    grouped("a </ 1 >/ 2", "((a </ 1) >/ 2)");
    grouped("a offset 5m + 1", "(a offset 5m + 1)");
    grouped("a offset -2 ^ 2", "(a offset -2s ^ 2)");
    grouped("a offset step() * 0", "(a offset step() * 0)");
    grouped("a offset (5m) + 1", "a offset (5m) + 1");
    grouped("a + b @ 5", "(a + b @ 5.000)");
}

#[test]
fn names_are_any_text() {
    same("foo:bar");
    check("{\"metric.name\", a='b'}", "{__name__=\"metric.name\",a=\"b\"}");
    check("{\"a label\"!=\"1\",x=\"y\",}", "{\"a label\"!=\"1\",x=\"y\"}");
    check("{``='0', a='1'}", "{\"\"=\"0\",a=\"1\"}");
    same("sum by (\"a label\", b) (foo)");
    check("a / on('x y') group_left('é',) b", "a / on (\"x y\") group_left (\"é\") b");
    for word in [
        "sum", "by", "offset", "start", "end", "step", "range", "min_of", "anchored", "smoothed",
        "fill",
    ] {
        same(word);
        same(&format!("{word}{{a=\"b\"}}"));
        same(&format!("sum by ({word}) (x)"));
        same(&format!("a + on ({word}) b"));
        same(&format!("foo{{{word}=\"b\"}}"));
    }
    same("and and and");
    same("offset offset 5m");
    same("fill + fill (0) fill");
    same("sum by (bool, on, ignoring, group_left, group_right, atan2) (x)");
    check("SUM BY (A) (x)", "sum by (A) (x)");
    check("nan_total", "nan_total");
}

#[test]
fn aggregations() {
    check("sum(x) by (a, b,)", "sum by (a, b) (x)");
    check("sum by () (x)", "sum(x)");
    same("sum without () (x)");
    same("count_values without (a) (\"v\", x)");
    for op in ["topk", "bottomk", "quantile", "limitk", "limit_ratio"] {
        same(&format!("{op} by (a) (5, x)"));
    }
    for op in ["avg", "count", "group", "max", "min", "stddev", "stdvar", "sum"] {
        same(&format!("{op}(x)"));
    }
    check("topk(scalar(x), y)", "topk(scalar(x), y)");
}

#[test]
fn matching() {
    same("a + on () b");
    check("a + ignoring () b", "a + b");
    check("a * on(x) group_left b", "a * on (x) group_left () b");
    check("a == bool on(x) group_right(y) b", "a == bool on (x) group_right (y) b");
    check("a + ignoring() group_left(y) b", "a + ignoring () group_left (y) b");
    check("a + fill(0) b", "a + fill (0) b");
    check("a + fill_right(7) fill_left(-Inf) b", "a + fill_left (-Inf) fill_right (7) b");
    check("a and on(x) b", "a and on (x) b");
    check("1 > bool 2", "1 > bool 2");
}

#[test]
fn times() {
    check("x[300]", "x[5m]");
    check("x offset 300", "x offset 5m");
    check("x offset -1h", "x offset -1h");
    check("x offset 0", "x");
    check("x[5m] offset 1h @ 12", "x[5m] @ 12.000 offset 1h");
    check("x @ -1.5 offset 1m", "x @ -1.500 offset 1m");
    check("x @ start()", "x @ start()");
    check("x[1h:] @ end()", "x[1h:] @ end()");
    check("rate(x[5m:1m])", "rate(x[5m:1m])");
    check("x offset 1m smoothed", "x smoothed offset 1m");
    check("x[5m] anchored", "x[5m] anchored");
    check("x anchored[5m]", "x[5m] anchored");
    same("max_over_time(sum(x)[5m:])[1h:5m]");
}

#[test]
fn durations_are_calculated() {
    same("x[5m * 2]");
    check("x[-5m+35m]", "x[-5m + 35m]");
    check("x[(step())+1]", "x[(step()) + 1]");
    check("x[((step()))]", "x[(step())]");
    check("x[min_of(step()+1,1h)]", "x[min_of(step() + 1, 1h)]");
    check("x[STEP()]", "x[step()]");
    check("x[1s+range()]", "x[1s + range()]");
    check("x[1h/2:step()]", "x[1h / 2:step()]");
    check("x offset -(step()*2)", "x offset -(step() * 2)");
    check("x offset +(5*2)", "x offset (5 * 2)");
    check(
        "x offset -min_of(10s, +max_of(step() ^ 2, 2))",
        "x offset -min_of(10s, max_of(step() ^ 2, 2))",
    );
    check("x offset - -5", "x offset 5s");
    check("x offset -+2 ^ 2", "x offset -2s ^ 2");
    check("x[200-min_of(-step()^+step(),1)]", "x[200 - min_of(-step() ^ step(), 1)]");
}

#[test]
fn functions() {
    same("time()");
    same("round(x)");
    same("round(x, 5)");
    same("day_of_week()");
    same("label_join(x, \"a\", \"b\")");
    same("label_join(x, \"a\", \"b\", \"c\", \"d\")");
    same("histogram_quantiles(x, \"q\", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)");
    same("sort_by_label(x, \"a\", \"b\")");
    same("start() + end() + step() + range() + min_of(1, 2)");
    check("STEP()", "step()");
    check("info(x, {a=~\".*\"})", "info(x, {a=~\".*\"})");
    check("info(x, {})", "info(x, {})");
    check("absent(x)", "absent(x)");
}

#[test]
fn types() {
    for (text, expected) in [
        ("1 + 1", ValueType::Scalar),
        ("(-1)", ValueType::Scalar),
        ("'a'", ValueType::String),
        ("x", ValueType::Vector),
        ("1 + x", ValueType::Vector),
        ("-x", ValueType::Vector),
        ("x[5m]", ValueType::Matrix),
        ("(x[5m:])", ValueType::Matrix),
        ("scalar(x)", ValueType::Scalar),
        ("sum(x)", ValueType::Vector),
    ] {
        let expr =
            parse_with(text, Features::ALL).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.value_type(), expected, "{text}");
    }
}

#[test]
fn every_node_knows_its_text() {
    let text = " sum by (a) ( rate(x{b=\"c\"}[5m] offset 1m) ) / -y[1h:5m] @ 5 # end";
    let text = text.replace("-y[1h:5m] @ 5", "-max_over_time(y[1h:5m] @ 5)");
    let expr = parse_with(&text, Features::ALL).unwrap_or_else(|error| panic!("{error}"));
    let mut found = Vec::new();
    expr.walk(&mut |node| found.push(&text[node.span.start..node.span.end]));
    let expected = [
        "sum by (a) ( rate(x{b=\"c\"}[5m] offset 1m) ) / -max_over_time(y[1h:5m] @ 5)",
        "sum by (a) ( rate(x{b=\"c\"}[5m] offset 1m) )",
        "rate(x{b=\"c\"}[5m] offset 1m)",
        "x{b=\"c\"}[5m] offset 1m",
        "-max_over_time(y[1h:5m] @ 5)",
        "max_over_time(y[1h:5m] @ 5)",
        "y[1h:5m] @ 5",
        "y",
    ];
    assert_eq!(found, expected);
    let mut selectors = Vec::new();
    expr.selectors(|selector, span| {
        selectors.push((selector.name.clone().unwrap_or_default(), span.start))
    });
    assert_eq!(selectors, [(String::from("x"), 19), (String::from("y"), 62)]);
}

#[test]
fn long_lines_are_split() {
    let long = "a".repeat(60);
    let text = format!(
        "sum by (x) (rate({long}{{b=\"{long}\"}}[5m])) / -on_{long}{{c=\"{long}\"}} + (1 + 2)"
    );
    let expected = format!(
        "    sum by (x) (\n      rate(\n        {long}{{b=\"{long}\"}}[5m]\n      )\n    )\n  /\n    \
         -on_{long}{{c=\"{long}\"}}\n+\n  (1 + 2)"
    );
    let expr = parse_with(&text, Features::ALL).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(expr.pretty(), expected);
    // Not `+Inf`, which would be a sign before the power.
    let power = format!("Inf ^ ({long} + {long})");
    let expr = parse_with(&power, Features::ALL).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(expr.pretty(), format!("  Inf\n^\n  (\n      {long}\n    +\n      {long}\n  )"));
}

#[test]
fn selectors_of_parameters() {
    for (text, expected) in [
        ("up", "__name__=\"up\""),
        ("{}", ""),
        (" up{job=~\"a.*\", x!~'y'} ", "job=~\"a.*\" x!~\"y\" __name__=\"up\""),
        ("{\"a.b\"}", "__name__=\"a.b\""),
        ("sum", "__name__=\"sum\""),
        ("rate(x)", "1:5: parse error: unexpected \"(\""),
        ("up offset 5m", "1:4: parse error: unexpected <offset>"),
        ("1", "1:1: parse error: unexpected number \"1\""),
        ("", "unknown position: parse error: unexpected end of input"),
    ] {
        let found = match parse_matchers(text) {
            Ok(matchers) => matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text}");
    }
}
