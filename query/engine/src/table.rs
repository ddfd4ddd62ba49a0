//! A source in memory: series with their samples, for tests and for small computed tables.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use model::{Histogram, Labels, TimeRange};
use query::Error;
use storage::{Select, SeriesSamples};
use tenancy::ReadScope;

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
        let samples = SeriesSamples { timestamps, values, histograms };
        match self.series.binary_search_by(|(l, _)| l.cmp(&labels)) {
            Ok(at) => self.series[at].1 = samples,
            Err(at) => self.series.insert(at, (labels, samples)),
        }
    }
}

#[async_trait]
impl Source for Table {
    async fn select(&self, scope: &ReadScope, select: Select) -> Result<Arc<dyn Selected>, Error> {
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

fn cut(samples: &SeriesSamples, range: TimeRange) -> SeriesSamples {
    let ts = &samples.timestamps;
    let low = ts.partition_point(|t| *t < range.start_ms);
    let high = ts.partition_point(|t| *t <= range.end_ms).max(low);
    let whole = low == 0 && high == ts.len();
    let inside = samples.histograms.iter().filter(|(t, _)| range.contains(*t));
    SeriesSamples {
        timestamps: if whole { Arc::clone(ts) } else { ts[low..high].into() },
        values: samples.values[low..high].to_vec(),
        histograms: inside.cloned().collect(),
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
