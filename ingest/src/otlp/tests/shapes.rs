//! What is known of points by their shape changes nothing: a point makes the same rows after others of its
//! shape as it makes alone.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use storage::MetricRows;

use super::super::OtlpConfig;
use super::super::labels::{Base, Name, NameCache, Wins};
use super::super::names::LabelNames;
use super::super::shape::Shapes;
use super::super::walk::walk;
use super::twin::{self, Any, AnyValue, Data, KeyValue, Metric, Request};
use super::walks::{context, shown};
use crate::wire::Reader;

/// Keys that become labels of many kinds: of the resource, of buckets, the same as others, none at all.
const KEYS: &[&str] = &[
    "a",
    "a.b",
    "a_b",
    "job",
    "le",
    "quantile",
    "region",
    "http.response.status_code",
    "Z",
    "zone",
    "__name__",
    "_x",
    "9a",
    "é",
    "",
    "a.name.that.is.longer.than.thirty.two.bytes",
];

fn any_value() -> impl Strategy<Value = Option<AnyValue>> {
    let text = |text: String| Some(AnyValue { value: Some(Any::Text(text)) });
    prop_oneof![
        8 => "[a-z/:]{1,90}".prop_map(text),
        2 => "\\PC{0,6}".prop_map(text),
        1 => (60..140_usize).prop_map(move |length| text("x".repeat(length))),
        2 => any::<i64>().prop_map(|n| Some(AnyValue { value: Some(Any::Integer(n)) })),
        1 => any::<bool>().prop_map(|b| Some(AnyValue { value: Some(Any::Bool(b)) })),
        1 => Just(Some(AnyValue { value: None })),
        1 => Just(None),
    ]
}

/// One point of a metric of some kind.
fn data(kind: u8, attributes: Vec<KeyValue>, time: u64) -> Data {
    match kind {
        0 => {
            let value = Some(twin::Value::Double(1.5));
            let point = twin::Number { attributes, time, value, ..twin::Number::default() };
            Data::Gauge(twin::Gauge { points: vec![point] })
        }
        1 => {
            let point = twin::ExplicitPoint {
                attributes,
                time,
                count: 3,
                counts: vec![1, 2],
                bounds: vec![0.5],
                ..twin::ExplicitPoint::default()
            };
            Data::Explicit(twin::Explicit { points: vec![point], temporality: 2 })
        }
        _ => {
            let quantiles = vec![twin::Quantile { quantile: 0.5, value: 2.0 }];
            let point =
                twin::SummaryPoint { attributes, time, quantiles, ..twin::SummaryPoint::default() };
            Data::Summary(twin::Summary { points: vec![point] })
        }
    }
}

/// Rows as text, and how many points were refused.
fn walked(resources: Vec<twin::ResourceMetrics>) -> (Vec<String>, u64) {
    let config = OtlpConfig {
        promote_resource_attributes: vec!["region".to_owned(), "zone".to_owned()],
        promote_scope_metadata: true,
        target_info: false,
        ..OtlpConfig::default()
    };
    let mut rows = MetricRows::default();
    let body = Request { resource_metrics: resources }.encode_to_vec();
    let walked = walk(&body, &context(config), None, &mut rows).expect("a valid request");
    (shown(&rows), walked.refused_points)
}

/// A resource of its own for each list of metrics; some of them have the same labels.
fn resource(number: usize, metrics: Vec<Metric>) -> twin::ResourceMetrics {
    let pairs: &[(&str, &str)] = match number % 3 {
        0 => &[("service.name", "one"), ("region", "eu")],
        1 => &[("service.name", "two"), ("region", "a region with a longer name than the other")],
        _ => &[("zone", "z"), ("region", "")],
    };
    let mut resources = twin::request(pairs, metrics).resource_metrics;
    resources.remove(0)
}

prop_compose! {
    fn any_point(shapes: usize)(
        shape in 0..shapes, kind in 0..3_u8, values in vec(any_value(), 6), time in 0..9_000_000_u64,
    ) -> (usize, u8, Vec<Option<AnyValue>>, u64) {
        (shape, kind, values, time)
    }
}

proptest! {
    #[test]
    fn points_make_the_same_rows_together_and_alone(
        shapes in vec(vec(prop::sample::select(KEYS), 0..6), 3),
        resources in vec(vec(any_point(3), 0..8), 1..4),
    ) {
        let metric = |(shape, kind, values, time): &(usize, u8, Vec<Option<AnyValue>>, u64)| {
            let keys = shapes[*shape].iter().map(|key| (*key).to_owned());
            let pairs = keys.zip(values.iter().cloned());
            let attributes = pairs.map(|(key, value)| KeyValue { key, value }).collect();
            twin::metric(["g", "some.histogram", "s"][usize::from(*kind)], "s", data(*kind, attributes, *time))
        };
        let together = resources.iter().enumerate();
        let together = together.map(|(i, points)| resource(i, points.iter().map(metric).collect()));
        let (mut rows, mut refused) = (Vec::new(), 0);
        for (i, point) in resources.iter().enumerate().flat_map(|(i, all)| all.iter().map(move |p| (i, p))) {
            let (own, own_refused) = walked(vec![resource(i, vec![metric(point)])]);
            rows.extend(own);
            refused += own_refused;
        }
        prop_assert_eq!(walked(together.collect()), (rows, refused));
    }
}

/// Whether the second of two points is known by the shape of the first.
#[track_caller]
fn check(first: &[(&str, &str)], second: &[(&str, &str)], is_known: bool) {
    let messages = |pairs| twin::attributes(pairs).iter().map(KeyValue::encode_to_vec).collect();
    let wires: [Vec<Vec<u8>>; 2] = [messages(first), messages(second)];
    let body = wires.concat().concat();
    let mut at = 0;
    let [one, other] = wires.map(|wires| {
        let places = wires.iter().map(|wire| {
            at += wire.len();
            Reader::of(&body, at - wire.len()..at)
        });
        places.collect::<Vec<_>>()
    });
    let mut base = Base::default();
    base.set(Name::Same("job"), "j".into(), Wins::Over);
    let mut shapes = Shapes::new(&body);
    shapes.begin(&base);
    let mut names = NameCache::new(LabelNames {
        strategy: super::super::TranslationStrategy::default(),
        guards_underscore: true,
        keeps_underscores: true,
    });
    assert!(!shapes.read(&one), "nothing is known at first");
    shapes.learn(&one, &mut names);
    assert_eq!(shapes.read(&other), is_known, "{first:?} {second:?}");
}

#[test]
fn points_are_known_by_their_keys() {
    check(&[], &[], true);
    check(&[("a", "1")], &[("a", "2")], true);
    check(&[("b.c", "1"), ("a", "1")], &[("b.c", "2"), ("a", "3")], true);
    let long = "é".repeat(300);
    check(&[("a", "1")], &[("a", &long)], true);
    check(&[("a", "")], &[("a", "2")], true);
    check(&[("a", "1")], &[("a", "")], false);
    check(&[("a", "1")], &[("b", "1")], false);
    check(&[("a", "1")], &[("a", "1"), ("a", "1")], false);
    check(&[("a", "1"), ("b", "1")], &[("b", "1"), ("a", "1")], false);
    // Labels that fall together with others depend on the values of both.
    check(&[("a.b", "1"), ("a_b", "2")], &[("a.b", "1"), ("a_b", "2")], false);
    check(&[("job", "1")], &[("job", "2")], false);
    check(&[("le", "1")], &[("le", "2")], false);
    check(&[("", "1")], &[("", "2")], false);
}

#[test]
fn few_shapes_are_kept_and_worked_out() {
    let keys: Vec<String> = (0..200).map(|i| format!("k{i}")).collect();
    let mut body = Vec::new();
    let places: Vec<_> = keys
        .iter()
        .map(|key| {
            let start = body.len();
            body.extend(twin::attributes(&[(key, "v")])[0].encode_to_vec());
            start..body.len()
        })
        .collect();
    let mut names = NameCache::new(LabelNames {
        strategy: super::super::TranslationStrategy::default(),
        guards_underscore: true,
        keeps_underscores: true,
    });
    let mut shapes = Shapes::new(&body);
    shapes.begin(&Base::default());
    let mut known = |at: usize| {
        let point = [Reader::of(&body, places[at].clone())];
        let is_known = shapes.read(&point);
        shapes.learn(&point, &mut names);
        is_known
    };
    for at in 0..64 {
        assert!(!known(at));
        assert!(known(at), "the last one is always kept");
    }
    assert!(!(0..56).any(&mut known), "older ones made room");
    assert!((56..64).all(&mut known));
    assert!(!known(64) && !known(64), "no more are worked out below one scope");
}
