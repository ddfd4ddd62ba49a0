//! What one target exposed so far, and what becomes of what it exposes now: samples, stale markers
//! and the series about the scrape itself (`scrape/scrape.go`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use model::{Histogram, Metadata, stale_nan};

use super::ScrapeError;
use super::batch::{Batch, Value};
use super::dcgm;
use super::families::Families;
use super::histograms::fitted;
use super::series::Series;
use super::treatment::Treatment;
use crate::exposition::{Entry, Exemplar, Exposition};
use crate::import::stored;

/// Names of the samples about the scrape itself, as Prometheus writes them.
const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// Those behind a switch.
const EXTRA_REPORTS: [&str; 3] =
    ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

/// Samples that a target may expose, dropped ones included, unless the job's `sample_limit` is more:
/// each new one costs some hundred bytes before anybody's limit of series is asked.
const EXPOSED_MAX: u64 = 2_000_000;

/// Memory of a target between scrapes.
#[derive(Debug, Default)]
pub(super) struct Scraped {
    series: Series,
    pub(super) families: Families,
    /// Labels of the series about the scrape itself; empty before the first.
    reports: Vec<Vec<u8>>,
}

/// What a scrape found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Samples exposed.
    pub(super) samples: u64,
    /// Of them, those that relabelling left.
    pub(super) kept: u64,
    /// Series that were not there before.
    pub(super) added: u64,
}

/// What the extra series tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extra {
    pub(super) timeout: Duration,
    pub(super) samples_max: u64,
    /// −1 if it was too long.
    pub(super) body_bytes: f64,
}

impl Scraped {
    /// One scrape: its rows go into the batch. After an error all of the target's series end.
    pub(super) fn scrape(
        &mut self,
        exposed: Result<Exposition<'_>, ScrapeError>,
        treatment: &Treatment,
        at_ms: i64,
        batch: &mut Batch,
        tell: impl FnMut(&str, &Metadata),
    ) -> (Found, Result<(), ScrapeError>) {
        let mark = batch.mark();
        let mut found = Found::default();
        self.series.begin();
        self.families.begin();
        let read = exposed.and_then(|mut exposition| {
            self.read(&mut exposition, treatment, at_ms, batch, &mut found)
        });
        match &read {
            Ok(()) => {
                self.series.finish(|labels| batch.push(labels, at_ms, stale_nan()));
                self.families.finish(tell);
            }
            Err(_) => {
                batch.back_to(mark);
                self.series.fail(|labels| batch.push(labels, at_ms, stale_nan()));
            }
        }
        (found, read)
    }

    /// Ends everything, the series about the scrape included: the target is no longer scraped.
    pub(super) fn end(&mut self, at_ms: i64, batch: &mut Batch) {
        self.series.begin();
        self.series.fail(|labels| batch.push(labels, at_ms, stale_nan()));
        for labels in self.reports.drain(..) {
            batch.push(&labels, at_ms, stale_nan());
        }
    }

    /// From now on the target is treated otherwise: what is not exposed again ends.
    pub(super) fn treat_anew(&mut self) {
        self.series.inherit();
        self.reports.clear();
    }

    fn read(
        &mut self,
        exposition: &mut Exposition<'_>,
        treatment: &Treatment,
        at_ms: i64,
        batch: &mut Batch,
        found: &mut Found,
    ) -> Result<(), ScrapeError> {
        while let Some(entry) = exposition.next_entry_expecting(self.series.expected())? {
            match entry {
                Entry::Help { family, text } => self.families.help(&family, &text),
                Entry::Type { family, kind } => self.families.kind(&family, kind),
                Entry::Unit { family, unit } => self.families.unit(&family, &unit),
                Entry::Sample { series, value, timestamp_ms } => {
                    let one = One { value: Value::Float(value), timestamp_ms, at_ms };
                    self.take(exposition, &series, one, treatment, batch, found)?;
                }
                Entry::Histogram { series, histogram, timestamp_ms } => {
                    let histogram = limited(histogram, treatment)?;
                    let one = One { value: Value::Histogram(histogram), timestamp_ms, at_ms };
                    self.take(exposition, &series, one, treatment, batch, found)?;
                }
            }
        }
        match treatment.samples_max {
            limit if limit > 0 && found.kept > limit => Err(ScrapeError::TooMany { limit }),
            _ => Ok(()),
        }
    }

    /// One value of one series.
    fn take(
        &mut self,
        exposition: &mut Exposition<'_>,
        written: &[u8],
        one: One,
        treatment: &Treatment,
        batch: &mut Batch,
        found: &mut Found,
    ) -> Result<(), ScrapeError> {
        found.samples += 1;
        let exposed_max = EXPOSED_MAX.max(treatment.samples_max);
        if found.samples > exposed_max {
            return Err(ScrapeError::TooMany { limit: exposed_max });
        }
        let known = match exposition.is_expected() {
            true => self.series.guessed(),
            false => self.series.find(written),
        };
        let (slot, is_new) = match known {
            Some(slot) => (slot, false),
            None => {
                let (labels, is_field) = treatment.labels(exposition.labels(), written)?;
                (self.series.add(written, labels, is_field), true)
            }
        };
        let Some(series) = self.series.get(slot) else { return Ok(()) };
        if series.labels.is_empty() {
            self.series.see(slot);
            return Ok(());
        }
        if series.is_field && matches!(one.value, Value::Float(value) if dcgm::is_blank(value)) {
            return Ok(());
        }
        found.kept += 1;
        let is_over = treatment.samples_max > 0 && found.kept > treatment.samples_max;
        found.added += u64::from(is_new && !is_over);
        let was_seen = self.series.see(slot);
        let timestamp_ms = one.timestamp_ms.filter(|_| treatment.honor_timestamps);
        // The same series twice at one time: the first counts, as in Prometheus.
        if is_over || (was_seen && timestamp_ms.is_none()) {
            return Ok(());
        }
        if timestamp_ms.is_none() || treatment.track_timestamps_staleness {
            self.series.track(slot);
        }
        let at_ms = timestamp_ms.unwrap_or(one.at_ms);
        let (exemplars, start_ms) = (exposition.exemplars(), exposition.start_ms());
        if let Some(series) = self.series.get(slot) {
            let news = exemplars_of(exemplars, &one.value, at_ms, &mut series.exemplar);
            batch.push_with(&series.labels, at_ms, (one.value, start_ms), news);
        }
        Ok(())
    }

    /// The series about the scrape itself.
    pub(super) fn report(
        &mut self,
        (found, is_up): (Found, bool),
        (at_ms, took): (i64, Duration),
        extra: Option<Extra>,
        treatment: &Treatment,
        batch: &mut Batch,
    ) {
        let mut values = vec![
            f64::from(u8::from(is_up)),
            took.as_secs_f64(),
            found.samples as f64,
            found.kept as f64,
            found.added as f64,
        ];
        if let Some(extra) = extra {
            values.extend([
                extra.timeout.as_secs_f64(),
                extra.samples_max as f64,
                extra.body_bytes,
            ]);
        }
        if self.reports.len() != values.len() {
            let names = REPORTS.iter().chain(&EXTRA_REPORTS).take(values.len());
            self.reports = names.map(|name| treatment.report(name)).collect();
        }
        for (labels, value) in self.reports.iter().zip(values) {
            batch.push(labels, at_ms, value);
        }
    }
}

/// A value on its way.
struct One {
    value: Value,
    timestamp_ms: Option<i64>,
    /// The time of the scrape.
    at_ms: i64,
}

/// Exemplars that were not told before. One without a time is known by labels and value alone.
fn exemplars_of(
    exemplars: Vec<Exemplar<'_>>,
    value: &Value,
    at_ms: i64,
    last: &mut u64,
) -> Vec<model::Exemplar> {
    let mut news = Vec::new();
    for exemplar in exemplars {
        // Those of native histograms mean nothing without a time.
        if exemplar.timestamp_ms.is_none() && matches!(value, Value::Histogram(_)) {
            continue;
        }
        let mut hasher = DefaultHasher::new();
        (&exemplar.labels, exemplar.value.to_bits(), exemplar.timestamp_ms).hash(&mut hasher);
        let hash = hasher.finish().max(1);
        if hash != *last {
            *last = hash;
            news.extend(stored(&exemplar, at_ms));
        }
    }
    news
}

/// A histogram that makes sense, within the job's limits. One that makes none fails the scrape, as in
/// Prometheus.
fn limited(
    histogram: Box<Histogram>,
    treatment: &Treatment,
) -> Result<Box<Histogram>, ScrapeError> {
    let (buckets_max, factor) = (treatment.histogram_buckets_max, treatment.histogram_factor_min);
    storage::check_histogram(&histogram).map_err(ScrapeError::Histogram)?;
    if buckets_max == 0 && factor <= 1.0 {
        return Ok(histogram);
    }
    fitted(*histogram, buckets_max, factor)
        .map(Box::new)
        .ok_or(ScrapeError::TooManyBuckets { limit: buckets_max })
}
