//! The figures the status page shows.

use serde_json::{Value, json};
use tenancy::ReadScope;

use crate::routes::Parts;

/// What the page shows: of the whole process, and of the tenants in scope.
pub(crate) async fn overview(parts: &Parts, scope: &ReadScope) -> Value {
    let totals = parts.storage.totals();
    let by_tenant = parts.storage.overview(scope).await;
    let tenants: Vec<Value> = scope
        .tenants()
        .iter()
        .filter_map(|tenant| {
            let one = by_tenant.get(&tenant.id)?;
            Some(json!({
                "tenant": tenant.name.as_str(),
                "signal": "metrics",
                "active_series": one.active_series,
                "head_samples": one.head_samples,
                "block_samples": one.block_samples,
                "blocks": one.blocks,
                "block_bytes": one.block_bytes,
                "newest_ms": one.newest_ms,
            }))
        })
        .collect();
    let mut text = String::new();
    parts.metrics.write(&mut text);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": parts.metrics.uptime_seconds(),
        "samples_total": sum_of(&text, "taffrail_ingest_samples_total"),
        "queries_total": sum_of(&text, "taffrail_query_requests_total"),
        "active_series": totals.active_series,
        "block_bytes": totals.block_bytes,
        "log_bytes": totals.log_bytes,
        "disk_free_bytes": totals.disk_free_bytes,
        "tenants": tenants,
    })
}

/// The sum over all series of a counter in an exposition.
fn sum_of(exposition: &str, name: &str) -> f64 {
    let of_name = exposition
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', '{']));
    of_name.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
