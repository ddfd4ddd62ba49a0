//! One `scrape_config`: a job.

use std::path::Path;

use tenancy::TenantName;

use super::global::{
    Global, JobLimits, TIMEOUT_MS, note_failure_log, positive, protocol, read_escaping, read_forms,
    read_names, read_protocols,
};
use super::protocol::{Escaping, Protocol};
use super::rules::rule;
use crate::discovery::{self, Discovery};
use crate::exposition::Forms;
use crate::http_client::HttpConfig;
use crate::relabel::{NameScheme, Rule};
use crate::yaml::{Content, Fields, Key, Node, YamlError};

/// A job as configured. Fields as in Prometheus' `scrape_config`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    pub(crate) name: String,
    /// Where its series go, if not to the default tenant: `x-taffrail: {tenant: …}`.
    pub(crate) tenant: Option<TenantName>,
    /// Whether each series goes to the owner of its namespace: `x-taffrail: {routed: …}`.
    pub(crate) routed: bool,
    /// Whether telemetry of NVIDIA's exporter is normalised: `x-taffrail: {dcgm: …}`.
    pub(crate) dcgm: bool,
    pub(crate) interval_ms: i64,
    pub(crate) timeout_ms: i64,
    pub(crate) honor_labels: bool,
    pub(crate) honor_timestamps: bool,
    pub(crate) track_timestamps_staleness: bool,
    pub(crate) params: Vec<(String, Vec<String>)>,
    pub(crate) metrics_path: String,
    pub(crate) scheme: String,
    /// What is asked for, in this order, if it is said.
    pub(crate) protocols: Option<Vec<Protocol>>,
    pub(crate) fallback_protocol: Option<Protocol>,
    pub(crate) escaping: Escaping,
    pub(crate) names: NameScheme,
    pub(crate) enable_compression: bool,
    pub(crate) limits: JobLimits,
    pub(crate) histograms: Forms,
    /// Buckets of a native histogram; 0 means no limit.
    pub(crate) histogram_buckets: u64,
    /// How much wider each bucket of a native histogram must be than the one before; 0 for any.
    pub(crate) histogram_factor: f64,
    pub(crate) extra_metrics: bool,
    pub(crate) http: HttpConfig,
    pub(crate) discovery: Vec<Discovery>,
    pub(crate) relabel: Vec<Rule>,
    pub(crate) metric_relabel: Vec<Rule>,
}

/// The key of what Prometheus does not have. Remove it, and the file is Prometheus' own again.
const EXTENSION: &str = "x-taffrail";

impl Job {
    pub(super) fn read(node: &Node, global: &Global, dir: &Path) -> Result<Self, YamlError> {
        if node.content == Content::Null {
            return Err(YamlError::at(node.place, "empty or null scrape config section"));
        }
        let mut fields = Fields::of(node, "scrape_config")?;
        let fields = &mut fields;
        let name = fields.text("job_name")?;
        if name.is_empty() {
            return Err(YamlError::at(node.place, "job_name is empty"));
        }
        let (interval_ms, timeout_ms) = times(fields, global, &name)?;
        let names = read_names(fields)?.unwrap_or(global.names);
        let Extension { tenant, routed, dcgm } = Extension::read(fields)?;
        let histograms = histograms(fields, global)?;
        let rules = |fields: &mut Fields<'_>, field: &str| {
            let nodes = fields.take(field).map_or(Ok(&[][..]), Node::list)?;
            nodes.iter().map(|node| rule(node, names)).collect::<Result<Vec<Rule>, YamlError>>()
        };
        let switch = |fields: &mut Fields<'_>, name: &str, default: bool| {
            fields.read(name, Node::switch).map(|v| v.unwrap_or(default))
        };
        let text = |fields: &mut Fields<'_>, name: &str, default: &str| {
            fields.read(name, Node::text).map(|v| v.unwrap_or_else(|| default.to_owned()))
        };
        let job = Self {
            tenant,
            routed,
            dcgm,
            interval_ms,
            timeout_ms,
            honor_labels: switch(fields, "honor_labels", false)?,
            honor_timestamps: switch(fields, "honor_timestamps", true)?,
            track_timestamps_staleness: switch(fields, "track_timestamps_staleness", false)?,
            params: fields.read("params", params)?.unwrap_or_default(),
            metrics_path: text(fields, "metrics_path", "/metrics")?,
            scheme: text(fields, "scheme", "http")?,
            protocols: read_protocols(fields)?.or_else(|| global.protocols.clone()),
            fallback_protocol: fields.read("fallback_scrape_protocol", protocol)?,
            escaping: escaping(fields, global, names)?,
            names,
            enable_compression: switch(fields, "enable_compression", true)?,
            limits: JobLimits::read(fields, global.limits)?,
            histograms,
            histogram_buckets: fields.count("native_histogram_bucket_limit", 0)?,
            histogram_factor: fields
                .read("native_histogram_min_bucket_factor", Node::float)?
                .unwrap_or(0.0),
            extra_metrics: switch(fields, "extra_scrape_metrics", global.extra_metrics)?,
            http: HttpConfig::take(fields, dir)?,
            discovery: discovery::read_all(fields, dir)?,
            relabel: rules(fields, "relabel_configs")?,
            metric_relabel: rules(fields, "metric_relabel_configs")?,
            name,
        };
        note_failure_log(fields, &mut Vec::new());
        std::mem::take(fields).done()?;
        Ok(job)
    }

    /// What is asked of a target. What nobody said is protobuf first where native histograms are
    /// wanted: no text format in use has them.
    pub(crate) fn protocols(&self, native: bool) -> Vec<Protocol> {
        self.protocols.clone().unwrap_or_else(|| {
            let first = native.then_some(Protocol::Proto);
            first.into_iter().chain(Protocol::DEFAULT).collect()
        })
    }
}

fn times(fields: &mut Fields<'_>, global: &Global, name: &str) -> Result<(i64, i64), YamlError> {
    let place = fields.place();
    let interval_ms = fields.read("scrape_interval", positive)?.unwrap_or(global.interval_ms);
    let timeout_ms = match fields.read("scrape_timeout", positive)? {
        Some(timeout_ms) if timeout_ms > interval_ms => {
            let what = format!(
                "scrape timeout greater than scrape interval for scrape config with job name {name:?}"
            );
            return Err(YamlError::at(place, what));
        }
        Some(timeout_ms) => timeout_ms,
        None => global.timeout_ms.unwrap_or(TIMEOUT_MS).min(interval_ms),
    };
    Ok((interval_ms, timeout_ms))
}

/// The extension's fields.
struct Extension {
    tenant: Option<TenantName>,
    routed: bool,
    dcgm: bool,
}

impl Extension {
    fn read(outer: &mut Fields<'_>) -> Result<Self, YamlError> {
        let read = outer.read(EXTENSION, |node| {
            let mut fields = Fields::of(node, EXTENSION)?;
            let tenant = fields.read("tenant", |node| {
                TenantName::new(&node.text()?).map_err(|e| YamlError::at(node.place, e.to_string()))
            })?;
            let routed = fields.read("routed", Node::switch)?.unwrap_or(false);
            let dcgm = fields.read("dcgm", Node::switch)?.unwrap_or(true);
            fields.done()?;
            if routed && tenant.is_some() {
                let what = "tenant and routed exclude each other";
                return Err(YamlError::at(node.place, what));
            }
            Ok(Self { tenant, routed, dcgm })
        })?;
        Ok(read.unwrap_or(Self { tenant: None, routed: false, dcgm: true }))
    }
}

fn histograms(fields: &mut Fields<'_>, global: &Global) -> Result<Forms, YamlError> {
    let mut histograms = read_forms(fields, global.histograms)?;
    // The old word for always_scrape_classic_histograms.
    if fields.read("scrape_classic_histograms", Node::switch)? == Some(true) {
        histograms.classic_too = true;
    }
    Ok(histograms)
}

fn escaping(
    fields: &mut Fields<'_>,
    global: &Global,
    names: NameScheme,
) -> Result<Escaping, YamlError> {
    let default = match names {
        NameScheme::Utf8 => Escaping::AllowUtf8,
        NameScheme::Legacy => Escaping::Underscores,
    };
    let said = read_escaping(fields, names)?;
    let of_global =
        global.escaping.filter(|e| names == NameScheme::Utf8 || *e != Escaping::AllowUtf8);
    Ok(said.or(of_global).unwrap_or(default))
}

fn params(node: &Node) -> Result<Vec<(String, Vec<String>)>, YamlError> {
    let one = |(key, node): &(Key, Node)| Ok((key.name.clone(), node.texts()?));
    node.entries()?.iter().map(one).collect()
}
