//! Deleting entries: Loki's deletion API, for logs and, with `signal`, for events and audits.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use query::http::SelectedEntries;
use serde_json::{Value, json};
use storage::entries::DeleteEntries;
use tenancy::{Act, Delete};

use super::{Failure, on_record};
use crate::routes::Parts;

const NS_PER_MS: i64 = 1_000_000;

/// A failure as Loki tells it: its text alone.
pub(super) struct Plain(Failure);

impl From<Failure> for Plain {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Plain {
    fn into_response(self) -> Response {
        (self.0.status, format!("{}\n", self.0.text)).into_response()
    }
}

/// 204 once what matches is gone for readers and the deletion is on disk.
pub(super) async fn delete(
    State(parts): State<Parts>,
    Delete(scope, who): Delete,
    RawQuery(query): RawQuery,
    form: Bytes,
) -> Result<Response, Plain> {
    let querier = parts.querier.clone();
    let read = move || SelectedEntries::of_form(&form, &query.unwrap_or_default(), &querier);
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.map_err(|e| Failure::unavailable(&e))?;
    let selected = read.map_err(|e| Failure::bad(e.to_string()))?;
    let what = json!({
        "signal": selected.signal.as_str(),
        "query": selected.text,
        "start_ns": selected.start_ns.to_string(),
        "end_ns": selected.end_ns.to_string(),
    });
    let delete = DeleteEntries {
        text: selected.text,
        signals: vec![selected.signal],
        selectors: vec![selected.matchers],
        filter: engine::stored_filter(selected.filter),
        start_ns: selected.start_ns,
        end_ns: selected.end_ns,
    };
    let (storage, of) = (std::sync::Arc::clone(&parts.storage), scope.clone());
    let act = Act {
        who: &who.actor(),
        action: "entries.delete",
        tenant: Some((scope.name(), scope.tenant())),
        old: Value::Null,
        new: what,
    };
    let work = async move { storage.delete_entries(&of, delete).await };
    on_record(&parts.authenticator, act, work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Deletions that are not carried out on disk everywhere yet. Readers see none of what they mean.
pub(super) async fn list(State(parts): State<Parts>, Delete(scope, _): Delete) -> Json<Value> {
    let pending = parts.storage.entry_deletions(scope.tenant());
    let seconds = |ms: i64| ms as f64 / 1_000.0;
    let shown = pending.iter().map(|deletion| {
        let (start_ns, end_ns) = deletion.range_ns;
        json!({
            "request_id": format!("{:x}", deletion.id),
            "start_time": seconds(start_ns.div_euclid(NS_PER_MS)),
            "end_time": seconds(end_ns.saturating_sub(1).div_euclid(NS_PER_MS)),
            "query": deletion.text,
            "signals": deletion.signals.iter().map(|s| s.as_str()).collect::<Vec<_>>(),
            "status": "received",
            "created_at": seconds(deletion.created_ms),
        })
    });
    Json(shown.collect())
}

/// Refused: what is deleted is gone at once.
pub(super) async fn cancel(Delete(..): Delete) -> Plain {
    let text = "deletions take effect at once and cannot be taken back";
    Plain(Failure::bad(text))
}
