//! One metric whose value has several parts, taken apart into series: `_count`, `_sum` and what else
//! its type asks for, or one native histogram.

use std::borrow::Cow;

use model::{Histogram, METRIC_NAME, MetricKind};

use super::custom::CustomBuckets;
use super::float::open_metrics_float;
use super::queue::{Pairs, Queue, Queued};
use super::{Entry, Exemplar, Forms};
use crate::build::put_label;

/// Where the entries of one metric go.
#[derive(Debug)]
pub(super) struct Metric<'q, 'a> {
    pub(super) queue: &'q mut Queue<'a>,
    pub(super) name: Cow<'a, str>,
    /// Without the name.
    pub(super) labels: Pairs<'a>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) start_ms: i64,
}

/// What a summary says.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) count: f64,
    pub(super) sum: f64,
    /// With their values.
    pub(super) quantiles: Vec<(f64, f64)>,
}

/// A histogram in the classic form, and in the native one if it came so.
#[derive(Debug, Default)]
pub(super) struct Measured<'a> {
    pub(super) native: Option<Histogram>,
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) buckets: Vec<Bucket<'a>>,
    /// Those that belong to the histogram as a whole.
    pub(super) exemplars: Vec<Exemplar<'a>>,
}

/// One classic bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket<'a> {
    /// Cumulative.
    pub(super) count: f64,
    pub(super) bound: f64,
    pub(super) exemplars: Vec<Exemplar<'a>>,
}

/// How the series of a classic histogram are called that are no buckets.
pub(super) type Suffixes = [&'static str; 2];

/// Of histograms and summaries; in protobuf of gauge histograms, too.
pub(super) const PLAIN: Suffixes = ["_count", "_sum"];

/// Of gauge histograms in OpenMetrics.
pub(super) const OF_GAUGE: Suffixes = ["_gcount", "_gsum"];

impl<'a> Metric<'_, 'a> {
    /// Labels of one series of the metric, and the bytes by which it is known again: they begin with a
    /// line feed, as no text does.
    fn labels(&self, suffix: &str, extra: Option<(&'static str, String)>) -> (Pairs<'a>, Vec<u8>) {
        let name = match suffix {
            "" => self.name.clone(),
            suffix => Cow::Owned(format!("{}{suffix}", self.name)),
        };
        let mut labels = Vec::with_capacity(self.labels.len() + 2);
        labels.push((METRIC_NAME.into(), name));
        labels.extend(self.labels.iter().cloned());
        labels.extend(extra.map(|(name, value)| (name.into(), value.into())));
        let mut series = Vec::new();
        labels.iter().for_each(|(name, value)| put_label(&mut series, name, [value, ""]));
        (labels, series)
    }

    pub(super) fn sample(
        &mut self,
        suffix: &str,
        extra: Option<(&'static str, String)>,
        value: f64,
        exemplars: Vec<Exemplar<'a>>,
    ) {
        let (labels, series) = self.labels(suffix, extra);
        let timestamp_ms = self.timestamp_ms;
        let entry = Entry::Sample { series: series.into(), value, timestamp_ms };
        self.queue.push(Queued { entry, labels, exemplars, start_ms: self.start_ms });
    }

    pub(super) fn summary(&mut self, summary: Summary, exemplars: Vec<Exemplar<'a>>) {
        self.sample(PLAIN[0], None, summary.count, exemplars);
        self.sample(PLAIN[1], None, summary.sum, Vec::new());
        for (quantile, value) in summary.quantiles {
            let label = ("quantile", open_metrics_float(quantile));
            self.sample("", Some(label), value, Vec::new());
        }
    }

    /// A histogram in the forms that are asked for. An error says why its buckets cannot become
    /// native ones.
    pub(super) fn histogram(
        &mut self,
        mut measured: Measured<'a>,
        kind: MetricKind,
        forms: Forms,
        suffixes: Suffixes,
    ) -> Result<(), &'static str> {
        let (native, is_converted) = match (measured.native.take(), forms) {
            (Some(native), Forms { native: true, .. }) => (Some(native), false),
            (_, Forms { convert_classic: true, .. }) => (Some(measured.converted(kind)?), true),
            _ => (None, false),
        };
        let has_classic = is_converted || !measured.buckets.is_empty();
        let is_classic = native.is_none() || (forms.classic_too && has_classic);
        if let Some(histogram) = native {
            self.native(histogram, measured.all_exemplars());
        }
        if is_classic {
            self.classic(measured, suffixes);
        }
        Ok(())
    }

    /// A native histogram.
    pub(super) fn native(&mut self, histogram: Histogram, exemplars: Vec<Exemplar<'a>>) {
        let (labels, series) = self.labels("", None);
        let (histogram, timestamp_ms) = (Box::new(histogram), self.timestamp_ms);
        let entry = Entry::Histogram { series: series.into(), histogram, timestamp_ms };
        self.queue.push(Queued { entry, labels, exemplars, start_ms: self.start_ms });
    }

    fn classic(&mut self, measured: Measured<'a>, [of_count, of_sum]: Suffixes) {
        self.sample(of_count, None, measured.count, Vec::new());
        self.sample(of_sum, None, measured.sum, Vec::new());
        let mut has_infinite = false;
        for bucket in measured.buckets {
            has_infinite |= bucket.bound == f64::INFINITY;
            let le = ("le", open_metrics_float(bucket.bound));
            self.sample("_bucket", Some(le), bucket.count, bucket.exemplars);
        }
        if !has_infinite {
            self.sample("_bucket", Some(("le", "+Inf".to_owned())), measured.count, Vec::new());
        }
    }
}

impl<'a> Measured<'a> {
    fn converted(&self, kind: MetricKind) -> Result<Histogram, &'static str> {
        let mut custom =
            CustomBuckets { count: Some(self.count), sum: self.sum, ..CustomBuckets::default() };
        custom.buckets.extend(self.buckets.iter().map(|bucket| (bucket.bound, bucket.count)));
        custom.histogram(kind == MetricKind::GaugeHistogram)
    }

    /// Those of the histogram; if it has none those of its buckets, which older targets give alone and
    /// which mean nothing here without a time.
    fn all_exemplars(&self) -> Vec<Exemplar<'a>> {
        if !self.exemplars.is_empty() {
            return self.exemplars.clone();
        }
        let of_buckets = self.buckets.iter().flat_map(|bucket| &bucket.exemplars);
        of_buckets.filter(|exemplar| exemplar.timestamp_ms.is_some()).cloned().collect()
    }
}
