//! From a series' samples to its column: what selectors and range functions do, one morsel of
//! series at a time. Windows are computed once per timestamp vector that series share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use model::is_stale;
use query::promql::Edges;
use query::{Error, FloatHistogram};
use storage::{Liveness, SeriesSamples};

use super::morsels::Columns;
use super::same_instants::SameInstants;
use crate::budget::Budget;
use crate::column::{Column, histogram_bytes};
use crate::functions::{RangeFunction, RangeKernel};
use crate::histogram::{Shows, read};
use crate::kernels::extended::{at_instant, extended};
use crate::kernels::over_time::{Kernel, View};
use crate::kernels::rate::{self, Rate, extrapolated};
use crate::kernels::window::{Times, Windows};
use crate::notes::Remark;
use crate::phases::Phase;
use crate::source::Fetched;

/// Since when samples of a series count. Milliseconds since the epoch; 0 is unknown.
#[derive(Debug)]
pub(crate) struct Starts {
    /// One for each float.
    pub(crate) floats: Vec<i64>,
    /// One for each histogram.
    pub(crate) histograms: Vec<i64>,
}

impl Starts {
    fn of(stored: &SeriesSamples) -> Option<Box<Self>> {
        if stored.starts.is_empty() {
            return None;
        }
        let floats = stored.starts.each(stored.timestamps.iter().copied());
        let histograms = stored.starts.each(stored.histograms.iter().map(|(at_ms, _)| *at_ms));
        Some(Box::new(Self { floats, histograms }))
    }
}

/// The samples of one series, as the evaluator sees them.
#[derive(Debug)]
pub(crate) struct Samples {
    pub(crate) timestamps: Arc<[i64]>,
    pub(crate) values: Vec<f64>,
    pub(crate) histograms: Vec<(i64, Arc<FloatHistogram>)>,
    /// Since when each of them counts, where that is known.
    pub(crate) starts: Option<Box<Starts>>,
    /// Whether some were left out between others, as subqueries do.
    pub(crate) thinned: bool,
}

impl Samples {
    fn showing(stored: SeriesSamples, shows: Shows, with_starts: bool) -> Self {
        let histograms = read(&stored.histograms, shows);
        let starts = if with_starts { Starts::of(&stored) } else { None };
        let SeriesSamples { timestamps, values, .. } = stored;
        Self { timestamps, values, histograms, starts, thinned: false }
    }

    fn starts_of_floats(&self) -> Option<rate::Starts<'_>> {
        let starts = self.starts.as_ref()?;
        Some(rate::Starts { timestamps: &self.timestamps, starts: &starts.floats })
    }

    /// How many samples there are for the limit. A histogram is as many as fit into its memory, as
    /// in Prometheus (`promql/value.go`, `HPoint.size`).
    pub(crate) fn count(&self) -> usize {
        let histogram = |(_, h): &(i64, Arc<FloatHistogram>)| {
            (histogram_bytes(h) + size_of::<i64>()) / size_of::<(i64, f64)>()
        };
        self.values.len() + self.histograms.iter().map(histogram).sum::<usize>()
    }
}

/// Bytes of stored samples and of what [`Samples`] makes of them.
pub(crate) fn decoded_bytes(stored: &[SeriesSamples]) -> usize {
    let mut bytes = 0;
    let mut before: Option<&Arc<[i64]>> = None;
    for samples in stored {
        bytes += samples.values.len() * size_of::<f64>();
        if !samples.starts.is_empty() {
            let each = samples.values.len() + samples.histograms.len();
            bytes += samples.starts.bytes() + each * size_of::<i64>();
        }
        // Series of one target share their instants, and are neighbours.
        if before.is_none_or(|before| !Arc::ptr_eq(before, &samples.timestamps)) {
            bytes += samples.timestamps.len() * size_of::<i64>();
        }
        before = Some(&samples.timestamps);
        // Once as stored, once with absolute counts.
        bytes += samples.histograms.iter().map(|(_, h)| 2 * h.bytes()).sum::<usize>();
    }
    bytes
}

impl From<SeriesSamples> for Samples {
    fn from(stored: SeriesSamples) -> Self {
        Self::showing(stored, Shows::NoReset, false)
    }
}

/// What is done with every series of a selection.
#[derive(Debug, Clone)]
pub(crate) struct SeriesWork {
    pub(crate) times: Times,
    /// Look-back or range.
    pub(crate) reach_ms: i64,
    /// `anchored` and `smoothed`, and how far beside the range they look.
    pub(crate) edges: Edges,
    pub(crate) margin_ms: i64,
    /// What histograms show of counter resets.
    pub(crate) shows: Shows,
    pub(crate) task: Task,
    pub(crate) budget: Arc<Budget>,
    /// Whether start timestamps are looked at.
    pub(crate) with_starts: bool,
    /// What series with the same instants share.
    pub(crate) shared: Arc<SameInstants>,
}

/// The kinds of work.
#[derive(Debug, Clone)]
pub(crate) enum Task {
    /// The last sample.
    Instant,
    /// Its time.
    Timestamp,
    /// Since when it counts.
    Start,
    /// Its time if it is a float; a histogram stays one.
    InfoTime,
    /// Whether there is one: a float is 1, whatever it was.
    Presence,
    /// A function of the window, with its numbers by parameter and step.
    Range { func: RangeFunction, params: Arc<[Vec<f64>]> },
}

impl SeriesWork {
    pub(crate) fn steps(&self) -> usize {
        self.times.grid.len
    }

    /// Decodes a morsel and evaluates it, with the decoded samples accounted for meanwhile.
    pub(crate) fn decoded(&self, fetched: Box<dyn Fetched>) -> Result<Columns, Error> {
        self.budget.check()?;
        let (phases, begun) = (&self.budget.phases, Instant::now());
        if let Task::Presence = self.task {
            let liveness = fetched.decode_liveness()?;
            phases.add(Phase::Decode, begun);
            let begun = Instant::now();
            let columns = self.presences(liveness)?;
            phases.add(Phase::Compute, begun);
            return Ok(columns);
        }
        let stored = fetched.decode()?;
        phases.add(Phase::Decode, begun);
        let begun = Instant::now();
        let _reserved = self.budget.reserve(decoded_bytes(&stored))?;
        let samples = |stored| Samples::showing(stored, self.shows, self.with_starts);
        let columns = self.morsel(stored.into_iter().map(samples).collect())?;
        phases.add(Phase::Compute, begun);
        Ok(columns)
    }

    /// The columns of one morsel, by the series' place in it; those without points are left out.
    pub(crate) fn morsel(&self, morsel: Vec<Samples>) -> Result<Columns, Error> {
        let mut columns = Columns::default();
        let mut remarks = BTreeSet::new();
        for (place, samples) in morsel.into_iter().enumerate() {
            self.budget.check()?;
            self.budget.take_samples(samples.count())?;
            // Before it is allocated; given back at once if it stays empty.
            let reserved = self.budget.reserve_columns(1, self.steps())?;
            remarks.clear();
            let column = self.column(samples, &mut remarks)?;
            columns.remarks.extend(remarks.iter().map(|remark| (place, *remark)));
            if column.any() {
                let more = column.heap_bytes().saturating_sub(Column::bytes(self.steps()));
                columns.reserved.absorb(reserved);
                columns.reserved.absorb(self.budget.reserve(more)?);
                columns.list.push((place, column));
            }
        }
        Ok(columns)
    }

    fn column(&self, samples: Samples, remarks: &mut BTreeSet<Remark>) -> Result<Column, Error> {
        match &self.task {
            Task::Instant if self.edges == Edges::Smoothed => self.interpolated(samples, remarks),
            Task::Instant | Task::Timestamp | Task::Start | Task::InfoTime | Task::Presence => {
                self.latest(&samples)
            }
            Task::Range { func, params } => self.range(func, params, samples, remarks),
        }
    }

    /// The columns of series of which no values are needed.
    fn presences(&self, morsel: Vec<Liveness>) -> Result<Columns, Error> {
        let mut columns = Columns::default();
        for (place, series) in morsel.into_iter().enumerate() {
            let (timestamps, stale) = match series {
                Liveness::Floats { timestamps, stale } => (timestamps, stale),
                Liveness::Samples(stored) => {
                    let _reserved =
                        self.budget.reserve(decoded_bytes(std::slice::from_ref(&stored)))?;
                    let samples = Samples::showing(stored, self.shows, false);
                    let alone = self.morsel(vec![samples])?;
                    columns.reserved.absorb(alone.reserved);
                    columns.list.extend(alone.list.into_iter().map(|(_, column)| (place, column)));
                    continue;
                }
            };
            self.budget.check()?;
            self.budget.take_samples(timestamps.len())?;
            let reserved = self.budget.reserve_columns(1, self.steps())?;
            let column = self.presence(&timestamps, &stale)?;
            if column.any() {
                columns.reserved.absorb(reserved);
                columns.list.push((place, column));
            }
        }
        Ok(columns)
    }

    fn presence(&self, timestamps: &Arc<[i64]>, stale: &[u32]) -> Result<Column, Error> {
        let group = self.shared.of(timestamps, self)?;
        let latest = group.latest(self);
        let mut column = Column::full(vec![1.0; self.steps()]);
        column.present.intersect(latest.present());
        if !stale.is_empty() {
            for step in latest.present().ones() {
                let at = latest.at(step).map_or(u32::MAX, |at| at as u32);
                if stale.binary_search(&at).is_ok() {
                    column.present.clear(step);
                }
            }
        }
        let seen = column.present.count() as u64;
        let live = column.present.ones().map(|step| (step, 1));
        self.budget.queryable.saw(&self.times.grid, seen, live);
        Ok(column)
    }

    fn latest(&self, samples: &Samples) -> Result<Column, Error> {
        let group = self.shared.of(&samples.timestamps, self)?;
        let latest = group.latest(self);
        let mut column = Column::empty(self.steps());
        let mut seen = 0;
        if samples.histograms.is_empty() {
            for (step, at) in latest.live(&samples.values) {
                column.set(step, self.value_of(samples, at));
                seen += 1;
            }
            let live = column.present.ones().map(|step| (step, 1));
            self.budget.queryable.saw(&self.times.grid, seen, live);
            return Ok(column);
        }
        for step in 0..self.steps() {
            let float = latest.at(step);
            let end = self.times.end(step);
            let after = samples.histograms.partition_point(|(t, _)| *t <= end);
            let histogram = after.checked_sub(1).map(|i| &samples.histograms[i]);
            let histogram = histogram.filter(|(t, _)| *t > end.saturating_sub(self.reach_ms));
            let newer = |t: i64| float.is_none_or(|at| samples.timestamps[at] < t);
            match (histogram.filter(|(t, _)| newer(*t)), float) {
                (Some((_, h)), _) if is_stale(h.sum) => {}
                (Some((t, _)), _) if matches!(self.task, Task::Timestamp) => {
                    column.set(step, *t as f64 / 1000.0)
                }
                (Some(_), _) if matches!(self.task, Task::Start) => {
                    let start = samples.starts.as_ref().map_or(0, |s| s.histograms[after - 1]);
                    column.set(step, start as f64 / 1000.0);
                }
                (Some((_, h)), _) => column.set_histogram(step, Arc::clone(h)),
                (None, Some(at)) if !is_stale(samples.values[at]) => {
                    column.set(step, self.value_of(samples, at));
                }
                _ => {}
            }
        }
        // A histogram counts as the samples that fit into its memory.
        let histogram = |h: &Arc<FloatHistogram>| {
            ((histogram_bytes(h) + size_of::<i64>()) / size_of::<(i64, f64)>()) as u64
        };
        let count =
            |step| column.histogram(step).map_or(u64::from(column.get(step).is_some()), histogram);
        let total = (0..self.steps()).map(count).sum();
        let counts = (0..self.steps()).map(|step| (step, count(step)));
        self.budget.queryable.saw(&self.times.grid, total, counts);
        Ok(column)
    }

    /// Counts what the steps look at.
    fn saw(&self, windows: &Windows) {
        let counts = windows.iter().map(|window| window.len() as u64).enumerate();
        self.budget.queryable.saw(&self.times.grid, windows.samples(), counts);
    }

    fn value_of(&self, samples: &Samples, at: usize) -> f64 {
        match self.task {
            Task::Timestamp | Task::InfoTime => samples.timestamps[at] as f64 / 1000.0,
            Task::Start => samples.starts.as_ref().map_or(0, |s| s.floats[at]) as f64 / 1000.0,
            Task::Instant | Task::Range { .. } => samples.values[at],
            Task::Presence => 1.0,
        }
    }

    /// A `smoothed` selector of instants.
    fn interpolated(
        &self,
        samples: Samples,
        remarks: &mut BTreeSet<Remark>,
    ) -> Result<Column, Error> {
        let samples = without_markers(samples);
        let group = self.shared.of(&samples.timestamps, self)?;
        let windows = group.windows(self);
        self.saw(windows);
        let mut column = Column::empty(self.steps());
        for (step, window) in windows.iter().enumerate() {
            let at_ms = self.times.end(step);
            let value = at_instant(&samples.timestamps, &samples.values, window, at_ms);
            if let Some(value) = value {
                column.set(step, value);
            }
        }
        if !samples.histograms.is_empty() {
            self.put_smoothed_histograms(&samples, remarks, &mut column)?;
        }
        Ok(column)
    }

    fn range(
        &self,
        func: &RangeFunction,
        params: &[Vec<f64>],
        samples: Samples,
        remarks: &mut BTreeSet<Remark>,
    ) -> Result<Column, Error> {
        let samples = without_markers(samples);
        let group = self.shared.of(&samples.timestamps, self)?;
        let windows = group.windows(self);
        self.saw(windows);
        let mut column = Column::empty(self.steps());
        match func.kernel {
            RangeKernel::Floats(kernel) => {
                self.each_window(kernel, params, &samples, windows, &mut column);
                self.remark_ignored(&samples, windows, remarks);
            }
            RangeKernel::Either(kernel, _) => {
                self.each_window(kernel, params, &samples, windows, &mut column);
            }
            RangeKernel::Rate(rate) if self.edges != Edges::Plain => {
                let Samples { timestamps, values, .. } = &samples;
                let range = (&self.times, self.reach_ms);
                extended(timestamps, values, windows, range, self.edges, rate, &mut column);
            }
            RangeKernel::Rate(rate) => {
                let starts = samples.starts_of_floats();
                self.check_starts(starts, rate, windows, remarks);
                let shared = group.extrapolation(self);
                extrapolated(&samples.values, starts, windows, shared, rate, &mut column);
            }
            RangeKernel::Count | RangeKernel::Present => {
                self.counts(func.kernel, &samples, windows, &mut column)
            }
            RangeKernel::First
            | RangeKernel::Last
            | RangeKernel::TimeOfFirst
            | RangeKernel::TimeOfLast => {
                self.ends(func.kernel, &samples, windows, &mut column);
            }
        }
        let of_histograms = matches!(func.kernel, RangeKernel::Either(..) | RangeKernel::Rate(_));
        if of_histograms && !samples.histograms.is_empty() {
            self.put_histograms(func.kernel, &samples, remarks, &mut column)?;
        }
        Ok(column)
    }

    /// Remembers that samples count what the ones before them have counted.
    fn check_starts(
        &self,
        starts: Option<rate::Starts<'_>>,
        rate: Rate,
        windows: &Windows,
        remarks: &mut BTreeSet<Remark>,
    ) {
        let Some(starts) = starts.filter(|_| rate != Rate::Delta) else { return };
        let overlaps = |window: std::ops::Range<usize>| {
            (window.start + 1..window.end).any(|at| starts.overlaps_at(at))
        };
        if windows.iter().any(overlaps) {
            remarks.insert(Remark::OverlappingStarts);
        }
    }

    fn each_window(
        &self,
        kernel: Kernel,
        params: &[Vec<f64>],
        samples: &Samples,
        windows: &Windows,
        column: &mut Column,
    ) {
        let mut numbers = [0.0; 4];
        for (step, window) in windows.iter().enumerate() {
            for (number, param) in numbers.iter_mut().zip(params) {
                *number = param[step];
            }
            let numbers = &numbers[..params.len().min(4)];
            if let Some(value) = self.float_at(kernel, samples, window, (step, numbers)) {
                column.set(step, value);
            }
        }
    }

    /// A function of the floats in one window.
    #[inline]
    pub(super) fn float_at(
        &self,
        kernel: Kernel,
        samples: &Samples,
        window: std::ops::Range<usize>,
        (step, numbers): (usize, &[f64]),
    ) -> Option<f64> {
        if window.is_empty() {
            return None;
        }
        let view = View {
            timestamps: &samples.timestamps[window.clone()],
            values: &samples.values[window.clone()],
            step_ms: self.times.grid.at(step),
            starts: samples.starts_of_floats().map(|starts| starts.within(window)),
        };
        kernel(&view, numbers)
    }

    fn counts(
        &self,
        kernel: RangeKernel,
        samples: &Samples,
        windows: &Windows,
        column: &mut Column,
    ) {
        for (step, window) in windows.iter().enumerate() {
            let count = window.len() + self.histograms_at(samples, step).len();
            if count > 0 {
                column.set(step, if kernel == RangeKernel::Count { count as f64 } else { 1.0 });
            }
        }
    }

    fn ends(&self, kernel: RangeKernel, samples: &Samples, windows: &Windows, column: &mut Column) {
        let first = matches!(kernel, RangeKernel::First | RangeKernel::TimeOfFirst);
        let timed = matches!(kernel, RangeKernel::TimeOfFirst | RangeKernel::TimeOfLast);
        for (step, window) in windows.iter().enumerate() {
            let histograms = self.histograms_at(samples, step);
            let histogram = if first { histograms.first() } else { histograms.last() };
            let float =
                (!window.is_empty()).then(|| if first { window.start } else { window.end - 1 });
            let float = float.map(|at| (samples.timestamps[at], samples.values[at]));
            let histogram = histogram.filter(|(t, _)| float.is_none_or(|(f, _)| (*t < f) == first));
            match (histogram, float) {
                (Some((t, _)), _) if timed => column.set(step, *t as f64 / 1000.0),
                (Some((_, h)), _) => column.set_histogram(step, Arc::clone(h)),
                (None, Some((t, _))) if timed => column.set(step, t as f64 / 1000.0),
                (None, Some((_, value))) => column.set(step, value),
                (None, None) => {}
            }
        }
    }

    fn histograms_at<'a>(
        &self,
        samples: &'a Samples,
        step: usize,
    ) -> &'a [(i64, Arc<FloatHistogram>)] {
        if samples.histograms.is_empty() {
            return &[];
        }
        let end = self.times.end(step);
        let start = end.saturating_sub(self.reach_ms);
        let low = samples.histograms.partition_point(|(t, _)| *t <= start);
        let high = samples.histograms.partition_point(|(t, _)| *t <= end);
        &samples.histograms[low..high]
    }

    /// Remembers that a function of floats has left out histograms beside them.
    fn remark_ignored(&self, samples: &Samples, windows: &Windows, remarks: &mut BTreeSet<Remark>) {
        let mixed = |(step, window): (usize, std::ops::Range<usize>)| {
            !window.is_empty() && !self.histograms_at(samples, step).is_empty()
        };
        if !samples.histograms.is_empty() && windows.iter().enumerate().any(mixed) {
            remarks.insert(Remark::IgnoredHistograms);
        }
    }
}

/// Ranges do not see stale markers.
pub(crate) fn without_markers(mut samples: Samples) -> Samples {
    if let Some(starts) = &mut samples.starts {
        let mut histograms = samples.histograms.iter();
        starts.histograms.retain(|_| histograms.next().is_none_or(|(_, h)| !is_stale(h.sum)));
    }
    samples.histograms.retain(|(_, h)| !is_stale(h.sum));
    // Whole runs at a time: nearly always there is none.
    let any_stale = |run: &[f64]| run.iter().fold(false, |any, v| any | is_stale(*v));
    if !samples.values.chunks(256).any(any_stale) {
        return samples;
    }
    if let Some(starts) = &mut samples.starts {
        keep_live(&mut starts.floats, &samples.values);
    }
    let live = samples.timestamps.iter().zip(&samples.values).filter(|(_, v)| !is_stale(**v));
    let (timestamps, values): (Vec<i64>, Vec<f64>) = live.unzip();
    let Samples { histograms, starts, thinned, .. } = samples;
    Samples { timestamps: timestamps.into(), values, histograms, starts, thinned }
}

/// Keeps what belongs to values that are no stale markers.
fn keep_live(of_values: &mut Vec<i64>, values: &[f64]) {
    let mut values = values.iter();
    of_values.retain(|_| values.next().is_none_or(|value| !is_stale(*value)));
}

/// Names that tell a counter from a gauge.
const COUNTER_ENDINGS: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

/// Whether a metric's name is that of a counter.
pub(crate) fn looks_like_counter(name: &str) -> bool {
    COUNTER_ENDINGS.iter().any(|ending| name.ends_with(ending))
}
