//! Functions of the floats in one window, each sample looked at in time order.

use super::quantile;
use super::rate::Starts;
use super::regression;
use super::sums::{Mean, Sum, variance};

/// The samples of one window and its step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    /// Milliseconds.
    pub(crate) timestamps: &'a [i64],
    pub(crate) values: &'a [f64],
    /// The step itself, without offset.
    pub(crate) step_ms: i64,
    /// Since when the samples count, if that is to be looked at.
    pub(crate) starts: Option<Starts<'a>>,
}

/// Numbers that a function takes beside its range, at one step.
pub(crate) type Params<'a> = &'a [f64];

/// A function of a window. `None`: no point at this step. Never called without samples.
pub(crate) type Kernel = fn(&View<'_>, Params<'_>) -> Option<f64>;

pub(crate) fn sum(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    let sum = view.values.iter().fold(Sum::default(), |sum, value| sum.add(*value));
    Some(if sum.value.is_infinite() { sum.value } else { sum.total() })
}

pub(crate) fn avg(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    let mut mean = Mean::of(*view.values.first()?);
    view.values[1..].iter().for_each(|value| mean.add(*value));
    Some(mean.value())
}

/// The sample that is the smallest, and the last such one if `last`. NaN only if all are.
fn extreme(view: &View<'_>, replaces: fn(f64, f64) -> bool) -> usize {
    let mut best = 0;
    for (i, value) in view.values.iter().enumerate().skip(1) {
        if replaces(*value, view.values[best]) || view.values[best].is_nan() {
            best = i;
        }
    }
    best
}

pub(crate) fn min(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    Some(view.values[extreme(view, |new, best| new < best)])
}

pub(crate) fn max(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    Some(view.values[extreme(view, |new, best| new > best)])
}

pub(crate) fn ts_of_min(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    Some(seconds(view.timestamps[extreme(view, |new, best| new <= best)]))
}

pub(crate) fn ts_of_max(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    Some(seconds(view.timestamps[extreme(view, |new, best| new >= best)]))
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

pub(crate) fn stddev(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    Some(variance(view.values).sqrt())
}

pub(crate) fn stdvar(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    Some(variance(view.values))
}

pub(crate) fn quantile_of(view: &View<'_>, params: Params<'_>) -> Option<f64> {
    Some(quantile::quantile(*params.first()?, &mut view.values.to_vec()))
}

pub(crate) fn mad(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    Some(quantile::median_deviation(&mut view.values.to_vec()))
}

pub(crate) fn changes(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    let differ = |pair: &&[f64]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
    Some(view.values.windows(2).filter(differ).count() as f64)
}

pub(crate) fn resets(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    let restarts = |at: usize| view.starts.is_some_and(|starts| starts.reset_at(at));
    let reset = |at: &usize| view.values[*at] < view.values[*at - 1] || restarts(*at);
    Some((1..view.values.len()).filter(reset).count() as f64)
}

pub(crate) fn deriv(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    let first = *view.timestamps.first()?;
    (view.values.len() >= 2).then(|| regression::line(view.timestamps, view.values, first).0)
}

pub(crate) fn predict_linear(view: &View<'_>, params: Params<'_>) -> Option<f64> {
    let seconds_ahead = *params.first()?;
    if view.values.len() < 2 {
        return None;
    }
    let (slope, intercept) = regression::line(view.timestamps, view.values, view.step_ms);
    Some(slope * seconds_ahead + intercept)
}

pub(crate) fn smoothed(view: &View<'_>, params: Params<'_>) -> Option<f64> {
    regression::smoothed(view.values, *params.first()?, *params.get(1)?)
}

pub(crate) fn irate(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    let (before, last, apart_ms) = last_two(view)?;
    // After a reset the counter has counted from zero.
    let newest = view.values.len() - 1;
    let restarted = view.starts.is_some_and(|starts| starts.reset_at(newest));
    let difference = if last < before || restarted { last } else { last - before };
    Some(difference / seconds(apart_ms))
}

pub(crate) fn idelta(view: &View<'_>, _: Params<'_>) -> Option<f64> {
    let (before, last, _) = last_two(view)?;
    Some(last - before)
}

fn last_two(view: &View<'_>) -> Option<(f64, f64, i64)> {
    let ([.., before, last], [.., first_ms, last_ms]) = (view.values, view.timestamps) else {
        return None;
    };
    let apart_ms = last_ms - first_ms;
    (apart_ms != 0).then_some((*before, *last, apart_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kernel: Kernel, values: &[f64], params: &[f64], expected: Option<f64>) {
        let timestamps: Vec<i64> = (0..values.len() as i64).map(|i| i * 10_000).collect();
        let view = View { timestamps: &timestamps, values, step_ms: 100_000, starts: None };
        let found = kernel(&view, params);
        let same =
            found == expected || found.zip(expected).is_some_and(|(a, b)| a.is_nan() && b.is_nan());
        assert!(same, "{found:?} instead of {expected:?}");
    }

    #[test]
    fn windows_are_summed_up() {
        let nan = f64::NAN;
        check(sum, &[1.0, 1e100, 1.0, -1e100], &[], Some(2.0));
        check(sum, &[f64::INFINITY, 1.0], &[], Some(f64::INFINITY));
        check(avg, &[1.0, 2.0, 6.0], &[], Some(3.0));
        check(min, &[nan, 3.0, -1.0, nan], &[], Some(-1.0));
        check(max, &[nan, 3.0, -1.0, nan], &[], Some(3.0));
        check(max, &[nan, nan], &[], Some(nan));
        check(ts_of_min, &[1.0, 0.0, 0.0, 3.0], &[], Some(20.0));
        check(ts_of_max, &[1.0, 7.0, 7.0, 3.0], &[], Some(20.0));
        check(stdvar, &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], &[], Some(4.0));
        check(quantile_of, &[1.0, 2.0], &[0.5], Some(1.5));
        check(mad, &[4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0], &[], Some(1.0));
        check(changes, &[1.0, 1.0, 2.0, nan, nan, 2.0], &[], Some(3.0));
        check(resets, &[1.0, 2.0, 1.0, nan, 0.0, -1.0], &[], Some(2.0));
        check(deriv, &[0.0, 10.0, 20.0], &[], Some(1.0));
        check(deriv, &[0.0], &[], None);
        check(predict_linear, &[0.0, 10.0, 20.0], &[5.0], Some(105.0));
        check(irate, &[100.0, 5.0], &[], Some(0.5));
        check(irate, &[5.0], &[], None);
        check(idelta, &[100.0, 5.0], &[], Some(-95.0));
    }
}
