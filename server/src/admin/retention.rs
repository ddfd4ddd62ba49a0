//! Retention: what would go now, and letting it go without waiting for the next look.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::Resolution;
use serde_json::{Value, json};
use storage::retention::{Plan, RetentionTime, SizeLimit};
use tenancy::Admin;

use super::{Failure, on_platform, success};
use crate::routes::Parts;

/// What would go now; nothing is changed.
pub(super) async fn preview(
    State(parts): State<Parts>,
    Admin(_): Admin,
) -> Result<Response, Failure> {
    let plan = parts.storage.plan_retention().await?;
    Ok(success(plan_json(&parts, &plan, parts.storage.retention_time())))
}

/// Lets go what is kept no longer, and says what that was.
pub(super) async fn retain(
    State(parts): State<Parts>,
    Admin(who): Admin,
) -> Result<Response, Failure> {
    let storage = Arc::clone(&parts.storage);
    let work = async move { storage.retain().await };
    let plan = on_platform(&parts, &who, "retention.run", work).await?;
    Ok(success(plan_json(&parts, &plan, parts.storage.retention_time())))
}

/// The limit that something is beyond.
fn limit_key(resolution: Resolution, size: SizeLimit) -> &'static str {
    match (size, resolution) {
        (SizeLimit::All, _) => "metrics_bytes_max",
        (SizeLimit::Own, Resolution::Raw) => "metrics_raw_bytes_max",
        (SizeLimit::Own, Resolution::Minutes5) => "metrics_5m_bytes_max",
        (SizeLimit::Own, Resolution::Hour1) => "metrics_1h_bytes_max",
    }
}

fn plan_json(parts: &Parts, plan: &Plan, time: RetentionTime) -> Value {
    let directory = parts.authenticator.directory();
    let blocks: Vec<Value> = plan
        .blocks
        .iter()
        .map(|block| {
            json!({
                "name": block.name,
                "partition": block.partition,
                "resolution": block.resolution.as_str(),
                "bytes": block.bytes,
                "first_ms": block.range.start_ms,
                "last_ms": block.range.end_ms,
            })
        })
        .collect();
    let going = plan.tenants.iter().filter(|(_, tenant)| tenant.bytes_going > 0);
    let tenants: Vec<Value> = going
        .map(|((id, resolution), tenant)| {
            json!({
                "id": id.0,
                "name": directory.get(*id).map(|t| t.name.as_str().to_owned()),
                "resolution": resolution.as_str(),
                "bytes": tenant.bytes,
                "bytes_going": tenant.bytes_going,
                "series_going": tenant.series_going,
                "before_ms": tenant.before_ms,
                "because": match (tenant.before_ms, tenant.size) {
                    (i64::MAX, _) => "deleted",
                    (_, Some(_)) => "size",
                    (_, None) => "age",
                },
                "limit": tenant.size.map(|size| limit_key(*resolution, size)),
            })
        })
        .collect();
    json!({
        "now_ms": time.now_ms,
        "clock_ahead_ms": time.doubted_ms,
        "blocks": blocks,
        "blocks_bytes": plan.blocks.iter().map(|block| block.bytes).sum::<u64>(),
        "tenants": tenants,
    })
}
