//! Protobuf expositions, written by `prost`, are read as Prometheus reads them.

use model::Buckets;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::super::{Entry, Forms, ProtobufParser};

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Pair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Number>,
    #[prost(int64, tag = "6")]
    timestamp_ms: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<Exemplar>,
    #[prost(message, optional, tag = "3")]
    start: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Pair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    time: Option<Time>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantiles: Vec<Quantile>,
    #[prost(message, optional, tag = "4")]
    start: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantile {
    #[prost(double, tag = "1")]
    quantile: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(double, tag = "4")]
    count_float: f64,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "14")]
    positive_counts: Vec<f64>,
    #[prost(message, optional, tag = "15")]
    start: Option<Time>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

fn family(name: &str, kind: i32, metric: Metric) -> Family {
    let (help, unit) = (String::new(), String::new());
    Family { name: name.to_owned(), help, kind, metrics: vec![metric], unit }
}

/// All entries but the declarations, in one line each.
fn read(families: &[Family], classic_too: bool) -> Result<Vec<String>, String> {
    let bytes: Vec<u8> = families.iter().flat_map(Family::encode_length_delimited_to_vec).collect();
    let forms = Forms { classic_too, ..Forms::NATIVE };
    let mut parser = ProtobufParser::new(&bytes, forms);
    let mut lines = Vec::new();
    while let Some(entry) = parser.next_entry().map_err(|e| e.to_string())? {
        let labels: Vec<String> = parser.labels().iter().map(|(n, v)| format!("{n}={v}")).collect();
        let labels = labels.join(",");
        let since = match parser.start_ms() {
            0 => String::new(),
            start_ms => format!(" since {start_ms}"),
        };
        let line = match entry {
            Entry::Sample { value, timestamp_ms: None, .. } => format!("{labels} {value}"),
            Entry::Sample { value, timestamp_ms: Some(at), .. } => {
                format!("{labels} {value} @{at}")
            }
            Entry::Histogram { histogram: h, .. } => {
                let counts = match &h.buckets {
                    Buckets::Integer { count, positive_deltas, .. } => {
                        format!("{count} {positive_deltas:?}")
                    }
                    Buckets::Float { count, positive, .. } => format!("{count} {positive:?} float"),
                };
                format!(
                    "{labels} schema {} sum {} {} spans {counts} {:?}",
                    h.schema,
                    h.sum,
                    h.positive_spans.len(),
                    h.reset_hint
                )
            }
            _ => continue,
        };
        lines.push(line + &since);
        for e in parser.exemplars() {
            let labels: Vec<String> = e.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            lines.push(format!("# {} {} {:?}", labels.join(","), e.value, e.timestamp_ms));
        }
    }
    Ok(lines)
}

#[track_caller]
fn check(family: Family, lines: &[&str]) {
    assert_eq!(read(&[family], false).expect("valid"), lines);
}

fn exemplar(value: f64, time: Option<Time>) -> Option<Exemplar> {
    let labels = vec![Pair { name: "id".to_owned(), value: "x".to_owned() }];
    Some(Exemplar { labels, value, time })
}

#[test]
fn simple_metrics() {
    let labels = vec![Pair { name: "a".to_owned(), value: "1".to_owned() }];
    let number = Some(Number { value: 1.5 });
    let gauge = Metric { labels, gauge: number, timestamp_ms: 7, ..Metric::default() };
    check(family("g", 1, gauge), &["__name__=g,a=1 1.5 @7"]);
    check(family("u", 3, Metric { untyped: number, ..Metric::default() }), &["__name__=u 1.5"]);
    let time = Some(Time { seconds: 2, nanos: 5_000_000 });
    let counter = Counter { value: 3.0, exemplar: exemplar(0.5, time), start: None };
    let counter = Metric { counter: Some(counter), ..Metric::default() };
    check(family("c_total", 0, counter), &["__name__=c_total 3", "# id=x 0.5 Some(2005)"]);
    let quantiles =
        vec![Quantile { quantile: 0.5, value: 1.0 }, Quantile { quantile: 1.0, value: 2.0 }];
    let summary = Summary { count: 4, sum: 6.5, quantiles, start: None };
    let summary = Metric { summary: Some(summary), ..Metric::default() };
    let lines = [
        "__name__=s_count 4",
        "__name__=s_sum 6.5",
        "__name__=s,quantile=0.5 1",
        "__name__=s,quantile=1.0 2",
    ];
    check(family("s", 2, summary), &lines);
}

fn histogram(histogram: Histogram) -> Metric {
    Metric { histogram: Some(histogram), ..Metric::default() }
}

fn classic() -> Histogram {
    let bucket = |count, bound, exemplar| Bucket { count, bound, exemplar };
    let time = Some(Time { seconds: 1, nanos: 0 });
    let buckets = vec![bucket(1, 0.5, exemplar(0.1, time)), bucket(2, 1.0, exemplar(0.9, None))];
    Histogram { count: 3, sum: 4.0, buckets, ..Histogram::default() }
}

const CLASSIC: [&str; 7] = [
    "__name__=h_count 3",
    "__name__=h_sum 4",
    "__name__=h_bucket,le=0.5 1",
    "# id=x 0.1 Some(1000)",
    "__name__=h_bucket,le=1.0 2",
    "# id=x 0.9 None",
    "__name__=h_bucket,le=+Inf 3",
];

#[test]
fn histograms_are_classic_or_native() {
    check(family("h", 4, histogram(classic())), &CLASSIC);
    let native = Histogram {
        schema: 3,
        zero_threshold: 0.001,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_deltas: vec![1, 1],
        ..classic()
    };
    let line = "__name__=h schema 3 sum 4 1 spans 3 [1, 1] Unknown";
    let both = family("h", 4, histogram(native.clone()));
    check(both.clone(), &[line, "# id=x 0.1 Some(1000)"]);
    let expected = [&[line, "# id=x 0.1 Some(1000)"][..], &CLASSIC].concat();
    assert_eq!(read(&[both], true).expect("valid"), expected);
    let own = Histogram { exemplars: exemplar(0.7, None).into_iter().collect(), ..native.clone() };
    check(
        family("h", 5, histogram(own)),
        &["__name__=h schema 3 sum 4 1 spans 3 [1, 1] Gauge", "# id=x 0.7 None"],
    );
    let float = Histogram {
        count_float: 2.5,
        positive_counts: vec![1.0, 1.5],
        buckets: vec![],
        ..native.clone()
    };
    check(
        family("h", 4, histogram(float)),
        &["__name__=h schema 3 sum 4 1 spans 2.5 [1.0, 1.5] float Unknown"],
    );
    let fine = Histogram { schema: 9, buckets: vec![], ..native };
    check(family("h", 4, histogram(fine)), &["__name__=h schema 8 sum 4 1 spans 3 [3] Unknown"]);
    let marked =
        Histogram { positive_spans: vec![Span { offset: 0, length: 0 }], ..Histogram::default() };
    check(family("h", 4, histogram(marked)), &["__name__=h schema 0 sum 0 0 spans 0 [] Unknown"]);
}

#[test]
fn metrics_say_since_when_they_count() {
    let start = Some(Time { seconds: 7, nanos: 999_999 });
    let counter = Some(Counter { value: 3.0, exemplar: None, start });
    let counter = Metric { counter, ..Metric::default() };
    let unknown = Some(Counter { value: 4.0, exemplar: None, start: None });
    let unknown = Metric { counter: unknown, ..Metric::default() };
    let mut counters = family("c_total", 0, counter);
    counters.metrics.push(unknown);
    check(counters, &["__name__=c_total 3 since 7000", "__name__=c_total 4"]);
    let quantiles = vec![Quantile { quantile: 0.5, value: 1.0 }];
    let summary = Some(Summary { count: 4, sum: 6.5, quantiles, start });
    let lines = ["s_count 4", "s_sum 6.5", "s,quantile=0.5 1"];
    let lines = lines.map(|line| format!("__name__={line} since 7000"));
    let lines = lines.each_ref().map(String::as_str);
    check(family("s", 2, Metric { summary, ..Metric::default() }), &lines);
    let classic = Histogram { start, buckets: vec![], ..classic() };
    let lines = ["h_count 3", "h_sum 4", "h_bucket,le=+Inf 3"];
    let lines = lines.map(|line| format!("__name__={line} since 7000"));
    check(family("h", 4, histogram(classic.clone())), &lines.each_ref().map(String::as_str));
    let native = Histogram { zero_threshold: 0.001, ..classic };
    let line = "__name__=h schema 0 sum 4 0 spans 3 [] Unknown since 7000";
    check(family("h", 4, histogram(native)), &[line]);
}

#[test]
fn wrong_families_are_refused_by_number() {
    let good = family("g", 1, Metric { gauge: Some(Number { value: 1.0 }), ..Metric::default() });
    for (bad, told) in [
        (family("", 1, Metric::default()), "metric family without a name"),
        (family("g", 9, Metric::default()), "unknown metric type"),
        (family("g", 0, good.metrics[0].clone()), "metric has no value of its family's type"),
    ] {
        let error = read(&[good.clone(), bad], false).expect_err("refused");
        assert_eq!(error, format!("line 2: {told}: \"metric family in protobuf\""));
    }
}

proptest! {
    #[test]
    fn changed_bytes_are_survived(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), noise in vec(any::<u8>(), 0..100)) {
        let mut bytes = family("h", 4, histogram(classic())).encode_length_delimited_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        crate::fuzz::exposition_protobuf(&bytes);
        crate::fuzz::exposition_protobuf(&noise);
    }
}
