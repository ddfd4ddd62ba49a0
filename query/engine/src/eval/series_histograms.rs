//! Range functions at steps where a series has native histograms: they replace there what was
//! computed of floats alone.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use query::promql::Edges;
use query::{Error, FloatHistogram};

use super::series::{Samples, SeriesWork};
use crate::budget::Reserved;
use crate::column::{Column, histogram_bytes};
use crate::functions::{OfHistograms, RangeKernel};
use crate::kernels::histograms::{Counted, Hints, HistogramWindow, Reach, Resets, in_order};
use crate::kernels::rate::{Rate, Starts};
use crate::notes::Remark;

/// Bytes of new histograms after which the budget is asked again.
const BYTES_BETWEEN_RESERVATIONS: usize = 1 << 18;

/// What is known of a series once for all its steps.
struct Series<'a> {
    samples: &'a Samples,
    instants: Vec<i64>,
    starts: Option<&'a [i64]>,
    resets: Resets,
}

impl Series<'_> {
    fn starts(&self) -> Option<Starts<'_>> {
        self.starts.map(|starts| Starts { timestamps: &self.instants, starts })
    }
}

/// Places of the samples that count at one step.
struct Inside {
    floats: Range<usize>,
    histograms: Range<usize>,
}

impl SeriesWork {
    /// Puts histograms, or what is computed of them, into a column of floats.
    pub(super) fn put_histograms(
        &self,
        kernel: RangeKernel,
        samples: &Samples,
        remarks: &mut BTreeSet<Remark>,
        column: &mut Column,
    ) -> Result<(), Error> {
        let instants: Vec<i64> = samples.histograms.iter().map(|(t, _)| *t).collect();
        let starts = samples.starts.as_ref().map(|starts| starts.histograms.as_slice());
        let hints = if samples.thinned { Hints::Void } else { Hints::Hold };
        let known = |at: usize| {
            starts.is_some_and(|starts| Starts { timestamps: &instants, starts }.reset_at(at))
        };
        let resets = Resets::new(&samples.histograms, hints, known);
        let series = Series { samples, instants, starts, resets };
        let mut reserved = Reserved::default();
        let mut unreserved = 0;
        for step in 0..self.steps() {
            let inside = self.inside(&series, step);
            if inside.histograms.is_empty() {
                continue;
            }
            column.present.clear(step);
            match self.at_step(kernel, &series, &inside, step, remarks) {
                Some(Point::Float(value)) => column.set(step, value),
                Some(Point::Histogram(h)) => {
                    unreserved += histogram_bytes(&h);
                    column.set_histogram(step, Arc::new(h));
                }
                None => {}
            }
            if unreserved > BYTES_BETWEEN_RESERVATIONS {
                self.budget.check()?;
                reserved.absorb(self.budget.reserve(std::mem::take(&mut unreserved))?);
            }
        }
        Ok(())
    }

    /// The samples in a step's range, and those around it that its edges need.
    fn inside(&self, series: &Series<'_>, step: usize) -> Inside {
        let end_ms = self.times.end(step);
        let start_ms = end_ms.saturating_sub(self.reach_ms);
        let oldest_ms = start_ms.saturating_sub(self.margin_ms);
        let youngest_ms = end_ms.saturating_add(self.margin_ms);
        let within = |times: &[i64], (after, until): (i64, i64)| {
            let low = times.partition_point(|t| *t <= after);
            low..times.partition_point(|t| *t <= until).max(low)
        };
        let floats = &*series.samples.timestamps;
        let range = match self.edges {
            Edges::Smoothed => (oldest_ms, youngest_ms),
            Edges::Plain | Edges::Anchored => (start_ms, end_ms),
        };
        let mut inside =
            Inside { floats: within(floats, range), histograms: within(&series.instants, range) };
        let any = !(inside.floats.is_empty() && inside.histograms.is_empty());
        if self.edges == Edges::Anchored && any {
            let anchor = |times: &[i64], low: usize| {
                low.checked_sub(1).map(|at| times[at]).filter(|t| *t > oldest_ms)
            };
            let float_ms = anchor(floats, inside.floats.start);
            let histogram_ms = anchor(&series.instants, inside.histograms.start);
            // The last of either kind.
            if float_ms.is_some() && float_ms > histogram_ms {
                inside.floats.start -= 1;
            } else if histogram_ms.is_some() {
                inside.histograms.start -= 1;
            }
        }
        inside
    }

    fn at_step(
        &self,
        kernel: RangeKernel,
        series: &Series<'_>,
        inside: &Inside,
        step: usize,
        remarks: &mut BTreeSet<Remark>,
    ) -> Option<Point> {
        let reach = Reach { end_ms: self.times.end(step), range_ms: self.reach_ms };
        let mut window = HistogramWindow {
            samples: &series.samples.histograms,
            resets: &series.resets,
            low: inside.histograms.start,
            high: inside.histograms.end,
            remarks,
        };
        match kernel {
            RangeKernel::Either(_, OfHistograms::Changes) => {
                Some(Point::Float(counted(Counted::Changes, series, inside)))
            }
            RangeKernel::Either(_, OfHistograms::Resets) => {
                Some(Point::Float(counted(Counted::Resets, series, inside)))
            }
            RangeKernel::Either(floats, of @ (OfHistograms::Irate | OfHistograms::Idelta)) => {
                match newest_two(series, inside)? {
                    Newest::Histograms => {
                        window.instant(of == OfHistograms::Irate).map(Point::Histogram)
                    }
                    Newest::Floats => self
                        .float_at(floats, series.samples, inside.floats.clone(), (step, &[]))
                        .map(Point::Float),
                    Newest::Mixed => {
                        remarks.insert(Remark::MixedFloats);
                        None
                    }
                }
            }
            _ if !inside.floats.is_empty() => {
                remarks.insert(Remark::MixedFloats);
                None
            }
            RangeKernel::Either(_, OfHistograms::Sum) => window.sum().map(Point::Histogram),
            RangeKernel::Either(_, OfHistograms::Avg) => window.avg().map(Point::Histogram),
            RangeKernel::Rate(rate) if self.edges != Edges::Plain => window
                .between_edges(rate, self.edges, reach, &series.instants)
                .map(Point::Histogram),
            RangeKernel::Rate(rate) => {
                self.extrapolated(&mut window, series, rate, reach).map(Point::Histogram)
            }
            _ => None,
        }
    }

    fn extrapolated(
        &self,
        window: &mut HistogramWindow<'_>,
        series: &Series<'_>,
        rate: Rate,
        reach: Reach,
    ) -> Option<FloatHistogram> {
        let starts = series.starts().filter(|_| rate != Rate::Delta);
        let start_ms = reach.end_ms.saturating_sub(reach.range_ms);
        let began_ms = starts.and_then(|starts| starts.began_ms(window.low, start_ms));
        if starts
            .is_some_and(|starts| (window.low + 1..window.high).any(|at| starts.overlaps_at(at)))
        {
            window.remarks.insert(Remark::OverlappingStarts);
        }
        window.extrapolated(rate, reach, began_ms)
    }

    /// A `smoothed` selector of instants, where there are histograms.
    pub(super) fn put_smoothed_histograms(
        &self,
        samples: &Samples,
        remarks: &mut BTreeSet<Remark>,
        column: &mut Column,
    ) -> Result<(), Error> {
        let instants: Vec<i64> = samples.histograms.iter().map(|(t, _)| *t).collect();
        let resets = Resets::new(&samples.histograms, Hints::Hold, |_| false);
        let series = Series { samples, instants, starts: None, resets };
        for step in 0..self.steps() {
            let inside = self.inside(&series, step);
            if inside.histograms.is_empty() {
                continue;
            }
            column.present.clear(step);
            if !inside.floats.is_empty() {
                remarks.insert(Remark::MixedFloats);
                continue;
            }
            let mut window = HistogramWindow {
                samples: &samples.histograms,
                resets: &series.resets,
                low: inside.histograms.start,
                high: inside.histograms.end,
                remarks,
            };
            if let Some(h) = window.at_instant(self.times.end(step)) {
                let _during = self.budget.reserve(histogram_bytes(&h))?;
                column.set_histogram(step, Arc::new(h));
            }
        }
        Ok(())
    }
}

/// What a step gets.
enum Point {
    Float(f64),
    Histogram(FloatHistogram),
}

fn counted(what: Counted, series: &Series<'_>, inside: &Inside) -> f64 {
    let Samples { timestamps, values, histograms, .. } = series.samples;
    let floats = (&timestamps[inside.floats.clone()], &values[inside.floats.clone()]);
    let Range { start, end } = inside.histograms;
    what.count(in_order(floats, histograms, start, end), histograms, &series.resets)
}

/// Of which kind the last two samples are.
enum Newest {
    Floats,
    Histograms,
    Mixed,
}

fn newest_two(series: &Series<'_>, inside: &Inside) -> Option<Newest> {
    let newest = |times: &[i64], range: &Range<usize>| {
        let last = times[range.clone()].last().copied();
        (last, times[range.clone()].iter().rev().nth(1).copied())
    };
    let (float, float_before) = newest(&series.samples.timestamps, &inside.floats);
    let (histogram, histogram_before) = newest(&series.instants, &inside.histograms);
    match (float > histogram, float_before > histogram, histogram_before >= float) {
        (true, true, _) => Some(Newest::Floats),
        (true, false, _) => histogram.map(|_| Newest::Mixed),
        (false, _, true) if histogram_before.is_some() => Some(Newest::Histograms),
        _ => float.map(|_| Newest::Mixed),
    }
}
