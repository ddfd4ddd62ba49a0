//! Rows on their way in: one write request, taken apart but not copied.

use std::fmt;
use std::ops::Range;

use model::{Exemplar, Histogram, Metadata, Sample, SeriesId};

/// The content of one write request. Labels stay where they are in the request's body.
#[derive(Debug, Default)]
pub struct MetricRows<'a> {
    /// The decompressed body.
    pub body: &'a [u8],
    /// Label fields that did not lie in one piece in the body, put together here.
    pub spill: Vec<u8>,
    /// One entry for each time series of the request, in its order.
    pub series: Vec<SeriesRows>,
    /// Samples of all series.
    pub samples: Vec<Sample>,
    /// Since when samples count, milliseconds; 0 is unknown, as is what lies behind the end.
    pub sample_starts: Vec<i64>,
    /// Native histograms of all series, with their timestamps in milliseconds.
    pub histograms: Vec<(i64, Histogram)>,
    /// Since when histograms count, as for samples.
    pub histogram_starts: Vec<i64>,
    /// Exemplars of all series.
    pub exemplars: Vec<Exemplar>,
    /// Metadata of metric families, by family name.
    pub metadata: Vec<(String, Metadata)>,
}

/// One time series of a request: where its parts lie in [`MetricRows`].
#[derive(Debug, Clone, Default)]
pub struct SeriesRows {
    /// Label fields, tags included, in `body`; from `body.len()` on in `spill`.
    pub labels: Range<u32>,
    /// In `samples`.
    pub samples: Range<u32>,
    /// In `histograms`.
    pub histograms: Range<u32>,
    /// In `exemplars`.
    pub exemplars: Range<u32>,
}

/// What of a list that may end early lies in a range.
fn within<'s>(starts: &'s [i64], range: &Range<u32>) -> &'s [i64] {
    let end = starts.len().min(range.end as usize);
    starts.get(range.start as usize..end).unwrap_or_default()
}

impl MetricRows<'_> {
    /// Adds a sample and since when it counts; 0 is unknown.
    #[inline]
    pub fn push_sample(&mut self, sample: Sample, start_ms: i64) {
        if start_ms != 0 {
            self.sample_starts.resize(self.samples.len(), 0);
            self.sample_starts.push(start_ms);
        }
        self.samples.push(sample);
    }

    /// Adds a native histogram and since when it counts; 0 is unknown.
    pub fn push_histogram(&mut self, at_ms: i64, histogram: Histogram, start_ms: i64) {
        if start_ms != 0 {
            self.histogram_starts.resize(self.histograms.len(), 0);
            self.histogram_starts.push(start_ms);
        }
        self.histograms.push((at_ms, histogram));
    }

    /// Says since when those samples and histograms of a series count of which it is unknown.
    pub fn start_unknown_at(&mut self, series: &SeriesRows, start_ms: i64) {
        for (starts, range) in [
            (&mut self.sample_starts, &series.samples),
            (&mut self.histogram_starts, &series.histograms),
        ] {
            if starts.len() < range.end as usize && !range.is_empty() {
                starts.resize(range.end as usize, 0);
            }
            let own = starts.get_mut(range.start as usize..range.end as usize);
            let unknown = own.into_iter().flatten().filter(|known| **known == 0);
            unknown.for_each(|start| *start = start_ms);
        }
    }

    /// Forgets all samples but the first so many.
    pub fn truncate_samples(&mut self, samples: usize) {
        self.samples.truncate(samples);
        self.sample_starts.truncate(samples);
    }

    /// Forgets all histograms but the first so many.
    pub fn truncate_histograms(&mut self, histograms: usize) {
        self.histograms.truncate(histograms);
        self.histogram_starts.truncate(histograms);
    }

    /// Start timestamps of the samples of a series; those behind the end are unknown.
    #[inline]
    pub fn sample_starts_of(&self, series: &SeriesRows) -> &[i64] {
        within(&self.sample_starts, &series.samples)
    }

    /// Start timestamps of the histograms of a series; those behind the end are unknown.
    pub fn histogram_starts_of(&self, series: &SeriesRows) -> &[i64] {
        within(&self.histogram_starts, &series.histograms)
    }

    /// The oldest instant of those series' samples and histograms that is not before `oldest_ms`.
    pub(crate) fn lowest_ms(&self, batch: &[(SeriesId, u32)], oldest_ms: i64) -> Option<i64> {
        let series = batch.iter().filter_map(|(_, at)| self.series.get(*at as usize));
        let instants = series.flat_map(|one| {
            let (samples, histograms) = (&one.samples, &one.histograms);
            let samples = self.samples.get(samples.start as usize..samples.end as usize);
            let histograms =
                self.histograms.get(histograms.start as usize..histograms.end as usize);
            let samples = samples.unwrap_or_default().iter().map(|sample| sample.timestamp_ms);
            samples.chain(histograms.unwrap_or_default().iter().map(|(at_ms, _)| *at_ms))
        });
        instants.filter(|at_ms| *at_ms >= oldest_ms).min()
    }

    /// Whether some sample or histogram has a start timestamp.
    pub fn has_starts(&self) -> bool {
        !(self.sample_starts.is_empty() && self.histogram_starts.is_empty())
    }

    /// The label fields of one series as the sender wrote them.
    #[inline]
    pub fn labels_of(&self, series: &SeriesRows) -> &[u8] {
        let (start, end) = (series.labels.start as usize, series.labels.end as usize);
        match start.checked_sub(self.body.len()) {
            None => &self.body[start..end],
            Some(start) => &self.spill[start..end - self.body.len()],
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AppendOutcome {
    /// Samples stored or already there with the same value.
    pub samples: u64,
    /// Native histograms stored.
    pub histograms: u64,
    /// Exemplars stored.
    pub exemplars: u64,
    /// Series that were new.
    pub series_created: u64,
    /// What was refused, by reason.
    pub rejected: Vec<Rejected>,
}

/// Rows refused for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// How many samples, histograms or exemplars.
    pub count: u64,
    /// The first of them, told with label and value.
    pub example: String,
}

impl AppendOutcome {
    /// Counts refused rows; the text of the first is kept.
    pub fn reject(&mut self, reason: Reason, count: u64, example: impl FnOnce() -> String) {
        match self.rejected.iter_mut().find(|r| r.reason == reason) {
            Some(known) => known.count += count,
            None => self.rejected.push(Rejected { reason, count, example: example() }),
        }
    }
}

/// Why rows were refused; the words are those of the counter `taffrail_storage_rejected_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words explain themselves")]
pub enum Reason {
    InvalidLabels,
    MissingMetricName,
    TooManyLabels,
    LabelNameTooLong,
    LabelValueTooLong,
    ActiveSeriesLimit,
    NewSeriesRate,
    TooOld,
    TooFarInFuture,
    DuplicateTimestamp,
    InvalidHistogram,
    InvalidExemplar,
    InvalidMetadata,
    EmptySeries,
    SamplesRate,
    TenantSuspended,
    TenantLimit,
}

impl Reason {
    /// The label value of the counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidLabels => "invalid_labels",
            Self::MissingMetricName => "missing_metric_name",
            Self::TooManyLabels => "too_many_labels",
            Self::LabelNameTooLong => "label_name_too_long",
            Self::LabelValueTooLong => "label_value_too_long",
            Self::ActiveSeriesLimit => "active_series_limit",
            Self::NewSeriesRate => "new_series_rate",
            Self::TooOld => "too_old",
            Self::TooFarInFuture => "too_far_in_future",
            Self::DuplicateTimestamp => "duplicate_timestamp",
            Self::InvalidHistogram => "invalid_histogram",
            Self::InvalidExemplar => "invalid_exemplar",
            Self::InvalidMetadata => "invalid_metadata",
            Self::EmptySeries => "empty_series",
            Self::SamplesRate => "samples_rate",
            Self::TenantSuspended => "tenant_suspended",
            Self::TenantLimit => "tenant_limit",
        }
    }

    /// Whether the sender should slow down and try again (429) rather than give up (400).
    pub fn is_rate(self) -> bool {
        matches!(self, Self::ActiveSeriesLimit | Self::NewSeriesRate | Self::SamplesRate)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
