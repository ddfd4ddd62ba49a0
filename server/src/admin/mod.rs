//! The administrators' API: tenants, deletions, what was changed by whom.
//!
//! ```text
//! request ─► Admin (of the platform) or Delete (of one tenant) ─► on record ─► tenancy, storage
//! ```
//!
//! Answers are Prometheus' envelope: `{"status":"success","data":…}`, or `error` with its type.

mod backup;
mod deletes;
mod entries;
mod forward;
mod retention;
mod routing;
mod stored;
mod tenants;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tenancy::{Act, AdminError, Authenticator, DirectoryError, Principal};

use crate::routes::Parts;
pub(crate) use routing::Routing;

/// Method and path of every route here.
pub(crate) const ROUTES: &[(&str, &str)] = &[
    ("GET", "/api/v1/admin/audit"),
    ("GET", "/api/v1/admin/backup"),
    ("POST", "/api/v1/admin/backup"),
    ("POST", "/api/v1/admin/delete"),
    ("GET", "/api/v1/admin/forward"),
    ("GET", "/api/v1/admin/retention"),
    ("POST", "/api/v1/admin/retention"),
    ("GET", "/api/v1/admin/routing"),
    ("PUT", "/api/v1/admin/routing"),
    ("GET", "/api/v1/admin/storage"),
    ("GET", "/api/v1/admin/tenants"),
    ("POST", "/api/v1/admin/tenants"),
    ("GET", "/api/v1/admin/tenants/{name}"),
    ("DELETE", "/api/v1/admin/tenants/{name}"),
    ("GET", "/api/v1/admin/tenants/{name}/limits"),
    ("PUT", "/api/v1/admin/tenants/{name}/limits"),
    ("POST", "/api/v1/admin/tenants/{name}/rename"),
    ("POST", "/api/v1/admin/tenants/{name}/resume"),
    ("POST", "/api/v1/admin/tenants/{name}/suspend"),
    ("GET", "/api/v1/admin/tenants/{name}/usage"),
    ("POST", "/api/v1/admin/tsdb/clean_tombstones"),
    ("PUT", "/api/v1/admin/tsdb/clean_tombstones"),
    ("POST", "/api/v1/admin/tsdb/delete_series"),
    ("PUT", "/api/v1/admin/tsdb/delete_series"),
    ("POST", "/api/v1/admin/tsdb/snapshot"),
    ("PUT", "/api/v1/admin/tsdb/snapshot"),
    ("GET", "/loki/api/v1/delete"),
    ("POST", "/loki/api/v1/delete"),
    ("PUT", "/loki/api/v1/delete"),
    ("DELETE", "/loki/api/v1/delete"),
    ("POST", "/prometheus/api/v1/admin/tsdb/clean_tombstones"),
    ("PUT", "/prometheus/api/v1/admin/tsdb/clean_tombstones"),
    ("POST", "/prometheus/api/v1/admin/tsdb/delete_series"),
    ("PUT", "/prometheus/api/v1/admin/tsdb/delete_series"),
    ("POST", "/prometheus/api/v1/admin/tsdb/snapshot"),
    ("PUT", "/prometheus/api/v1/admin/tsdb/snapshot"),
];

/// The routes, to be given their state with the server's own.
pub(crate) fn router() -> Router<Parts> {
    let base = "/api/v1/admin";
    let at = |path: &str| format!("{base}{path}");
    let table = DefaultBodyLimit::max(routing::BODY_BYTES_MAX);
    Router::new()
        .route(&at("/audit"), get(tenants::audit))
        .route(&at("/backup"), get(backup::status).post(backup::begin))
        .route(&at("/delete"), post(deletes::delete))
        .route(&at("/forward"), get(forward::show))
        .route(&at("/retention"), get(retention::preview).post(retention::retain))
        .route(&at("/routing"), get(routing::show).put(routing::put).layer(table))
        .route(&at("/storage"), get(stored::stored))
        .route(&at("/tenants"), get(tenants::list).post(tenants::create))
        .route(&at("/tenants/{name}"), get(tenants::show).merge(delete(tenants::delete)))
        .route(&at("/tenants/{name}/limits"), get(tenants::limits).put(tenants::set_limits))
        .route(&at("/tenants/{name}/rename"), post(tenants::rename))
        .route(&at("/tenants/{name}/resume"), post(tenants::resume))
        .route(&at("/tenants/{name}/suspend"), post(tenants::suspend))
        .route(&at("/tenants/{name}/usage"), get(tenants::usage))
        .route(
            "/loki/api/v1/delete",
            get(entries::list).post(entries::delete).put(entries::delete).delete(entries::cancel),
        )
        .merge(as_prometheus(base))
        .merge(as_prometheus("/prometheus/api/v1/admin"))
}

/// What Prometheus' clients look for.
fn as_prometheus(base: &str) -> Router<Parts> {
    let clean = post(deletes::clean_tombstones).merge(put(deletes::clean_tombstones));
    let delete = post(deletes::delete_series).merge(put(deletes::delete_series));
    let snapshot = post(deletes::snapshot).merge(put(deletes::snapshot));
    Router::new()
        .route(&format!("{base}/tsdb/clean_tombstones"), clean)
        .route(&format!("{base}/tsdb/delete_series"), delete)
        .route(&format!("{base}/tsdb/snapshot"), snapshot)
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

impl Failure {
    fn bad(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "bad_data", text: text.into() }
    }

    fn conflict(text: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, kind: "conflict", text: text.into() }
    }

    fn not_found(text: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, kind: "not_found", text: text.into() }
    }

    fn unavailable(error: &dyn std::error::Error) -> Self {
        let text = storage::error_text(error);
        tracing::error!(error = text, "administrative request failed");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, kind: "unavailable", text }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "status": "error", "errorType": self.kind, "error": self.text });
        (self.status, Json(body)).into_response()
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match &error {
            AdminError::Unknown(_) => Self::not_found(error.to_string()),
            AdminError::Limits(_) | AdminError::Directory(DirectoryError::TooLong { .. }) => {
                Self::bad(storage::error_text(&error))
            }
            AdminError::Directory(DirectoryError::NameTaken(_) | DirectoryError::Full(_)) => {
                Self::conflict(error.to_string())
            }
            _ => Self::unavailable(&error),
        }
    }
}

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Self {
        match &error {
            storage::Error::Limit(text) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Self { status, kind: "execution", text: text.clone() }
            }
            storage::Error::Refused(text) => {
                Self { status: StatusCode::CONFLICT, kind: "conflict", text: text.clone() }
            }
            storage::Error::Stopped(why) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Self { status, kind: "execution", text: why.to_string() }
            }
            _ => Self::unavailable(&error),
        }
    }
}

/// Does something on record, and on a task of its own: a client that hangs up must not stop it
/// half-way.
async fn on_record<T: Send + 'static>(
    authenticator: &Arc<Authenticator>,
    act: Act<'_>,
    work: impl Future<Output = Result<T, storage::Error>> + Send + 'static,
) -> Result<T, Failure> {
    let work = async {
        match tokio::spawn(work).await {
            Ok(done) => done.map_err(Failure::from),
            Err(error) => Err(Failure::unavailable(&error)),
        }
    };
    authenticator.recorded(act, work).await?
}

/// Does something about the whole store on record.
pub(crate) async fn on_platform<T: Send + 'static>(
    parts: &Parts,
    who: &Principal,
    action: &'static str,
    work: impl Future<Output = Result<T, storage::Error>> + Send + 'static,
) -> Result<T, Failure> {
    let (who, old, new) = (&who.actor(), Value::Null, Value::Null);
    on_record(&parts.authenticator, Act { who, action, tenant: None, old, new }, work).await
}

fn success(data: Value) -> Response {
    Json(json!({ "status": "success", "data": data })).into_response()
}

/// A body as JSON, whatever its declared type; `None` if there is none.
fn json_of<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<Option<T>, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let read = serde_json::from_slice(body);
    read.map(Some).map_err(|e| Failure::bad(format!("the body is not what is expected: {e}")))
}
