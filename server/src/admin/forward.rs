//! Forwarding: how the destinations stand.

use axum::extract::State;
use axum::response::Response;
use ingest::forward::DestinationStatus;
use serde_json::{Value, json};
use tenancy::Admin;

use super::success;
use crate::routes::Parts;

/// All destinations.
pub(super) async fn show(State(parts): State<Parts>, Admin(_): Admin) -> Response {
    let all = parts.appender.forwarder().status();
    success(json!({ "destinations": all.iter().map(told).collect::<Vec<Value>>() }))
}

fn told(one: &DestinationStatus) -> Value {
    json!({
        "name": one.name,
        "url": one.url,
        "protocol": one.protocol,
        "rows_pending": one.rows_pending,
        "queue_bytes": one.queue_bytes,
        "queue_bytes_max": one.queue_bytes_max,
        "rows_sent": one.rows_sent,
        "rows_retried": one.rows_retried,
        "rows_failed": one.rows_failed,
        "rows_lost": one.rows_lost,
        "newest_queued_ms": one.newest_queued_ms,
        "newest_sent_ms": one.newest_sent_ms,
        "last_error": one.last_error,
    })
}
