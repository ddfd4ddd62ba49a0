//! Points become the rows that Prometheus makes of them.

use std::sync::Arc;
use std::time::Duration;

use model::{Histogram, Labels};
use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use storage::MetricRows;
use tenancy::Limits;

use super::super::delta::Streams;
use super::super::walk::{Context, Walked, walk};
use super::super::{OtlpConfig, TranslationStrategy};
use super::twin::{self, Data, Metric, Number, Request, attributes, metric, request};
use crate::{Caps, WalkError};

/// Nanoseconds of the second millisecond.
const AT: u64 = 2_000_000;

pub(super) fn context(config: OtlpConfig) -> Context {
    Context {
        config: Arc::new(config),
        limits: Arc::new(Limits { labels_max: 12, ..Limits::default() }),
        caps: Caps::default(),
        streams: Arc::new(Mutex::new(Streams::default())),
        now: Duration::ZERO,
    }
}

fn histogram(h: &Histogram) -> String {
    let spans = |spans: &[model::Span]| {
        spans.iter().map(|s| format!("{}+{}", s.offset, s.length)).collect::<Vec<_>>().join(",")
    };
    let model::Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } =
        &h.buckets
    else {
        panic!("counts are integers")
    };
    let sum = if h.is_stale() { "stale".to_owned() } else { h.sum.to_string() };
    format!(
        "schema {} sum {sum} count {count} zero {zero_count}@{:e} [{}]{positive_deltas:?} [{}]{negative_deltas:?} {:?}",
        h.schema,
        h.zero_threshold,
        spans(&h.positive_spans),
        spans(&h.negative_spans),
        h.custom_values
    )
}

/// Rows as text.
pub(super) fn shown(rows: &MetricRows<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for series in &rows.series {
        let wire = rows.labels_of(series);
        let labels = Labels::from_wire(wire).expect("labels");
        let mut canonical = Vec::new();
        labels.encode(&mut canonical);
        assert_eq!(wire, canonical, "labels are in canonical encoding");
        let since = |starts: &[i64], i: usize| match starts.get(i) {
            Some(start) if *start != 0 => format!(" since {start}"),
            _ => String::new(),
        };
        let samples = &rows.samples[series.samples.start as usize..series.samples.end as usize];
        for (i, s) in samples.iter().enumerate() {
            let value =
                if model::is_stale(s.value) { "stale".to_owned() } else { s.value.to_string() };
            let since = since(rows.sample_starts_of(series), i);
            lines.push(format!("{labels} {value} @{}{since}", s.timestamp_ms));
        }
        let histograms = series.histograms.start as usize..series.histograms.end as usize;
        for (i, (at, h)) in rows.histograms[histograms].iter().enumerate() {
            let since = since(rows.histogram_starts_of(series), i);
            lines.push(format!("{labels} {} @{at}{since}", histogram(h)));
        }
        for e in &rows.exemplars[series.exemplars.start as usize..series.exemplars.end as usize] {
            lines.push(format!("{labels} exemplar {} {} @{}", e.labels, e.value, e.timestamp_ms));
        }
    }
    lines
}

fn walked(context: &Context, request: &Request) -> (Vec<String>, Walked) {
    let mut rows = MetricRows::default();
    let walked = walk(&request.encode_to_vec(), context, None, &mut rows).expect("a valid request");
    (shown(&rows), walked)
}

#[track_caller]
fn check(config: OtlpConfig, request: &Request, lines: &[&str]) {
    let (rows, walked) = walked(&context(config), request);
    assert_eq!(rows, lines, "{walked:?}");
    assert_eq!(walked.outcome.rejected, []);
}

/// Every point is refused, for this reason.
#[track_caller]
fn check_refused(config: OtlpConfig, request: &Request, text: &str) {
    let (rows, walked) = walked(&context(config), request);
    assert!(rows.is_empty(), "{rows:?}");
    assert_eq!(walked.refused_points, walked.points);
    assert_eq!(walked.outcome.rejected[0].example, text);
}

fn number(value: f64, pairs: &[(&str, &str)]) -> Number {
    let value = Some(twin::Value::Double(value));
    Number { attributes: attributes(pairs), time: AT, value, ..Number::default() }
}

fn gauge(name: &str, points: Vec<Number>) -> Metric {
    metric(name, "", Data::Gauge(twin::Gauge { points }))
}

fn sum(name: &str, unit: &str, temporality: i32, monotonic: bool, points: Vec<Number>) -> Metric {
    metric(name, unit, Data::Sum(twin::Sum { points, temporality, monotonic }))
}

const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

#[test]
fn numbers_become_samples() {
    let integer = Number { value: Some(twin::Value::Integer(-3)), ..number(0.0, &[]) };
    let stale = Number { flags: 1, ..number(5.0, &[("a", "2")]) };
    let all = request(
        &[],
        vec![
            gauge("room.temp", vec![number(1.5, &[("http.method", "GET"), ("a", "")]), integer]),
            sum("req", "{request}", CUMULATIVE, true, vec![number(7.0, &[]), stale]),
            sum("queue", "By", CUMULATIVE, false, vec![number(-7.0, &[])]),
        ],
    );
    check(
        OtlpConfig::default(),
        &all,
        &[
            r#"{__name__="room_temp", http_method="GET"} 1.5 @2"#,
            r#"{__name__="room_temp"} -3 @2"#,
            r#"{__name__="req_total"} 7 @2"#,
            r#"{__name__="req_total", a="2"} stale @2"#,
            r#"{__name__="queue_bytes"} -7 @2"#,
        ],
    );
    let untranslated = OtlpConfig {
        translation_strategy: TranslationStrategy::NoTranslation,
        ..OtlpConfig::default()
    };
    check(
        untranslated,
        &request(&[], vec![gauge("room.temp", vec![number(1.5, &[("http.method", "GET")])])]),
        &[r#"{__name__="room.temp", http.method="GET"} 1.5 @2"#],
    );
}

#[test]
fn resources_become_job_instance_target_info_and_promoted_labels() {
    let resource = [
        ("service.namespace", "shop"),
        ("service.name", "cart"),
        ("service.instance.id", "i-1"),
        ("k8s.pod.name", "cart-0"),
        ("region", "eu"),
    ];
    let points = || vec![number(1.0, &[("region", "own"), ("job", "mine")])];
    let all = request(&resource, vec![gauge("g", points())]);
    let info = r#"{__name__="target_info", instance="i-1", job="shop/cart", k8s_pod_name="cart-0", region="eu"} 1 @2"#;
    check(
        OtlpConfig::default(),
        &all,
        &[r#"{__name__="g", instance="i-1", job="shop/cart", region="own"} 1 @2"#, info],
    );
    let promoting = OtlpConfig {
        promote_resource_attributes: vec!["k8s.pod.name".to_owned(), "region".to_owned()],
        ..OtlpConfig::default()
    };
    check(
        promoting,
        &all,
        &[
            r#"{__name__="g", instance="i-1", job="shop/cart", k8s_pod_name="cart-0", region="own"} 1 @2"#,
            info,
        ],
    );
    let everything = OtlpConfig {
        promote_all_resource_attributes: true,
        ignore_resource_attributes: vec!["service.namespace".to_owned(), "region".to_owned()],
        keep_identifying_resource_attributes: true,
        promote_scope_metadata: true,
        ..OtlpConfig::default()
    };
    check(
        everything,
        &all,
        &[
            r#"{__name__="g", instance="i-1", job="shop/cart", k8s_pod_name="cart-0", otel_scope_name="lib", otel_scope_s_a="v", otel_scope_schema_url="http://schema", otel_scope_version="1.2", region="own", service_instance_id="i-1", service_name="cart"} 1 @2"#,
            r#"{__name__="target_info", instance="i-1", job="shop/cart", k8s_pod_name="cart-0", region="eu", service_instance_id="i-1", service_name="cart", service_namespace="shop"} 1 @2"#,
        ],
    );
    let identity = request(&resource[..3], vec![gauge("g", points())]);
    check(
        OtlpConfig::default(),
        &identity,
        &[r#"{__name__="g", instance="i-1", job="shop/cart", region="own"} 1 @2"#],
    );
    let nameless = request(&resource[3..], vec![gauge("g", points())]);
    check(OtlpConfig::default(), &nameless, &[r#"{__name__="g", job="mine", region="own"} 1 @2"#]);
}

#[test]
fn target_info_spans_the_times_of_its_points() {
    let resource = [("service.name", "cart"), ("region", "eu")];
    let at = |ms: u64| Number { time: ms * 1_000_000, ..number(1.0, &[]) };
    let told = |points| {
        let all = request(&resource, vec![gauge("g", points)]);
        let (rows, _) = walked(&context(OtlpConfig::default()), &all);
        rows.iter()
            .filter_map(|r| {
                r.split_once("target_info")?.1.split_once('@').map(|(_, at)| at.to_owned())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(told(vec![at(7)]), ["7"]);
    assert_eq!(told(vec![at(400_000), at(0)]), ["0", "150000", "300000", "400000"]);
    assert_eq!(told(vec![at(300_000), at(0)]), ["0", "150000", "300000"]);
    let ever = told(vec![at(0), at(9_000_000_000_000)]);
    assert_eq!(ever.len(), 2_017, "bounded");
}

fn explicit(pairs: &[(&str, &str)]) -> twin::ExplicitPoint {
    let exemplar = |value, time: u64| twin::Exemplar {
        value,
        time: time * 1_000_000,
        trace_id: vec![0xab; 16],
        span_id: vec![1; 8],
        attributes: attributes(&[("user", "u")]),
    };
    twin::ExplicitPoint {
        attributes: attributes(pairs),
        start: 0,
        time: AT,
        count: 10,
        sum: Some(5.5),
        counts: vec![3, 0, 0, 0, 5, 2],
        bounds: vec![0.5, 1.0, 2.5, 10.0, 1e6],
        exemplars: vec![exemplar(0.7, 5), exemplar(0.1, 4), exemplar(1e9, 6)],
        flags: 0,
    }
}

fn histogram_metric(temporality: i32, points: Vec<twin::ExplicitPoint>) -> Request {
    request(&[], vec![metric("lat", "s", Data::Explicit(twin::Explicit { points, temporality }))])
}

#[test]
fn explicit_histograms_become_classic_ones() {
    let ids =
        r#"{span_id="0101010101010101", trace_id="abababababababababababababababab", user="u"}"#;
    let exemplar = |le: &str, value: &str, at: u32| {
        format!(
            r#"{{__name__="lat_seconds_bucket", a="1", le="{le}"}} exemplar {ids} {value} @{at}"#
        )
    };
    let (low, mid, high) =
        (exemplar("0.5", "0.1", 4), exemplar("1", "0.7", 5), exemplar("+Inf", "1000000000", 6));
    check(
        OtlpConfig::default(),
        &histogram_metric(CUMULATIVE, vec![explicit(&[("a", "1")])]),
        &[
            r#"{__name__="lat_seconds_sum", a="1"} 5.5 @2"#,
            r#"{__name__="lat_seconds_count", a="1"} 10 @2"#,
            r#"{__name__="lat_seconds_bucket", a="1", le="0.5"} 3 @2"#,
            &low,
            r#"{__name__="lat_seconds_bucket", a="1", le="1"} 3 @2"#,
            &mid,
            r#"{__name__="lat_seconds_bucket", a="1", le="2.5"} 3 @2"#,
            r#"{__name__="lat_seconds_bucket", a="1", le="10"} 3 @2"#,
            r#"{__name__="lat_seconds_bucket", a="1", le="1000000"} 8 @2"#,
            r#"{__name__="lat_seconds_bucket", a="1", le="+Inf"} 10 @2"#,
            &high,
        ],
    );
    let stale = twin::ExplicitPoint {
        flags: 1,
        sum: None,
        counts: vec![],
        bounds: vec![],
        exemplars: vec![],
        ..explicit(&[])
    };
    check(
        OtlpConfig::default(),
        &histogram_metric(CUMULATIVE, vec![stale]),
        &[
            r#"{__name__="lat_seconds_count"} stale @2"#,
            r#"{__name__="lat_seconds_bucket", le="+Inf"} stale @2"#,
        ],
    );
    let bad = twin::ExplicitPoint { counts: vec![1, 2], ..explicit(&[]) };
    check_refused(
        OtlpConfig::default(),
        &histogram_metric(CUMULATIVE, vec![bad]),
        "histogram \"lat\" has 2 buckets and 5 bounds",
    );
    let unsorted = twin::ExplicitPoint { bounds: vec![1.0, 0.5, 2.0, 3.0, 4.0], ..explicit(&[]) };
    check_refused(
        OtlpConfig::default(),
        &histogram_metric(CUMULATIVE, vec![unsorted]),
        "bounds of histogram \"lat\" are not ascending",
    );
}

#[test]
fn samples_count_since_the_start_of_their_points() {
    let start = 1_999_999;
    let counter = |value| Number { start, ..number(value, &[]) };
    let points = vec![twin::ExplicitPoint {
        start,
        counts: vec![10],
        bounds: vec![],
        exemplars: vec![],
        ..explicit(&[])
    }];
    let explicit = Data::Explicit(twin::Explicit { points, temporality: CUMULATIVE });
    let points = vec![twin::ExponentialPoint { start, ..exponential_point(0, 0, &[1]) }];
    let exponential = Data::Exponential(twin::Exponential { points, temporality: CUMULATIVE });
    let points = vec![twin::SummaryPoint { start, time: AT, count: 1, ..Default::default() }];
    let all = request(
        &[],
        vec![
            gauge("g", vec![counter(1.0)]),
            sum("c", "", CUMULATIVE, true, vec![counter(2.0), number(3.0, &[("a", "1")])]),
            metric("h", "", explicit),
            metric("e", "", exponential),
            metric("s", "", Data::Summary(twin::Summary { points })),
        ],
    );
    check(
        OtlpConfig::default(),
        &all,
        &[
            r#"{__name__="g"} 1 @2"#,
            r#"{__name__="c_total"} 2 @2 since 1"#,
            r#"{__name__="c_total", a="1"} 3 @2"#,
            r#"{__name__="h_sum"} 5.5 @2 since 1"#,
            r#"{__name__="h_count"} 10 @2 since 1"#,
            r#"{__name__="h_bucket", le="+Inf"} 10 @2 since 1"#,
            r#"{__name__="e"} schema 0 sum 2.5 count 4 zero 1@1e-128 [1+1][1] [-1+1][2] [] @2 since 1"#,
            r#"{__name__="s_sum"} 0 @2 since 1"#,
            r#"{__name__="s_count"} 1 @2 since 1"#,
        ],
    );
    // What is added up counts since its first point does.
    let adding = OtlpConfig { delta_to_cumulative: true, ..OtlpConfig::default() };
    let later = Number { start: AT, time: 2 * AT, ..number(5.0, &[]) };
    let deltas = request(&[], vec![sum("d", "", DELTA, true, vec![counter(2.0), later])]);
    let lines = [r#"{__name__="d_total"} 2 @2 since 1"#, r#"{__name__="d_total"} 7 @4 since 1"#];
    check(adding, &deltas, &lines);
}

#[test]
fn explicit_histograms_become_native_ones_when_asked_for() {
    let config = || OtlpConfig { convert_histograms_to_nhcb: true, ..OtlpConfig::default() };
    let plain = twin::ExplicitPoint { exemplars: vec![], ..explicit(&[]) };
    check(
        config(),
        &histogram_metric(CUMULATIVE, vec![plain.clone()]),
        &[
            r#"{__name__="lat_seconds"} schema -53 sum 5.5 count 10 zero 0@0e0 [0+1,3+2][3, 2, -3] [][] [0.5, 1.0, 2.5, 10.0, 1000000.0] @2"#,
        ],
    );
    let stale = twin::ExplicitPoint { flags: 1, ..plain };
    check(
        config(),
        &histogram_metric(CUMULATIVE, vec![stale]),
        &[
            r#"{__name__="lat_seconds"} schema -53 sum stale count 0 zero 0@0e0 [][] [][] [0.5, 1.0, 2.5, 10.0, 1000000.0] @2"#,
        ],
    );
}

fn exponential(temporality: i32, points: Vec<twin::ExponentialPoint>) -> Request {
    request(
        &[],
        vec![metric("exp", "", Data::Exponential(twin::Exponential { points, temporality }))],
    )
}

fn exponential_point(scale: i32, offset: i32, counts: &[u64]) -> twin::ExponentialPoint {
    twin::ExponentialPoint {
        time: AT,
        count: counts.iter().sum::<u64>() + 3,
        sum: Some(2.5),
        scale,
        zero_count: 1,
        positive: Some(twin::Buckets { offset, counts: counts.to_vec() }),
        negative: Some(twin::Buckets { offset: -2, counts: vec![2] }),
        ..twin::ExponentialPoint::default()
    }
}

#[test]
fn exponential_histograms_become_native_ones() {
    let check_one = |point: twin::ExponentialPoint, line: &str| {
        check(
            OtlpConfig::default(),
            &exponential(CUMULATIVE, vec![point]),
            &[&format!(r#"{{__name__="exp"}} {line} [] @2"#)],
        );
    };
    check_one(
        exponential_point(3, 0, &[1, 2, 0, 4]),
        "schema 3 sum 2.5 count 10 zero 1@1e-128 [1+4][1, 1, -2, 4] [-1+1][2]",
    );
    check_one(
        exponential_point(3, -5, &[0, 1, 0, 0, 0, 2]),
        "schema 3 sum 2.5 count 6 zero 1@1e-128 [-3+1,3+1][1, 1] [-1+1][2]",
    );
    // Two steps finer than what can be stored: four buckets become one.
    check_one(
        exponential_point(10, 0, &[1, 2, 3, 4, 5]),
        "schema 8 sum 2.5 count 18 zero 1@1e-128 [1+2][10, -5] [0+1][2]",
    );
    let threshold =
        twin::ExponentialPoint { zero_threshold: 0.25, sum: None, ..exponential_point(0, 0, &[]) };
    check_one(threshold, "schema 0 sum 0 count 3 zero 1@2.5e-1 [][] [-1+1][2]");
    let stale = twin::ExponentialPoint { flags: 1, ..exponential_point(0, 0, &[1]) };
    check_one(stale, "schema 0 sum stale count 0 zero 0@1e-128 [][] [][]");
    check_refused(
        OtlpConfig::default(),
        &exponential(CUMULATIVE, vec![exponential_point(-5, 0, &[1])]),
        "exponential histogram \"exp\" has scale -5, the least that can be stored is -4",
    );
    check_refused(
        OtlpConfig::default(),
        &exponential(CUMULATIVE, vec![exponential_point(0, i32::MAX, &[1, 1])]),
        "histogram \"exp\" has a bucket count or index that is too large",
    );
    check_refused(
        OtlpConfig::default(),
        &exponential(CUMULATIVE, vec![exponential_point(0, 0, &[u64::MAX - 3])]),
        "histogram \"exp\" has a bucket count or index that is too large",
    );
}

#[test]
fn summaries_become_quantiles() {
    let quantile = |quantile, value| twin::Quantile { quantile, value };
    let point = twin::SummaryPoint {
        time: AT,
        count: 4,
        sum: 8.0,
        quantiles: vec![quantile(0.0, 1.0), quantile(0.99, 5.0), quantile(1.0, 6.0)],
        ..twin::SummaryPoint::default()
    };
    let all =
        |points| request(&[], vec![metric("s", "ms", Data::Summary(twin::Summary { points }))]);
    check(
        OtlpConfig::default(),
        &all(vec![point.clone()]),
        &[
            r#"{__name__="s_milliseconds_sum"} 8 @2"#,
            r#"{__name__="s_milliseconds_count"} 4 @2"#,
            r#"{__name__="s_milliseconds", quantile="0"} 1 @2"#,
            r#"{__name__="s_milliseconds", quantile="0.99"} 5 @2"#,
            r#"{__name__="s_milliseconds", quantile="1"} 6 @2"#,
        ],
    );
    let stale = twin::SummaryPoint { flags: 1, quantiles: vec![], ..point };
    check(
        OtlpConfig::default(),
        &all(vec![stale]),
        &[
            r#"{__name__="s_milliseconds_sum"} stale @2"#,
            r#"{__name__="s_milliseconds_count"} stale @2"#,
        ],
    );
}

#[test]
fn delta_points_add_up_over_requests() {
    let context = context(OtlpConfig::default());
    let at = |ms: u64, value: i64| Number {
        time: ms * 1_000_000,
        value: Some(twin::Value::Integer(value)),
        ..number(0.0, &[("a", "1")])
    };
    let send = |points: Vec<Number>| {
        let (rows, walked) =
            walked(&context, &request(&[], vec![sum("req", "", DELTA, true, points)]));
        let told = walked.outcome.rejected.first().map_or(String::new(), |r| r.example.clone());
        (rows, told)
    };
    let line = |value: i64, at: u64| format!(r#"{{__name__="req_total", a="1"}} {value} @{at}"#);
    assert_eq!(send(vec![at(10, 5)]), (vec![line(5, 10)], String::new()));
    assert_eq!(send(vec![at(20, 2), at(30, 1)]), (vec![line(7, 20), line(8, 30)], String::new()));
    assert_eq!(send(vec![at(30, 1)]), (vec![line(8, 30)], String::new()), "sent again");
    let told = "delta point of metric \"req\" lies before the last one of its stream";
    assert_eq!(send(vec![at(15, 1)]), (vec![], told.to_owned()));
    let (stale, _) = send(vec![Number { flags: 1, ..at(40, 0) }]);
    assert_eq!(stale, [r#"{__name__="req_total", a="1"} stale @40"#]);
    assert_eq!(send(vec![at(50, 3)]).0, [line(3, 50)], "begins anew");
}

#[test]
fn delta_histograms_add_up_over_requests() {
    let context = context(OtlpConfig { convert_histograms_to_nhcb: true, ..OtlpConfig::default() });
    let point = |time: u64| twin::ExplicitPoint {
        time: time * 1_000_000,
        counts: vec![1, 2],
        bounds: vec![0.5],
        count: 3,
        exemplars: vec![],
        ..explicit(&[])
    };
    let (rows, _) = walked(&context, &histogram_metric(DELTA, vec![point(1), point(2)]));
    assert_eq!(
        rows,
        [
            r#"{__name__="lat_seconds"} schema -53 sum 5.5 count 3 zero 0@0e0 [0+2][1, 1] [][] [0.5] @1"#,
            r#"{__name__="lat_seconds"} schema -53 sum 11 count 6 zero 0@0e0 [0+2][2, 2] [][] [0.5] @2"#,
        ]
    );
    let point = |scale, time: u64, counts: &[u64]| twin::ExponentialPoint {
        time: time * 1_000_000,
        ..exponential_point(scale, 0, counts)
    };
    let (rows, _) =
        walked(&context, &exponential(DELTA, vec![point(1, 1, &[1, 2]), point(0, 2, &[4])]));
    assert_eq!(
        rows,
        [
            r#"{__name__="exp"} schema 1 sum 2.5 count 6 zero 1@1e-128 [1+2][1, 1] [-1+1][2] [] @1"#,
            r#"{__name__="exp"} schema 0 sum 5 count 13 zero 2@1e-128 [1+1][7] [-1+2][2, 0] [] @2"#,
        ]
    );
}

#[test]
fn what_cannot_be_stored_is_told_and_the_rest_kept() {
    let refusing = || OtlpConfig { delta_to_cumulative: false, ..OtlpConfig::default() };
    let points = || vec![number(1.0, &[]), number(2.0, &[("a", "1")])];
    check_refused(
        refusing(),
        &request(&[], vec![sum("req", "", DELTA, true, points())]),
        "metric \"req\" has delta temporality, which is refused (otlp.delta_to_cumulative); send cumulative temporality",
    );
    check_refused(
        OtlpConfig::default(),
        &request(&[], vec![sum("req", "", 0, true, points())]),
        "metric \"req\" does not say whether it is cumulative or delta",
    );
    check_refused(
        OtlpConfig::default(),
        &request(&[], vec![gauge("é", points())]),
        "metric name \"é\" has no character that a name may have",
    );
    let few = OtlpConfig { delta_streams_max: 1, ..OtlpConfig::default() };
    let (rows, told) =
        walked(&context(few), &request(&[], vec![sum("req", "", DELTA, true, points())]));
    assert_eq!((rows.len(), told.points, told.refused_points), (1, 2, 1));
    let text = "metric \"req\" has a new delta stream and the limit of 1 is reached (otlp.delta_streams_max)";
    assert_eq!(told.outcome.rejected[0].example, text);
    let names: Vec<String> = (0..20).map(|i| format!("l{i}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "v")).collect();
    let (rows, told) = walked(
        &context(OtlpConfig::default()),
        &request(
            &[],
            vec![gauge("g", vec![number(1.0, &many), number(2.0, &[("", "x")]), number(3.0, &[])])],
        ),
    );
    assert_eq!(rows, [r#"{__name__="g"} 3 @2"#]);
    assert_eq!(told.refused_points, 2);
    let texts: Vec<_> = told.outcome.rejected.iter().map(|r| r.example.as_str()).collect();
    assert_eq!(
        texts,
        ["series g has 21 labels, the limit is 12", "an attribute has an empty name"]
    );
}

#[test]
fn memory_is_bounded_by_the_caps() {
    let cap = |caps: Caps, request: &Request| {
        let context = Context { caps, ..context(OtlpConfig::default()) };
        walk(&request.encode_to_vec(), &context, None, &mut MetricRows::default())
            .expect_err("too many")
    };
    let many = request(&[], vec![gauge("g", vec![number(1.0, &[]); 10])]);
    let too_many = |what, limit| WalkError::TooMany { what, limit };
    assert_eq!(cap(Caps { series_max: 9, ..Caps::default() }, &many), too_many("series", 9));
    assert_eq!(cap(Caps { samples_max: 9, ..Caps::default() }, &many), too_many("samples", 9));
    let bytes = Caps { label_bytes_max: 50, ..Caps::default() };
    assert_eq!(cap(bytes, &many), too_many("bytes of labels", 50));
    let buckets = Caps { histogram_buckets_max: 3, ..Caps::default() };
    let exp = exponential(CUMULATIVE, vec![exponential_point(0, 0, &[1; 9])]);
    assert_eq!(cap(buckets, &exp), too_many("buckets of native histograms", 3));
}

prop_compose! {
    fn any_number()(
        pairs in vec(("[a-z._]{0,4}|\\PC{0,3}", "\\PC{0,6}"), 0..4),
        value in any::<f64>(), time in any::<u64>(), start in any::<u64>(), flags in 0..3_u32,
    ) -> Number {
        let attributes = pairs.into_iter().map(|(key, text)| twin::KeyValue {
            key, value: Some(twin::AnyValue { value: Some(twin::Any::Text(text)) }),
        });
        let value = Some(twin::Value::Double(value));
        Number { attributes: attributes.collect(), value, time, start, flags, exemplars: vec![] }
    }
}

fn any_metric() -> impl Strategy<Value = Metric> {
    let explicit = (any::<u64>(), vec(any::<u64>(), 0..4), vec(any::<f64>(), 0..4), any::<u64>());
    let exponential = (any::<i32>(), any::<i32>(), vec(any::<u64>(), 0..6), any::<u64>());
    let data = prop_oneof![
        vec(any_number(), 0..4).prop_map(|points| Data::Gauge(twin::Gauge { points })),
        (vec(any_number(), 0..4), 0..3, any::<bool>()).prop_map(
            |(points, temporality, monotonic)| {
                Data::Sum(twin::Sum { points, temporality, monotonic })
            }
        ),
        (vec(explicit, 0..3), 0..3).prop_map(|(points, temporality)| {
            let points =
                points.into_iter().map(|(count, counts, bounds, time)| twin::ExplicitPoint {
                    count,
                    counts,
                    bounds,
                    time,
                    ..twin::ExplicitPoint::default()
                });
            Data::Explicit(twin::Explicit { points: points.collect(), temporality })
        }),
        (vec(exponential, 0..3), 0..3).prop_map(|(points, temporality)| {
            let points =
                points.into_iter().map(|(scale, offset, counts, time)| twin::ExponentialPoint {
                    scale,
                    time,
                    positive: Some(twin::Buckets { offset, counts }),
                    ..twin::ExponentialPoint::default()
                });
            Data::Exponential(twin::Exponential { points: points.collect(), temporality })
        }),
    ];
    ("[a-z._]{1,6}|\\PC{0,3}", "[a-zA-Z/%1{}]{0,4}", data)
        .prop_map(|(name, unit, data)| metric(&name, &unit, data))
}

proptest! {
    #[test]
    fn any_request_is_survived(
        metrics in vec(any_metric(), 0..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        noise in vec(any::<u8>(), 0..100),
    ) {
        let mut body = request(&[("service.name", "x"), ("r", "1")], metrics).encode_to_vec();
        crate::fuzz::otlp(&body);
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        crate::fuzz::otlp(&body);
        crate::fuzz::otlp(&body[..body.len() / 2]);
        crate::fuzz::otlp(&noise);
    }

    #[test]
    fn noise_in_json_is_survived(text in "[\\[\\]{}\",:a-zA-Z0-9.-]{0,60}") {
        crate::fuzz::otlp_json(text.as_bytes());
        let inner = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"a","gauge":{text}}}]}}]}}]}}"#);
        crate::fuzz::otlp_json(inner.as_bytes());
    }
}
