//! Expositions in text whose classic histograms become native ones with custom buckets: the series of
//! one histogram, which stand together, are collected until another comes
//! (`model/textparse/nhcbparse.go`).
//!
//! Series of a histogram that makes no sense stay what they are.

use std::borrow::Cow;

use model::{METRIC_NAME, MetricKind};

use super::custom::CustomBuckets;
use super::metric::Metric;
use super::queue::{Pairs, Queue, Queued};
use super::{Entry, Exemplar, Exposition, TextError};

/// Reads entry by entry.
#[derive(Debug)]
pub struct ConvertingParser<'a> {
    plain: Box<Exposition<'a>>,
    classic_too: bool,
    /// The family that is being read, if it is one of histograms.
    family: Option<Cow<'a, str>>,
    collected: Option<Collected<'a>>,
    queue: Queue<'a>,
    is_ended: bool,
}

/// The series of one histogram.
#[derive(Debug)]
struct Collected<'a> {
    /// Without name and bucket.
    labels: Pairs<'a>,
    timestamp_ms: Option<i64>,
    custom: CustomBuckets,
    /// As they were written.
    series: Vec<Queued<'a>>,
}

/// What a series is to its histogram.
#[derive(Debug, Clone, Copy)]
enum Part {
    Count,
    Sum,
    Bucket(f64),
}

impl<'a> ConvertingParser<'a> {
    /// Converts what `plain` reads.
    pub(super) fn new(plain: Exposition<'a>, classic_too: bool) -> Self {
        let (plain, queue) = (Box::new(plain), Queue::default());
        Self { plain, classic_too, family: None, collected: None, queue, is_ended: false }
    }

    /// As with the text format.
    pub fn labels(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.queue.labels
    }

    /// Exemplars of the entry just read.
    pub fn exemplars(&mut self) -> Vec<Exemplar<'a>> {
        self.queue.exemplars()
    }

    /// The next entry.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, TextError> {
        while self.queue.is_empty() && !self.is_ended {
            let Some(entry) = self.plain.next_entry()? else {
                self.finish();
                self.is_ended = true;
                break;
            };
            let Entry::Sample { value, timestamp_ms, .. } = &entry else {
                self.finish();
                if let Entry::Type { family, kind } = &entry {
                    self.family = (*kind == MetricKind::Histogram).then(|| family.clone());
                }
                self.queue.declare(entry);
                continue;
            };
            let (value, timestamp_ms) = (*value, *timestamp_ms);
            let (labels, exemplars) = (self.plain.labels().to_vec(), self.plain.exemplars());
            let part = self.part(&labels);
            let one = Queued { entry, labels, exemplars, start_ms: 0 };
            match part {
                Some(part) => self.collect((part, value), timestamp_ms, one),
                None => {
                    self.finish();
                    self.queue.push(one);
                }
            }
        }
        Ok(self.queue.next())
    }

    /// What a series is to a histogram of the family that is being read.
    fn part(&self, labels: &Pairs<'a>) -> Option<Part> {
        let (_, name) = labels.iter().find(|(name, _)| name == METRIC_NAME)?;
        match name.strip_prefix(self.family.as_deref()?)? {
            "_count" => Some(Part::Count),
            "_sum" => Some(Part::Sum),
            "_bucket" => {
                let (_, bound) = labels.iter().find(|(name, _)| name == "le")?;
                let bound = super::text::number(bound.as_bytes()).ok()?;
                (!bound.is_nan()).then_some(Part::Bucket(bound))
            }
            _ => None,
        }
    }

    fn collect(&mut self, (part, value): (Part, f64), timestamp_ms: Option<i64>, one: Queued<'a>) {
        let is_bucket = matches!(part, Part::Bucket(_));
        let is_own = |name: &str| name != METRIC_NAME && !(is_bucket && name == "le");
        let mut labels: Pairs<'a> =
            one.labels.iter().filter(|(name, _)| is_own(name)).cloned().collect();
        labels.sort();
        let goes_on = |c: &Collected<'a>| c.labels == labels && c.timestamp_ms == timestamp_ms;
        if !self.collected.as_ref().is_some_and(goes_on) {
            self.finish();
        }
        let collected = self.collected.get_or_insert_with(|| Collected {
            labels,
            timestamp_ms,
            custom: CustomBuckets::default(),
            series: Vec::new(),
        });
        match part {
            Part::Count => collected.custom.count = Some(value),
            Part::Sum => collected.custom.sum = value,
            Part::Bucket(bound) => collected.custom.buckets.push((bound, value)),
        }
        collected.series.push(one);
    }

    /// The histogram is whole: it becomes a native one.
    fn finish(&mut self) {
        let (Some(collected), Some(name)) = (self.collected.take(), self.family.clone()) else {
            return;
        };
        let Collected { labels, timestamp_ms, custom, mut series } = collected;
        let converted = custom.histogram(false).ok();
        let is_classic = converted.is_none() || self.classic_too;
        if let Some(histogram) = converted {
            let exemplars = series.iter_mut().flat_map(|one| match is_classic {
                true => one.exemplars.clone(),
                false => std::mem::take(&mut one.exemplars),
            });
            let exemplars = exemplars.collect();
            let queue = &mut self.queue;
            let mut metric = Metric { queue, name, labels, timestamp_ms, start_ms: 0 };
            metric.native(histogram, exemplars);
        }
        if is_classic {
            series.into_iter().for_each(|one| self.queue.push(one));
        }
    }
}
