//! Samples of one series become windows: a plain function.

use std::sync::Arc;

use model::{Histogram, Resolution, is_stale};

use super::histograms::Merged;
use super::windows::{HistogramWindow, Windows};
use crate::SeriesSamples;

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
    /// The last finite value.
    finite: Option<f64>,
    increase: f64,
    ended: bool,
}

impl Floats {
    fn new(start_ms: i64, value: f64) -> Self {
        let finite = value.is_finite().then_some(value);
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

    fn add(&mut self, value: f64) {
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
            if let Some(before) = self.finite {
                self.increase += if value < before { value } else { value - before };
            }
            self.finite = Some(value);
        }
    }
}

/// The windows of a series that has these samples.
pub(crate) fn fold(samples: &SeriesSamples, resolution: Resolution) -> Windows {
    let mut all: Vec<Floats> = Vec::new();
    let mut end_ms = i64::MIN;
    for (at_ms, value) in samples.timestamps.iter().zip(&samples.values) {
        let is_new = all.is_empty() || *at_ms > end_ms;
        match all.last_mut() {
            Some(window) if !is_new && is_stale(*value) => window.ended = true,
            Some(window) if !is_new => window.add(*value),
            _ if is_stale(*value) => {}
            _ => {
                let window = resolution.window_of(*at_ms);
                end_ms = window.end_ms;
                all.push(Floats::new(window.start_ms, *value));
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
        histograms: fold_histograms(&samples.histograms, resolution),
    }
}

fn fold_histograms(
    histograms: &[(i64, Arc<Histogram>)],
    resolution: Resolution,
) -> Vec<HistogramWindow> {
    let mut all = Vec::new();
    let of_one = |a: &(i64, _), b: &(i64, _)| resolution.window_of(a.0).contains(b.0);
    for window in histograms.chunk_by(of_one) {
        let mut samples = window.iter().filter(|(_, h)| !h.is_stale());
        let Some((at_ms, first)) = samples.next() else { continue };
        let (mut count, mut last, mut merged) = (1.0, first, Merged::new(first));
        for (_, histogram) in samples {
            merged.add(last, histogram);
            count += 1.0;
            last = histogram;
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
