//! Queries that are right, by the rule they show: what is printed of them.

use crate::logql::{Expr, LabelFilter, LineOp, MetricKind, StageKind, parse, pretty};

#[track_caller]
fn check(query: &str, printed: &str) {
    let expr = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    assert_eq!(expr.to_string(), printed, "{query}");
    assert_eq!(parse(printed).as_ref(), Ok(&expr), "{printed} read again");
    let pretty = pretty(&expr);
    assert_eq!(parse(&pretty).as_ref(), Ok(&expr), "{pretty} read again");
}

#[track_caller]
fn same(query: &str) {
    check(query, query);
}

#[test]
fn selectors_and_strings() {
    check("{ a = \"b\" , c != \"d\" }", r#"{a="b", c!="d"}"#);
    check(r#"{a=~`x\w+`}"#, r#"{a=~"x\\w+"}"#);
    check("{a=\"\\u00e9\\x41\\101\\t\"}", "{a=\"éAA\\t\"}");
    check("({a=\"b\"})", r#"{a="b"}"#);
    check("{a=\"b\"} # the rest |= \"is\" not read", r#"{a="b"}"#);
    check("{a=\"b\"} // nor\n/* is\nthis */ |= `#`", r##"{a="b"} |= "#""##);
    // Words of the language are names where no parenthesis follows.
    same(r#"{sum="a", rate="b", ip="c", bytes="d", variants="e"}"#);
}

#[test]
fn line_filters() {
    same(r#"{a="b"} |= "c" != "d" |~ "e" !~ "f" |> "<_>g" !> "h<_>""#);
    same(r#"{a="b"} |= "c" or "d" or ip("10.0.0.0/8")"#);
    check(r#"{a="b"} != "c" or "d" or "e""#, r#"{a="b"} != "c" != "d" != "e""#);
    same(r#"{a="b"} | json |= "c""#);
    let Ok(Expr::Log(lines)) = parse(r#"{a="b"} |~ "c" or "d" !~ "e" or "f""#) else { panic!() };
    let found = lines.stages.iter().map(|stage| match &stage.kind {
        StageKind::Line(filter) => (filter.op, filter.terms.len(), stage.at.0),
        other => panic!("{other}"),
    });
    let found: Vec<_> = found.collect();
    let (matches, not) = (LineOp::Matches, LineOp::MatchesNot);
    assert_eq!(found, [(matches, 2, 8), (not, 1, 22), (not, 1, 22)]);
}

#[test]
fn parsers_and_formatters() {
    check(
        r#"{a="b"}|json x="y.z[0]" , w|logfmt --keep-empty --strict q|regexp `(?P<n>\d+)`"#,
        r#"{a="b"} | json x="y.z[0]",w="w" | logfmt --strict --keep-empty q="q" | regexp "(?P<n>\\d+)""#,
    );
    same(r#"{a="b"} | unpack | pattern "<ip> - <_> <rest>" | line_format "{{.ip}}" | decolorize"#);
    same(r#"{a="b"} | label_format x=y,z="{{.w}}" | drop a,b="c" | keep d,e=~"f.*""#);
    check(r#"{a="b"}|LINE_FORMAT "x"|DROP y"#, r#"{a="b"} | line_format "x" | drop y"#);
}

#[test]
fn label_filters_bind_as_in_loki() {
    let check = |filter: &str, printed: &str| {
        check(&format!("{{a=\"b\"}} | {filter}"), &format!("{{a=\"b\"}} | {printed}"));
    };
    check("x=1 or y=2 and z=3", "( x==1 or ( y==2 , z==3 ) )");
    check("x=1 and y=2 or z=3", "( ( x==1 , y==2 ) or z==3 )");
    check("x=1 or y=2 or z=3", "( ( x==1 or y==2 ) or z==3 )");
    check("x=1 or y=2, z=3", "( x==1 or ( y==2 , z==3 ) )");
    check("x=1 y=2 or z=3", "( x==1 , ( y==2 or z==3 ) )");
    check("(x=1 or y=2) z=3", "( ( x==1 or y==2 ) , z==3 )");
    check("x>=-5.50 , y<1e3", "( x>=-5.5 , y<1000 )");
    check("x==1h0.5s or y!=5d", "( x==1h0m0.5s or y!=120h0m0s )");
    check("x>20MB and y<1KB", "( x>20MB , y<1.0kB )");
    check(
        "x=ip(\"::1\") or y!=ip(`10.0.0.1-10.0.0.9`)",
        "( x=ip(\"::1\") or y!=ip(\"10.0.0.1-10.0.0.9\") )",
    );
    check("x=~\"5..\"", "x=~`5..`");
    check("x=~\"5..`\"", "x=~\"5..`\"");
}

#[test]
fn ranges() {
    same(r#"rate({a="b"} |= "c" | json[5m])"#);
    check(r#"rate({a="b"}[5m] |= "c")"#, r#"rate({a="b"} |= "c"[5m])"#);
    check(
        r#"rate(({a="b"} |= "c")[90s] offset 1h)"#,
        r#"rate({a="b"} |= "c"[1m30s] offset 1h0m0s)"#,
    );
    check(r#"rate(({a="b"}[7d] offset -5m))"#, r#"rate({a="b"}[1w] offset -5m0s)"#);
    same(r#"sum_over_time({a="b"} | json | unwrap bytes(c) | d>5 | e="f"[5m])"#);
    check(
        r#"max_over_time({a="b"}[5m] | unwrap c) by (d, e)"#,
        r#"max_over_time({a="b"} | unwrap c[5m]) by (d,e)"#,
    );
    check(
        r#"quantile_over_time(.99, {a="b"} | unwrap c [1m]) without ()"#,
        r#"quantile_over_time(0.99,{a="b"} | unwrap c[1m]) without ()"#,
    );
    same(
        r#"variants(count_over_time({a="b"}[1m]), bytes_over_time({a="b"}[1m])) of ({a="b"} | json[1m])"#,
    );
}

#[test]
fn aggregations_and_operators() {
    check(r#"SUM(rate({a="b"}[5m])) BY (c,d)"#, r#"sum by (c,d)(rate({a="b"}[5m]))"#);
    check(r#"topk(5, rate({a="b"}[5m])) by ()"#, r#"topk(5,rate({a="b"}[5m]))"#);
    same(r#"sort_desc(sum without ()(rate({a="b"}[5m])))"#);
    same(r#"label_replace(rate({a="b"}[5m]),"x","$1","y","(.*)-.*")"#);
    check("vector(1)+vector(1)", "(vector(1.000000) + vector(1.000000))");
    check("2 ^ 3 ^ 2 - 500 % 7", "509");
    assert_eq!(parse("1/0").expect("a number").to_string(), "NaN");
}

#[test]
fn operators_group_as_in_prometheus() {
    let check = |query: &str, printed: &str| {
        let long = |text: &str| text.replace('v', "vector(1)").replace('w', "vector(1.000000)");
        let expr = parse(&long(query)).unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(expr.to_string(), long(printed), "{query}");
    };
    check("v + v * v", "(w + (w * w))");
    check("v - v - v", "((w - w) - w)");
    check("v ^ v ^ v", "(w ^ (w ^ w))");
    check("v or v and v unless v", "(w or ((w and w) unless w))");
    check("v == bool v + v", "(w == bool (w + w))");
    check("v > on (a) group_left (b, c) v", "(w > on (a) group_left (b,c) w)");
    check("v + ignoring (a) v", "(w + ignoring (a)  w)");
    check("v + on () v", "(w + on ()  w)");
    check("(v + v) * v", "((w + w) * w)");
}

#[test]
fn parts_know_where_they_stand() {
    let text = "sum(rate({a=\"b\"} |= \"c\" | json | d > 5 [5m]))";
    let Ok(Expr::Metric(sum)) = parse(text) else { panic!("{text}") };
    let MetricKind::Aggregate(sum) = sum.kind else { panic!("{text}") };
    assert_eq!(&text[sum.expr.at.0..][..4], "rate");
    let MetricKind::Range(rate) = sum.expr.kind else { panic!("{text}") };
    let starts: Vec<_> =
        rate.range.lines.stages.iter().map(|stage| &text[stage.at.0..][..3]).collect();
    assert_eq!(starts, ["|= ", "| j", "| d"]);
    let StageKind::Label(LabelFilter::Number(five)) = &rate.range.lines.stages[2].kind else {
        panic!("{text}")
    };
    assert_eq!((five.name.as_str(), five.value), ("d", 5.0));
}

#[test]
fn long_queries_are_broken_into_lines() {
    let query = r#"sum by (namespace, pod) (rate({cluster="production", namespace="shop"} |= "error" != "timeout" | json | status >= 500 [5m]))"#;
    let lines = r#"sum by (namespace, pod)(
  rate({cluster="production", namespace="shop"} |= "error" != "timeout" | json | status>=500[5m])
)"#;
    assert_eq!(pretty(&parse(query).expect("a query")), lines);
    let longer = query.replace("| json", "| json | line_format `{{.message}} {{.trace}}`");
    let lines = r#"sum by (namespace, pod)(
  rate(
    {cluster="production", namespace="shop"}
      |= "error" != "timeout"
      | json
      | line_format "{{.message}} {{.trace}}"
      | status>=500 [5m]
  )
)"#;
    assert_eq!(pretty(&parse(&longer).expect("a query")), lines);
}
