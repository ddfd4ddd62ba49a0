//! Search of logs, events and audit records: `/api/v1/search/{logs,events,audits}`, below each of
//! them what comes: `tail`, and what sends them: `/api/v1/search/sources`. What it means is told in `docs/search.md`.
//!
//! ```text
//! route ─► scope ─► conditions ─► operation ─► Querier::run ─► Entries ─► JSON
//! ```

mod conditions;
mod operations;
mod tail;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use model::Signal;
use tenancy::{Authenticator, ReadScope};
use tracing::{Instrument, info_span};

use super::params::{Params, invalid};
use super::reply::{self, Reply};
use super::{Api as Origin, Origins, form};
use crate::entries::{Entries, EntrySelection};
use crate::querier::Timed;
use crate::running::Asked;
use crate::{Cancel, Error, Querier};

/// The search of entries, to be mounted at the root.
pub fn search_entries_router(
    querier: Querier,
    entries: Arc<dyn Entries>,
    authenticator: Arc<Authenticator>,
) -> Router {
    // A pattern that is none was refused with the configuration.
    let origins = Origins::new(&querier.config().cors_origin).unwrap_or(Origins::Nobody);
    let api = Arc::new(Api { origin: Origin { querier, authenticator, origins }, entries });
    let mut router = Router::new();
    for (path, what) in PATHS {
        let api = Arc::clone(&api);
        router = router.route(path, any(move |request: Request| serve(api, what, request)));
    }
    router
}

/// Methods and paths of the search of entries, for the table of all routes.
pub fn search_entries_routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    PATHS.iter().flat_map(|(path, _)| [("GET", *path), ("POST", *path)])
}

/// What a path gives.
#[derive(Debug, Clone, Copy)]
enum What {
    /// What is stored.
    Stored(Signal),
    /// What comes.
    Tail(Signal),
    /// What has ever sent something.
    Sources,
}

const PATHS: [(&str, What); 7] = [
    ("/api/v1/search/logs", What::Stored(Signal::Logs)),
    ("/api/v1/search/events", What::Stored(Signal::Events)),
    ("/api/v1/search/audits", What::Stored(Signal::Audits)),
    ("/api/v1/search/logs/tail", What::Tail(Signal::Logs)),
    ("/api/v1/search/events/tail", What::Tail(Signal::Events)),
    ("/api/v1/search/audits/tail", What::Tail(Signal::Audits)),
    ("/api/v1/search/sources", What::Sources),
];

/// What every request needs.
struct Api {
    origin: Origin,
    entries: Arc<dyn Entries>,
}

/// All that an operation looks at.
#[derive(Clone)]
struct Question {
    querier: Querier,
    entries: Arc<dyn Entries>,
    scope: ReadScope,
    /// What is asked, for the list of what runs.
    shown: Arc<str>,
}

async fn serve(api: Arc<Api>, what: What, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut response = match parts.method {
        Method::GET | Method::POST => authorized(&api, what, &mut parts, body).await,
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => {
            let allow = [(header::ALLOW, "GET, OPTIONS, POST")];
            (StatusCode::METHOD_NOT_ALLOWED, allow, "Method Not Allowed\n").into_response()
        }
    };
    api.origin.origins.permit(&parts.headers, response.headers_mut());
    response
}

async fn authorized(api: &Api, what: What, parts: &mut Parts, body: Body) -> Response {
    let scope = match api.origin.authenticator.read_scope(&*parts) {
        Ok(scope) => scope,
        Err(refusal) => return refusal.into_json(),
    };
    let span = info_span!("query.search", ?what, tenants = super::tenants(&scope));
    let answer = async {
        let querier = api.origin.querier.clone();
        let form = form(&querier, parts, body).await?;
        let query = parts.uri.query().unwrap_or("");
        let params = Params::parse(&form, query)?;
        let entries = Arc::clone(&api.entries);
        let question = Question { querier, entries, scope, shown: query.into() };
        match what {
            What::Stored(signal) => operations::answer(question, signal, &params).await,
            What::Tail(signal) => {
                let who = &api.origin.authenticator;
                tail::answer(question, signal, &params, who, parts).await
            }
            What::Sources => operations::sources(&question).await,
        }
    };
    let reply: Result<Reply, Error> = answer.instrument(span.clone()).await;
    let _entered = span.enter();
    match reply {
        Ok(reply) => reply::success(reply, &parts.headers),
        Err(error) => {
            super::log(&error);
            reply::failure(&error, &parts.headers)
        }
    }
}

impl Question {
    /// The conditions of a request.
    async fn selection(&self, signal: Signal, params: &Params) -> Result<EntrySelection, Error> {
        let now_ns = self.querier.clock().now_ms().saturating_mul(1_000_000);
        let params = params.clone();
        let read = move |_: &[String]| conditions::selection(&params, signal, now_ns);
        self.querier.read(vec![self.shown.to_string()], read).await?
    }

    /// Does the work when it is this tenant's turn.
    async fn run<T, F>(&self, work: impl FnOnce(Cancel) -> F) -> Result<Timed<T>, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = self.querier.deadline(&self.scope, None)?;
        let asked = Asked::new("search_entries", &self.shown);
        self.querier.run(&self.scope, deadline, asked, work).await
    }
}
