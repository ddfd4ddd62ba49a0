//! Prometheus' HTTP API, version 1.
//!
//! ```text
//! route ─► scope ─► parameters ─► endpoint ─► Querier::run ─► document ─► pieces of JSON ─► gzip
//! ```
//!
//! Statuses, error words and texts are Prometheus' own: its clients look at them.

mod blocks;
mod cors;
mod documents;
mod encoding;
mod exposition;
mod expressions;
mod federate;
mod json;
mod listings;
mod loki;
mod notifications;
mod openapi;
mod params;
mod queries;
mod remote_read;
mod reply;
mod routes;
mod search;
mod search_entries;
mod self_metrics;
mod sql;
mod status;
mod streaming;
mod syntax;
mod tailing;
mod targets;
mod times;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tenancy::{Authenticator, Principal, Read, ReadScope};
use tracing::{Instrument, info_span, warn};

pub(crate) use cors::Origins;
pub use loki::{SelectedEntries, loki_router, loki_routes};
pub use routes::{Endpoint, ROUTES, Route};
pub use search_entries::{search_entries_router, search_entries_routes};

use crate::running::Asked;
use crate::{Error, Querier};
use encoding::Encoding;
pub use json::push_string as push_json_string;
use params::Params;
pub use params::Selected;
#[doc(hidden)]
pub use params::read_parameters;
use reply::Reply;
pub use times::{duration_ms, instant_ms, rfc3339_text};

/// The API, to be mounted at `/` and wherever else clients look for it.
pub fn router(querier: Querier, authenticator: Arc<Authenticator>) -> Router {
    // A pattern that is none was refused with the configuration.
    let origins = Origins::new(&querier.config().cors_origin).unwrap_or(Origins::Nobody);
    let api = Arc::new(Api { querier, authenticator, origins });
    let mut router = Router::new();
    for (i, route) in ROUTES.iter().enumerate() {
        let path = route.path;
        if ROUTES[..i].iter().any(|earlier| earlier.path == path) {
            continue;
        }
        let api = Arc::clone(&api);
        router = router.route(path, any(move |request: Request| serve(api, path, request)));
    }
    router
}

/// What every request needs.
struct Api {
    querier: Querier,
    authenticator: Arc<Authenticator>,
    origins: Origins,
}

/// One request to one path.
async fn serve(api: Arc<Api>, path: &'static str, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut response = match routes::find(path, &parts.method) {
        Some(endpoint) => counted(&api, endpoint, &mut parts, body).await,
        None if parts.method == Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        None => reply::method_not_allowed(path),
    };
    api.origins.permit(&parts.headers, response.headers_mut());
    response
}

/// Answers and counts; a request whose client goes away in between counts as cancelled.
async fn counted(api: &Api, endpoint: Endpoint, parts: &mut Parts, body: Body) -> Response {
    let querier = &api.querier;
    let mut count =
        Count { querier, endpoint, started: querier.clock().monotonic(), code: CLIENT_GONE };
    let response = authorized(api, endpoint, parts, body).await;
    count.code = response.status().as_u16();
    response
}

/// The status Prometheus counts when the client went away, from nginx.
const CLIENT_GONE: u16 = 499;

struct Count<'a> {
    querier: &'a Querier,
    endpoint: Endpoint,
    started: Duration,
    code: u16,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        let took = self.querier.clock().monotonic().saturating_sub(self.started);
        self.querier.metrics().answered(self.endpoint, self.code, took);
    }
}

async fn authorized(api: &Api, endpoint: Endpoint, parts: &mut Parts, body: Body) -> Response {
    let querier = &api.querier;
    let Read(scope) = match Read::from_request_parts(parts, &api.authenticator).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let who = match endpoint {
        Endpoint::EndQuery => match api.authenticator.principal(&*parts) {
            Ok(principal) => Some(Acting { authenticator: &api.authenticator, principal }),
            Err(refusal) => return refusal.into_json(),
        },
        _ => None,
    };
    let span = info_span!("query.request", handler = endpoint.name(), tenants = tenants(&scope));
    let answer = async {
        let question = question(querier, scope, endpoint, parts, body).await?;
        answer(Question { who, ..question }).await
    };
    let reply = answer.instrument(span.clone()).await;
    let _entered = span.enter();
    match reply {
        Ok(reply) => reply::success(reply, &parts.headers),
        Err(error) => {
            log(&error);
            reply::failure(&error, &parts.headers)
        }
    }
}

/// Failures that are ours are logged here, where they are turned into an answer.
fn log(error: &Error) {
    if let Error::Internal { doing, source } = error {
        warn!(doing, error = %reply::chain(&**source), "question failed");
    }
}

/// For the span: the tenant's name, or how many there are.
fn tenants(scope: &ReadScope) -> String {
    match scope.tenants() {
        [one] => one.name.to_string(),
        several => format!("{} tenants", several.len()),
    }
}

/// All that an endpoint looks at.
pub(super) struct Question<'a> {
    endpoint: Endpoint,
    querier: &'a Querier,
    scope: ReadScope,
    params: Params,
    /// The variable part of the path, decoded.
    named: String,
    /// The body, where it is no form.
    body: Bytes,
    /// The header `Accept`.
    accept: String,
    /// How the client takes bodies.
    encoding: Encoding,
    /// The header `Content-Type`.
    kind: String,
    /// Who asks, where something is done.
    who: Option<Acting<'a>>,
}

/// Somebody who does something, and who keeps the record of it.
pub(super) struct Acting<'a> {
    authenticator: &'a Arc<Authenticator>,
    principal: Principal,
}

impl Question<'_> {
    /// What is asked, for the list of what runs.
    fn asked(&self) -> Asked {
        let handler = self.endpoint.name();
        match self.params.get("query") {
            "" => {
                let few: Vec<&str> = self.params.all("match[]").take(SELECTORS_SHOWN).collect();
                Asked::new(handler, &few.join(", "))
            }
            query => Asked::new(handler, query),
        }
    }
}

/// Selectors of a listing that are shown while it runs.
const SELECTORS_SHOWN: usize = 10;

async fn question<'a>(
    querier: &'a Querier,
    scope: ReadScope,
    endpoint: Endpoint,
    parts: &mut Parts,
    body: Body,
) -> Result<Question<'a>, Error> {
    let (form, body) = match endpoint {
        Endpoint::RemoteRead => (Bytes::new(), whole(querier, body).await?),
        Endpoint::Sql if !is_form(parts) => (Bytes::new(), whole(querier, body).await?),
        _ => (form(querier, parts, body).await?, Bytes::new()),
    };
    let params = Params::parse(&form, parts.uri.query().unwrap_or(""))?;
    // Several tenants are told apart by `__tenant_id__` unless the question says otherwise; equal
    // label sets of two tenants then fail.
    let scope = if params.switch("merge_tenants")? { scope.unlabelled() } else { scope };
    let path = RawPathParams::from_request_parts(parts, &()).await;
    let path = path.map_err(|e| Error::BadData(format!("the path cannot be decoded: {e}")))?;
    let named = path.iter().next().map_or("", |(_, value)| value).to_owned();
    let accept = parts.headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let accept = accept.collect::<Vec<_>>().join(",");
    let encoding = Encoding::of_request(&parts.headers);
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    let who = None;
    Ok(Question { endpoint, querier, scope, params, named, body, accept, encoding, kind, who })
}

/// The body, if it is a form: other types are left alone, as Go does.
async fn form(querier: &Querier, parts: &Parts, body: Body) -> Result<Bytes, Error> {
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    if !is_form(parts) {
        let multipart = b"multipart/form-data";
        let is = kind.get(..multipart.len()).is_some_and(|s| s.eq_ignore_ascii_case(multipart));
        if parts.method == Method::POST && is {
            let text = "multipart forms are not read; send application/x-www-form-urlencoded";
            return Err(Error::BadData(text.to_owned()));
        }
        return Ok(Bytes::new());
    }
    whole(querier, body).await
}

/// Whether the body is a form that can be read.
fn is_form(parts: &Parts) -> bool {
    let form = b"application/x-www-form-urlencoded";
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    let is = kind.get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form));
    parts.method == Method::POST && is
}

/// The body, bounded.
async fn whole(querier: &Querier, body: Body) -> Result<Bytes, Error> {
    let limit = querier.config().form_bytes_max;
    to_bytes(body, limit).await.map_err(|e| {
        Error::BadData(format!(
            "error parsing form values: {e}; a form may have {limit} bytes (form_bytes_max)"
        ))
    })
}

async fn answer(question: Question<'_>) -> Result<Reply, Error> {
    match question.endpoint {
        Endpoint::Query => expressions::instant(question).await,
        Endpoint::QueryRange => expressions::range(question).await,
        Endpoint::QueryExemplars => expressions::exemplars(question).await,
        Endpoint::FormatQuery => expressions::format(question).await,
        Endpoint::ParseQuery => expressions::parse(question).await,
        Endpoint::Series => listings::series(question).await,
        Endpoint::Labels => listings::label_names(question).await,
        Endpoint::LabelValues => listings::label_values(question).await,
        Endpoint::Metadata => listings::metadata(question).await,
        Endpoint::SearchMetricNames => search::metric_names(question).await,
        Endpoint::SearchLabelNames => search::label_names(question).await,
        Endpoint::SearchLabelValues => search::label_values(question).await,
        Endpoint::Rules => targets::rules(question).await,
        Endpoint::Alerts => Ok(targets::alerts()),
        Endpoint::Alertmanagers => Ok(targets::alertmanagers()),
        Endpoint::Targets => Ok(targets::targets(&question)),
        Endpoint::TargetsMetadata => targets::metadata(question).await,
        Endpoint::RelabelSteps => targets::relabel_steps(&question),
        Endpoint::ScrapePools => Ok(targets::pools(&question)),
        Endpoint::BuildInfo => Ok(status::build_info(&question)),
        Endpoint::RuntimeInfo => Ok(status::runtime_info(&question)),
        Endpoint::Flags => Ok(status::flags(&question)),
        Endpoint::StatusConfig => Ok(status::config(&question)),
        Endpoint::WalReplay => Ok(status::wal_replay()),
        Endpoint::SelfMetrics => self_metrics::families(question).await,
        Endpoint::Notifications => Ok(notifications::list(&question)),
        Endpoint::NotificationsLive => Ok(notifications::live(&question)),
        Endpoint::OpenApi => Ok(openapi::document(&question.querier.about().version)),
        Endpoint::TsdbBlocks => blocks::blocks(question).await,
        Endpoint::Features => Ok(status::features(&question)),
        Endpoint::Federate => Ok(federate::federate(question).await),
        Endpoint::RemoteRead => remote_read::read(question).await,
        Endpoint::Sql => sql::sql(question).await,
        Endpoint::Queries => queries::list(&question),
        Endpoint::EndQuery => queries::end(question).await,
        Endpoint::Tsdb => status::tsdb(question).await,
    }
}

#[cfg(test)]
mod tests;
