//! Limits as configured: defaults for all, and what single tenants have instead.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Limits, NameError, TenantName};

/// Limits of all tenants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// For every tenant that has none of its own.
    pub default: Limits,
    /// By name of the tenant: the limits that differ. What is not named follows `default`.
    pub tenants: BTreeMap<String, Map<String, Value>>,
}

/// A setting of the limits that makes no sense, with the tenant and key that are wrong.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum LimitsError {
    #[error("limits of tenant {tenant:?}")]
    Name { tenant: String, source: NameError },
    #[error("limits of {of}")]
    Key { of: String, source: serde_json::Error },
    #[error("limits of {of}: {key} {complaint}")]
    Value { of: String, key: &'static str, complaint: &'static str },
}

/// Limits, looked up by tenant.
#[derive(Debug)]
pub(crate) struct LimitsTable {
    default: Arc<Limits>,
    tenants: HashMap<TenantName, Arc<Limits>>,
}

impl LimitsTable {
    pub(crate) fn new(config: &LimitsConfig) -> Result<Self, LimitsError> {
        check(&config.default, "all tenants")?;
        let mut tenants = HashMap::new();
        for (tenant, overrides) in &config.tenants {
            let name = TenantName::new(tenant)
                .map_err(|source| LimitsError::Name { tenant: tenant.clone(), source })?;
            let limits = with_overrides(&config.default, overrides, tenant)?;
            tenants.insert(name, Arc::new(limits));
        }
        Ok(Self { default: Arc::new(config.default.clone()), tenants })
    }

    pub(crate) fn default(&self) -> &Arc<Limits> {
        &self.default
    }

    pub(crate) fn of(&self, tenant: &TenantName) -> &Arc<Limits> {
        self.tenants.get(tenant).unwrap_or(&self.default)
    }

    /// What one question over several tenants runs under: of each limit the lowest, so that
    /// asking for more tenants never allows more. Without a tenant the defaults.
    pub(crate) fn lowest_of(&self, all: impl Iterator<Item = Arc<Limits>>) -> Arc<Limits> {
        let mut lowest: Option<Arc<Limits>> = None;
        for limits in all {
            lowest = Some(match lowest {
                None => limits,
                Some(known) if Arc::ptr_eq(&known, &limits) => known,
                Some(known) => Arc::new(lower(&known, &limits)),
            });
        }
        lowest.unwrap_or_else(|| Arc::clone(&self.default))
    }
}

/// Limits with some keys replaced, if the result makes sense.
pub(crate) fn with_overrides(
    base: &Limits,
    overrides: &Map<String, Value>,
    tenant: &str,
) -> Result<Limits, LimitsError> {
    let of = format!("tenant {tenant:?}");
    let limits =
        overlaid(base, overrides).map_err(|source| LimitsError::Key { of: of.clone(), source })?;
    check(&limits, &of)?;
    Ok(limits)
}

/// The defaults with some keys replaced. Goes through JSON so that each key has one definition
/// and an unknown one is refused by name.
fn overlaid(default: &Limits, overrides: &Map<String, Value>) -> Result<Limits, serde_json::Error> {
    let mut merged = serde_json::to_value(default)?;
    if let Value::Object(keys) = &mut merged {
        keys.extend(overrides.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    serde_json::from_value(merged)
}

/// Largest body a tenant may be allowed, in bytes: half of what the log takes as one record, since
/// hostile rows grow on their way there.
const BODY_BYTES_MAX: usize = 32 << 20;

/// Largest line a tenant may be allowed, in bytes: some must fit into one page of a segment.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Shorter retention is a slip: seconds taken for another unit.
const RETENTION_SECONDS_MIN: u64 = 3_600;

fn check(limits: &Limits, of: &str) -> Result<(), LimitsError> {
    let positive = [
        ("samples_per_second", limits.samples_per_second),
        ("samples_burst", limits.samples_burst),
        ("new_series_per_second", limits.new_series_per_second),
        ("new_series_burst", limits.new_series_burst),
        ("entry_bytes_per_second", limits.entry_bytes_per_second),
        ("entry_bytes_burst", limits.entry_bytes_burst),
        ("query_seconds_max", limits.query_seconds_max),
        ("query_cpu_seconds_max", limits.query_cpu_seconds_max),
    ];
    for (key, value) in positive {
        if !value.is_finite() || value <= 0.0 || value > 1e15 {
            let complaint = "must be greater than 0 and at most 1e15";
            return Err(LimitsError::Value { of: of.to_owned(), key, complaint });
        }
    }
    let retentions = [
        ("metrics_raw_retention_seconds", limits.metrics_raw_retention_seconds),
        ("metrics_5m_retention_seconds", limits.metrics_5m_retention_seconds),
        ("metrics_1h_retention_seconds", limits.metrics_1h_retention_seconds),
        ("logs_retention_seconds", limits.logs_retention_seconds),
        ("events_retention_seconds", limits.events_retention_seconds),
        ("audits_retention_seconds", limits.audits_retention_seconds),
    ];
    for (key, seconds) in retentions {
        if (1..RETENTION_SECONDS_MIN).contains(&seconds) {
            let complaint = "must be 0 (for ever) or at least 3600, an hour";
            return Err(LimitsError::Value { of: of.to_owned(), key, complaint });
        }
    }
    if limits.body_decompressed_bytes_max.max(limits.body_bytes_max) > BODY_BYTES_MAX {
        let (key, complaint) =
            ("body_decompressed_bytes_max", "and body_bytes_max must be at most 33554432 (32 MiB)");
        return Err(LimitsError::Value { of: of.to_owned(), key, complaint });
    }
    if limits.entry_line_bytes_max == 0 || limits.entry_line_bytes_max > LINE_BYTES_MAX {
        let (key, complaint) =
            ("entry_line_bytes_max", "must be at least 1 and at most 4194304 (4 MiB)");
        return Err(LimitsError::Value { of: of.to_owned(), key, complaint });
    }
    Ok(())
}

/// 0 is no limit.
fn lower_but_0(a: u64, b: u64) -> u64 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

fn lower(a: &Limits, b: &Limits) -> Limits {
    Limits {
        samples_per_second: a.samples_per_second.min(b.samples_per_second),
        samples_burst: a.samples_burst.min(b.samples_burst),
        active_series_max: a.active_series_max.min(b.active_series_max),
        new_series_per_second: a.new_series_per_second.min(b.new_series_per_second),
        new_series_burst: a.new_series_burst.min(b.new_series_burst),
        labels_max: a.labels_max.min(b.labels_max),
        label_name_bytes_max: a.label_name_bytes_max.min(b.label_name_bytes_max),
        label_value_bytes_max: a.label_value_bytes_max.min(b.label_value_bytes_max),
        body_bytes_max: a.body_bytes_max.min(b.body_bytes_max),
        body_decompressed_bytes_max: a
            .body_decompressed_bytes_max
            .min(b.body_decompressed_bytes_max),
        age_seconds_max: a.age_seconds_max.min(b.age_seconds_max),
        future_seconds_max: a.future_seconds_max.min(b.future_seconds_max),
        query_series_max: a.query_series_max.min(b.query_series_max),
        query_samples_max: a.query_samples_max.min(b.query_samples_max),
        query_memory_bytes_max: a.query_memory_bytes_max.min(b.query_memory_bytes_max),
        query_seconds_max: a.query_seconds_max.min(b.query_seconds_max),
        query_cpu_seconds_max: a.query_cpu_seconds_max.min(b.query_cpu_seconds_max),
        query_bytes_max: a.query_bytes_max.min(b.query_bytes_max),
        queries_concurrent_max: a.queries_concurrent_max.min(b.queries_concurrent_max),
        queries_waiting_max: a.queries_waiting_max.min(b.queries_waiting_max),
        deletes_pending_max: a.deletes_pending_max.min(b.deletes_pending_max),
        metrics_raw_retention_seconds: lower_but_0(
            a.metrics_raw_retention_seconds,
            b.metrics_raw_retention_seconds,
        ),
        metrics_5m_retention_seconds: lower_but_0(
            a.metrics_5m_retention_seconds,
            b.metrics_5m_retention_seconds,
        ),
        metrics_1h_retention_seconds: lower_but_0(
            a.metrics_1h_retention_seconds,
            b.metrics_1h_retention_seconds,
        ),
        metrics_raw_bytes_max: lower_but_0(a.metrics_raw_bytes_max, b.metrics_raw_bytes_max),
        metrics_5m_bytes_max: lower_but_0(a.metrics_5m_bytes_max, b.metrics_5m_bytes_max),
        metrics_1h_bytes_max: lower_but_0(a.metrics_1h_bytes_max, b.metrics_1h_bytes_max),
        metrics_bytes_max: lower_but_0(a.metrics_bytes_max, b.metrics_bytes_max),
        metrics_downsampling: a.metrics_downsampling && b.metrics_downsampling,
        entry_bytes_per_second: a.entry_bytes_per_second.min(b.entry_bytes_per_second),
        entry_bytes_burst: a.entry_bytes_burst.min(b.entry_bytes_burst),
        active_streams_max: a.active_streams_max.min(b.active_streams_max),
        stream_labels_max: a.stream_labels_max.min(b.stream_labels_max),
        entry_line_bytes_max: a.entry_line_bytes_max.min(b.entry_line_bytes_max),
        entry_fields_max: a.entry_fields_max.min(b.entry_fields_max),
        entry_fields_bytes_max: a.entry_fields_bytes_max.min(b.entry_fields_bytes_max),
        entry_tails_max: a.entry_tails_max.min(b.entry_tails_max),
        logs_retention_seconds: lower_but_0(a.logs_retention_seconds, b.logs_retention_seconds),
        events_retention_seconds: lower_but_0(
            a.events_retention_seconds,
            b.events_retention_seconds,
        ),
        audits_retention_seconds: lower_but_0(
            a.audits_retention_seconds,
            b.audits_retention_seconds,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<LimitsTable, String> {
        let config: LimitsConfig = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        LimitsTable::new(&config).map_err(|e| match std::error::Error::source(&e) {
            Some(source) => format!("{e}: {source}"),
            None => e.to_string(),
        })
    }

    #[track_caller]
    fn refused(text: &str, starts: &str) {
        let error = table(text).expect_err(text);
        assert!(error.starts_with(starts), "{error}");
    }

    #[test]
    fn tenants_differ_only_where_said() {
        let text = r#"
            default = { labels_max = 50, query_series_max = 9 }
            tenants.big = { samples_per_second = 2e6, query_series_max = 20 }
            tenants."it's (ok)" = { labels_max = 5 }
        "#;
        // The name has a space, which the alphabet does not.
        refused(text, r#"limits of tenant "it's (ok)": tenant name "it's (ok)" contains ' '"#);
        let table = table(&text.replace("it's (ok)", "small")).unwrap();
        let name = |name| TenantName::new(name).unwrap();
        let [big, small, other] = ["big", "small", "other"].map(|n| Arc::clone(table.of(&name(n))));
        assert_eq!((big.samples_per_second, big.labels_max, big.query_series_max), (2e6, 50, 20));
        assert_eq!((small.labels_max, small.query_series_max), (5, 9));
        assert!(Arc::ptr_eq(&other, table.default()));
        let [big, small] = [name("big"), name("small")];
        let of = |names: &[&TenantName]| {
            let limits: Vec<_> = names.iter().map(|name| Arc::clone(table.of(name))).collect();
            table.lowest_of(limits.into_iter())
        };
        let both = of(&[&big, &small]);
        assert_eq!(
            (both.samples_per_second, both.labels_max, both.query_series_max),
            (500_000.0, 5, 9)
        );
        assert!(Arc::ptr_eq(&of(&[&big, &big]), table.of(&big)));
        assert!(Arc::ptr_eq(&of(&[]), table.default()));
    }

    #[test]
    fn wrong_settings_are_named() {
        refused("default.label_max = 3", "unknown field `label_max`");
        refused("tenants.a.label_max = 3", r#"limits of tenant "a": unknown field `label_max`"#);
        refused(
            "tenants.a.labels_max = -3",
            r#"limits of tenant "a": invalid value: integer `-3`"#,
        );
        refused(
            "default.samples_per_second = 0",
            "limits of all tenants: samples_per_second must be",
        );
        refused(
            "default.query_seconds_max = inf",
            "limits of all tenants: query_seconds_max must be",
        );
        refused(
            "tenants.a.metrics_raw_retention_seconds = 30",
            r#"limits of tenant "a": metrics_raw_retention_seconds must be 0 (for ever) or at least"#,
        );
        refused("tenants.a.samples_burst = nan", r#"limits of tenant "a""#);
        refused(
            "default.body_bytes_max = 5000000000",
            "limits of all tenants: body_decompressed_bytes_max and",
        );
        refused(
            "tenants.a.body_decompressed_bytes_max = 33554433",
            r#"limits of tenant "a": body_decompressed_bytes_max and body_bytes_max must be at most"#,
        );
        assert!(table("tenants.a.body_decompressed_bytes_max = 33554432").is_ok());
    }
}
