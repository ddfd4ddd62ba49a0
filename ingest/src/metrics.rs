//! What this crate counts about itself, in Prometheus text format.

mod entries;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use storage::{AppendOutcome, Reason};
use tenancy::Unassigned;

pub(crate) use entries::{EntryMetrics, Lost};

use crate::ha::Dropped;
use crate::intake::Shared;

/// Every reason in the order of `Reason`, so that a counter is found by number.
const REASONS: [Reason; 17] = [
    Reason::InvalidLabels,
    Reason::MissingMetricName,
    Reason::TooManyLabels,
    Reason::LabelNameTooLong,
    Reason::LabelValueTooLong,
    Reason::ActiveSeriesLimit,
    Reason::NewSeriesRate,
    Reason::TooOld,
    Reason::TooFarInFuture,
    Reason::DuplicateTimestamp,
    Reason::InvalidHistogram,
    Reason::InvalidExemplar,
    Reason::InvalidMetadata,
    Reason::EmptySeries,
    Reason::SamplesRate,
    Reason::TenantSuspended,
    Reason::TenantLimit,
];

/// Status codes that are given, and one line for the rest.
const CODES: [u16; 11] = [200, 202, 204, 400, 408, 413, 415, 429, 500, 503, 0];

/// Upper bounds of the duration histogram, seconds.
const BOUNDS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Why a whole request was refused; the label values of one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words explain themselves")]
pub enum RefusedRequest {
    UnsupportedType,
    UnsupportedEncoding,
    BodyTooLarge,
    BodyIncomplete,
    Malformed,
    TooManyRows,
    SamplesRate,
    EntriesRate,
    Busy,
    Unavailable,
    Internal,
}

const REFUSED: [(RefusedRequest, &str); 11] = [
    (RefusedRequest::UnsupportedType, "unsupported_type"),
    (RefusedRequest::UnsupportedEncoding, "unsupported_encoding"),
    (RefusedRequest::BodyTooLarge, "body_too_large"),
    (RefusedRequest::BodyIncomplete, "body_incomplete"),
    (RefusedRequest::Malformed, "malformed"),
    (RefusedRequest::TooManyRows, "too_many_rows"),
    (RefusedRequest::SamplesRate, "samples_rate"),
    (RefusedRequest::EntriesRate, "entries_rate"),
    (RefusedRequest::Busy, "busy"),
    (RefusedRequest::Unavailable, "unavailable"),
    (RefusedRequest::Internal, "internal"),
];

impl RefusedRequest {
    /// The label value.
    pub fn as_str(self) -> &'static str {
        REFUSED[self as usize].1
    }
}

/// Counters of everything that comes in. Plain atomics: counting never waits.
#[derive(Debug)]
pub struct Metrics {
    /// By route, in the order of `crate::routes`.
    requests: Vec<[AtomicU64; CODES.len()]>,
    refused: [AtomicU64; REFUSED.len()],
    rejected: [AtomicU64; REASONS.len()],
    samples: AtomicU64,
    histograms: AtomicU64,
    exemplars: AtomicU64,
    series_created: AtomicU64,
    compressed_bytes: AtomicU64,
    decompressed_bytes: AtomicU64,
    in_flight_bytes: AtomicU64,
    duration_buckets: [AtomicU64; BOUNDS.len() + 1],
    duration_nanoseconds: AtomicU64,
    replica_dropped: AtomicU64,
    /// Routed rows: of workspaces, of `system`.
    routed: [AtomicU64; 2],
    unassigned: [AtomicU64; Unassigned::ALL.len()],
    /// Lines of logs, events, audit records.
    pub(crate) entries: EntryMetrics,
    /// Delta streams that are added up, of all tenants.
    pub(crate) delta_streams: Arc<AtomicU64>,
    /// Groups that batch jobs pushed, of all tenants.
    pub(crate) pushed_groups: Arc<AtomicU64>,
    pub(crate) scrapes: AtomicU64,
    pub(crate) scrapes_failed: AtomicU64,
    pub(crate) scrapes_skipped: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: crate::routes().map(|_| Default::default()).collect(),
            refused: Default::default(),
            rejected: Default::default(),
            samples: AtomicU64::default(),
            histograms: AtomicU64::default(),
            exemplars: AtomicU64::default(),
            series_created: AtomicU64::default(),
            compressed_bytes: AtomicU64::default(),
            decompressed_bytes: AtomicU64::default(),
            in_flight_bytes: AtomicU64::default(),
            duration_buckets: Default::default(),
            duration_nanoseconds: AtomicU64::default(),
            replica_dropped: AtomicU64::default(),
            routed: Default::default(),
            unassigned: Default::default(),
            entries: EntryMetrics::default(),
            delta_streams: Arc::default(),
            pushed_groups: Arc::default(),
            scrapes: AtomicU64::default(),
            scrapes_failed: AtomicU64::default(),
            scrapes_skipped: AtomicU64::default(),
        }
    }
}

impl Metrics {
    /// A request was answered. `path` is its place in `crate::routes`.
    pub(crate) fn answered(&self, path: usize, code: u16, took: Duration) {
        let code = CODES.iter().position(|c| *c == code).unwrap_or(CODES.len() - 1);
        if let Some(by_code) = self.requests.get(path) {
            by_code[code].fetch_add(1, Relaxed);
        }
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.duration_buckets[bucket].fetch_add(1, Relaxed);
        self.duration_nanoseconds
            .fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A whole request was refused.
    pub(crate) fn refused(&self, why: RefusedRequest) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    /// Rows were stored or refused one by one.
    pub(crate) fn appended(&self, outcome: &AppendOutcome) {
        self.samples.fetch_add(outcome.samples, Relaxed);
        self.histograms.fetch_add(outcome.histograms, Relaxed);
        self.exemplars.fetch_add(outcome.exemplars, Relaxed);
        self.series_created.fetch_add(outcome.series_created, Relaxed);
        for rejected in &outcome.rejected {
            if let Some(i) = REASONS.iter().position(|reason| *reason == rejected.reason) {
                self.rejected[i].fetch_add(rejected.count, Relaxed);
            }
        }
    }

    /// A body was inflated.
    pub(crate) fn body(&self, compressed: usize, decompressed: usize) {
        self.compressed_bytes.fetch_add(compressed as u64, Relaxed);
        self.decompressed_bytes.fetch_add(decompressed as u64, Relaxed);
    }

    /// Rows were left out because another replica of the pair writes them.
    pub(crate) fn dropped(&self, dropped: &Dropped) {
        let rows = dropped.samples + dropped.histograms + dropped.exemplars;
        self.replica_dropped.fetch_add(rows, Relaxed);
    }

    /// Rows of a trusted writer were shared out.
    pub(crate) fn routed(&self, shared: &Shared) {
        self.routed[0].fetch_add(shared.workspaces, Relaxed);
        self.routed[1].fetch_add(shared.system, Relaxed);
        for (counter, rows) in self.unassigned.iter().zip(shared.unassigned) {
            counter.fetch_add(rows, Relaxed);
        }
    }

    pub(crate) fn held(&self, bytes: usize) {
        self.in_flight_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn released(&self, bytes: usize) {
        self.in_flight_bytes.fetch_sub(bytes as u64, Relaxed);
    }

    /// Appends everything in Prometheus text format 0.0.4.
    pub fn write(&self, out: &mut String) {
        self.write_requests(out);
        self.write_rows(out);
        self.entries.write(out);
        self.write_durations(out);
        let of = |value: &AtomicU64| [("", value.load(Relaxed))];
        family(
            out,
            "scrapes_total",
            "counter",
            "Scrapes of the host and of Taffrail itself.",
            of(&self.scrapes),
        );
        family(
            out,
            "scrapes_failed_total",
            "counter",
            "Scrapes that failed.",
            of(&self.scrapes_failed),
        );
        let help = "Scrapes left out because the one before took too long.";
        family(out, "scrapes_skipped_total", "counter", help, of(&self.scrapes_skipped));
    }

    /// Answers by path and code: a path may be one of several methods.
    fn requests_by_path(&self) -> Vec<(&'static str, [u64; CODES.len()])> {
        let mut paths: Vec<(&str, [u64; CODES.len()])> = Vec::new();
        for ((_, path), by_code) in crate::routes().zip(&self.requests) {
            let counts = by_code.each_ref().map(|count| count.load(Relaxed));
            match paths.iter_mut().find(|(known, _)| *known == path) {
                Some((_, sums)) => sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n),
                None => paths.push((path, counts)),
            }
        }
        paths
    }

    fn write_requests(&self, out: &mut String) {
        let requests = self.requests_by_path().into_iter().flat_map(|(path, counts)| {
            CODES.iter().zip(counts).map(move |(code, count)| {
                let code = if *code == 0 { "other".to_owned() } else { code.to_string() };
                (format!("{{path=\"{path}\",code=\"{code}\"}}"), count)
            })
        });
        family(
            out,
            "requests_total",
            "counter",
            "Write requests by path and status code.",
            requests,
        );
        let refused = REFUSED.iter().zip(&self.refused);
        let refused =
            refused.map(|((_, reason), n)| (format!("{{reason=\"{reason}\"}}"), n.load(Relaxed)));
        family(
            out,
            "requests_refused_total",
            "counter",
            "Write requests refused whole, by reason.",
            refused,
        );
        let bytes = [
            ("{form=\"compressed\"}", self.compressed_bytes.load(Relaxed)),
            ("{form=\"decompressed\"}", self.decompressed_bytes.load(Relaxed)),
        ];
        family(out, "body_bytes_total", "counter", "Bytes of write requests' bodies.", bytes);
        let held = [("", self.in_flight_bytes.load(Relaxed))];
        family(out, "bodies_in_flight_bytes", "gauge", "Bytes of bodies held at the moment.", held);
    }

    fn write_rows(&self, out: &mut String) {
        let of = |value: &AtomicU64| [("", value.load(Relaxed))];
        family(out, "samples_total", "counter", "Float samples accepted.", of(&self.samples));
        family(
            out,
            "histograms_total",
            "counter",
            "Native histograms accepted.",
            of(&self.histograms),
        );
        family(out, "exemplars_total", "counter", "Exemplars accepted.", of(&self.exemplars));
        family(
            out,
            "series_created_total",
            "counter",
            "Series that were new.",
            of(&self.series_created),
        );
        let help = "Rows left out because another replica of a pair writes them.";
        family(out, "replica_rows_dropped_total", "counter", help, of(&self.replica_dropped));
        let [workspaces, system] = &self.routed;
        let routed = [
            ("{to=\"workspace\"}", workspaces.load(Relaxed)),
            ("{to=\"system\"}", system.load(Relaxed)),
            ("{to=\"unassigned\"}", self.unassigned.iter().map(|n| n.load(Relaxed)).sum()),
        ];
        family(
            out,
            "routed_rows_total",
            "counter",
            "Rows of trusted writers, by where they went.",
            routed,
        );
        let unassigned = Unassigned::ALL.iter().zip(&self.unassigned);
        let unassigned = unassigned
            .map(|(why, n)| (format!("{{reason=\"{}\"}}", why.as_str()), n.load(Relaxed)));
        let help = "Rows of trusted writers that belong to nobody known, by reason.";
        family(out, "unassigned_rows_total", "counter", help, unassigned);
        let help = "OTLP streams of delta temporality that are added up.";
        family(out, "otlp_delta_streams", "gauge", help, of(&self.delta_streams));
        let help = "Groups that batch jobs pushed.";
        family(out, "pushed_groups", "gauge", help, of(&self.pushed_groups));
        let rejected = REASONS.iter().zip(&self.rejected);
        let rejected =
            rejected.map(|(reason, n)| (format!("{{reason=\"{reason}\"}}"), n.load(Relaxed)));
        family(
            out,
            "rows_rejected_total",
            "counter",
            "Rows refused one by one, by reason.",
            rejected,
        );
    }

    fn write_durations(&self, out: &mut String) {
        let name = "taffrail_ingest_request_duration_seconds";
        let _ = writeln!(
            out,
            "# HELP {name} From the request's headers to its answer.\n# TYPE {name} histogram"
        );
        let mut count = 0;
        for (i, bucket) in self.duration_buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let bound = BOUNDS.get(i).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = self.duration_nanoseconds.load(Relaxed) as f64 / 1e9;
        let _ = writeln!(out, "{name}_sum {sum}\n{name}_count {count}");
    }
}

/// One family: its samples are pairs of a label set in braces and a value.
fn family<L: std::fmt::Display>(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (L, u64)>,
) {
    // Writing to a string cannot fail.
    let _ =
        writeln!(out, "# HELP taffrail_ingest_{name} {help}\n# TYPE taffrail_ingest_{name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(out, "taffrail_ingest_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_variants_are_places_in_the_lists() {
        for (i, (refused, _)) in REFUSED.iter().enumerate() {
            assert_eq!(*refused as usize, i);
        }
    }

    #[track_caller]
    fn check(metrics: &Metrics, line: &str) {
        let mut text = String::new();
        metrics.write(&mut text);
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }

    #[test]
    fn no_series_is_told_twice() {
        let metrics = Metrics::default();
        let places = crate::routes().enumerate();
        let of_groups = places.filter(|(_, (_, path))| *path == "/metrics/{*grouping}");
        of_groups.for_each(|(place, _)| metrics.answered(place, 200, Duration::ZERO));
        let mut text = String::new();
        metrics.write(&mut text);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series: Vec<&str> = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
        let distinct: std::collections::HashSet<&&str> = series.iter().collect();
        assert_eq!(distinct.len(), series.len());
        let line = r#"taffrail_ingest_requests_total{path="/metrics/{*grouping}",code="200"} 3"#;
        check(&metrics, line);
    }

    #[test]
    fn everything_is_counted() {
        let metrics = Metrics::default();
        metrics.answered(0, 204, Duration::from_millis(2));
        metrics.answered(1, 418, Duration::from_secs(20));
        metrics.refused(RefusedRequest::SamplesRate);
        metrics.body(10, 100);
        let mut outcome = AppendOutcome { samples: 3, ..AppendOutcome::default() };
        outcome.reject(Reason::TooOld, 2, String::new);
        metrics.appended(&outcome);
        check(&metrics, r#"taffrail_ingest_requests_total{path="/api/v1/write",code="204"} 1"#);
        check(&metrics, r#"taffrail_ingest_requests_total{path="/api/v1/push",code="other"} 1"#);
        check(&metrics, r#"taffrail_ingest_requests_refused_total{reason="samples_rate"} 1"#);
        check(&metrics, r#"taffrail_ingest_rows_rejected_total{reason="too_old"} 2"#);
        check(&metrics, "taffrail_ingest_samples_total 3");
        check(&metrics, r#"taffrail_ingest_body_bytes_total{form="decompressed"} 100"#);
        check(&metrics, r#"taffrail_ingest_request_duration_seconds_bucket{le="0.001"} 0"#);
        check(&metrics, r#"taffrail_ingest_request_duration_seconds_bucket{le="0.0025"} 1"#);
        check(&metrics, r#"taffrail_ingest_request_duration_seconds_bucket{le="+Inf"} 2"#);
        check(&metrics, "taffrail_ingest_request_duration_seconds_sum 20.002");
    }
}
