//! What this crate counts about itself.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::http::Endpoint;

/// Tells everything that the process counts, beyond this crate: the port behind
/// `status/self_metrics`.
pub trait OwnMetrics: Send + Sync {
    /// Appends all of it in Prometheus' text format: a family's `HELP` and `TYPE`, then its lines.
    fn write(&self, out: &mut String);
}

/// Statuses that are counted by themselves; any other counts as the last.
const CODES: [u16; 14] = [200, 204, 400, 401, 403, 404, 405, 406, 422, 429, 499, 503, 413, 500];

/// Upper bounds of the duration buckets. Seconds; dashboards live between 1 ms and 1 s, the
/// longest query ends at 120 s.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

/// Counters of the query API. Everything only grows, but for the two gauges.
#[derive(Debug)]
pub struct Metrics {
    endpoints: [OfEndpoint; Endpoint::COUNT],
    /// Samples read from storage by queries.
    pub(crate) samples_read: AtomicU64,
    /// Series selected by queries.
    pub(crate) series_read: AtomicU64,
    /// Questions that are being answered.
    pub(crate) running: AtomicU64,
    /// Questions that wait for their turn.
    pub(crate) waiting: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let (samples_read, series_read, running, waiting) = Default::default();
        let endpoints = std::array::from_fn(|_| OfEndpoint::default());
        Self { endpoints, samples_read, series_read, running, waiting }
    }
}

#[derive(Debug, Default)]
struct OfEndpoint {
    by_code: [AtomicU64; CODES.len()],
    buckets: [AtomicU64; BUCKETS.len()],
    microseconds: AtomicU64,
}

impl Metrics {
    /// Counts a request that was answered.
    pub(crate) fn answered(&self, endpoint: Endpoint, code: u16, took: Duration) {
        let of = &self.endpoints[endpoint as usize];
        let code = CODES.iter().position(|c| *c == code).unwrap_or(CODES.len() - 1);
        of.by_code[code].fetch_add(1, Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            of.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        of.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// Appends everything in Prometheus' text format.
    pub fn write(&self, out: &mut String) {
        self.write_requests(out);
        self.write_durations(out);
        let plain = [
            (
                "samples_read_total",
                "counter",
                "Samples that queries read from storage.",
                &self.samples_read,
            ),
            ("series_read_total", "counter", "Series that queries selected.", &self.series_read),
            ("running_queries", "gauge", "Questions that are being answered.", &self.running),
            (
                "waiting_queries",
                "gauge",
                "Questions that wait for their tenant's turn.",
                &self.waiting,
            ),
        ];
        for (name, kind, help, value) in plain {
            head(out, name, kind, help);
            line(out, format_args!("taffrail_query_{name} {}", load(value)));
        }
    }

    fn write_requests(&self, out: &mut String) {
        head(out, "requests_total", "counter", "Requests by handler and status.");
        for (endpoint, of) in self.used() {
            for (code, count) in CODES.iter().zip(&of.by_code).filter(|(_, count)| load(count) > 0)
            {
                let (handler, count) = (endpoint.name(), load(count));
                line(
                    out,
                    format_args!(
                        "taffrail_query_requests_total{{handler=\"{handler}\",code=\"{code}\"}} {count}"
                    ),
                );
            }
        }
    }

    fn write_durations(&self, out: &mut String) {
        let name = "taffrail_query_request_duration_seconds";
        head(
            out,
            "request_duration_seconds",
            "histogram",
            "Time from a request's head to its answer's head.",
        );
        for (endpoint, of) in self.used() {
            let handler = endpoint.name();
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(&of.buckets) {
                below += load(count);
                line(
                    out,
                    format_args!("{name}_bucket{{handler=\"{handler}\",le=\"{bound:?}\"}} {below}"),
                );
            }
            let count: u64 = of.by_code.iter().map(load).sum();
            let seconds = load(&of.microseconds) as f64 / 1e6;
            line(out, format_args!("{name}_bucket{{handler=\"{handler}\",le=\"+Inf\"}} {count}"));
            line(out, format_args!("{name}_sum{{handler=\"{handler}\"}} {seconds}"));
            line(out, format_args!("{name}_count{{handler=\"{handler}\"}} {count}"));
        }
    }

    /// Endpoints that were asked at least once.
    fn used(&self) -> impl Iterator<Item = (Endpoint, &OfEndpoint)> {
        let asked = |of: &OfEndpoint| of.by_code.iter().any(|count| load(count) > 0);
        Endpoint::ALL.into_iter().zip(&self.endpoints).filter(move |(_, of)| asked(of))
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP taffrail_query_{name} {help}"));
    line(out, format_args!("# TYPE taffrail_query_{name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes everything");
    out.push('\n');
}

/// Counts one up as long as it lives.
#[derive(Debug)]
pub(crate) struct Gauged<'a>(&'a AtomicU64);

impl<'a> Gauged<'a> {
    pub(crate) fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Gauged<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_as_text() {
        let metrics = Metrics::default();
        metrics.answered(Endpoint::Query, 200, Duration::from_micros(700));
        metrics.answered(Endpoint::Query, 200, Duration::from_secs(200));
        metrics.answered(Endpoint::Query, 418, Duration::from_millis(60));
        metrics.samples_read.fetch_add(7, Ordering::Relaxed);
        let running = Gauged::new(&metrics.running);
        let mut out = String::new();
        metrics.write(&mut out);
        for expected in [
            "# TYPE taffrail_query_requests_total counter\n",
            "taffrail_query_requests_total{handler=\"query\",code=\"200\"} 2\n",
            "taffrail_query_requests_total{handler=\"query\",code=\"500\"} 1\n",
            "taffrail_query_request_duration_seconds_bucket{handler=\"query\",le=\"0.0005\"} 0\n",
            "taffrail_query_request_duration_seconds_bucket{handler=\"query\",le=\"0.001\"} 1\n",
            "taffrail_query_request_duration_seconds_bucket{handler=\"query\",le=\"1.0\"} 2\n",
            "taffrail_query_request_duration_seconds_bucket{handler=\"query\",le=\"120.0\"} 2\n",
            "taffrail_query_request_duration_seconds_bucket{handler=\"query\",le=\"+Inf\"} 3\n",
            "taffrail_query_request_duration_seconds_sum{handler=\"query\"} 200.0607\n",
            "taffrail_query_request_duration_seconds_count{handler=\"query\"} 3\n",
            "taffrail_query_samples_read_total 7\n",
            "taffrail_query_running_queries 1\n",
            "taffrail_query_waiting_queries 0\n",
        ] {
            assert!(out.contains(expected), "{expected} in\n{out}");
        }
        assert!(!out.contains("labels"), "handlers nobody asked for are left out");
        drop(running);
        assert_eq!(load(&metrics.running), 0);
    }
}
