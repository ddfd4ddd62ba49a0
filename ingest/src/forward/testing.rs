//! What the tests of forwarding share: rows of every kind, and rows as text.

use model::{Buckets, Exemplar, Histogram, Labels, Metadata, MetricKind, ResetHint, Span};
use storage::MetricRows;
use tenancy::Limits;
use testkit::remote_write;

use super::record::{exemplars_of, histograms_of, samples_of};
use crate::Caps;
use crate::remote_write::walk;

/// Everything a request can hold.
pub(super) fn everything() -> MetricRows<'static> {
    let labels = |name: &str| Labels::from_pairs([("__name__", name), ("a", "1"), ("é", "ü")]);
    let integer = Histogram {
        reset_hint: ResetHint::Gauge,
        schema: -2,
        zero_threshold: 1e-9,
        sum: -0.0,
        positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 4, length: 1 }],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        buckets: Buckets::Integer {
            count: 9,
            zero_count: 1,
            positive_deltas: vec![3, -1, 1],
            negative_deltas: vec![1],
        },
        custom_values: Vec::new(),
    };
    let float = Histogram {
        schema: -53,
        negative_spans: Vec::new(),
        positive_spans: vec![Span { offset: 0, length: 2 }],
        buckets: Buckets::Float {
            count: 0.5,
            zero_count: 0.0,
            positive: vec![0.5, 0.0],
            negative: Vec::new(),
        },
        zero_threshold: 0.0,
        custom_values: vec![1.5],
        reset_hint: ResetHint::Unknown,
        ..integer.clone()
    };
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let values = [(1, 1.5), (-2, -0.0), (3, f64::INFINITY), (4, 0.0), (5, stale)];
    let mut first = remote_write::Series::new(&labels("x_total"), &values);
    first.exemplars.push(Exemplar {
        labels: Labels::from_pairs([("trace_id", "t"), ("z", "y")]),
        value: 2.0,
        timestamp_ms: 7,
    });
    let mut second = remote_write::Series::new(&labels("h"), &[]);
    second.histograms = vec![(5, integer), (6, float)];
    let told =
        |kind, help: &str, unit: &str| Metadata { kind, help: help.into(), unit: unit.into() };
    let metadata = [
        ("x_total", told(MetricKind::Counter, "Things.", "")),
        ("h", told(MetricKind::Histogram, "", "seconds")),
    ];
    let body = remote_write::body(&[first, second], &metadata);
    let mut rows = MetricRows::default();
    walk(body.leak(), &Limits::default(), &Caps::default(), &mut rows).expect("a request");
    let (first, second) = (rows.series[0].clone(), rows.series[1].clone());
    rows.start_unknown_at(&first, 77);
    rows.start_unknown_at(&second, 78);
    rows
}

/// A request of samples `name value@instant`, each of a series of its own.
pub(super) fn written(samples: &[(&str, f64, i64)]) -> Vec<u8> {
    let series: Vec<remote_write::Series> = samples
        .iter()
        .map(|(name, value, at)| {
            let labels = Labels::from_pairs([("__name__", *name)]);
            remote_write::Series::new(&labels, &[(*at, *value)])
        })
        .collect();
    remote_write::body(&series, &[])
}

/// Rows as text, one a line.
pub(super) fn shown(rows: &MetricRows<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for series in &rows.series {
        let labels = Labels::from_wire(rows.labels_of(series)).expect("labels");
        let starts = rows.sample_starts_of(series).iter().copied().chain(std::iter::repeat(0));
        for (s, start) in samples_of(rows, series).iter().zip(starts) {
            let bits = s.value.to_bits();
            lines.push(format!("{labels} {bits:016x} @{} since {start}", s.timestamp_ms));
        }
        let starts = rows.histogram_starts_of(series).iter().copied().chain(std::iter::repeat(0));
        for (h, start) in histograms_of(rows, series).iter().zip(starts) {
            lines.push(format!("{labels} {h:?} since {start}"));
        }
        lines.extend(exemplars_of(rows, series).iter().map(|e| format!("{labels} {e:?}")));
    }
    lines.extend(rows.metadata.iter().map(|told| format!("{told:?}")));
    lines
}
