//! What a target's series go through before they are stored: the target's own labels, relabelling,
//! limits (`scrape/target.go`, `mutateSampleLabels`).

use std::borrow::Cow;

use model::{Labels, LabelsBuilder, METRIC_NAME};

use super::config::Job;
use super::{ScrapeError, dcgm};
use crate::intake::CLUSTER;
use crate::relabel::{self, NameScheme, Rule};

/// How what a target exposes is treated.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Treatment {
    /// The target's own labels.
    pub(super) target: Labels,
    /// The label `cluster` of series without one; empty for none.
    pub(super) cluster: String,
    pub(super) honor_labels: bool,
    pub(super) honor_timestamps: bool,
    pub(super) track_timestamps_staleness: bool,
    /// Whether GPU telemetry is normalised.
    pub(super) dcgm: bool,
    pub(super) rules: Vec<Rule>,
    pub(super) names: NameScheme,
    /// Samples of a scrape; 0 for no limit. So with all limits.
    pub(super) samples_max: u64,
    pub(super) labels_max: u64,
    pub(super) label_name_bytes_max: u64,
    pub(super) label_value_bytes_max: u64,
    pub(super) histogram_buckets_max: u64,
    pub(super) histogram_factor_min: f64,
}

/// The prefix of exposed labels that give way to the target's.
const EXPOSED: &str = "exported_";

type Pairs<'a> = [(Cow<'a, str>, Cow<'a, str>)];

impl Treatment {
    /// As a job wants it for one of its targets.
    pub(super) fn of(job: &Job, target: Labels, cluster: &str) -> Self {
        Self {
            target,
            cluster: cluster.to_owned(),
            honor_labels: job.honor_labels,
            honor_timestamps: job.honor_timestamps,
            track_timestamps_staleness: job.track_timestamps_staleness,
            dcgm: job.dcgm,
            rules: job.metric_relabel.clone(),
            names: job.names,
            samples_max: job.limits.samples,
            labels_max: job.limits.labels,
            label_name_bytes_max: job.limits.label_name_bytes,
            label_value_bytes_max: job.limits.label_value_bytes,
            histogram_buckets_max: job.histogram_buckets,
            histogram_factor_min: job.histogram_factor,
        }
    }

    /// Labels as they are stored, in canonical encoding, and whether it is a field of GPU telemetry;
    /// none if relabelling drops the series.
    pub(super) fn labels(
        &self,
        exposed: &Pairs<'_>,
        written: &[u8],
    ) -> Result<(Box<[u8]>, bool), ScrapeError> {
        for (i, (name, _)) in exposed.iter().enumerate() {
            if exposed[..i].iter().any(|(earlier, _)| earlier == name) {
                let series = String::from_utf8_lossy(written).into_owned();
                return Err(ScrapeError::Repeated { label: name.to_string(), series });
            }
        }
        let mut renamed;
        let (exposed, is_field) = match exposed {
            [(_, name), ..] if self.dcgm && dcgm::is_field(name) => {
                renamed = exposed.to_vec();
                let is_field = dcgm::normalize(&mut renamed);
                (&renamed[..], is_field)
            }
            exposed => (exposed, false),
        };
        let mut labels = LabelsBuilder::default();
        labels.set_all(exposed.iter().map(|(name, value)| (&**name, &**value)));
        self.add_own(&mut labels, |name| exposed.iter().any(|(exposed, _)| exposed == name));
        if !relabel::apply(&self.rules, &mut labels) || labels.iter().len() == 0 {
            return Ok((Box::default(), false));
        }
        if !self.cluster.is_empty() && labels.get(CLUSTER).is_none() {
            labels.set(CLUSTER, &self.cluster);
        }
        self.check(&labels)?;
        let mut encoded = Vec::with_capacity(256);
        labels.build().encode(&mut encoded);
        Ok((encoded.into_boxed_slice(), is_field))
    }

    /// The target's labels: they win, and exposed ones of the same name move aside; or exposed ones
    /// win, even empty ones.
    fn add_own(&self, labels: &mut LabelsBuilder, is_exposed: impl Fn(&str) -> bool) {
        if self.honor_labels {
            labels.set_all(self.target.iter().filter(|(name, _)| !is_exposed(name)));
            return;
        }
        let mut aside = Vec::new();
        for (name, value) in self.target.iter() {
            if let Some(exposed) = labels.get(name) {
                aside.push((name, exposed.to_owned()));
            }
            labels.set(name, value);
        }
        aside.sort_by_key(|(name, _)| name.len());
        for (name, value) in aside {
            let mut name = format!("{EXPOSED}{name}");
            while labels.get(&name).is_some() {
                name.insert_str(0, EXPOSED);
            }
            labels.set(&name, &value);
        }
    }

    fn check(&self, labels: &LabelsBuilder) -> Result<(), ScrapeError> {
        let Some(metric) = labels.get(METRIC_NAME) else { return Err(ScrapeError::NoName) };
        let is_valid = self.names.allows_metric(metric)
            && labels.iter().all(|(name, _)| name == METRIC_NAME || self.names.allows(name));
        if !is_valid {
            return Err(ScrapeError::InvalidName { series: labels.build().to_string() });
        }
        let count = labels.iter().len() as u64;
        let over = |length: u64, limit: u64| limit > 0 && length > limit;
        let short = |text: &str| text.chars().take(50).collect::<String>();
        if over(count, self.labels_max) {
            let limit = self.labels_max;
            let what = format!(
                "label_limit exceeded (metric: {}, number of labels: {count}, limit: {limit})",
                short(metric)
            );
            return Err(ScrapeError::LabelLimit(what));
        }
        for (name, value) in labels.iter() {
            let (bytes, limit) = (name.len(), self.label_name_bytes_max);
            if over(bytes as u64, limit) {
                return Err(ScrapeError::LabelLimit(format!(
                    "label_name_length_limit exceeded (metric: {}, label name: {}, length: {bytes}, limit: {limit})",
                    short(metric),
                    short(name)
                )));
            }
            let (bytes, limit) = (value.len(), self.label_value_bytes_max);
            if over(bytes as u64, limit) {
                return Err(ScrapeError::LabelLimit(format!(
                    "label_value_length_limit exceeded (metric: {}, label name: {}, value: {:?}, length: {bytes}, limit: {limit})",
                    short(metric),
                    short(name),
                    short(value)
                )));
            }
        }
        Ok(())
    }

    /// Labels of a series about the scrape itself, in canonical encoding.
    pub(super) fn report(&self, name: &str) -> Vec<u8> {
        let mut labels = LabelsBuilder::default();
        labels.set(METRIC_NAME, name);
        labels.set_all(self.target.iter());
        if !self.cluster.is_empty() && labels.get(CLUSTER).is_none() {
            labels.set(CLUSTER, &self.cluster);
        }
        let mut encoded = Vec::new();
        labels.build().encode(&mut encoded);
        encoded
    }
}
