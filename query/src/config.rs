//! Settings of this crate. What one tenant may use is in `tenancy::Limits`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::http::Origins;
use crate::promql::Features;

/// Settings of the query API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Length of an expression or selector in bytes. Dashboards' longest have a few thousand; the
    /// cost of parsing grows with it.
    pub expression_bytes_max: usize,
    /// Length of a request's form in bytes. Grafana sends one expression or some selectors.
    pub form_bytes_max: usize,
    /// Steps of a range query between its first and its last point. Prometheus' limit: enough for
    /// a week at 60 s, or a year at 1 h.
    pub steps_max: i64,
    /// How long the last sample of a series stands in for a missing one, in seconds, unless a
    /// request says otherwise. Prometheus' default.
    pub lookback_seconds: f64,
    /// Whether the experimental parts of PromQL are on, as Prometheus' feature switches would have
    /// it: functions, `anchored` and `smoothed`, fill modifiers. They may change.
    pub experimental_promql: bool,
    /// Whether names of metrics are dropped at the end of an evaluation and not by each function:
    /// Prometheus' feature `promql-delayed-name-removal`.
    pub delayed_name_removal: bool,
    /// Whether rates and resets look at start timestamps, where samples have them, and
    /// `start_timestamp` gives them: Prometheus' feature `use-start-timestamps`.
    pub start_timestamps: bool,
    /// Whether names and values can be searched for by parts and similar ones
    /// (`/api/v1/search/…`): Prometheus' feature `search-api`, experimental there. It may change.
    pub search_api: bool,
    /// Who may listen to `notifications/live` at a time; others get 204, and ask again.
    pub notification_listeners_max: usize,
    /// Seconds after which a live tail of entries ends and has to be asked for again; Loki's
    /// default is an hour.
    pub tail_seconds_max: u64,
    /// The step of subqueries that name none, in seconds: Prometheus' evaluation interval.
    pub subquery_step_seconds: f64,
    /// Questions that may run at a time, over all tenants. A quarter of the places is kept for
    /// tenants that run nothing; within a tenant `queries_concurrent_max` holds.
    pub running_max: usize,
    /// Seconds from its arrival after which a question is written to the log with what it used; 0
    /// for every one.
    pub slow_query_seconds: f64,
    /// Memory for answers to range queries that are kept, in bytes; 0 keeps none. What was asked is
    /// evaluated only where time has gone on; what changed since is evaluated anew.
    pub result_cache_bytes: usize,
    /// Origins whose pages may read answers, as a regular expression for the whole origin
    /// (`https?://(grafana|console)\.example\.com`); empty for none. With `.*` any page a user
    /// visits may read what this server answers without credentials.
    pub cors_origin: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            expression_bytes_max: 64 << 10,
            form_bytes_max: 1 << 20,
            steps_max: 11_000,
            lookback_seconds: 300.0,
            experimental_promql: false,
            delayed_name_removal: false,
            start_timestamps: false,
            search_api: false,
            notification_listeners_max: 16,
            tail_seconds_max: 3_600,
            subquery_step_seconds: 60.0,
            running_max: 40,
            slow_query_seconds: 10.0,
            result_cache_bytes: 64 << 20,
            cors_origin: String::new(),
        }
    }
}

impl Config {
    /// What can be wrong although it could be read.
    pub fn check(&self) -> Result<(), String> {
        if let Err(error) = Origins::new(&self.cors_origin) {
            return Err(format!("cors_origin is no regular expression: {error}"));
        }
        let seconds = self.lookback_seconds;
        if !(seconds > 0.0 && seconds <= 1e9) {
            return Err(format!(
                "lookback_seconds must be above 0 and at most 1e9, it is {seconds}"
            ));
        }
        let step = self.subquery_step_seconds;
        if !(0.001..=1e9).contains(&step) {
            return Err(format!(
                "subquery_step_seconds must be at least 0.001 and at most 1e9, it is {step}"
            ));
        }
        if self.tail_seconds_max == 0 {
            return Err("tail_seconds_max must be at least 1".to_owned());
        }
        if self.running_max == 0 {
            return Err("running_max must be at least 1, or nothing could be asked".to_owned());
        }
        Duration::try_from_secs_f64(self.slow_query_seconds).map(|_| ()).map_err(|e| {
            format!("slow_query_seconds is {}, which is no duration: {e}", self.slow_query_seconds)
        })
    }

    /// From when on a question is slow.
    pub(crate) fn slow_query(&self) -> Duration {
        Duration::try_from_secs_f64(self.slow_query_seconds).unwrap_or(Duration::MAX)
    }

    /// What of PromQL is switched on.
    pub fn features(&self) -> Features {
        if self.experimental_promql { Features::ALL } else { Features::default() }
    }

    /// The step of subqueries that name none, in milliseconds.
    pub fn subquery_step_ms(&self) -> i64 {
        (self.subquery_step_seconds * 1000.0) as i64
    }

    /// The look-back in milliseconds.
    pub fn lookback_ms(&self) -> i64 {
        (self.lookback_seconds * 1000.0) as i64
    }
}
