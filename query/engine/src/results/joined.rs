//! Matrices cut and joined along time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use model::{Labels, TimeRange};
use query::{Answer, FloatHistogram, MatrixSeries, NOTES_KEPT_MAX, Value};

/// What lies in a range.
pub(super) fn cut(series: &[MatrixSeries], range: TimeRange) -> Vec<MatrixSeries> {
    let cut = |one: &MatrixSeries| {
        let floats = within(&one.floats, range).to_vec();
        let histograms = within(&one.histograms, range).to_vec();
        let labels = one.labels.clone();
        let is_left = !floats.is_empty() || !histograms.is_empty();
        is_left.then_some(MatrixSeries { labels, floats, histograms })
    };
    series.iter().filter_map(cut).collect()
}

/// The points in a range, of points in order of time.
fn within<T>(points: &[(i64, T)], range: TimeRange) -> &[(i64, T)] {
    let start = points.partition_point(|(at_ms, _)| *at_ms < range.start_ms);
    let end = points.partition_point(|(at_ms, _)| *at_ms <= range.end_ms);
    points.get(start..end).unwrap_or_default()
}

/// Takes over notes and costs of the answer to a part of a question, and gives its series.
pub(crate) fn absorb(answer: &mut Answer, part: Answer) -> Vec<MatrixSeries> {
    for (all, own) in [(&mut answer.warnings, part.warnings), (&mut answer.infos, part.infos)] {
        all.extend(own);
        all.sort_unstable();
        all.dedup();
        all.truncate(NOTES_KEPT_MAX);
    }
    let (all, own) = (&mut answer.stats, part.stats);
    all.series += own.series;
    all.samples_read += own.samples_read;
    all.samples_queryable += own.samples_queryable;
    all.samples_peak = all.samples_peak.max(own.samples_peak);
    all.prepare += own.prepare;
    all.evaluate += own.evaluate;
    all.sort += own.sort;
    for phase in own.phases {
        match all.phases.iter_mut().find(|known| known.name == phase.name) {
            Some(known) => {
                known.time += phase.time;
                known.times += phase.times;
            }
            None => all.phases.push(phase),
        }
    }
    match part.value {
        Value::Matrix(series) => series,
        Value::Scalar { .. } | Value::String { .. } | Value::Vector(_) => Vec::new(),
    }
}

/// Puts parts one after the other, the earliest first: series in order of their labels.
pub(crate) fn join(parts: Vec<(i64, Vec<MatrixSeries>)>) -> Vec<MatrixSeries> {
    let mut all: BTreeMap<Labels, MatrixSeries> = BTreeMap::new();
    for series in parts.into_iter().flat_map(|(_, series)| series) {
        match all.entry(series.labels.clone()) {
            Entry::Vacant(free) => drop(free.insert(series)),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.floats.extend(series.floats);
                known.histograms.extend(series.histograms);
            }
        }
    }
    all.into_values().collect()
}

/// Whether series are in order of their labels, each once.
pub(super) fn is_in_order(series: &[MatrixSeries]) -> bool {
    series.is_sorted_by(|a, b| a.labels < b.labels)
}

/// Memory of a matrix. What series and histograms share is counted for each.
pub(super) fn bytes_of(series: &[MatrixSeries]) -> usize {
    let of_one = |one: &MatrixSeries| {
        let floats = one.floats.len() * size_of::<(i64, f64)>();
        let histograms: usize = one.histograms.iter().map(|(_, h)| bytes_of_histogram(h)).sum();
        size_of::<MatrixSeries>() + one.labels.heap_bytes() + floats + histograms
    };
    series.iter().map(of_one).sum()
}

fn bytes_of_histogram(histogram: &FloatHistogram) -> usize {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let numbers =
        histogram.positive.len() + histogram.negative.len() + histogram.custom_values.len();
    size_of::<(i64, FloatHistogram)>() + 8 * (spans + numbers)
}
