//! All routes of the one port, and the server's own handlers.

use std::sync::Arc;

use axum::extract::{FromRef, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use storage::Storage;
use tenancy::{Admin, Authenticator, Read};

use crate::metrics::Metrics;
use crate::status;

/// The server's own routes. The first four need no scope: they tell nothing about anybody's rows.
pub(crate) const ROUTES: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/-/healthy"),
    ("GET", "/-/ready"),
    ("GET", "/metrics"),
    ("GET", "/api/v1/status/overview"),
    ("POST", "/api/v1/admin/flush"),
];

/// What the server's own handlers need.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) storage: Arc<Storage>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) metrics: Metrics,
}

impl FromRef<Parts> for Arc<Authenticator> {
    fn from_ref(parts: &Parts) -> Self {
        Arc::clone(&parts.authenticator)
    }
}

/// Everything that is served: the Prometheus API stands at the root and below `/prometheus`.
pub(crate) fn router(
    parts: Parts,
    querier: query::Querier,
    receiver: Arc<ingest::remote_write::RemoteWrite>,
) -> Router {
    let authenticator = Arc::clone(&parts.authenticator);
    let prometheus = || {
        let queries = query::http::router(querier.clone(), Arc::clone(&authenticator));
        queries
            .merge(ingest::remote_write::router(Arc::clone(&receiver), Arc::clone(&authenticator)))
    };
    let health = || {
        Router::new()
            .route("/-/healthy", get(|| async { "Taffrail is healthy.\n" }))
            .route("/-/ready", get(ready))
            .with_state(Arc::clone(&parts.storage))
    };
    let own = Router::new()
        .route("/", get(|| async { Html(status::PAGE) }))
        .route("/metrics", get(own_metrics))
        .route("/api/v1/status/overview", get(overview))
        .route("/api/v1/admin/flush", post(flush))
        .with_state(parts.clone());
    own.merge(health()).merge(prometheus()).nest("/prometheus", prometheus().merge(health()))
}

async fn ready(State(storage): State<Arc<Storage>>) -> Response {
    match storage.ready() {
        Ok(()) => "Taffrail is ready.\n".into_response(),
        Err(error) => {
            let reason =
                std::error::Error::source(&error).map_or_else(String::new, |s| format!(": {s}"));
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}{reason}\n")).into_response()
        }
    }
}

async fn own_metrics(State(parts): State<Parts>) -> impl IntoResponse {
    let mut text = String::with_capacity(1 << 14);
    parts.metrics.write(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn overview(State(parts): State<Parts>, Read(scope): Read) -> Response {
    if scope.is_restricted() {
        let body = json!({ "status": "error", "errorType": "forbidden", "error": "the overview is not available to a restricted scope" });
        return (StatusCode::FORBIDDEN, Json(body)).into_response();
    }
    let gathered = tokio::task::spawn_blocking(move || status::overview(&parts, &scope)).await;
    match gathered {
        Ok(data) => Json(json!({ "status": "success", "data": data })).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Brings everything buffered into blocks: before a backup, or to measure what is stored.
async fn flush(State(parts): State<Parts>, Admin(principal): Admin) -> Response {
    tracing::info!(principal = principal.name(), "flush asked for");
    match parts.storage.flush_all().await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            let body = json!({ "status": "error", "errorType": "unavailable", "error": error.to_string() });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}
