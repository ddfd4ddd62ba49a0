//! What one tenant may use. Each number has a default that suits a team, and can be set for all
//! tenants and for single ones.

use model::{Labels, METRIC_NAME, Resolution, Signal, TENANT_LABEL};
use serde::{Deserialize, Serialize};

/// Limits of one tenant. Zero means "none" only where said.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Samples a second over time, counted before they are stored; exemplars and metadata entries
    /// count as well. Protects the other tenants' share of the machine.
    pub samples_per_second: f64,
    /// Samples that may come at once before the rate applies; at least one request's worth.
    pub samples_burst: f64,
    /// Series that may be in the head at a time. Series cost memory whether or not samples come.
    pub active_series_max: u64,
    /// New series a second over time. Creating a series costs a hundred times as much as a sample.
    pub new_series_per_second: f64,
    /// New series that may come at once, for instance at a roll-out.
    pub new_series_burst: f64,
    /// Labels of one series, the name included.
    pub labels_max: usize,
    /// Length of a label's name in bytes.
    pub label_name_bytes_max: usize,
    /// Length of a label's value in bytes.
    pub label_value_bytes_max: usize,
    /// Length of one write request's body in bytes, compressed.
    pub body_bytes_max: usize,
    /// Length of one write request's body in bytes, decompressed; at most 32 MiB, which is what
    /// Prometheus takes.
    pub body_decompressed_bytes_max: usize,
    /// How old a sample may be, in seconds. At least the metering late window (72 h).
    pub age_seconds_max: u64,
    /// How far a sample may lie in the future, in seconds. Clocks drift; Prometheus takes 10 min.
    pub future_seconds_max: u64,
    /// Series one query may touch.
    pub query_series_max: usize,
    /// Samples one query may read. Prometheus' default is 50 million.
    pub query_samples_max: usize,
    /// Memory of one query, in bytes.
    pub query_memory_bytes_max: usize,
    /// Wall time of one query, in seconds.
    pub query_seconds_max: f64,
    /// Processor time of one query, in seconds, over all its threads.
    pub query_cpu_seconds_max: f64,
    /// Bytes of stored samples one query may read, as they lie in blocks and in memory.
    pub query_bytes_max: usize,
    /// Queries of this tenant that may run at a time.
    pub queries_concurrent_max: usize,
    /// Queries of this tenant that may wait for their turn. A full dashboard sends some dozens.
    pub queries_waiting_max: usize,
    /// Deletions by matchers that compaction has not carried out yet. Every query looks at each.
    pub deletes_pending_max: usize,
    /// How long samples are kept as they came, in seconds; 0: for ever.
    pub metrics_raw_retention_seconds: u64,
    /// How long samples are kept at a resolution of 5 minutes, in seconds; 0: for ever.
    pub metrics_5m_retention_seconds: u64,
    /// How long samples are kept at a resolution of 1 hour, in seconds; 0: for ever.
    pub metrics_1h_retention_seconds: u64,
    /// Bytes in blocks of samples as they came beyond which the oldest go; 0: no limit.
    pub metrics_raw_bytes_max: u64,
    /// Bytes of windows of 5 minutes beyond which the oldest go; 0: no limit.
    pub metrics_5m_bytes_max: u64,
    /// Bytes of windows of an hour beyond which the oldest go; 0: no limit.
    pub metrics_1h_bytes_max: u64,
    /// Bytes of metrics in blocks beyond which the oldest go, all resolutions together; 0: no
    /// limit. Rows as they came go first, then windows of 5 minutes, then those of an hour.
    pub metrics_bytes_max: u64,
    /// Whether samples are also kept at resolutions of 5 minutes and 1 hour, if the store makes
    /// them (`storage.downsampling`).
    pub metrics_downsampling: bool,
    /// Bytes of entries (lines of logs, events, audit records, with their fields) a second over
    /// time, counted before they are stored.
    pub entry_bytes_per_second: f64,
    /// Bytes of entries that may come at once before the rate applies; at least one request's worth.
    pub entry_bytes_burst: f64,
    /// Streams that may have had entries within the last hour.
    pub active_streams_max: u64,
    /// Labels of one stream.
    pub stream_labels_max: usize,
    /// Length of one entry's line in bytes; what is longer is cut there and marked.
    pub entry_line_bytes_max: usize,
    /// Fields of one entry (structured metadata).
    pub entry_fields_max: usize,
    /// Length of one entry's fields in bytes, names and values together.
    pub entry_fields_bytes_max: usize,
    /// Live tails of entries that may run at a time. Loki's default is 10.
    pub entry_tails_max: usize,
    /// How long lines of logs are kept, in seconds; 0: for ever. Older ones are refused.
    pub logs_retention_seconds: u64,
    /// The same of Kubernetes events.
    pub events_retention_seconds: u64,
    /// The same of audit records.
    pub audits_retention_seconds: u64,
}

/// How long rows of one tenant are kept, by resolution. Seconds; 0: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// As they came.
    pub raw_seconds: u64,
    /// One every 5 minutes.
    pub m5_seconds: u64,
    /// One every hour.
    pub h1_seconds: u64,
    /// Bytes in blocks of rows as they came beyond which the oldest go; 0: no limit.
    pub raw_bytes_max: u64,
    /// The same of windows of 5 minutes.
    pub m5_bytes_max: u64,
    /// The same of windows of an hour.
    pub h1_bytes_max: u64,
    /// The same of all together.
    pub bytes_max: u64,
    /// Whether rows are kept as they came only, and not downsampled.
    pub raw_only: bool,
    /// How long lines of logs are kept.
    pub logs_seconds: u64,
    /// The same of Kubernetes events.
    pub events_seconds: u64,
    /// The same of audit records.
    pub audits_seconds: u64,
}

impl Retention {
    /// How long rows of one resolution are kept.
    pub fn seconds(&self, resolution: Resolution) -> u64 {
        match resolution {
            Resolution::Raw => self.raw_seconds,
            Resolution::Minutes5 => self.m5_seconds,
            Resolution::Hour1 => self.h1_seconds,
        }
    }

    /// How long entries of one signal are kept.
    pub fn entries_seconds(&self, signal: Signal) -> u64 {
        match signal {
            Signal::Logs => self.logs_seconds,
            Signal::Events => self.events_seconds,
            Signal::Audits => self.audits_seconds,
        }
    }

    /// Bytes of one resolution beyond which the oldest go; 0: no limit of its own.
    pub fn bytes_max_of(&self, resolution: Resolution) -> u64 {
        match resolution {
            Resolution::Raw => self.raw_bytes_max,
            Resolution::Minutes5 => self.m5_bytes_max,
            Resolution::Hour1 => self.h1_bytes_max,
        }
    }

    /// What is older goes if it is `now_ms`, kept for so many seconds; 0: for ever.
    pub fn oldest_ms(seconds: u64, now_ms: i64) -> i64 {
        let kept_ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        if seconds == 0 { i64::MIN } else { now_ms.saturating_sub(kept_ms) }
    }
}

impl Limits {
    /// How long entries of a signal are kept, in seconds; 0: for ever.
    pub fn entries_retention_seconds(&self, signal: Signal) -> u64 {
        match signal {
            Signal::Logs => self.logs_retention_seconds,
            Signal::Events => self.events_retention_seconds,
            Signal::Audits => self.audits_retention_seconds,
        }
    }

    /// How long rows are kept.
    pub fn retention(&self) -> Retention {
        Retention {
            raw_seconds: self.metrics_raw_retention_seconds,
            m5_seconds: self.metrics_5m_retention_seconds,
            h1_seconds: self.metrics_1h_retention_seconds,
            raw_bytes_max: self.metrics_raw_bytes_max,
            m5_bytes_max: self.metrics_5m_bytes_max,
            h1_bytes_max: self.metrics_1h_bytes_max,
            bytes_max: self.metrics_bytes_max,
            raw_only: !self.metrics_downsampling,
            logs_seconds: self.logs_retention_seconds,
            events_seconds: self.events_retention_seconds,
            audits_seconds: self.audits_retention_seconds,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            samples_per_second: 500_000.0,
            samples_burst: 5_000_000.0,
            active_series_max: 3_000_000,
            new_series_per_second: 100_000.0,
            new_series_burst: 2_000_000.0,
            labels_max: 64,
            label_name_bytes_max: 1_024,
            label_value_bytes_max: 4_096,
            body_bytes_max: 16 << 20,
            body_decompressed_bytes_max: 32 << 20,
            age_seconds_max: 30 * 24 * 3600,
            future_seconds_max: 600,
            query_series_max: 500_000,
            query_samples_max: 50_000_000,
            query_memory_bytes_max: 2 << 30,
            query_seconds_max: 120.0,
            // Two cores for as long as a query may take.
            query_cpu_seconds_max: 240.0,
            // Ten times what the samples one may read usually take.
            query_bytes_max: 8 << 30,
            queries_concurrent_max: 20,
            queries_waiting_max: 200,
            deletes_pending_max: 1_000,
            metrics_raw_retention_seconds: 1_830 * 24 * 3600,
            metrics_5m_retention_seconds: 1_830 * 24 * 3600,
            metrics_1h_retention_seconds: 3_660 * 24 * 3600,
            metrics_raw_bytes_max: 0,
            metrics_5m_bytes_max: 0,
            metrics_1h_bytes_max: 0,
            metrics_bytes_max: 0,
            metrics_downsampling: true,
            entry_bytes_per_second: 32e6,
            entry_bytes_burst: 256e6,
            active_streams_max: 100_000,
            stream_labels_max: 32,
            entry_line_bytes_max: 256 << 10,
            entry_fields_max: 256,
            entry_fields_bytes_max: 64 << 10,
            entry_tails_max: 10,
            logs_retention_seconds: 31 * 24 * 3600,
            events_retention_seconds: 31 * 24 * 3600,
            audits_retention_seconds: 366 * 24 * 3600,
        }
    }
}

/// Why a label set was refused; the text names label and value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsRefused {
    /// No metric name.
    #[error("series {labels} has no metric name")]
    NoName {
        /// The series, shortened.
        labels: String,
    },
    /// Too many labels.
    #[error("series {series} has {count} labels, the limit is {limit}")]
    TooMany {
        /// Metric name.
        series: String,
        /// How many it has.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A label that says whose series it is, in answers: nobody may send it.
    #[error("label {TENANT_LABEL} of series {series} is reserved: it names the tenant in answers")]
    Reserved {
        /// Metric name.
        series: String,
    },
    /// A label name that is too long.
    #[error("label name {name:?} of series {series} has {bytes} bytes, the limit is {limit}")]
    NameTooLong {
        /// Metric name.
        series: String,
        /// The label's name, shortened.
        name: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A label value that is too long.
    #[error(
        "value {value:?} of label {name:?} of series {series} has {bytes} bytes, the limit is {limit}"
    )]
    ValueTooLong {
        /// Metric name.
        series: String,
        /// The label's name.
        name: String,
        /// Its value, shortened.
        value: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl LabelsRefused {
    /// The word used in counters by reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoName { .. } => "missing_metric_name",
            Self::TooMany { .. } => "too_many_labels",
            Self::Reserved { .. } => "invalid_labels",
            Self::NameTooLong { .. } => "label_name_too_long",
            Self::ValueTooLong { .. } => "label_value_too_long",
        }
    }
}

impl Limits {
    /// Checks a new series' labels.
    pub fn check_labels(&self, labels: &Labels) -> Result<(), LabelsRefused> {
        let series = || shortened(labels.metric_name());
        if labels.get(METRIC_NAME).is_none() {
            return Err(LabelsRefused::NoName { labels: shortened(&labels.to_string()) });
        }
        if labels.len() > self.labels_max {
            return Err(LabelsRefused::TooMany {
                series: series(),
                count: labels.len(),
                limit: self.labels_max,
            });
        }
        if labels.get(TENANT_LABEL).is_some() {
            return Err(LabelsRefused::Reserved { series: series() });
        }
        for (name, value) in labels.iter() {
            if name.len() > self.label_name_bytes_max {
                let (bytes, limit) = (name.len(), self.label_name_bytes_max);
                return Err(LabelsRefused::NameTooLong {
                    series: series(),
                    name: shortened(name),
                    bytes,
                    limit,
                });
            }
            if value.len() > self.label_value_bytes_max {
                let (bytes, limit) = (value.len(), self.label_value_bytes_max);
                let (name, value) = (name.to_owned(), shortened(value));
                return Err(LabelsRefused::ValueTooLong {
                    series: series(),
                    name,
                    value,
                    bytes,
                    limit,
                });
            }
        }
        Ok(())
    }
}

/// The first 120 bytes or so: enough to recognise, too little to fill a log.
fn shortened(text: &str) -> String {
    if text.len() <= 120 {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(120)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], refused: &str) {
        let limits = Limits {
            labels_max: 2,
            label_name_bytes_max: 8,
            label_value_bytes_max: 3,
            ..Limits::default()
        };
        let labels = Labels::from_pairs(pairs.iter().copied());
        assert_eq!(
            limits.check_labels(&labels).map_or_else(|e| e.to_string(), |()| String::new()),
            refused
        );
    }

    #[test]
    fn labels_are_checked() {
        check(&[("__name__", "up"), ("a", "1")], "");
        check(&[("a", "1")], r#"series {a="1"} has no metric name"#);
        check(
            &[("__name__", "up"), ("a", "1"), ("b", "1")],
            "series up has 3 labels, the limit is 2",
        );
        check(
            &[("__name__", "up"), ("__tenant_id__", "other")],
            "label __tenant_id__ of series up is reserved: it names the tenant in answers",
        );
        check(
            &[("__name__", "up"), ("abcdefghi", "1")],
            r#"label name "abcdefghi" of series up has 9 bytes, the limit is 8"#,
        );
        check(
            &[("__name__", "up"), ("a", "1234")],
            r#"value "1234" of label "a" of series up has 4 bytes, the limit is 3"#,
        );
    }
}
