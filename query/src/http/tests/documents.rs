//! Whatever the answer holds, what is written is JSON and says the same.

use model::Labels;
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::http::documents::of_answer;
use crate::number::value_text;
use crate::{Answer, MatrixSeries, PointValue, Value, VectorPoint};

fn written(answer: Answer) -> Json {
    let mut document = of_answer(answer, false, None);
    let mut out = Vec::new();
    while document.write_some(&mut out) {}
    serde_json::from_slice(&out).expect("JSON")
}

fn any_labels() -> impl Strategy<Value = Labels> {
    prop::collection::vec((any::<String>(), any::<String>()), 0..4).prop_map(Labels::from_pairs)
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<i32>().prop_map(f64::from),
        any::<f64>()
    ]
}

/// The label set as JSON.
fn object(labels: &Labels) -> Json {
    labels
        .iter()
        .map(|(name, value)| (name.to_owned(), Json::from(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[track_caller]
fn same_point(json: &Json, at_ms: i64, value: f64) {
    assert_eq!(json[1], value_text(value).as_str());
    assert!(
        (json[0].as_f64().expect("a time") * 1000.0 - at_ms as f64).abs() < 0.5,
        "{json} {at_ms}"
    );
}

proptest! {
    #[test]
    fn vectors_are_written_as_they_are(
        points in prop::collection::vec((any_labels(), -4_000_000_000_000i64..4_000_000_000_000, any_float()), 0..5),
        warnings in prop::collection::vec(any::<String>(), 0..3),
    ) {
        let point = |(labels, at_ms, value): (Labels, i64, f64)| {
            VectorPoint { labels, at_ms, value: PointValue::Float(value) }
        };
        let vector = points.iter().cloned().map(point).collect();
        let json = written(Answer { warnings: warnings.clone(), ..Answer::new(Value::Vector(vector)) });
        prop_assert_eq!(&json["data"]["resultType"], "vector");
        for (i, (labels, at_ms, value)) in points.iter().enumerate() {
            prop_assert_eq!(&json["data"]["result"][i]["metric"], &object(labels));
            same_point(&json["data"]["result"][i]["value"], *at_ms, *value);
        }
        if !warnings.is_empty() {
            prop_assert_eq!(&json["warnings"], &Json::from(warnings));
        }
    }

    #[test]
    fn matrices_are_written_as_they_are(
        labels in any_labels(),
        floats in prop::collection::vec((-4_000_000_000_000i64..4_000_000_000_000, any_float()), 1..20),
    ) {
        let series = MatrixSeries { labels: labels.clone(), floats: floats.clone(), histograms: Vec::new() };
        let json = written(Answer::new(Value::Matrix(vec![series])));
        let result = &json["data"]["result"][0];
        prop_assert_eq!(&result["metric"], &object(&labels));
        for (i, (at_ms, value)) in floats.iter().enumerate() {
            same_point(&result["values"][i], *at_ms, *value);
        }
    }

    #[test]
    fn any_parameters_are_read_without_a_panic(data: Vec<u8>) {
        crate::http::read_parameters(&data);
    }
}
