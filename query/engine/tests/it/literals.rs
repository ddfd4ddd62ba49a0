//! Literals of scripts: durations, label sets, points.

use std::sync::Arc;

use model::{Buckets, Histogram, Labels, ResetHint, Span, stale_nan};
use query::FloatHistogram;

/// A float or a histogram.
#[derive(Debug, Clone)]
pub(crate) enum Point {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// `1h30m`, `50ms`, `0`, `-5m`, or a number of seconds.
pub(crate) fn duration_ms(text: &str) -> i64 {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds * 1000.0) as i64;
    }
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut total = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
        let number: i64 = rest[..digits].parse().unwrap();
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| at + digits);
        let unit_ms = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            unit => panic!("unknown unit {unit} in {text}"),
        };
        total += number * unit_ms;
        rest = &rest[unit_end..];
    }
    sign * total
}

/// The label set at the beginning of a line, and what comes after it.
pub(crate) fn labels_and_rest(line: &str) -> (Labels, &str) {
    let end = end_of_labels(line);
    let matchers = query::promql::parse_matchers(&line[..end]);
    let matchers = matchers.unwrap_or_else(|e| panic!("labels of {line:?}: {e}"));
    let labels = Labels::from_pairs(matchers.iter().map(|m| (m.name(), m.value())));
    (labels, line[end..].trim())
}

fn end_of_labels(line: &str) -> usize {
    let (mut quote, mut escaped, mut open) = (None, false, false);
    for (at, c) in line.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(q) if c == '\\' && q != '`' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == '{' => open = true,
            None if c == '}' => return at + 1,
            // `name {…}` has a space before its labels.
            None if c.is_whitespace() && !open && !line[at..].trim_start().starts_with('{') => {
                return at;
            }
            None if c.is_whitespace() && !open && line[at..].trim_start().starts_with("{{") => {
                return at;
            }
            None => {}
        }
    }
    line.len()
}

/// One entry per step.
pub(crate) fn points(text: &str) -> Vec<Option<Point>> {
    let mut points = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        rest = if rest.starts_with("{{") {
            histograms(rest, &mut points)
        } else {
            floats(rest, &mut points)
        };
        rest = rest.trim_start();
    }
    points
}

/// Offsets of start timestamps: `_`, `_xN`, `A`, `AxN`, `A+BxN`, `A-BxN`, in signed durations.
pub(crate) fn start_offsets(text: &str) -> Vec<Option<i64>> {
    let mut offsets = Vec::new();
    for item in text.split_whitespace() {
        let (item, times) = match item.rsplit_once('x') {
            Some((item, times)) => (item, times.parse::<usize>().unwrap()),
            None => (item, 0),
        };
        if item == "_" {
            offsets.extend(vec![None; times.max(1)]);
            continue;
        }
        let sign = item.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-'));
        let (first, change) = sign.map_or((item, "0"), |(at, _)| item.split_at(at));
        let signed = |text: &str| duration_ms(text.strip_prefix('+').unwrap_or(text));
        offsets.extend((0..=times as i64).map(|i| Some(signed(first) + i * signed(change))));
    }
    offsets
}

fn floats<'a>(text: &'a str, points: &mut Vec<Option<Point>>) -> &'a str {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let item = &text[..end];
    let (item, times) = match item.rsplit_once('x') {
        Some((item, times)) => {
            (item, times.parse::<usize>().unwrap_or_else(|_| panic!("{text:?}")))
        }
        None => (item, 0),
    };
    if item == "_" {
        points.extend(vec![None; times.max(1)]);
    } else if item == "stale" {
        points.extend(vec![Some(Point::Float(stale_nan())); times + 1]);
    } else {
        let (start, delta) = start_and_delta(item);
        let mut value = start;
        for _ in 0..=times {
            points.push(Some(Point::Float(value)));
            value += delta;
        }
    }
    &text[end..]
}

/// `A+B` or `A-B`; the sign may also belong to an exponent or to A.
fn start_and_delta(item: &str) -> (f64, f64) {
    let number =
        |text: &str| text.parse::<f64>().unwrap_or_else(|_| duration_ms(text) as f64 / 1000.0);
    let splits = item.char_indices().skip(1).filter(|(_, c)| matches!(c, '+' | '-'));
    for (at, _) in splits {
        if !item[..at].ends_with(['e', 'E']) {
            return (number(&item[..at]), number(&item[at..]));
        }
    }
    (number(item), 0.0)
}

fn histograms<'a>(text: &'a str, points: &mut Vec<Option<Point>>) -> &'a str {
    let (first, mut rest) = one_histogram(text);
    let mut delta = None;
    if let Some(sign) = rest.chars().next().filter(|c| matches!(c, '+' | '-')) {
        let (added, after) = one_histogram(&rest[1..]);
        delta = Some((if sign == '+' { 1.0 } else { -1.0 }, added));
        rest = after;
    }
    let mut times = 0;
    if let Some(after) = rest.strip_prefix('x') {
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        times = after[..end].parse().unwrap();
        rest = &after[end..];
    }
    let mut current = first;
    for _ in 0..=times {
        points.push(Some(Point::Histogram(Arc::new(current.clone()))));
        if let Some((sign, delta)) = &delta {
            current = added(&current, delta, *sign);
        }
    }
    rest
}

/// Bucket by bucket, over the buckets of both; both have one span.
fn added(a: &Histogram, b: &Histogram, sign: f64) -> Histogram {
    let mut sum = a.clone();
    sum.sum += sign * b.sum;
    let (fa, fb) = (FloatHistogram::from(a), FloatHistogram::from(&coarser(b, a.schema)));
    let side = |sa: &[Span], ca: &[f64], sb: &[Span], cb: &[f64]| {
        let offset = |s: &[Span]| s.first().map_or(0, |s| s.offset);
        let low = if ca.is_empty() {
            offset(sb)
        } else if cb.is_empty() {
            offset(sa)
        } else {
            offset(sa).min(offset(sb))
        };
        let high = (offset(sa) + ca.len() as i32).max(offset(sb) + cb.len() as i32);
        let at = |counts: &[f64], start: i32, i: i32| {
            counts.get((i - start) as usize).copied().unwrap_or(0.0)
        };
        let counts: Vec<f64> =
            (low..high).map(|i| at(ca, offset(sa), i) + sign * at(cb, offset(sb), i)).collect();
        (spans(low, counts.len()), counts)
    };
    let (positive_spans, positive) =
        side(&fa.positive_spans, &fa.positive, &fb.positive_spans, &fb.positive);
    let (negative_spans, negative) =
        side(&fa.negative_spans, &fa.negative, &fb.negative_spans, &fb.negative);
    sum.reset_hint = match (a.reset_hint, b.reset_hint) {
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => ResetHint::Gauge,
        (a, b) if a == b => a,
        _ => ResetHint::Unknown,
    };
    sum.positive_spans = positive_spans;
    sum.negative_spans = negative_spans;
    sum.buckets = Buckets::Float {
        count: fa.count + sign * fb.count,
        zero_count: fa.zero_count + sign * fb.zero_count,
        positive,
        negative,
    };
    sum
}

/// The same observations in the wider buckets of a lower schema.
fn coarser(histogram: &Histogram, schema: i32) -> Histogram {
    let mut coarser = histogram.clone();
    let halvings = histogram.schema - schema;
    if halvings <= 0 || schema == query::CUSTOM_BOUNDS_SCHEMA {
        return coarser;
    }
    let float = FloatHistogram::from(histogram);
    let side = |spans_of: &[Span], counts: &[f64]| {
        let first = spans_of.first().map_or(0, |s| s.offset);
        let wide = |i: usize| ((first + i as i32 - 1) >> halvings) + 1;
        let low = wide(0);
        let mut merged =
            vec![0.0; counts.len().checked_sub(1).map_or(0, |i| wide(i) - low + 1) as usize];
        counts.iter().enumerate().for_each(|(i, count)| merged[(wide(i) - low) as usize] += count);
        (spans(low, merged.len()), merged)
    };
    let (positive_spans, positive) = side(&float.positive_spans, &float.positive);
    let (negative_spans, negative) = side(&float.negative_spans, &float.negative);
    (coarser.positive_spans, coarser.negative_spans) = (positive_spans, negative_spans);
    let FloatHistogram { count, zero_count, .. } = float;
    coarser.buckets = Buckets::Float { count, zero_count, positive, negative };
    coarser.schema = schema;
    coarser
}

fn spans(offset: i32, length: usize) -> Vec<Span> {
    if length == 0 { Vec::new() } else { vec![Span { offset, length: length as u32 }] }
}

/// `{{key:value …}}` and what comes after it.
fn one_histogram(text: &str) -> (Histogram, &str) {
    let end = text.find("}}").unwrap();
    let (mut schema, mut sum, mut count, mut zero_count, mut zero_threshold) =
        (0, 0.0, 0.0, 0.0, 0.0);
    let (mut positive, mut negative, mut custom_values) = (Vec::new(), Vec::new(), Vec::new());
    let (mut offset, mut negative_offset, mut reset_hint) = (0, 0, ResetHint::Unknown);
    let list = |text: &str| -> Vec<f64> {
        text.trim_matches(['[', ']']).split_whitespace().map(|v| v.parse().unwrap()).collect()
    };
    for (key, value) in keys(&text[2..end]) {
        let number = || value.parse::<f64>().unwrap();
        match key {
            "schema" => schema = value.parse().unwrap(),
            "sum" => sum = number(),
            "count" => count = number(),
            "z_bucket" => zero_count = number(),
            "z_bucket_w" => zero_threshold = number(),
            "buckets" => positive = list(value),
            "n_buckets" => negative = list(value),
            "custom_values" => custom_values = list(value),
            "offset" => offset = value.parse().unwrap(),
            "n_offset" => negative_offset = value.parse().unwrap(),
            "counter_reset_hint" => {
                reset_hint = match value {
                    "reset" => ResetHint::Yes,
                    "not_reset" => ResetHint::No,
                    "gauge" => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                };
            }
            key => panic!("unknown key {key} of a histogram"),
        }
    }
    let histogram = Histogram {
        reset_hint,
        schema,
        zero_threshold,
        sum,
        positive_spans: spans(offset, positive.len()),
        negative_spans: spans(negative_offset, negative.len()),
        buckets: Buckets::Float { count, zero_count, positive, negative },
        custom_values,
    };
    (histogram, &text[end + 2..])
}

fn keys(mut text: &str) -> Vec<(&str, &str)> {
    let mut keys = Vec::new();
    while let Some((key, rest)) = text.trim_start().split_once(':') {
        let end = if rest.starts_with('[') {
            rest.find(']').unwrap() + 1
        } else {
            rest.find(char::is_whitespace).unwrap_or(rest.len())
        };
        keys.push((key.trim(), &rest[..end]));
        text = &rest[end..];
    }
    keys
}
