//! Rows of scrapes: labels are put together in a body of our own, which is used again and again.

use model::{Exemplar, Histogram, Metadata, Sample};
use storage::{Appended, MetricRows, SeriesRows};

use crate::Refusal;

/// Memory of a batch that is kept for the next one. Bytes of labels.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Rows being collected. Labels lie where those of requests lie that are not in one piece.
#[derive(Debug, Default)]
pub(super) struct Batch {
    rows: MetricRows<'static>,
}

/// How far a batch was filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    labels: usize,
    series: usize,
    samples: usize,
    histograms: usize,
    exemplars: usize,
}

/// What a series is given.
pub(super) enum Value {
    Float(f64),
    Histogram(Box<Histogram>),
}

impl Batch {
    /// Adds one sample of the series with these labels in canonical encoding.
    pub(super) fn push(&mut self, labels: &[u8], timestamp_ms: i64, value: f64) {
        self.push_with(labels, timestamp_ms, (Value::Float(value), 0), None);
    }

    /// Adds one value, which counts since a time (0: unknown), with exemplars.
    pub(super) fn push_with(
        &mut self,
        labels: &[u8],
        timestamp_ms: i64,
        (value, start_ms): (Value, i64),
        exemplars: impl IntoIterator<Item = Exemplar>,
    ) {
        let (of, rows) = (|length: usize| length as u32, &mut self.rows);
        let before = lengths(rows);
        rows.spill.extend_from_slice(labels);
        match value {
            Value::Float(value) => rows.push_sample(Sample { timestamp_ms, value }, start_ms),
            Value::Histogram(histogram) => rows.push_histogram(timestamp_ms, *histogram, start_ms),
        }
        rows.exemplars.extend(exemplars);
        rows.series.push(SeriesRows {
            labels: of(before.labels)..of(rows.spill.len()),
            samples: of(before.samples)..of(rows.samples.len()),
            histograms: of(before.histograms)..of(rows.histograms.len()),
            exemplars: of(before.exemplars)..of(rows.exemplars.len()),
        });
    }

    pub(super) fn push_metadata(&mut self, family: String, metadata: Metadata) {
        self.rows.metadata.push((family, metadata));
    }

    /// Keeps the metadata that is news.
    pub(super) fn only_news(&mut self, mut is_news: impl FnMut(&str, &Metadata) -> bool) {
        self.rows.metadata.retain(|(family, metadata)| is_news(family, metadata));
    }

    pub(super) fn mark(&self) -> Mark {
        lengths(&self.rows)
    }

    /// Forgets the rows that came after a mark.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.rows.spill.truncate(mark.labels);
        self.rows.series.truncate(mark.series);
        self.rows.truncate_samples(mark.samples);
        self.rows.truncate_histograms(mark.histograms);
        self.rows.exemplars.truncate(mark.exemplars);
    }

    pub(super) fn series(&self) -> usize {
        self.rows.series.len()
    }

    /// Hands the rows on and is empty then; `None` if there are none.
    pub(super) fn append(
        &mut self,
        append: impl FnOnce(&mut MetricRows<'static>) -> Result<Appended, Refusal>,
    ) -> Result<Option<Appended>, Refusal> {
        if self.rows.series.is_empty() && self.rows.metadata.is_empty() {
            return Ok(None);
        }
        let appended = append(&mut self.rows);
        self.clear();
        appended.map(Some)
    }

    /// Forgets all rows; memory that is larger than usual is given back.
    pub(super) fn clear(&mut self) {
        if self.rows.spill.capacity() > KEPT_BYTES_MAX {
            self.rows = MetricRows::default();
        }
        let nothing = Mark { labels: 0, series: 0, samples: 0, histograms: 0, exemplars: 0 };
        self.back_to(nothing);
        self.rows.metadata.clear();
    }
}

/// How much there is.
fn lengths(rows: &MetricRows<'_>) -> Mark {
    Mark {
        labels: rows.spill.len(),
        series: rows.series.len(),
        samples: rows.samples.len(),
        histograms: rows.histograms.len(),
        exemplars: rows.exemplars.len(),
    }
}
