//! All rows of a tenant written out, for other programs.
//!
//! ```text
//! metric names ─► for each: series, in order of labels ─► samples, some series at a time
//!              ─► OpenMetrics text or Parquet
//! ```
//!
//! Memory holds the series of one name and the samples of a few of them, never all rows.

mod openmetrics;
mod parquet;

use std::io::Write;
use std::ops::Range;

use model::{METRIC_NAME, Matcher, TimeRange};
use tenancy::ReadScope;

use crate::{Error, Select, SeriesSamples, Storage};
use openmetrics::OpenMetrics;
use parquet::Parquet;

/// Samples in memory at a time: some 64 MiB.
const SAMPLES_AT_ONCE: u64 = 4 << 20;

/// Series read at first, and at most, at a time.
const SERIES_FIRST: usize = 8;
const SERIES_MAX: usize = 1_024;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Text that Prometheus' tools read. Has no stale markers and no native histograms.
    OpenMetrics,
    /// One row for each sample, for other engines. Has everything.
    Parquet,
}

/// Which rows of a tenant, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// Series for which all of them hold.
    pub matchers: Vec<Matcher>,
    /// Samples outside are left out.
    pub range: TimeRange,
    /// How they are written.
    pub format: ExportFormat,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Metric names, and how many there are.
    pub names: (u64, u64),
    /// Series.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Stale markers that the format cannot hold.
    pub stale_left_out: u64,
    /// Native histograms that the format cannot hold.
    pub histograms_left_out: u64,
}

/// Something rows are written to.
enum Sink<W: Write + Send> {
    OpenMetrics(OpenMetrics<W>),
    Parquet(Box<Parquet<W>>),
}

impl<W: Write + Send> Sink<W> {
    fn add(
        &mut self,
        labels: &model::Labels,
        samples: &SeriesSamples,
        exported: &mut Exported,
    ) -> Result<(), Error> {
        match self {
            Self::OpenMetrics(out) => out.add(labels, samples, exported),
            Self::Parquet(out) => out.add(labels, samples, exported),
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self {
            Self::OpenMetrics(out) => out.finish(),
            Self::Parquet(out) => out.finish(),
        }
    }
}

impl Storage {
    /// Writes the rows of a scope, name by name. `on_progress` hears after every batch.
    pub async fn export<W: Write + Send + 'static>(
        &self,
        scope: &ReadScope,
        export: &Export,
        out: W,
        on_progress: &mut (dyn FnMut(&Exported) + Send),
    ) -> Result<Exported, Error> {
        let mut sink = match export.format {
            ExportFormat::OpenMetrics => Sink::OpenMetrics(OpenMetrics::new(out)),
            ExportFormat::Parquet => Sink::Parquet(Box::new(Parquet::new(out)?)),
        };
        let mut exported = Exported::default();
        let selectors = [export.matchers.clone()];
        let names = self.label_values(scope, METRIC_NAME, &selectors, export.range).await?;
        exported.names.1 = names.len() as u64;
        for name in names {
            let mut matchers = export.matchers.clone();
            matchers.push(Matcher::equal(METRIC_NAME, &name));
            let selection = self.select(scope, &Select { matchers, range: export.range }).await?;
            let (mut at, mut count) = (0, SERIES_FIRST);
            while at < selection.len() {
                let batch = at..(at + count).min(selection.len());
                let decoded = decode(&selection, batch.clone()).await?;
                let read: u64 =
                    decoded.iter().map(|s| (s.values.len() + s.histograms.len()) as u64).sum();
                let labels: Vec<_> = batch.clone().map(|i| selection.labels(i).clone()).collect();
                let writing = tokio::task::spawn_blocking(move || {
                    let mut part = Exported::default();
                    let mut rows = labels.iter().zip(&decoded);
                    let written =
                        rows.try_for_each(|(labels, one)| sink.add(labels, one, &mut part));
                    (sink, written.map(|()| part))
                });
                let (back, part) =
                    writing.await.map_err(|e| Error::Internal(format!("write rows: {e}")))?;
                sink = back;
                exported.add(&part?);
                on_progress(&exported);
                let each = (read / batch.len() as u64).max(1);
                count = ((SAMPLES_AT_ONCE / each) as usize).clamp(1, SERIES_MAX);
                at = batch.end;
            }
            exported.names.0 += 1;
        }
        let finishing = tokio::task::spawn_blocking(move || sink.finish()).await;
        finishing.map_err(|e| Error::Internal(format!("write rows: {e}")))??;
        on_progress(&exported);
        Ok(exported)
    }
}

async fn decode(
    selection: &crate::Selection,
    batch: Range<usize>,
) -> Result<Vec<SeriesSamples>, Error> {
    let fetched = selection.fetch(batch).await?;
    let decoded = tokio::task::spawn_blocking(move || fetched.decode()).await;
    decoded.map_err(|e| Error::Internal(format!("decode samples: {e}")))?
}

impl Exported {
    fn add(&mut self, part: &Self) {
        self.series += part.series;
        self.samples += part.samples;
        self.histograms += part.histograms;
        self.stale_left_out += part.stale_left_out;
        self.histograms_left_out += part.histograms_left_out;
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::Disk { doing: "write exported rows".to_owned(), source }
}
