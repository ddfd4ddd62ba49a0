//! One target: what it exposed last time, and what becomes of what it exposes now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use model::{Clock, Labels, LabelsBuilder, Metadata, stale_nan};

use super::batch::Batch;
use crate::exposition::{Entry, TextError, TextParser};
use crate::intake::CLUSTER;

/// Something in this process that can tell its metrics.
#[derive(Clone)]
pub struct Target {
    /// The label `job`.
    pub job: String,
    /// The label `instance`.
    pub instance: String,
    /// The label `cluster` of series without one; empty for none.
    pub cluster: String,
    /// Appends an exposition in text format 0.0.4.
    pub expose: Arc<dyn Fn(&mut String) + Send + Sync>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("job", &self.job)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// Why a scrape failed. All of the target's series end then, and `up` is 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// Not the text format.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A label set that names a label twice.
    #[error("label {label:?} occurs twice in {series:?}")]
    Repeated {
        /// The label.
        label: String,
        /// The series as written.
        series: String,
    },
    /// Too much.
    #[error("target exposes more than {limit} samples (samples_max)")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// A target and what is known of it.
pub(super) struct Tracked {
    target: Target,
    /// Series by the text they were exposed with.
    series: HashMap<Box<[u8]>, Known>,
    /// Which scrape this is.
    round: u64,
    /// Metadata already handed on.
    metadata: HashMap<String, Metadata>,
    /// Labels of the series about the scrape itself, canonical; empty before the first.
    reports: Vec<Vec<u8>>,
    text: String,
}

struct Known {
    /// Labels in canonical encoding.
    labels: Box<[u8]>,
    /// The scrape that saw it last.
    round: u64,
    /// Whether its samples had no timestamps of their own: a target that sets them says itself
    /// when a series is old.
    is_tracked: bool,
    /// Whether a sample was written that needs a stale marker when the series vanishes.
    is_live: bool,
}

/// Names of the samples about the scrape itself, as Prometheus writes them.
const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// What a scrape found.
#[derive(Default)]
struct Found {
    samples: usize,
    added: usize,
    metadata: BTreeMap<String, Metadata>,
}

impl Tracked {
    pub(super) fn new(target: Target) -> Self {
        let series = HashMap::new();
        Self {
            target,
            series,
            round: 0,
            metadata: HashMap::new(),
            reports: Vec::new(),
            text: String::new(),
        }
    }

    pub(super) fn job(&self) -> &str {
        &self.target.job
    }

    /// Scrapes once: samples, stale markers of vanished series and the report go into the batch.
    pub(super) fn scrape(
        &mut self,
        at_ms: i64,
        samples_max: usize,
        clock: &dyn Clock,
        batch: &mut Batch,
    ) -> Result<(), ScrapeError> {
        let started = clock.monotonic();
        self.round += 1;
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        (self.target.expose)(&mut text);
        let mark = batch.mark();
        let result = self.read(&text, at_ms, samples_max, batch);
        self.text = text;
        let (values, result) = match result {
            Ok(found) => {
                self.end_vanished(at_ms, batch);
                self.series.values_mut().for_each(|known| known.is_live = known.is_tracked);
                self.tell_metadata(found.metadata, batch);
                ([1.0, 0.0, found.samples as f64, found.samples as f64, found.added as f64], Ok(()))
            }
            Err(error) => {
                batch.back_to(mark);
                self.end_series(at_ms, batch);
                ([0.0; REPORTS.len()], Err(error))
            }
        };
        let seconds = clock.monotonic().saturating_sub(started).as_secs_f64();
        self.report(at_ms, seconds, values, batch);
        result
    }

    /// Ends everything, the report included: the target is no longer scraped.
    pub(super) fn end(&mut self, at_ms: i64, batch: &mut Batch) {
        self.end_series(at_ms, batch);
        for labels in self.reports.drain(..) {
            batch.push(&labels, at_ms, stale_nan());
        }
    }

    fn read(
        &mut self,
        text: &str,
        at_ms: i64,
        limit: usize,
        batch: &mut Batch,
    ) -> Result<Found, ScrapeError> {
        let mut found = Found::default();
        let mut parser = TextParser::new(text.as_bytes());
        while let Some(entry) = parser.next_entry()? {
            let (series, value, timestamp_ms) = match entry {
                Entry::Help { family, text } => {
                    found.metadata.entry(family.into_owned()).or_default().help = text.into_owned();
                    continue;
                }
                Entry::Type { family, kind } => {
                    found.metadata.entry(family.into_owned()).or_default().kind = kind;
                    continue;
                }
                Entry::Unit { family, unit } => {
                    found.metadata.entry(family.into_owned()).or_default().unit = unit.into_owned();
                    continue;
                }
                // Not in the text format.
                Entry::Histogram { .. } => continue,
                Entry::Sample { series, value, timestamp_ms } => (series, value, timestamp_ms),
            };
            let series = &*series;
            found.samples += 1;
            if found.samples > limit {
                return Err(ScrapeError::TooMany { limit });
            }
            if !self.series.contains_key(series) {
                let mut labels = Vec::new();
                self.labels(&parser, series)?.encode(&mut labels);
                let labels = labels.into_boxed_slice();
                self.series.insert(
                    series.into(),
                    Known { labels, round: 0, is_tracked: false, is_live: false },
                );
                found.added += 1;
            }
            if let Some(known) = self.series.get_mut(series) {
                known.round = self.round;
                known.is_tracked = timestamp_ms.is_none();
                batch.push(&known.labels, timestamp_ms.unwrap_or(at_ms), value);
            }
        }
        Ok(found)
    }

    /// Labels of a series: the target's own win, exposed ones of the same name move aside to
    /// `exported_…`, as with `honor_labels: false`.
    fn labels(&self, parser: &TextParser<'_>, series: &[u8]) -> Result<Labels, ScrapeError> {
        let mut labels = LabelsBuilder::default();
        for (name, value) in parser.labels() {
            if labels.get(name).is_some() {
                let (label, series) =
                    (name.to_string(), String::from_utf8_lossy(series).into_owned());
                return Err(ScrapeError::Repeated { label, series });
            }
            labels.set(name, value);
        }
        for (name, value) in [("job", &self.target.job), ("instance", &self.target.instance)] {
            if let Some(exposed) = labels.get(name).map(str::to_owned) {
                let mut aside = format!("exported_{name}");
                while labels.get(&aside).is_some() {
                    aside.insert_str(0, "exported_");
                }
                labels.set(&aside, &exposed);
            }
            labels.set(name, value);
        }
        if labels.get(CLUSTER).is_none() {
            labels.set(CLUSTER, &self.target.cluster);
        }
        Ok(labels.build())
    }

    /// Ends what this scrape did not show, unless the same labels came under another text.
    fn end_vanished(&mut self, at_ms: i64, batch: &mut Batch) {
        let round = self.round;
        if self.series.values().all(|known| known.round == round) {
            return;
        }
        let (shown, vanished): (Vec<_>, Vec<_>) =
            self.series.values().partition(|known| known.round == round);
        let shown: HashSet<&[u8]> = shown.iter().map(|known| &*known.labels).collect();
        for known in vanished {
            if known.is_live && !shown.contains(&*known.labels) {
                batch.push(&known.labels, at_ms, stale_nan());
            }
        }
        self.series.retain(|_, known| known.round == round);
    }

    /// Ends all series that had a sample in an earlier scrape.
    fn end_series(&mut self, at_ms: i64, batch: &mut Batch) {
        for (_, known) in self.series.drain() {
            if known.is_live {
                batch.push(&known.labels, at_ms, stale_nan());
            }
        }
    }

    fn tell_metadata(&mut self, found: BTreeMap<String, Metadata>, batch: &mut Batch) {
        for (family, metadata) in found {
            if self.metadata.get(&family) != Some(&metadata) {
                self.metadata.insert(family.clone(), metadata.clone());
                batch.push_metadata(family, metadata);
            }
        }
    }

    fn report(
        &mut self,
        at_ms: i64,
        seconds: f64,
        mut values: [f64; REPORTS.len()],
        batch: &mut Batch,
    ) {
        values[1] = seconds;
        if self.reports.is_empty() {
            let (job, instance) = (self.target.job.as_str(), self.target.instance.as_str());
            let cluster = self.target.cluster.as_str();
            let labels = |name| {
                let pairs = [("__name__", name), ("job", job), ("instance", instance)];
                Labels::from_pairs(pairs.into_iter().chain([(CLUSTER, cluster)]))
            };
            self.reports = REPORTS
                .iter()
                .map(|name| {
                    let mut encoded = Vec::new();
                    labels(name).encode(&mut encoded);
                    encoded
                })
                .collect();
        }
        for (labels, value) in self.reports.iter().zip(values) {
            batch.push(labels, at_ms, value);
        }
    }
}
