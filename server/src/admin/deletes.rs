//! Deleting rows: Prometheus' admin API, and our own with a dry run.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use query::http::Selected;
use serde::Deserialize;
use serde_json::{Value, json};
use tenancy::{Act, Admin, Delete, DeleteScope, Principal};

use super::{Failure, json_of, on_platform, on_record, success};
use crate::routes::Parts;

/// `delete_series`: 204 once what matches is gone for readers and the deletion is on disk.
pub(super) async fn delete_series(
    State(parts): State<Parts>,
    Delete(scope, who): Delete,
    RawQuery(query): RawQuery,
    form: Bytes,
) -> Result<Response, Failure> {
    let config = parts.querier.config();
    let selected =
        read(move || Selected::of_form(&form, &query.unwrap_or_default(), &config)).await?;
    carry_out(&parts, &scope, &who, selected).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What is to be deleted, as our own route takes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Selectors.
    #[serde(rename = "match")]
    selectors: Vec<String>,
    /// RFC 3339 or seconds since the Unix epoch; left out: from the beginning.
    start: Option<Value>,
    /// Likewise; left out: to the end.
    end: Option<Value>,
    /// Say what would go and delete nothing.
    #[serde(default)]
    dry_run: bool,
}

/// `delete`: what goes, or with `dry_run` what would.
pub(super) async fn delete(
    State(parts): State<Parts>,
    Delete(scope, who): Delete,
    body: Bytes,
) -> Result<Response, Failure> {
    let asked: Asked = json_of(&body)?.ok_or_else(|| {
        Failure::bad("the body is empty; send {\"match\": [\"up\"], \"dry_run\": true}")
    })?;
    let mut pairs: Vec<(String, String)> =
        asked.selectors.into_iter().map(|text| ("match[]".to_owned(), text)).collect();
    for (name, value) in [("start", asked.start), ("end", asked.end)] {
        pairs.extend(value.map(|value| (name.to_owned(), text_of(value))));
    }
    let config = parts.querier.config();
    let selected = read(move || Selected::of_pairs(pairs, &config)).await?;
    if asked.dry_run {
        let delete = storage::Delete { selectors: selected.selectors, range: selected.range };
        let preview = parts.storage.preview_delete(&scope, &delete).await?;
        return Ok(success(json!({
            "dry_run": true,
            "series": preview.series,
            "samples": preview.samples,
            "histograms": preview.histograms,
            "first_ms": preview.range.map(|r| r.start_ms),
            "last_ms": preview.range.map(|r| r.end_ms),
            "examples": preview.examples.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })));
    }
    let deleted = carry_out(&parts, &scope, &who, selected).await?;
    Ok(success(json!({
        "dry_run": false,
        "ids": deleted.ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "pending": parts.storage.deletes_pending(scope.tenant()),
    })))
}

/// `clean_tombstones`: deleted rows leave the disk now rather than within a day.
pub(super) async fn clean_tombstones(
    State(parts): State<Parts>,
    Admin(who): Admin,
) -> Result<Response, Failure> {
    let storage = std::sync::Arc::clone(&parts.storage);
    let work = async move { storage.clean_tombstones().await };
    on_platform(&parts, &who, "rows.clean_tombstones", work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `snapshot`: refused, with what to do instead.
pub(super) async fn snapshot(Admin(_): Admin) -> Failure {
    Failure {
        status: StatusCode::NOT_IMPLEMENTED,
        kind: "not_implemented",
        text: "snapshots below the data directory are not made: blocks never change, so copy what the manifests name"
            .to_owned(),
    }
}

async fn carry_out(
    parts: &Parts,
    scope: &DeleteScope,
    who: &Principal,
    selected: Selected,
) -> Result<storage::Deleted, Failure> {
    let what = json!({
        "match": selected.texts,
        "start_ms": selected.range.start_ms,
        "end_ms": selected.range.end_ms,
    });
    let delete = storage::Delete { selectors: selected.selectors, range: selected.range };
    let (storage, of) = (std::sync::Arc::clone(&parts.storage), scope.clone());
    let act = Act {
        who: &who.actor(),
        action: "rows.delete",
        tenant: Some((scope.name(), scope.tenant())),
        old: Value::Null,
        new: what,
    };
    on_record(&parts.authenticator, act, async move { storage.delete(&of, delete).await }).await
}

/// Reads selectors on the blocking pool: patterns take time.
async fn read(
    work: impl FnOnce() -> Result<Selected, query::Error> + Send + 'static,
) -> Result<Selected, Failure> {
    let read = tokio::task::spawn_blocking(work).await;
    read.map_err(|e| Failure::unavailable(&e))?.map_err(|e| Failure::bad(e.to_string()))
}

fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
