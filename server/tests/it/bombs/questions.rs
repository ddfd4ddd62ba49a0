//! Bombs in questions: expressions, regular expressions, ranges, selectors.

use super::{ANSWERED, Bomb, Framing, REFUSED, Range, form};

/// An instant query by POST.
pub(super) fn instant(name: &str, query: &str) -> Bomb {
    posted(name, "/api/v1/query", form(&[("query", query)]))
}

fn posted(name: &str, path: &str, body: String) -> Bomb {
    Bomb {
        name: name.to_owned(),
        method: "POST",
        path: path.to_owned(),
        headers: b"Content-Type: application/x-www-form-urlencoded\r\n".to_vec(),
        body: body.into_bytes(),
        framing: Framing::Length,
        expected: ANSWERED,
        stored_bytes: 0,
    }
}

fn refused(bomb: Bomb) -> Bomb {
    Bomb { expected: REFUSED, ..bomb }
}

fn answered(bomb: Bomb) -> Bomb {
    Bomb { expected: &[200], ..bomb }
}

/// `before` so many times, the middle, `after` so many times.
fn around(depth: usize, before: &str, middle: &str, after: &str) -> String {
    [&before.repeat(depth), middle, &after.repeat(depth)].concat()
}

/// Ways to nest: what stands before and after, and around what.
const NESTED: &[(&str, &str, &str)] = &[
    ("(", "m", ")"),
    ("-", "m", ""),
    ("-(", "m", ")"),
    ("abs(", "m", ")"),
    ("sum(", "m", ")"),
    ("topk(1,", "m", ")"),
    ("count_values('x',", "m", ")"),
    ("1+", "1", ""),
    ("", "1", "+1"),
    ("m+", "m", ""),
    ("", "m", " or m"),
    ("", "m", "+on(series)group_left()m"),
    ("2^", "m", ""),
    ("(1+(", "m", "))"),
    ("scalar(vector(", "1", "))"),
    ("label_replace(", "m", ",'a','$1','b','(.*)')"),
    ("max_over_time(", "m", "[1m:1m])"),
    ("rate(", "m", "[1h:1m])"),
    ("sort(", "m", ")"),
    ("histogram_quantile(0.9,", "m", ")"),
    ("absent(", "m", ")"),
    ("m[1m:(", "1m", ")]"),
    ("m offset -(", "1m", ")"),
];

#[test]
fn nesting() {
    let range = Range::open();
    let mut bombs = vec![
        refused(instant("40 KB of +1", &format!("1{}", "+1".repeat(20_000)))),
        refused(instant("100,000 parentheses", &"(".repeat(100_000))),
        refused(instant("60,000 parentheses", &"(".repeat(60_000))),
        refused(instant("30,000 closed parentheses", &around(30_000, "(", "1", ")"))),
        refused(instant("30,000 braces", &"{".repeat(30_000))),
        refused(instant("30,000 brackets", &format!("m{}", "[".repeat(30_000)))),
        refused(instant("60,000 minus signs", &format!("{}1", "-".repeat(60_000)))),
        refused(instant("quotes without end", &format!("m{{a=\"{}", "\\\"".repeat(30_000)))),
        refused(instant(
            "a number of 60,000 digits and a dot",
            &format!("{}..", "9".repeat(60_000)),
        )),
        instant("60,000 digits", &"9".repeat(60_000)),
        instant("16,000 labels to group by", &format!("sum by ({}) (m)", "a,".repeat(16_000))),
        refused(instant("a query of 1 MB", &"m or ".repeat(200_000))),
        refused(instant("a form of 10 MB", &"m".repeat(10 << 20))),
    ];
    for (before, middle, after) in NESTED {
        for depth in [60, 120, 240, 247, 248, 249, 250, 251, 1_000, 5_000] {
            let query = around(depth, before, middle, after);
            let name = format!("{depth} times {before}{middle}{after}");
            bombs.push(instant(&name, &query));
            let range = form(&[("query", &query), ("start", "0"), ("end", "10"), ("step", "1")]);
            bombs.push(posted(&format!("range, {name}"), "/api/v1/query_range", range));
            let format = form(&[("query", &query)]);
            bombs.push(posted(&format!("format, {name}"), "/api/v1/format_query", format));
        }
    }
    range.survive(bombs);
}

#[test]
fn regular_expressions() {
    let range = Range::open();
    let alternatives: Vec<String> = (0..8_000).map(|i| format!("a{i}")).collect();
    let patterns = [
        "(a+)+$".to_owned(),
        "(a|aa)+b".to_owned(),
        "(a*)*b".to_owned(),
        "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)b".to_owned(),
        "(x+x+)+y".to_owned(),
        "(((a{100}){100}){100})".to_owned(),
        ".{1000}{1000}".to_owned(),
        "((((((a?){50})*){50})*){50})".to_owned(),
        "(\\\\p{L}\\\\p{N}){500}".to_owned(),
        "(?i)(\\\\w{300})+".to_owned(),
        "a{0,4294967295}".to_owned(),
        "a{99999999999999999999}".to_owned(),
        ".*a.{30}".to_owned(),
        format!("(?i){}", alternatives.join("|")),
        alternatives.join("|"),
        ".*".repeat(20_000),
        "(".repeat(30_000),
        around(10_000, "(", "a", ")"),
        around(200, "(", "a", ")*"),
        "[".repeat(30_000),
        "[a-z&&[b-y".repeat(3_000),
        format!("{}$", "a?".repeat(300)),
        format!("(?i)[{}]", "\u{410}-\u{44f}".repeat(5_000)),
    ];
    let mut bombs = Vec::new();
    for pattern in &patterns {
        let name: String = pattern.chars().take(40).collect();
        let quoted = format!("\"{}\"", pattern.replace('"', "\\\""));
        bombs.push(instant(&name, &format!("m{{long=~{quoted}}}")));
        let replaced = format!("label_replace(m, 'a', '$1', 'long', {quoted})");
        bombs.push(instant(&format!("label_replace, {name}"), &replaced));
        let selector = form(&[("match[]", &format!("{{long!~{quoted},__name__='m'}}"))]);
        bombs.push(posted(&format!("series, {name}"), "/api/v1/series", selector));
    }
    // Each is small enough alone.
    let (wide, small) = ("\\\\w{40}", "(a+)+$");
    for pattern in [wide, small] {
        let matchers = |count: usize| vec![format!("long=~\"{pattern}\""); count].join(",");
        bombs.push(instant(&format!("250 of {pattern}"), &format!("m{{{}}}", matchers(250))));
        bombs.push(instant(&format!("2,500 of {pattern}"), &format!("m{{{}}}", matchers(2_500))));
        let selectors = |count: usize| {
            let one = format!("{{long=~\"{pattern}\",__name__=\"m\"}}");
            form(&vec![("match[]", one.as_str()); count])
        };
        for path in ["/api/v1/series", "/api/v1/labels"] {
            let name = format!("{path}, 5,000 of {pattern}");
            bombs.push(posted(&name, path, selectors(5_000)));
        }
        let parts = vec![format!("m{{long=~\"{pattern}\"}}"); 200].join(" or ");
        bombs.push(instant(&format!("200 parts with {pattern}"), &parts));
        let replaced =
            around(200, "label_replace(", "m", &format!(",'a','','long',\"{pattern}\")"));
        bombs.push(instant(&format!("200 label_replace of {pattern}"), &replaced));
    }
    range.survive(bombs);
}

#[test]
fn ranges_and_steps() {
    let range = Range::open();
    let mut bombs = Vec::new();
    let ranges = [
        ("0", "9000000000000", "0.001"),
        ("0", "11001", "1"),
        ("0", "1e300", "1"),
        ("-1e300", "1e300", "1e300"),
        ("-9223372036854775", "9223372036854775", "9223372036854775"),
        ("-9223372036854775", "9223372036854775", "1000000y"),
        ("0", "10", "0"),
        ("0", "10", "-1"),
        ("0", "10", "NaN"),
        ("0", "10", "1e-300"),
        ("10", "0", "1"),
        ("NaN", "Inf", "1"),
    ];
    for (start, end, step) in ranges {
        for query in ["m", "rate(m[5m])", "sum_over_time(m[100y:1ms])"] {
            let fields = form(&[("query", query), ("start", start), ("end", end), ("step", step)]);
            let name = format!("{query} from {start} to {end} step {step}");
            bombs.push(refused(posted(&name, "/api/v1/query_range", fields)));
        }
    }
    let subqueries = [
        "max_over_time(m[100y:1ms])",
        "count_over_time(vector(1)[100y:1ms])",
        "sum_over_time(time()[100y:1ms])",
        "m[100y:1ms]",
        "vector(1)[100y:1ms]",
        "rate(rate(m[1m:1ms])[100y:1ms])",
        "sum_over_time(sum_over_time(vector(1)[1y:1s])[1y:1s])",
        "absent_over_time(nothing[100y:1ms])",
        "sum_over_time((m + m)[280y:1ms] offset 280y)",
    ];
    bombs.extend(subqueries.map(|query| refused(instant(query, query))));
    let reaches = [
        "m[100y]",
        "m[292y]",
        "m[1000000y]",
        "rate(m[292y])",
        "m offset 292y",
        "m offset -292y",
        "m offset 1000000y",
        "m @ 1e300",
        "m @ -1e300",
        "m @ 9223372036854775",
        "rate(m[292y] @ -9223372036854775 offset 292y)",
        "m[9223372036854775807ms]",
    ];
    bombs.extend(reaches.map(|query| instant(query, query)));
    let times = ["1e300", "-1e300", "9223372036854775", "-9223372036854775", "NaN", "Inf", "x"];
    for time in times {
        for query in ["m", "rate(m[292y])", "max_over_time(m[292y:292y])", "m offset -292y"] {
            let fields = form(&[("query", query), ("time", time), ("timeout", "1e300")]);
            bombs.push(posted(&format!("{query} at {time}"), "/api/v1/query", fields));
        }
        let fields =
            form(&[("match[]", "m"), ("start", time), ("end", time), ("limit", "99999999999")]);
        bombs.push(posted(&format!("series at {time}"), "/api/v1/series", fields));
    }
    range.survive(bombs);
}

#[test]
fn parameters() {
    let range = Range::open();
    let mut bombs = Vec::new();
    for number in ["1e308", "-1e308", "NaN", "Inf", "-Inf", "9223372036854775808", "1e-320", "-0"] {
        for call in [
            "topk(N, m)",
            "bottomk(N, m)",
            "limitk(N, m)",
            "limit_ratio(N, m)",
            "quantile(N, m)",
            "quantile_over_time(N, m[1h])",
            "round(m, N)",
            "clamp(m, N, -N)",
            "predict_linear(m[1h], N)",
            "double_exponential_smoothing(m[1h], N, N)",
            "histogram_quantile(N, m)",
            "m ^ N",
            "m % N",
            "day_of_month(vector(N))",
            "days_in_month(vector(N))",
            "year(vector(N))",
        ] {
            let query = call.replace('N', number);
            bombs.push(instant(&query, &query));
        }
    }
    let join = |sources: usize| format!("label_join(m, 'long', ''{})", ", 'long'".repeat(sources));
    let replace = |template: &str, depth: usize| {
        around(depth, "label_replace(", "m", &format!(", 'long', '{template}', 'long', '(.*)')"))
    };
    bombs.extend([
        refused(instant("a template of 20,000 groups", &replace(&"$1".repeat(20_000), 1))),
        refused(instant("a template that doubles 100 times", &replace("$1$1", 100))),
        refused(instant("a join of 6,000 labels", &join(6_000))),
        refused(instant(
            "a join that doubles 100 times",
            &around(100, "label_join(", "m", ", 'long', '', 'long', 'long')"),
        )),
        answered(instant("a long template", &replace(&"a".repeat(2_000), 1))),
        answered(instant("a long template for each series", &replace(&"a".repeat(60_000), 1))),
        instant("values of 50 series counted", "count_values('x', m + on(series) group_left() m)"),
        instant("everything with everything", "m * on() group_left() m"),
    ]);
    let selectors = |count: usize, text: &str| form(&vec![("match[]", text); count]);
    for path in ["/api/v1/series", "/api/v1/labels"] {
        for (count, text) in [(2_000, "m"), (60_000, "m"), (5_000, "{series=\"1\",long=~\".+\"}")] {
            let name = format!("{path} with {count} selectors {text}");
            bombs.push(refused(posted(&name, path, selectors(count, text))));
        }
    }
    let fields = |count: usize| "a=b&".repeat(count) + "query=m";
    bombs.push(answered(posted("200,000 fields", "/api/v1/query", fields(200_000))));
    bombs.push(refused(posted("a million fields", "/api/v1/query", fields(1_000_000))));
    range.survive(bombs);
}
