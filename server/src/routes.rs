//! All routes of the one port, and the server's own handlers.

use std::sync::Arc;

use axum::extract::{FromRef, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, Router};
use ingest::forward::ForwardingAppender;
use ingest::import::{self, Import};
use ingest::influx::{self, Influx};
use ingest::logs::{self, EntryIntake};
use ingest::otlp::{self, Otlp};
use ingest::pushgateway::{self, JournalError, Pushgateway};
use ingest::remote_write::{self, RemoteWrite};
use ingest::{EntryAppender, Intake};
use model::Disk;
use query::Querier;
use query::entries::Entries;
use serde_json::json;
use storage::{Extent, Storage};
use tenancy::{Admin, Authenticator, Read};

use crate::admin::{self, Failure, Routing};
use crate::backups::Backups;
use crate::metrics::Metrics;
use crate::pages::{self, ASSETS};
use crate::reload::Reloader;
use crate::{pushed, status};

/// What answers one of the server's own routes.
#[derive(Debug, Clone, Copy)]
enum Own {
    Functions,
    Healthy,
    Ready,
    Metrics,
    Reload,
    Overview,
    Pushed,
    Flush,
    Compact,
}

/// The server's own routes, besides its pages. The first four need no scope: they tell nothing
/// about anybody's rows.
const OWN: &[(&str, &str, Own)] = &[
    ("GET", "/assets/functions.json", Own::Functions),
    ("GET", "/-/healthy", Own::Healthy),
    ("GET", "/-/ready", Own::Ready),
    ("GET", "/metrics", Own::Metrics),
    ("POST", "/-/reload", Own::Reload),
    ("PUT", "/-/reload", Own::Reload),
    ("GET", "/api/v1/status/overview", Own::Overview),
    ("GET", "/api/v1/metrics", Own::Pushed),
    ("POST", "/api/v1/admin/flush", Own::Flush),
    ("POST", "/api/v1/admin/storage/compact", Own::Compact),
];

/// Below these prefixes stands the Prometheus API, reads and writes.
const PROMETHEUS: [&str; 2] = ["", "/prometheus"];

/// Method and path of every route that is served.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    let own = OWN.iter().map(|(method, path, _)| (*method, (*path).to_owned()));
    let pages = ASSETS.iter().map(|asset| ("GET", asset.path.to_owned()));
    let reads = query::http::ROUTES.iter().map(|route| (route.method, route.path));
    let api: Vec<_> = reads
        .chain(ingest::PROMETHEUS_ROUTES.iter().flat_map(|door| door.iter().copied()))
        .collect();
    let root = ingest::ROOT_ROUTES.iter().flat_map(|door| door.iter());
    let root = root.map(|(method, path)| (*method, (*path).to_owned()));
    let below = |prefix: &'static str| {
        api.iter().map(move |(method, path)| (*method, format!("{prefix}{path}")))
    };
    let of_entries = ingest::logs::ROUTES.iter().flat_map(|door| door.iter().copied());
    let of_entries = of_entries
        .chain(query::http::loki_routes())
        .chain(query::http::search_entries_routes())
        .map(|(method, path)| (method, path.to_owned()));
    let admin = admin::ROUTES.iter().map(|(method, path)| (*method, (*path).to_owned()));
    let own = pages.chain(own).chain(admin).chain(root).chain(of_entries);
    own.chain(PROMETHEUS.into_iter().flat_map(below)).collect()
}

/// What the server's own handlers need.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) storage: Arc<Storage>,
    /// Takes what this process measures itself.
    pub(crate) appender: Arc<ForwardingAppender>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) metrics: Metrics,
    pub(crate) querier: Querier,
    /// Answers questions about logs, events and audit records.
    pub(crate) entries: Arc<dyn Entries>,
    pub(crate) reloader: Arc<Reloader>,
    pub(crate) routing: Arc<Routing>,
    pub(crate) backups: Arc<Backups>,
    pub(crate) pushgateway: Arc<Pushgateway>,
}

impl FromRef<Parts> for Arc<Authenticator> {
    fn from_ref(parts: &Parts) -> Self {
        Arc::clone(&parts.authenticator)
    }
}

/// What takes rows in.
#[derive(Debug, Clone)]
pub(crate) struct Doors {
    pub(crate) intake: Arc<Intake>,
    pub(crate) remote_write: Arc<RemoteWrite>,
    pub(crate) otlp: Arc<Otlp>,
    pub(crate) import: Arc<Import>,
    pub(crate) influx: Arc<Influx>,
    pub(crate) pushgateway: Arc<Pushgateway>,
    /// What all doors of logs, events and audit records share.
    pub(crate) entries: Arc<EntryIntake>,
}

impl Doors {
    /// All doors before one intake. Blocks: pushed groups are read.
    pub(crate) fn open(
        intake: Intake,
        stored: Arc<dyn EntryAppender>,
        disk: Arc<dyn Disk>,
        config: &ingest::Config,
    ) -> Result<Self, JournalError> {
        let intake = Arc::new(intake);
        let groups = Pushgateway::open(Arc::clone(&intake), disk, config.pushgateway.clone())?;
        Ok(Self {
            remote_write: Arc::new(RemoteWrite::new(Arc::clone(&intake))),
            otlp: Arc::new(Otlp::new(Arc::clone(&intake), config.otlp.clone())),
            import: Arc::new(Import::new(Arc::clone(&intake))),
            influx: Arc::new(Influx::new(Arc::clone(&intake))),
            pushgateway: Arc::new(groups),
            entries: Arc::new(EntryIntake::new(Arc::clone(&intake), stored)),
            intake,
        })
    }

    /// What stands beside the Prometheus API.
    fn beside_prometheus(&self, authenticator: &Arc<Authenticator>) -> Router {
        let who = || Arc::clone(authenticator);
        remote_write::router(Arc::clone(&self.remote_write), who())
            .merge(otlp::router(otlp::ROUTES, Arc::clone(&self.otlp), who()))
            .merge(import::router(Arc::clone(&self.import), who()))
    }

    /// What stands at the root alone.
    fn at_root(&self, authenticator: &Arc<Authenticator>) -> Router {
        let who = || Arc::clone(authenticator);
        otlp::router(otlp::OWN_ROUTES, Arc::clone(&self.otlp), who())
            .merge(influx::router(Arc::clone(&self.influx), who()))
            .merge(pushgateway::router(Arc::clone(&self.pushgateway), who()))
            .merge(logs::router(&self.entries, authenticator))
    }
}

/// Everything that is served: the Prometheus API stands at the root and below `/prometheus`.
pub(crate) fn router(parts: Parts, doors: Doors) -> Router {
    let (authenticator, querier) = (Arc::clone(&parts.authenticator), parts.querier.clone());
    let prometheus = || {
        let queries = query::http::router(querier.clone(), Arc::clone(&authenticator));
        queries.merge(doors.beside_prometheus(&authenticator))
    };
    let about_entries =
        || (querier.clone(), Arc::clone(&parts.entries), Arc::clone(&authenticator));
    let (asked, entries, who) = about_entries();
    let loki = query::http::loki_router(asked, entries, who);
    let (asked, entries, who) = about_entries();
    let search = query::http::search_entries_router(asked, entries, who);
    let root = doors.at_root(&authenticator).merge(loki).merge(search);
    let own = OWN.iter().fold(Router::new(), |router, (method, path, own)| {
        router.route(path, handler(method, *own))
    });
    let own = ASSETS.iter().fold(own, |router, asset| {
        let asset = *asset;
        router.route(asset.path, get(move || async move { asset.answer() }))
    });
    let own = own.merge(admin::router());
    let [at_root, below] =
        PROMETHEUS.map(|prefix| (prefix, prometheus().method_not_allowed_fallback(wrong_method)));
    let root = own.with_state(parts).merge(root).method_not_allowed_fallback(wrong_method);
    root.merge(at_root.1).nest(below.0, below.1).fallback(not_found)
}

fn handler(method: &str, own: Own) -> MethodRouter<Parts> {
    match own {
        Own::Functions => get(|| async { Json(pages::functions()) }),
        Own::Healthy => get(|| async { "Taffrail is healthy.\n" }),
        Own::Ready => get(ready),
        Own::Metrics => get(own_metrics),
        Own::Reload if method == "PUT" => put(reload),
        Own::Reload => post(reload),
        Own::Overview => get(overview),
        Own::Pushed => get(pushed::show),
        Own::Flush => post(flush),
        Own::Compact => post(compact),
    }
}

/// As Prometheus answers what it does not know. Whoever asks for options gets none.
async fn not_found(method: Method) -> Response {
    match method {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
}

/// As Prometheus answers a method that a path does not have; the header `Allow` names the others.
async fn wrong_method(method: Method) -> Response {
    match method {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n").into_response(),
    }
}

async fn ready(State(parts): State<Parts>) -> Response {
    match parts.storage.ready() {
        Ok(()) => format!("Taffrail is ready.\n{}", warnings(&parts.storage)).into_response(),
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

/// As Prometheus' own: 200, or 500 with the reason, which leaves everything as it was.
async fn reload(State(parts): State<Parts>, Admin(who): Admin) -> Response {
    match parts.reloader.reload(who.actor()).await {
        Ok(reloaded) => reloaded.to_string().into_response(),
        Err(error) => {
            let text = format!("failed to reload config, the one before stays: {error:#}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

async fn overview(State(parts): State<Parts>, Read(scope): Read) -> Response {
    if scope.is_restricted() {
        let body = json!({ "status": "error", "errorType": "forbidden", "error": "the overview is not available to a restricted scope" });
        return (StatusCode::FORBIDDEN, Json(body)).into_response();
    }
    // Walks all series of the tenants: not on a thread that moves bytes.
    let runtime = tokio::runtime::Handle::current();
    let gather = move || runtime.block_on(status::overview(&parts, &scope));
    let gathered = tokio::task::spawn_blocking(gather).await;
    match gathered {
        Ok(data) => Json(json!({ "status": "success", "data": data })).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What is wrong though most is served, a line each. With a part of the partitions read-only the
/// process stays in service: the rest takes writes, and all that is intact can be read.
fn warnings(storage: &storage::Storage) -> String {
    let mut text = String::new();
    let incomplete = storage.incomplete();
    for (partition, reason) in &incomplete {
        text += &format!(
            "warning: partition {partition} is incomplete and takes no writes: {reason}\n"
        );
    }
    for (partition, reason) in storage.read_only() {
        if !incomplete.iter().any(|(known, _)| *known == partition) {
            text += &format!("warning: partition {partition} takes no writes: {reason}\n");
        }
    }
    for (partition, what) in storage.mended() {
        text += &format!("warning: partition {partition}: {what}\n");
    }
    for (_, block, reason) in storage.lost_blocks() {
        text += &format!("warning: block {block} cannot be read: {reason}\n");
    }
    text
}

/// Brings everything buffered into blocks: before a backup, or to measure what is stored.
async fn flush(State(parts): State<Parts>, Admin(who): Admin) -> Result<StatusCode, Failure> {
    let storage = Arc::clone(&parts.storage);
    let work = async move { storage.flush_all().await };
    admin::on_platform(&parts, &who, "storage.flush", work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Merges everything stored, as if all days were over, and frees what was merged at once: before
/// sizes are measured, or to free space. Questions that run meanwhile may fail.
async fn compact(State(parts): State<Parts>, Admin(who): Admin) -> Result<StatusCode, Failure> {
    let storage = Arc::clone(&parts.storage);
    let work = async move {
        storage.flush_all().await?;
        storage.compact(Extent::Everything).await?;
        storage.remove_merged().await;
        Ok(())
    };
    admin::on_platform(&parts, &who, "storage.compact", work).await?;
    Ok(StatusCode::NO_CONTENT)
}
