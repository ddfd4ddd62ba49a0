//! Native histograms with custom buckets out of classic ones, as `load_with_nhcb` asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Buckets, Histogram, Labels, METRIC_NAME, ResetHint, Span};
use query::CUSTOM_BOUNDS_SCHEMA;

use crate::literals::Point;
use crate::script::Loaded;

/// One histogram at one step.
#[derive(Default)]
struct Classic {
    /// Cumulative counts by bound.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
}

/// The part of a classic histogram that a series is.
enum Part {
    Bucket(f64),
    Sum,
    Count,
}

/// The series to add.
pub(crate) fn converted(series: &[Loaded]) -> Vec<Loaded> {
    let mut histograms: BTreeMap<Labels, BTreeMap<usize, Classic>> = BTreeMap::new();
    for Loaded { labels, points, .. } in series {
        let Some((labels, part)) = part_of(labels) else { continue };
        let steps = histograms.entry(labels).or_default();
        for (step, point) in points.iter().enumerate() {
            let Some(Point::Float(value)) = point else { continue };
            let classic = steps.entry(step).or_default();
            match part {
                Part::Bucket(bound) => classic.buckets.push((bound, *value)),
                Part::Sum => classic.sum = *value,
                Part::Count => classic.count = Some(*value),
            }
        }
    }
    let of_steps = |steps: BTreeMap<usize, Classic>| {
        let mut points = vec![None; steps.keys().last().map_or(0, |last| last + 1)];
        for (step, classic) in steps {
            points[step] = Some(Point::Histogram(Arc::new(native(classic))));
        }
        points
    };
    let series = histograms.into_iter().map(|(labels, steps)| Loaded {
        labels,
        points: of_steps(steps),
        starts_ms: Vec::new(),
    });
    series.collect()
}

fn part_of(labels: &Labels) -> Option<(Labels, Part)> {
    let name = labels.metric_name();
    let mut builder = labels.to_builder();
    let (name, part) = if let Some(name) = name.strip_suffix("_bucket") {
        let bound = labels.get("le")?.parse::<f64>().ok().filter(|bound| !bound.is_nan())?;
        builder.remove("le");
        (name, Part::Bucket(bound))
    } else if let Some(name) = name.strip_suffix("_sum") {
        (name, Part::Sum)
    } else {
        (name.strip_suffix("_count")?, Part::Count)
    };
    builder.set(METRIC_NAME, name);
    Some((builder.build(), part))
}

fn native(mut classic: Classic) -> Histogram {
    classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    // `1` and `1.0` are one bound.
    classic.buckets.dedup_by_key(|(bound, _)| *bound);
    let last = classic.buckets.last().map_or(0.0, |(_, count)| *count);
    let count = classic.count.unwrap_or(last);
    if classic.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        classic.buckets.push((f64::INFINITY, count));
    }
    let mut below = 0.0;
    let mut counts = Vec::with_capacity(classic.buckets.len());
    for (_, cumulative) in &classic.buckets {
        counts.push(cumulative - below);
        below = *cumulative;
    }
    let length = counts.len() as u32;
    Histogram {
        reset_hint: ResetHint::Unknown,
        schema: CUSTOM_BOUNDS_SCHEMA,
        zero_threshold: 0.0,
        sum: classic.sum,
        positive_spans: vec![Span { offset: 0, length }],
        negative_spans: Vec::new(),
        buckets: Buckets::Float { count, zero_count: 0.0, positive: counts, negative: Vec::new() },
        custom_values: classic.buckets[..classic.buckets.len() - 1].iter().map(|b| b.0).collect(),
    }
}
