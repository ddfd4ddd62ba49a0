//! `rate`, `increase`, `delta`: from first to last sample, corrected for resets, extrapolated to
//! the window's edges. What depends on timestamps alone is computed once per timestamp vector,
//! what depends on a series' resets once per series; a step then costs a few operations.

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
struct Edge {
    sampled: f64,
    to_start: f64,
    to_end: f64,
}

/// The part that series with the same timestamps share.
#[derive(Debug)]
pub(crate) struct Extrapolation {
    edges: Vec<Edge>,
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
            let (first, last) = (timestamps[window.start], timestamps[window.end - 1]);
            let end = times.end(step);
            let start = end.saturating_sub(range_ms);
            let sampled = (last - first) as f64 / 1000.0;
            let between = sampled / (window.len() - 1) as f64;
            // A gap of more than a tenth above the average means that the series begins or ends
            // here, so it is carried on for half an interval only.
            let threshold = between * 1.1;
            let reach =
                |distance: f64| if distance >= threshold { between / 2.0 } else { distance };
            Edge {
                sampled,
                to_start: reach((first - start) as f64 / 1000.0),
                to_end: reach((end - last) as f64 / 1000.0),
            }
        };
        Self {
            edges: (0..windows.len()).map(edge).collect(),
            range_seconds: range_ms as f64 / 1000.0,
        }
    }
}

/// One series at all steps.
pub(crate) fn extrapolated(
    values: &[f64],
    windows: &Windows,
    shared: &Extrapolation,
    rate: Rate,
    out: &mut Column,
) {
    let counter = rate != Rate::Delta;
    let resets = if counter { resets(values) } else { Vec::new() };
    let mut next_reset = 0;
    for (step, window) in windows.iter().enumerate() {
        if window.len() < 2 {
            continue;
        }
        let first = values[window.start];
        let mut difference = values[window.end - 1] - first;
        // A reset at `i` counts if sample `i − 1` is in the window, too.
        while resets.get(next_reset).is_some_and(|at| *at <= window.start) {
            next_reset += 1;
        }
        for at in resets[next_reset..].iter().take_while(|at| **at < window.end) {
            difference += values[at - 1];
        }
        let edge = &shared.edges[step];
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

/// Samples that are smaller than the one before.
fn resets(values: &[f64]) -> Vec<usize> {
    let falls = |pair: &[f64]| pair[1] < pair[0];
    values.windows(2).enumerate().filter(|(_, pair)| falls(pair)).map(|(i, _)| i + 1).collect()
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
            extrapolated(values, &windows, &shared, rate, &mut out);
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
