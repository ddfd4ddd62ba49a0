//! Loki's HTTP API: queries, listings and statistics over logs. (Lines come in through `ingest`.)
//!
//! ```text
//! route ─► scope ─► parameters ─► endpoint ─► Querier::run ─► Entries ─► document ─► JSON ─► gzip
//! ```
//!
//! Statuses, texts and shapes are Loki's own: Grafana, logcli and Perses look at them. Errors are
//! plain text.

mod delete;
mod documents;
mod lines;
mod listings;
mod numbers;
mod params;
mod tail;
#[cfg(test)]
mod tests;
mod volume;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tenancy::{Authenticator, ReadScope};
use tracing::{Instrument, info_span};

use super::params::Params;
use super::reply::{self, Reply};
use super::{Api as Origin, form};
use crate::entries::{Entries, Pipeline};
use crate::http::Origins;
use crate::logql::{self, Expr, LogExpr};
use crate::querier::Timed;
use crate::running::Asked;
use crate::{Cancel, Error, Querier};
use params::Limits;

pub use delete::SelectedEntries;
pub(super) use documents::{rfc3339_ns, whole};
pub(super) use params::{duration, instant_ns};

/// Loki's API, to be mounted at the root: its paths begin with `/loki` and, as in older clients,
/// with `/api/prom`.
pub fn loki_router(
    querier: Querier,
    entries: Arc<dyn Entries>,
    authenticator: Arc<Authenticator>,
) -> Router {
    // A pattern that is none was refused with the configuration.
    let origins = Origins::new(&querier.config().cors_origin).unwrap_or(Origins::Nobody);
    let api = Arc::new(Api { origin: Origin { querier, authenticator, origins }, entries });
    let mut router = Router::new();
    for (path, endpoint) in ENDPOINTS {
        let api = Arc::clone(&api);
        let serve = move |request: Request| serve(api, *endpoint, request);
        router = router.route(path, any(serve));
    }
    router
}

/// The methods that every path of this API takes.
const METHODS: [Method; 2] = [Method::GET, Method::POST];

/// Methods and paths of Loki's API, for the table of all routes.
pub fn loki_routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENDPOINTS.iter().flat_map(|(path, _)| [("GET", *path), ("POST", *path)])
}

/// What answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Query,
    QueryRange,
    Labels,
    LabelValues,
    Series,
    IndexStats,
    IndexVolume,
    IndexVolumeRange,
    DetectedLabels,
    FormatQuery,
    BuildInfo,
    Ready,
    Tail,
    OldTail,
    OldQuery,
    OldLabels,
    OldLabelValues,
}

const ENDPOINTS: &[(&str, Endpoint)] = &[
    ("/loki/api/v1/query", Endpoint::Query),
    ("/loki/api/v1/query_range", Endpoint::QueryRange),
    ("/loki/api/v1/labels", Endpoint::Labels),
    ("/loki/api/v1/label", Endpoint::Labels),
    ("/loki/api/v1/label/{name}/values", Endpoint::LabelValues),
    ("/loki/api/v1/series", Endpoint::Series),
    ("/loki/api/v1/index/stats", Endpoint::IndexStats),
    ("/loki/api/v1/index/volume", Endpoint::IndexVolume),
    ("/loki/api/v1/index/volume_range", Endpoint::IndexVolumeRange),
    ("/loki/api/v1/detected_labels", Endpoint::DetectedLabels),
    ("/loki/api/v1/format_query", Endpoint::FormatQuery),
    ("/loki/api/v1/status/buildinfo", Endpoint::BuildInfo),
    ("/loki/ready", Endpoint::Ready),
    ("/loki/api/v1/tail", Endpoint::Tail),
    ("/api/prom/tail", Endpoint::OldTail),
    ("/api/prom/query", Endpoint::OldQuery),
    ("/api/prom/label", Endpoint::OldLabels),
    ("/api/prom/label/{name}/values", Endpoint::OldLabelValues),
    ("/api/prom/series", Endpoint::Series),
];

/// What every request needs.
struct Api {
    origin: Origin,
    entries: Arc<dyn Entries>,
}

/// All that an endpoint looks at.
struct Question {
    endpoint: Endpoint,
    querier: Querier,
    entries: Arc<dyn Entries>,
    scope: ReadScope,
    params: Params,
    /// The variable part of the path, decoded.
    named: String,
    /// Whether fields are to be told from labels: what Grafana asks for by a header.
    categorizes: bool,
}

async fn serve(api: Arc<Api>, endpoint: Endpoint, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut response = match parts.method {
        ref method if METHODS.contains(method) => {
            authorized(&api, endpoint, &mut parts, body).await
        }
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => {
            let allow = [(header::ALLOW, "GET, OPTIONS, POST")];
            (StatusCode::METHOD_NOT_ALLOWED, allow, "Method Not Allowed\n").into_response()
        }
    };
    api.origin.origins.permit(&parts.headers, response.headers_mut());
    response
}

async fn authorized(api: &Api, endpoint: Endpoint, parts: &mut Parts, body: Body) -> Response {
    if endpoint == Endpoint::Ready {
        return "ready\n".into_response();
    }
    let scope = match api.origin.authenticator.read_scope(&*parts) {
        Ok(scope) => scope,
        Err(refusal) => return refusal.into_text(),
    };
    if matches!(endpoint, Endpoint::Tail | Endpoint::OldTail) {
        return tail::serve(api, scope, endpoint, parts, body).await;
    }
    let span = info_span!("query.loki", ?endpoint, tenants = super::tenants(&scope));
    let answer = async {
        let question = question(api, scope, endpoint, parts, body).await?;
        answer(question).await
    };
    let reply = answer.instrument(span.clone()).await;
    let _entered = span.enter();
    match reply {
        Ok(reply) => reply::success(reply, &parts.headers),
        Err(error) => refused(&error, &parts.headers),
    }
}

/// An error as Loki tells it: its text alone.
fn refused(error: &Error, asked: &HeaderMap) -> Response {
    // Loki's statuses, where they are not Prometheus'.
    let status = match error {
        Error::Execution(_) => 400,
        Error::Timeout(_) => 504,
        other => other.status(),
    };
    reply::success(reply::plain(status, error), asked)
}

async fn question(
    api: &Api,
    scope: ReadScope,
    endpoint: Endpoint,
    parts: &mut Parts,
    body: Body,
) -> Result<Question, Error> {
    let querier = api.origin.querier.clone();
    let form = form(&querier, parts, body).await?;
    let params = Params::parse(&form, parts.uri.query().unwrap_or(""))?;
    let path = RawPathParams::from_request_parts(parts, &()).await;
    let path = path.map_err(|e| Error::BadData(format!("the path cannot be decoded: {e}")))?;
    let named = path.iter().next().map_or("", |(_, value)| value).to_owned();
    let flags = parts.headers.get_all("X-Loki-Response-Encoding-Flags").iter();
    let categorizes = flags
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|flag| flag.trim() == "categorize-labels"));
    let entries = Arc::clone(&api.entries);
    Ok(Question { endpoint, querier, entries, scope, params, named, categorizes })
}

async fn answer(question: Question) -> Result<Reply, Error> {
    match question.endpoint {
        Endpoint::Query => numbers::instant(question).await,
        Endpoint::QueryRange => range(question).await,
        Endpoint::Labels | Endpoint::OldLabels => listings::label_names(question).await,
        Endpoint::LabelValues | Endpoint::OldLabelValues => listings::label_values(question).await,
        Endpoint::Series => listings::series(question).await,
        Endpoint::IndexStats => volume::stats(question).await,
        Endpoint::IndexVolume => volume::volume(question).await,
        Endpoint::IndexVolumeRange => volume::volume_range(question).await,
        Endpoint::DetectedLabels => listings::detected_labels(question).await,
        Endpoint::FormatQuery => format_query(question).await,
        Endpoint::BuildInfo => Ok(documents::build_info(question.querier.about())),
        Endpoint::OldQuery => lines::old_query(question).await,
        // Answered before.
        Endpoint::Ready | Endpoint::Tail | Endpoint::OldTail => Ok(Reply::Nothing),
    }
}

/// `query_range`: lines or numbers, as the query says.
async fn range(question: Question) -> Result<Reply, Error> {
    let limits = Limits::of(&question, params::HOUR_NS)?;
    match question.parsed().await? {
        Expr::Log(lines) => lines::range(question, lines, limits).await,
        Expr::Metric(expr) => numbers::range(question, expr, limits).await,
    }
}

/// `format_query`
async fn format_query(question: Question) -> Result<Reply, Error> {
    let formatted = question.parsed().await.map(|expr| logql::pretty(&expr));
    Ok(documents::formatted(formatted.map_err(|error| error.to_string())))
}

impl Question {
    /// The text of the query.
    fn text(&self) -> &str {
        self.params.get("query")
    }

    /// The query.
    async fn parsed(&self) -> Result<Expr, Error> {
        let read = |texts: &[String]| logql::parse(texts.first().map_or("", String::as_str));
        let read = self.querier.read(vec![self.text().to_owned()], read).await?;
        read.map_err(|error| Error::BadData(error.to_string()))
    }

    /// The same of one that gives lines, and what is asked of them.
    async fn pipeline(&self) -> Result<(LogExpr, Pipeline), Error> {
        match self.parsed().await? {
            Expr::Log(lines) => {
                let pipeline = Pipeline::of(&lines, self.text())?;
                Ok((lines, pipeline))
            }
            Expr::Metric(_) => {
                Err(Error::BadData("only a selector of streams is supported here".to_owned()))
            }
        }
    }

    /// Does the work when it is this tenant's turn.
    async fn run<T, F>(&self, work: impl FnOnce(Cancel) -> F) -> Result<Timed<T>, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = self.querier.deadline(&self.scope, None)?;
        let shown = match self.text() {
            "" => self.params.all("match[]").next().unwrap_or(self.params.get("match")),
            query => query,
        };
        let asked = Asked::new("loki", shown);
        self.querier.run(&self.scope, deadline, asked, work).await
    }
}
