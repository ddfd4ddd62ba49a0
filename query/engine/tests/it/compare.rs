//! Answers against what a script expects.

use std::sync::Arc;

use model::{Labels, ResetHint};
use query::{Answer, FloatHistogram, MatrixSeries, PointValue, Value, VectorPoint};

use crate::literals::Point;
use crate::script::{Eval, Notes};

/// How far two floats may differ, as a share of their sum.
const EPSILON: f64 = 1e-6;

pub(crate) fn floats_equal(a: f64, b: f64) -> bool {
    if model::is_stale(a) || model::is_stale(b) {
        return model::is_stale(a) && model::is_stale(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

fn points_equal(expected: &Point, found: &PointValue) -> bool {
    match (expected, found) {
        (Point::Float(a), PointValue::Float(b)) => floats_equal(*a, *b),
        (Point::Histogram(a), PointValue::Histogram(b)) => {
            histograms_equal(&FloatHistogram::from(&**a), b)
        }
        _ => false,
    }
}

/// Buckets by index, empty ones left out.
pub(crate) fn buckets(spans: &[model::Span], counts: &[f64]) -> Vec<(i32, f64)> {
    let (mut at, mut counts) = (0, counts.iter());
    let mut buckets = Vec::new();
    for span in spans {
        at += span.offset;
        for count in counts.by_ref().take(span.length as usize) {
            buckets.push((at, *count));
            at += 1;
        }
    }
    buckets.retain(|(_, count)| *count != 0.0);
    buckets
}

/// Hints count where the script gives one.
fn histograms_equal(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let side = |x: &[(i32, f64)], y: &[(i32, f64)]| {
        x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.0 == y.0 && floats_equal(x.1, y.1))
    };
    (a.reset_hint == ResetHint::Unknown || a.reset_hint == b.reset_hint)
        && a.schema == b.schema
        && floats_equal(a.count, b.count)
        && floats_equal(a.sum, b.sum)
        && floats_equal(a.zero_count, b.zero_count)
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
        && side(&buckets(&a.positive_spans, &a.positive), &buckets(&b.positive_spans, &b.positive))
        && side(&buckets(&a.negative_spans, &a.negative), &buckets(&b.negative_spans, &b.negative))
}

/// Whether an answer is what the script says; the text says what is not.
pub(crate) fn check(eval: &Eval, answer: &Answer) -> Result<(), String> {
    if let Some(text) = &eval.string {
        return match &answer.value {
            Value::String { value, .. } if value == text => Ok(()),
            other => Err(format!("expected string {text:?}, got {other:?}")),
        };
    }
    match &answer.value {
        Value::Scalar { value, .. } => match eval.scalar {
            Some(expected) if floats_equal(expected, *value) => Ok(()),
            expected => Err(format!("expected {expected:?} {:?}, got scalar {value}", eval.series)),
        },
        Value::String { value, .. } => Err(format!("unexpected string {value:?}")),
        Value::Vector(_) | Value::Matrix(_) if eval.scalar.is_some() => {
            Err("expected a scalar".to_owned())
        }
        Value::Vector(points) => vector(eval, points),
        Value::Matrix(series) => matrix(eval, series),
    }?;
    notes("warning", &eval.warn, &answer.warnings)?;
    notes("info", &eval.info, &answer.infos)
}

fn vector(eval: &Eval, points: &[VectorPoint]) -> Result<(), String> {
    let got = || {
        points.iter().map(|p| format!("{} {:?}", p.labels, p.value)).collect::<Vec<_>>().join("; ")
    };
    if points.len() != eval.series.len() {
        return Err(format!(
            "expected {} series, got {}: {}",
            eval.series.len(),
            points.len(),
            got()
        ));
    }
    for (place, (labels, expected)) in eval.series.iter().enumerate() {
        let found = match eval.ordered {
            true => points.get(place).filter(|p| p.labels == *labels),
            false => points.iter().find(|p| p.labels == *labels),
        };
        let Some(found) = found else {
            return Err(format!("no {labels} at its place in {}", got()));
        };
        let expected = expected.first().and_then(Option::as_ref);
        if !expected.is_some_and(|expected| points_equal(expected, &found.value)) {
            return Err(format!("{labels}: expected {expected:?}, got {:?}", found.value));
        }
    }
    Ok(())
}

fn matrix(eval: &Eval, series: &[MatrixSeries]) -> Result<(), String> {
    if !series.is_sorted_by(|a, b| a.labels < b.labels) {
        return Err("the matrix is not sorted".to_owned());
    }
    if series.len() != eval.series.len() {
        let got: Vec<&Labels> = series.iter().map(|s| &s.labels).collect();
        return Err(format!(
            "expected {} series, got {}: {got:?}",
            eval.series.len(),
            series.len()
        ));
    }
    for (labels, expected) in &eval.series {
        let found = series.iter().find(|s| s.labels == *labels);
        let Some(found) = found else { return Err(format!("no {labels} in the matrix")) };
        let expected = expected.iter().enumerate().filter_map(|(i, p)| Some((i, p.as_ref()?)));
        let (start_ms, step_ms) = eval.matrix_ms.unwrap_or((eval.start_ms, eval.step_ms.max(1)));
        let expected: Vec<(i64, &Point)> =
            expected.map(|(i, p)| (start_ms + i as i64 * step_ms, p)).collect();
        let found = all_points(found);
        let same = expected.len() == found.len()
            && expected.iter().zip(&found).all(|(e, f)| e.0 == f.0 && points_equal(e.1, &f.1));
        if !same {
            return Err(format!("{labels}: expected {expected:?}, got {found:?}"));
        }
    }
    Ok(())
}

fn all_points(series: &MatrixSeries) -> Vec<(i64, PointValue)> {
    let floats = series.floats.iter().map(|(t, v)| (*t, PointValue::Float(*v)));
    let histograms =
        series.histograms.iter().map(|(t, h)| (*t, PointValue::Histogram(Arc::clone(h))));
    let mut points: Vec<_> = floats.chain(histograms).collect();
    points.sort_by_key(|(t, _)| *t);
    points
}

fn notes(kind: &str, expected: &Notes, found: &[String]) -> Result<(), String> {
    let without_place =
        |text: &String| text.rsplit_once(" (1:").map_or(text.clone(), |(text, _)| text.to_owned());
    let found: Vec<String> = found.iter().map(without_place).collect();
    if expected.none && !found.is_empty() {
        return Err(format!("unexpected {kind} {found:?}"));
    }
    for text in &expected.wanted {
        if !found.iter().any(|f| text.matches(f)) {
            return Err(format!("no {kind} like {text:?} in {found:?}"));
        }
    }
    let surplus = found.iter().find(|f| !expected.wanted.iter().any(|text| text.matches(f)));
    match surplus {
        Some(surplus) if !expected.wanted.is_empty() => {
            Err(format!("unexpected {kind} {surplus:?}"))
        }
        _ => Ok(()),
    }
}
