//! A source in memory: series with their samples, for tests and for small computed tables.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use model::{Histogram, Labels, ResetHint, TimeRange};
use query::{Cancel, Error};
use storage::{Select, SeriesSamples, Starts};
use tenancy::ReadScope;

use crate::histogram::{Shows, read};
use crate::source::{Fetched, Selected, Source};

/// Series in memory. Every scope sees all of them that its matchers allow.
#[derive(Debug, Clone, Default)]
pub struct Table {
    series: Vec<(Labels, SeriesSamples)>,
}

impl Table {
    /// Adds a series. Samples must be in order of time. Series with equal timestamps share them.
    pub fn add(
        &mut self,
        labels: Labels,
        samples: &[(i64, f64)],
        histograms: Vec<(i64, Arc<Histogram>)>,
    ) {
        let timestamps: Arc<[i64]> = samples.iter().map(|(t, _)| *t).collect();
        let twin = self.series.last().filter(|(_, s)| s.timestamps == timestamps);
        let timestamps = twin.map_or(timestamps, |(_, s)| Arc::clone(&s.timestamps));
        let values = samples.iter().map(|(_, v)| *v).collect();
        let histograms = with_hints(histograms);
        let samples = SeriesSamples { timestamps, values, histograms, starts: Starts::default() };
        match self.series.binary_search_by(|(l, _)| l.cmp(&labels)) {
            Ok(at) => self.series[at].1 = samples,
            Err(at) => self.series.insert(at, (labels, samples)),
        }
    }

    /// Says since when samples of a series count, by their instants.
    pub fn set_starts(&mut self, labels: &Labels, starts_ms: &BTreeMap<i64, i64>) {
        let Ok(at) = self.series.binary_search_by(|(l, _)| l.cmp(labels)) else { return };
        let samples = &mut self.series[at].1;
        let histograms = samples.histograms.iter().map(|(at_ms, _)| at_ms);
        let instants = samples.timestamps.iter().chain(histograms);
        let start = |at_ms: &i64| (*at_ms, starts_ms.get(at_ms).copied().unwrap_or(0));
        samples.starts = Starts::of_samples(instants.map(start).collect());
    }
}

#[async_trait]
impl Source for Table {
    async fn select(
        &self,
        scope: &ReadScope,
        select: Select,
        _cancel: &Cancel,
    ) -> Result<Arc<dyn Selected>, Error> {
        let matches = |labels: &Labels| {
            let value = |m: &model::Matcher| labels.get(m.name()).unwrap_or("").to_owned();
            select.matchers.iter().all(|m| m.matches(&value(m)))
                && scope.tenants().iter().any(|t| t.allows(labels))
        };
        let chosen = self.series.iter().filter(|(labels, _)| matches(labels));
        let inside = chosen.map(|(labels, samples)| (labels.clone(), cut(samples, select.range)));
        Ok(Arc::new(Chosen { series: inside.collect() }))
    }
}

/// Says of each histogram that it follows no counter reset, where that is so: a part of the series
/// may be read without the sample before.
fn with_hints(histograms: Vec<(i64, Arc<Histogram>)>) -> Vec<(i64, Arc<Histogram>)> {
    let read = read(&histograms, Shows::NoReset);
    let hinted = histograms.into_iter().zip(read).map(|((at_ms, stored), (_, read))| {
        if read.reset_hint != ResetHint::No || stored.reset_hint == ResetHint::No {
            return (at_ms, stored);
        }
        (at_ms, Arc::new(Histogram { reset_hint: ResetHint::No, ..(*stored).clone() }))
    });
    hinted.collect()
}

fn cut(samples: &SeriesSamples, range: TimeRange) -> SeriesSamples {
    let ts = &samples.timestamps;
    let low = ts.partition_point(|t| *t < range.start_ms);
    let high = ts.partition_point(|t| *t <= range.end_ms).max(low);
    let whole = low == 0 && high == ts.len();
    let histograms = &samples.histograms;
    let first = histograms.partition_point(|(t, _)| *t < range.start_ms);
    let end = histograms.partition_point(|(t, _)| *t <= range.end_ms).max(first);
    SeriesSamples {
        timestamps: if whole { Arc::clone(ts) } else { ts[low..high].into() },
        values: samples.values[low..high].to_vec(),
        histograms: histograms[first..end].to_vec(),
        starts: samples.starts.clone(),
    }
}

struct Chosen {
    series: Vec<(Labels, SeriesSamples)>,
}

#[async_trait]
impl Selected for Chosen {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, series: usize) -> &Labels {
        &self.series[series].0
    }

    async fn fetch(&self, series: Range<usize>) -> Result<Box<dyn Fetched>, Error> {
        Ok(Box::new(Batch(
            self.series[series].iter().map(|(_, samples)| samples.clone()).collect(),
        )))
    }
}

struct Batch(Vec<SeriesSamples>);

impl Fetched for Batch {
    fn bytes(&self) -> usize {
        self.0.iter().map(SeriesSamples::bytes).sum()
    }

    fn decode(self: Box<Self>) -> Result<Vec<SeriesSamples>, Error> {
        Ok(self.0)
    }
}
