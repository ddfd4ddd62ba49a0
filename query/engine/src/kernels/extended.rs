//! `rate`, `increase` and `delta` without extrapolation. Anchored: from the last sample at or before
//! the range to the last one in it. Smoothed: between values interpolated at the range's edges.

use query::promql::Edges;

use super::rate::{Rate, resets};
use super::window::{Times, Windows};
use crate::column::Column;

/// The samples that stand around one range. Indexes into a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Around {
    /// The last sample at or before the range's start, or else the first one after it.
    pub(crate) first: usize,
    /// The first sample at or after its end, or else the last one before it.
    pub(crate) last: usize,
}

impl Around {
    /// Around (start, end], of the samples `window`; `None` if they lie on one side of it.
    pub(crate) fn new(
        timestamps: &[i64],
        window: std::ops::Range<usize>,
        edges: Edges,
        (start_ms, end_ms): (i64, i64),
    ) -> Option<Self> {
        let (low, high) = (window.start, window.end);
        let newest = high.checked_sub(1).filter(|newest| *newest >= low)?;
        let after_start = timestamps[low..newest].partition_point(|t| *t <= start_ms);
        let first = low + after_start.saturating_sub(1);
        let last = match edges {
            Edges::Smoothed => low + timestamps[low..newest].partition_point(|t| *t < end_ms),
            Edges::Plain | Edges::Anchored => newest,
        };
        (timestamps[last] > start_ms && timestamps[first] <= end_ms).then_some(Self { first, last })
    }
}

/// The value on the line between two samples. Of a counter that was reset between them, the line
/// begins at zero.
pub(crate) fn interpolated(
    (from_ms, from): (i64, f64),
    (to_ms, to): (i64, f64),
    at_ms: i64,
    counter: bool,
) -> f64 {
    let from = if counter && to < from { 0.0 } else { from };
    from + (to - from) * (at_ms - from_ms) as f64 / (to_ms - from_ms) as f64
}

/// The values at both edges of a range.
pub(crate) fn at_edges(
    timestamps: &[i64],
    values: &[f64],
    around: Around,
    edges: Edges,
    (start_ms, end_ms): (i64, i64),
    counter: bool,
) -> (f64, f64) {
    let Around { first, last } = around;
    let sample = |at: usize| (timestamps[at], values[at]);
    let smoothed = edges == Edges::Smoothed;
    let left = match smoothed && timestamps[first] < start_ms {
        true => interpolated(sample(first), sample(first + 1), start_ms, counter),
        false => values[first],
    };
    let right = match smoothed && last > first && timestamps[last] > end_ms {
        true => interpolated(sample(last - 1), sample(last), end_ms, counter),
        false => values[last],
    };
    (left, right)
}

/// One series at all steps.
pub(crate) fn extended(
    timestamps: &[i64],
    values: &[f64],
    windows: &Windows,
    (times, range_ms): (&Times, i64),
    edges: Edges,
    rate: Rate,
    out: &mut Column,
) {
    let counter = rate != Rate::Delta;
    let falls = if counter { resets(values, None) } else { Vec::new() };
    for (step, window) in windows.iter().enumerate() {
        let end_ms = times.end(step);
        let range = (end_ms.saturating_sub(range_ms), end_ms);
        let Some(around) = Around::new(timestamps, window, edges, range) else { continue };
        let (left, right) = at_edges(timestamps, values, around, edges, range, counter);
        let mut result = right - left;
        if counter {
            result += lost_to_resets(timestamps, values, &falls, around, range, (left, right));
        }
        if rate == Rate::PerSecond {
            result /= range_ms as f64 / 1000.0;
        }
        out.set(step, result);
    }
}

/// What a counter had counted before its resets: from the left edge by way of the samples strictly
/// inside the range to the right edge.
fn lost_to_resets(
    timestamps: &[i64],
    values: &[f64],
    falls: &[usize],
    Around { first, last }: Around,
    (start_ms, end_ms): (i64, i64),
    (left, right): (f64, f64),
) -> f64 {
    let low = if timestamps[first] <= start_ms { first + 1 } else { first };
    let high = if timestamps[last] >= end_ms { last } else { last + 1 };
    let (mut lost, mut before) = (0.0, left);
    if low < high {
        if values[low] < left {
            lost += left;
        }
        let next = falls.partition_point(|at| *at <= low);
        for at in falls[next..].iter().take_while(|at| **at < high) {
            lost += values[at - 1];
        }
        before = values[high - 1];
    }
    if right < before {
        lost += before;
    }
    lost
}

/// The value at one instant on the line between the samples around it; after the last sample, that
/// one's. `window` holds the samples that may count.
pub(crate) fn at_instant(
    timestamps: &[i64],
    values: &[f64],
    window: std::ops::Range<usize>,
    at_ms: i64,
) -> Option<f64> {
    let next = window.start + timestamps[window.clone()].partition_point(|t| *t < at_ms);
    let sample = |at: usize| (timestamps[at], values[at]);
    if next < window.end && timestamps[next] == at_ms {
        return Some(values[next]);
    }
    if next == window.start {
        return None;
    }
    match next < window.end {
        true => Some(interpolated(sample(next - 1), sample(next), at_ms, false)),
        false => Some(values[next - 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    const STEP_MS: i64 = 15_000;

    /// Samples every 15 s; those that are NaN are not there.
    #[track_caller]
    fn check(values: &[f64], at_s: i64, edges: Edges, rate: Rate, expected: Option<f64>) {
        let every = values.iter().enumerate().filter(|(_, v)| !v.is_nan());
        let (timestamps, values): (Vec<i64>, Vec<f64>) =
            every.map(|(i, v)| (i as i64 * STEP_MS, *v)).unzip();
        let times = Times { grid: Grid::instant(at_s * 1000), offset_ms: 0, at_ms: None };
        let windows = Windows::of_edges(&timestamps, &times, 60_000, edges, 300_000);
        let mut out = Column::empty(1);
        extended(&timestamps, &values, &windows, (&times, 60_000), edges, rate, &mut out);
        let same = match (out.get(0), expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
            (found, expected) => found == expected,
        };
        assert!(same, "{:?} instead of {expected:?}", out.get(0));
    }

    #[test]
    fn edges_are_found_where_samples_are_missing() {
        const GAP: f64 = f64::NAN;
        let counter = [2.0, 4.0, 6.0, GAP, GAP, 3.0, 5.0];
        let (anchored, smoothed) = (Edges::Anchored, Edges::Smoothed);
        check(&counter, 30, anchored, Rate::Increase, Some(4.0));
        check(&counter, 90, anchored, Rate::Increase, Some(5.0));
        check(&counter, 90, anchored, Rate::Delta, Some(-1.0));
        check(&counter, 90, anchored, Rate::PerSecond, Some(5.0 / 60.0));
        check(&counter, 151, anchored, Rate::Increase, None);
        check(&counter, 0, smoothed, Rate::Increase, Some(0.0));
        check(&counter, 60, smoothed, Rate::Increase, Some(4.0 + 2.0));
        check(&counter, 60, smoothed, Rate::Delta, Some(2.0));
        check(
            &counter,
            82,
            smoothed,
            Rate::Delta,
            Some(5.0 + 2.0 * 7.0 / 15.0 - 2.0 - 44.0 / 15.0 - 2.0),
        );
        check(&[GAP, GAP, 1.0], 15, smoothed, Rate::Increase, None);
    }

    #[test]
    fn instants_are_interpolated() {
        let (timestamps, values) = ([0, 10, 20], [1.0, 2.0, 0.0]);
        for (at_ms, expected) in
            [(-5, None), (0, Some(1.0)), (5, Some(1.5)), (15, Some(1.0)), (25, Some(0.0))]
        {
            assert_eq!(at_instant(&timestamps, &values, 0..3, at_ms), expected, "{at_ms}");
        }
    }
}
