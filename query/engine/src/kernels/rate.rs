//! `rate`, `increase`, `delta`: from first to last sample, corrected for resets, extrapolated to
//! the window's edges. What depends on timestamps alone is computed once per timestamp vector,
//! what depends on a series' resets once per series; a step then costs a few operations.

use std::ops::Range;

use model::Since;

use crate::column::Column;

use super::window::{Times, Windows};

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    /// Per second, of a counter.
    PerSecond,
    /// Of a counter.
    Increase,
    /// Of a gauge: no resets, may fall below zero.
    Delta,
}

/// How far samples lie apart and from their window's edges, per step. Seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Edge {
    pub(crate) sampled: f64,
    pub(crate) to_start: f64,
    pub(crate) to_end: f64,
}

/// The part that series with the same timestamps share.
#[derive(Debug)]
pub(crate) struct Extrapolation {
    edges: Vec<Edge>,
    times: Times,
    range_ms: i64,
    range_seconds: f64,
}

impl Extrapolation {
    /// What it takes for each step.
    pub(crate) const STEP_BYTES: usize = size_of::<Edge>();

    pub(crate) fn new(timestamps: &[i64], windows: &Windows, times: &Times, range_ms: i64) -> Self {
        let edge = |step: usize| {
            let window = windows.at(step);
            if window.len() < 2 {
                return Edge::default();
            }
            let sampled_ms = (timestamps[window.start], timestamps[window.end - 1]);
            let end_ms = times.end(step);
            Edge::new(sampled_ms, window.len(), (end_ms.saturating_sub(range_ms), end_ms))
        };
        let edges = (0..windows.len()).map(edge).collect();
        Self { edges, times: *times, range_ms, range_seconds: range_ms as f64 / 1000.0 }
    }

    /// The range of a step: open on the left.
    fn range_at(&self, step: usize) -> (i64, i64) {
        let end_ms = self.times.end(step);
        (end_ms.saturating_sub(self.range_ms), end_ms)
    }
}

impl Edge {
    /// Of a counter that is known to have begun inside the range: what it counted is known, so
    /// nothing is extrapolated (as Prometheus' scripts have it).
    pub(crate) fn begun((start, last): (i64, i64)) -> Self {
        Self { sampled: (last - start) as f64 / 1000.0, to_start: 0.0, to_end: 0.0 }
    }

    /// Of so many samples from the first to the last.
    pub(crate) fn new((first, last): (i64, i64), samples: usize, (start, end): (i64, i64)) -> Self {
        let sampled = (last - first) as f64 / 1000.0;
        let between = sampled / (samples - 1) as f64;
        // A gap of more than a tenth above the average means that the series begins or ends here,
        // so it is carried on for half an interval only.
        let threshold = between * 1.1;
        let reach = |distance: f64| if distance >= threshold { between / 2.0 } else { distance };
        Self {
            sampled,
            to_start: reach((first - start) as f64 / 1000.0),
            to_end: reach((end - last) as f64 / 1000.0),
        }
    }
}

/// One series at all steps, with the start timestamps of its samples if they are to be looked at.
pub(crate) fn extrapolated(
    values: &[f64],
    starts: Option<Starts<'_>>,
    windows: &Windows,
    shared: &Extrapolation,
    rate: Rate,
    out: &mut Column,
) {
    let counter = rate != Rate::Delta;
    let resets = if counter { resets(values, starts) } else { Vec::new() };
    let mut next_reset = 0;
    for (step, window) in windows.iter().enumerate() {
        let began = starts.filter(|_| counter && !window.is_empty());
        let began = began.and_then(|starts| starts.began_at(&window, shared.range_at(step)));
        if window.len() < 2 && began.is_none() {
            continue;
        }
        // A counter that began inside the window was zero then.
        let first = if began.is_some() { 0.0 } else { values[window.start] };
        let mut difference = values[window.end - 1] - first;
        // A reset at `i` counts if sample `i − 1` is in the window, too.
        while resets.get(next_reset).is_some_and(|at| *at <= window.start) {
            next_reset += 1;
        }
        for at in resets[next_reset..].iter().take_while(|at| **at < window.end) {
            difference += values[at - 1];
        }
        let edge = began.unwrap_or(shared.edges[step]);
        let mut to_start = edge.to_start;
        if counter {
            let mut to_zero = to_start;
            if difference > 0.0 && first >= 0.0 {
                to_zero = edge.sampled * (first / difference);
            }
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        let mut factor = (edge.sampled + to_start + edge.to_end) / edge.sampled;
        if rate == Rate::PerSecond {
            factor /= shared.range_seconds;
        }
        out.set(step, difference * factor);
    }
}

/// Samples before which the counter was reset: they are smaller than the one before, or say that
/// they began to count after it.
pub(crate) fn resets(values: &[f64], starts: Option<Starts<'_>>) -> Vec<usize> {
    let mut found = Vec::new();
    if let Some(starts) = starts {
        let is_reset = |at: &usize| values[*at] < values[at - 1] || starts.reset_at(*at);
        found.extend((1..values.len()).filter(is_reset));
        return found;
    }
    // Whole runs at a time: nearly always there is none.
    const RUN: usize = 256;
    for start in (1..values.len()).step_by(RUN) {
        let end = (start + RUN).min(values.len());
        let (before, after) = (&values[start - 1..end - 1], &values[start..end]);
        let falls = before.iter().zip(after).fold(false, |any, (a, b)| any | (b < a));
        if falls {
            found.extend((start..end).filter(|at| values[*at] < values[at - 1]));
        }
    }
    found
}

/// Samples' instants, and since when each counts. Milliseconds; 0 is unknown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starts<'a> {
    pub(crate) timestamps: &'a [i64],
    pub(crate) starts: &'a [i64],
}

impl Starts<'_> {
    fn since(&self, at: usize) -> Since {
        Since { at_ms: self.timestamps[at], start_ms: self.starts[at] }
    }

    /// Whether the sample counts from a later time on than the one before it.
    pub(crate) fn reset_at(&self, at: usize) -> bool {
        self.since(at).is_reset_after(self.since(at - 1))
    }

    /// The edges of a window whose first sample began to count inside its range: as if there were
    /// one more sample.
    fn began_at(&self, window: &Range<usize>, range: (i64, i64)) -> Option<Edge> {
        let start = self.began_ms(window.start, range.0)?;
        Some(Edge::begun((start, self.timestamps[window.end - 1])))
    }

    /// When a window's first sample began to count, if that is inside the range.
    pub(crate) fn began_ms(&self, first: usize, range_start_ms: i64) -> Option<i64> {
        let first = self.since(first);
        (first.is_known() && first.start_ms > range_start_ms).then_some(first.start_ms)
    }

    /// The same of some samples of a series.
    pub(crate) fn within(self, window: Range<usize>) -> Self {
        Self { timestamps: &self.timestamps[window.clone()], starts: &self.starts[window] }
    }

    /// Whether the sample counts what the one before it has counted as well.
    pub(crate) fn overlaps_at(&self, at: usize) -> bool {
        let start = self.starts[at];
        start != 0 && start < self.timestamps[at - 1] && start != self.starts[at - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    /// The definition, step by step and sample by sample.
    fn plain(ts: &[i64], values: &[f64], end: i64, range: i64, rate: Rate) -> Option<f64> {
        let inside: Vec<usize> =
            (0..ts.len()).filter(|i| ts[*i] > end - range && ts[*i] <= end).collect();
        let (first, last) = (*inside.first()?, *inside.last()?);
        if inside.len() < 2 {
            return None;
        }
        let counter = rate != Rate::Delta;
        let mut result = values[last] - values[first];
        let mut before = values[first];
        for i in &inside[1..] {
            if counter && values[*i] < before {
                result += before;
            }
            before = values[*i];
        }
        let mut to_start = (ts[first] - (end - range)) as f64 / 1000.0;
        let mut to_end = (end - ts[last]) as f64 / 1000.0;
        let sampled = (ts[last] - ts[first]) as f64 / 1000.0;
        let between = sampled / (inside.len() - 1) as f64;
        if to_start >= between * 1.1 {
            to_start = between / 2.0;
        }
        if counter && result > 0.0 && values[first] >= 0.0 {
            to_start = to_start.min(sampled * (values[first] / result));
        }
        if to_end >= between * 1.1 {
            to_end = between / 2.0;
        }
        let mut factor = (sampled + to_start + to_end) / sampled;
        if rate == Rate::PerSecond {
            factor /= range as f64 / 1000.0;
        }
        Some(result * factor)
    }

    #[track_caller]
    fn check(ts: &[i64], values: &[f64], range: i64) {
        let times = Times { grid: Grid::new(0, 200_000, 7_000), offset_ms: 3_000, at_ms: None };
        let windows = Windows::new(ts, &times, range);
        let shared = Extrapolation::new(ts, &windows, &times, range);
        for rate in [Rate::PerSecond, Rate::Increase, Rate::Delta] {
            let mut out = Column::empty(times.grid.len);
            extrapolated(values, None, &windows, &shared, rate, &mut out);
            for step in 0..times.grid.len {
                let expected = plain(ts, values, times.end(step), range, rate);
                assert_eq!(
                    out.get(step).map(f64::to_bits),
                    expected.map(f64::to_bits),
                    "{rate:?} step {step}"
                );
            }
        }
    }

    #[test]
    fn starts_tell_of_resets_that_values_hide() {
        let timestamps = [60_000, 120_000];
        for (starts, reset, overlaps) in [
            ([0, 0], false, false),
            ([0, 90_000], true, false),
            ([0, 60_000], false, false),
            ([30_000, 60_000], true, false),
            ([90_000, 60_000], false, false),
            ([60_000, 60_000], false, false),
            ([0, 120_000], false, false),
            ([0, 130_000], false, false),
            ([30_000, 30_000], false, false),
            ([30_000, 45_000], false, true),
        ] {
            let found = Starts { timestamps: &timestamps, starts: &starts };
            assert_eq!(found.reset_at(1), reset, "{starts:?}");
            assert_eq!(found.overlaps_at(1), overlaps, "{starts:?}");
            assert_eq!(resets(&[1.0, 1.0], Some(found)).len(), usize::from(reset), "{starts:?}");
        }
    }

    #[test]
    fn a_counter_that_begins_in_a_window_was_zero_then() {
        let times = Times { grid: Grid::instant(120_000), offset_ms: 0, at_ms: None };
        // Neither carried on for 20 s to the range's end nor back to its start.
        for (start_ms, expected) in
            [(0, None), (60_000, Some(5.0)), (20_000, Some(5.0)), (110_000, None)]
        {
            let (timestamps, starts) = ([100_000], [start_ms]);
            let windows = Windows::new(&timestamps, &times, 110_000);
            let shared = Extrapolation::new(&timestamps, &windows, &times, 110_000);
            let starts = Some(Starts { timestamps: &timestamps, starts: &starts });
            let mut out = Column::empty(1);
            extrapolated(&[5.0], starts, &windows, &shared, Rate::Increase, &mut out);
            assert_eq!(out.get(0), expected, "{start_ms}");
        }
    }

    #[test]
    fn rates_are_those_of_the_definition() {
        let regular: Vec<i64> = (0..14).map(|i| i * 15_000).collect();
        let counter: Vec<f64> = (0..14).map(|i| 0.1 * i as f64).collect();
        let reset: Vec<f64> = (0..14).map(|i| f64::from(i * 37 % 50) * 1.1).collect();
        let jittered: Vec<i64> = (0..14).map(|i| i * 15_000 + i * i * 37 % 900).collect();
        for range in [10_000, 20_000, 60_000, 300_000] {
            check(&regular, &counter, range);
            check(&regular, &reset, range);
            check(&jittered, &reset, range);
            check(&[0, 15_000, 90_000, 105_000], &[1.0, f64::NAN, -3.0, -2.0], range);
        }
        check(&[], &[], 60_000);
        check(&[5_000], &[1.0], 60_000);
    }
}
