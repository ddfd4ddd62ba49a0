//! `global`: what jobs have that say nothing themselves.

use super::protocol::{Escaping, Protocol};
use crate::exposition::Forms;
use crate::relabel::NameScheme;
use crate::yaml::{Fields, Node, YamlError};

/// Limits of a job; 0 means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct JobLimits {
    /// Length of a body, decompressed. Bytes.
    pub(crate) body_bytes: u64,
    /// Samples of a scrape after relabelling.
    pub(crate) samples: u64,
    /// Targets of the job after relabelling.
    pub(crate) targets: u64,
    /// Labels of a series.
    pub(crate) labels: u64,
    /// Length of a label's name.
    pub(crate) label_name_bytes: u64,
    /// Length of a label's value.
    pub(crate) label_value_bytes: u64,
    /// Dropped targets that are remembered.
    pub(crate) dropped_targets: u64,
}

/// Defaults of all jobs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Global {
    pub(super) interval_ms: i64,
    /// `None` if nothing was said.
    pub(super) timeout_ms: Option<i64>,
    pub(super) protocols: Option<Vec<Protocol>>,
    pub(super) limits: JobLimits,
    pub(super) names: NameScheme,
    pub(super) escaping: Option<Escaping>,
    pub(super) histograms: Forms,
    pub(super) extra_metrics: bool,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            interval_ms: 60_000,
            timeout_ms: None,
            protocols: None,
            limits: JobLimits::default(),
            names: NameScheme::Utf8,
            escaping: None,
            histograms: Forms::default(),
            extra_metrics: false,
        }
    }
}

/// Prometheus' default.
pub(super) const TIMEOUT_MS: i64 = 10_000;

/// Settings of Prometheus that say nothing about scraping.
const OTHERS: [&str; 5] =
    ["evaluation_interval", "rule_query_offset", "query_log_file", "external_labels", "runtime"];

impl Global {
    pub(super) fn read(node: &Node, notes: &mut Vec<String>) -> Result<Self, YamlError> {
        let mut fields = Fields::of(node, "global")?;
        let defaults = Self::default();
        let interval_ms = fields.read("scrape_interval", positive)?.unwrap_or(defaults.interval_ms);
        let timeout_ms = fields.read("scrape_timeout", positive)?;
        let names = read_names(&mut fields)?.unwrap_or_default();
        let global = Self {
            interval_ms,
            timeout_ms,
            protocols: read_protocols(&mut fields)?,
            limits: JobLimits::read(&mut fields, JobLimits::default())?,
            names,
            escaping: read_escaping(&mut fields, names)?,
            histograms: read_forms(&mut fields, Forms::default())?,
            extra_metrics: fields.read("extra_scrape_metrics", Node::switch)?.unwrap_or(false),
        };
        if timeout_ms.is_some_and(|timeout| timeout > interval_ms) {
            let what = "global scrape timeout greater than scrape interval";
            return Err(YamlError::at(node.place, what));
        }
        note_failure_log(&mut fields, notes);
        for name in OTHERS {
            if fields.take(name).is_some() {
                notes.push(format!("global.{name} is passed over: it is not about scraping"));
            }
        }
        fields.done()?;
        Ok(global)
    }
}

/// Failed scrapes are in the log and on the targets page; there is no file of them.
pub(super) fn note_failure_log(fields: &mut Fields<'_>, notes: &mut Vec<String>) {
    if fields.take("scrape_failure_log_file").is_some() {
        notes.push("scrape_failure_log_file is passed over: failed scrapes are in the log".into());
    }
}

impl JobLimits {
    pub(super) fn read(fields: &mut Fields<'_>, of: Self) -> Result<Self, YamlError> {
        // As in Prometheus, 0 means what `global` says.
        let mut count = |name: &str, default: u64| {
            fields.count(name, default).map(|n| if n == 0 { default } else { n })
        };
        let limits = Self {
            samples: count("sample_limit", of.samples)?,
            targets: count("target_limit", of.targets)?,
            labels: count("label_limit", of.labels)?,
            label_name_bytes: count("label_name_length_limit", of.label_name_bytes)?,
            label_value_bytes: count("label_value_length_limit", of.label_value_bytes)?,
            dropped_targets: count("keep_dropped_targets", of.dropped_targets)?,
            body_bytes: 0,
        };
        let body = fields.read("body_size_limit", Node::size)?.unwrap_or(0);
        Ok(Self { body_bytes: if body == 0 { of.body_bytes } else { body }, ..limits })
    }
}

/// In which forms histograms are scraped.
pub(super) fn read_forms(fields: &mut Fields<'_>, of: Forms) -> Result<Forms, YamlError> {
    let mut switch =
        |name: &str, of: bool| fields.read(name, Node::switch).map(|v| v.unwrap_or(of));
    Ok(Forms {
        native: switch("scrape_native_histograms", of.native)?,
        classic_too: switch("always_scrape_classic_histograms", of.classic_too)?,
        convert_classic: switch("convert_classic_histograms_to_nhcb", of.convert_classic)?,
    })
}

/// A duration of more than nothing.
pub(super) fn positive(node: &Node) -> Result<i64, YamlError> {
    match node.duration()? {
        0 => Err(YamlError::at(node.place, "must be more than 0")),
        ms => Ok(ms),
    }
}

pub(super) fn read_protocols(fields: &mut Fields<'_>) -> Result<Option<Vec<Protocol>>, YamlError> {
    fields.read("scrape_protocols", |node| {
        let mut protocols = Vec::new();
        for node in node.list()? {
            let one = protocol(node)?;
            if protocols.contains(&one) {
                let what = format!("duplicated protocol {:?} in scrape_protocols", node.text()?);
                return Err(YamlError::at(node.place, what));
            }
            protocols.push(one);
        }
        if protocols.is_empty() {
            return Err(YamlError::at(node.place, "scrape_protocols cannot be empty"));
        }
        Ok(protocols)
    })
}

pub(super) fn protocol(node: &Node) -> Result<Protocol, YamlError> {
    let word = node.text()?;
    Protocol::of(&word).ok_or_else(|| {
        let what = format!("unknown scrape protocol {word:?}, supported: {}", Protocol::words());
        YamlError::at(node.place, what)
    })
}

pub(super) fn read_names(fields: &mut Fields<'_>) -> Result<Option<NameScheme>, YamlError> {
    fields.read("metric_name_validation_scheme", |node| match node.text()?.as_str() {
        "utf8" | "" => Ok(NameScheme::Utf8),
        "legacy" => Ok(NameScheme::Legacy),
        other => {
            let what = format!("unknown validation scheme {other:?}, expected utf8 or legacy");
            Err(YamlError::at(node.place, what))
        }
    })
}

pub(super) fn read_escaping(
    fields: &mut Fields<'_>,
    names: NameScheme,
) -> Result<Option<Escaping>, YamlError> {
    fields.read("metric_name_escaping_scheme", |node| {
        let word = node.text()?;
        match Escaping::of(&word) {
            None => {
                let what = format!(
                    "unknown escaping scheme {word:?}, expected allow-utf-8, underscores, dots or values"
                );
                Err(YamlError::at(node.place, what))
            }
            Some(Escaping::AllowUtf8) if names == NameScheme::Legacy => {
                let what = "utf8 metric names requested but validation scheme is not set to UTF8";
                Err(YamlError::at(node.place, what))
            }
            Some(escaping) => Ok(escaping),
        }
    })
}
