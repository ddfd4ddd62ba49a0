//! Beside promql-parser 0.11: both take and both refuse the same texts, but for the differences
//! that are listed, each with its reason. On those Prometheus sides with us.

use promql_parser::parser as other;

use super::generator::Generator;
use crate::promql::{Features, parse_with};

/// Both read it, or both refuse it.
#[track_caller]
fn check(text: &str) -> bool {
    let (ours, theirs) = (parse_with(text, Features::ALL), other::parse(text));
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{text}\nours: {ours:?}\ntheirs: {theirs:?}");
    ours.is_ok()
}

const GOOD: &str = r#"
up
up{}
up{job="x"}
up{job="x",}
{job="x"}
{"up"}
{"up", job!~'x|y'}
{__name__=~".+"}
up{job=~"x.*", instance!="", a!~"b"}
up{"quoted label"="x"}
sum(up)
sum by (job) (up)
sum(up) by (job)
sum without (job) (up)
sum by ("quoted label") (up)
sum by () (up)
sum by (job,) (up)
topk(5, up)
bottomk by (job) (1 + 1, up)
quantile(0.9, up)
count_values("v", up)
limitk(2, up)
limit_ratio(-0.5, up)
group(up)
stddev(up) + stdvar(up)
rate(up[5m])
rate(up[5m:])
rate(up[5m:1m])
rate(up[1h30m])
max_over_time(rate(up[5m])[1h:5m])
max_over_time(sum(up)[1h:])
up offset 5m
up offset -5m
up[5m] offset 1d
up @ 1609746000
up @ -1.5
up @ start()
up[5m] @ end()
up offset 5m @ 10
up @ 10 offset 5m
up[1h:5m] @ start() offset 1w
1
-1
+1
1.5e3
0x1F
Inf
-inf
NaN
5m
1h + 30
"a string"
'a string'
`a string`
"with \"quotes\" and \n"
1 + 2 * 3 ^ 4 % 5 / 6 - 7
-up ^ 2
2 ^ -up
(up)
((1))
up + up
up + 1
1 + up
up == 1
up == bool 1
1 > bool 2
up and up
up or up unless up
up atan2 up
up + on (job) up
up + on () up
up * on (job) group_left up
up * on (job) group_left (a, b) up
up / ignoring (job) group_right (a) up
up and ignoring (a) up
up >= bool on (job) up
abs(up)
absent(up{job="x"})
clamp(up, 0, 1)
day_of_week()
day_of_week(up)
histogram_quantile(0.9, rate(x_bucket[5m]))
histogram_fraction(0, 1, x)
label_join(up, "a", "-", "b", "c")
label_join(up, "a", "-")
label_replace(up, "a", "$1", "b", "(.*)")
round(up)
round(up, 5)
scalar(up)
vector(1)
time()
pi()
predict_linear(up[1h], 3600)
quantile_over_time(0.5, up[5m])
sort_by_label(up, "a", "b")
double_exponential_smoothing(up[5m], 0.5, 0.5)
mad_over_time(up[5m])
info(up)
info(up, {a="b"})
sum(sum)
sum
avg + count
by
without
offset
offset offset 5m
start
end
and and and
up{sum="x", by="y", on="z", bool="w"}
sum by (by, on, bool, offset, and, start) (up)
job:up:rate5m
SUM(up)
up OFFSET 5m
up AND up
NaN + INF
up # comment
"#;

const BAD: &str = r#"
+
1 +
* 1
(
)
(1
1)
()
up up
up 1
up =~ "x"
up = 1
up !
{}
{job=""}
{job=~".*"}
up{
up{job
up{job=
up{job="x"
up{job=x}
up{job="x" a="y"}
up{,}
up{=}
up{job=="x"}
up{job=~"("}
up{__name__="x"}
up{"x"}
up[
up[]
up[5m
up[5]5
up[5mm]
up[m]
up[0s]
up[5m][5m]
up[5m:5m:5m]
up[:5m]
(up)[5m]
1[5m]
up offset
up offset up
1 offset 5m
sum(up) offset 5m
up offset 5m offset 5m
up offset 5m[5m]
up @
up @ up
up @ start
up @ 1 @ 2
1 @ 2
up @ 1 [5m]
sum()
sum(
sum(up
sum(1)
sum("a")
sum(up[5m])
sum(up, up)
sum up
sum by job (up)
sum by (1) (up)
sum by (a b) (up)
sum by (a,,b) (up)
sum by (a) (up) by (a)
topk(up)
topk(up, up)
topk("a", up)
count_values(1, up)
rate()
rate(up)
rate(up[5m], up[5m])
rate(1)
rate(up[5m],)
nothing(up)
abs(up[5m])
abs("a")
time(1)
round()
round(up, up)
round(up, 1, 2)
label_replace(up, "a")
label_join(up, 1, 2)
clamp(up)
scalar(1)
vector(up)
keep_metric_names(up)
holt_winters(up[5m], 1, 1)
rate(up[5m]) keep_metric_names
1 == 1
1 and 1
up and 1
up + "a"
"a" + "b"
-"a"
-up[5m]
up[5m] + 1
up + bool 1
up + on up
up + on (a) group_left (a) up
up and on (a) group_left up
1 + on (a) up
up + group_left up
up or bool up
'unterminated
"unterminated
`unterminated
"\q"
up;
$up
up?
0x
1e
1.2.3
5q
1_
bool
on
group_left
ignoring
"#;

#[test]
fn the_same_texts_are_queries() {
    for text in GOOD.trim().lines() {
        assert!(check(text), "{text} is refused");
    }
    for text in BAD.trim().lines() {
        assert!(!check(text), "{text} is accepted");
    }
    assert!(GOOD.lines().count() + BAD.lines().count() > 200);
}

#[test]
fn generated_queries_are_queries() {
    let generator = Generator::new(11, false);
    for _ in 0..2_000 {
        let text = generator.any(4).to_string();
        if known_difference(&text).is_none() {
            assert!(check(&text), "{text} is refused");
        }
    }
}

/// Why promql-parser sees a text differently, if we know.
fn known_difference(text: &str) -> Option<&'static str> {
    [("{\"\"", "an empty label name")]
        .into_iter()
        .find(|(part, _)| text.contains(part))
        .map(|(_, why)| why)
}

#[test]
fn the_differences_are_known() {
    let (ours, theirs) = (true, false);
    for (text, read, why) in [
        ("up[5m * 2]", ours, "calculated durations are younger"),
        ("up[step()]", ours, "calculated durations are younger"),
        ("up offset (5m)", ours, "calculated durations are younger"),
        ("up[5m] anchored", ours, "anchored and smoothed are younger"),
        ("anchored{job=\"x\"}", ours, "a younger keyword is still a name"),
        ("x </ 1", ours, "trim operators are younger"),
        ("x >/ 1", ours, "trim operators are younger"),
        ("info(x, {a=~\".*\"})", ours, "the second argument selects nothing by itself"),
        ("info(x, y{a=\"b\"})", theirs, "the second argument has no name"),
        ("info(x, {a=\"b\"} == 1)", theirs, "the second argument is a selector"),
        ("1_000", ours, "underscores between digits"),
        ("1e999", theirs, "too large for a float"),
        ("up[300y]", theirs, "too long for a duration"),
        ("up{a=\"1\" or b=\"2\"}", theirs, "an extension of VictoriaMetrics"),
        ("up{\"\\xff\"=\"a\"}", theirs, "\\xff is a byte, not U+00FF"),
    ] {
        let (we, they) = (parse_with(text, Features::ALL).is_ok(), other::parse(text).is_ok());
        assert_eq!((we, they), (read, !read), "{text}: {why}");
    }
}
