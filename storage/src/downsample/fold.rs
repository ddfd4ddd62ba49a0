//! Samples of one series become windows: a plain function.

use std::sync::Arc;

use model::{Histogram, Resolution, Since, is_stale};

use super::histograms::Merged;
use super::windows::{HistogramWindow, Windows};
use crate::{SeriesSamples, Starts};

/// What is known of the floats of a window so far.
#[derive(Debug, Clone, Copy)]
struct Floats {
    start_ms: i64,
    count: f64,
    min: f64,
    max: f64,
    sum: f64,
    /// What `sum` lost to rounding so far (Neumaier).
    lost: f64,
    first: f64,
    last: f64,
    /// The last finite value and when it was.
    finite: Option<(f64, Since)>,
    increase: f64,
    ended: bool,
}

impl Floats {
    fn new(start_ms: i64, value: f64, at: Since) -> Self {
        let finite = value.is_finite().then_some((value, at));
        Self {
            start_ms,
            count: 1.0,
            min: value,
            max: value,
            sum: value,
            lost: 0.0,
            first: value,
            last: value,
            finite,
            increase: 0.0,
            ended: false,
        }
    }

    fn add(&mut self, value: f64, at: Since) {
        self.count += 1.0;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        let sum = self.sum + value;
        if sum.is_finite() {
            let (large, small) =
                if self.sum.abs() >= value.abs() { (self.sum, value) } else { (value, self.sum) };
            self.lost += (large - sum) + small;
        }
        self.sum = sum;
        self.last = value;
        self.ended = false;
        if value.is_finite() {
            if let Some((before, earlier)) = self.finite {
                let is_reset = value < before || at.is_reset_after(earlier);
                self.increase += if is_reset { value } else { value - before };
            }
            self.finite = Some((value, at));
        }
    }
}

/// The windows of a series that has these samples.
pub(crate) fn fold(samples: &SeriesSamples, resolution: Resolution) -> Windows {
    let mut all: Vec<Floats> = Vec::new();
    let mut end_ms = i64::MIN;
    let starts = samples.starts.each(samples.timestamps.iter().copied());
    let instants = samples.timestamps.iter().zip(&starts);
    for ((&at_ms, &start_ms), &value) in instants.zip(&samples.values) {
        let at = Since { at_ms, start_ms };
        let is_new = all.is_empty() || at_ms > end_ms;
        match all.last_mut() {
            Some(window) if !is_new && is_stale(value) => window.ended = true,
            Some(window) if !is_new => window.add(value, at),
            _ if is_stale(value) => {}
            _ => {
                let window = resolution.window_of(at_ms);
                end_ms = window.end_ms;
                all.push(Floats::new(window.start_ms, value, at));
            }
        }
    }
    let column = |of: fn(&Floats) -> f64| all.iter().map(of).collect::<Vec<f64>>();
    Windows {
        starts: all.iter().map(|w| w.start_ms).collect(),
        count: column(|w| w.count),
        min: column(|w| w.min),
        max: column(|w| w.max),
        sum: column(|w| if w.sum.is_finite() { w.sum + w.lost } else { w.sum }),
        first: column(|w| w.first),
        last: column(|w| w.last),
        increase: column(|w| w.increase),
        ended: all.iter().map(|w| w.ended).collect(),
        histograms: fold_histograms(&samples.histograms, &samples.starts, resolution),
    }
}

fn fold_histograms(
    histograms: &[(i64, Arc<Histogram>)],
    starts: &Starts,
    resolution: Resolution,
) -> Vec<HistogramWindow> {
    let mut all = Vec::new();
    let of_one = |a: &(i64, _), b: &(i64, _)| resolution.window_of(a.0).contains(b.0);
    for window in histograms.chunk_by(of_one) {
        let mut samples = window.iter().filter(|(_, h)| !h.is_stale());
        let Some((at_ms, first)) = samples.next() else { continue };
        let instant = |at_ms: i64| Since { at_ms, start_ms: starts.at(at_ms) };
        let (mut count, mut last, mut merged) = (1.0, first, Merged::new(first));
        let mut last_at = instant(*at_ms);
        for (at_ms, histogram) in samples {
            let at = instant(*at_ms);
            merged.add((!at.is_reset_after(last_at)).then_some(last), histogram);
            count += 1.0;
            (last, last_at) = (histogram, at);
        }
        all.push(HistogramWindow {
            start_ms: resolution.window_of(*at_ms).start_ms,
            count,
            last: Arc::clone(last),
            merged: Arc::new(merged.into_histogram()),
            ended: window.last().is_some_and(|(_, h)| h.is_stale()),
        });
    }
    all
}
