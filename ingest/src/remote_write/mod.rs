//! Remote write 1.0 and 2.0: what Prometheus, vmagent, Grafana Alloy and the OpenTelemetry
//! Collector send. Content type chooses the message, its walk makes rows of it.

mod answer;
mod headers;
pub(crate) mod histogram;
mod labels;
mod v2;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use storage::{AppendOutcome, MetricRows};
use tenancy::{Authenticator, Limits, WriteScope};

use crate::caps::Caps;
use crate::door;
use crate::intake::{Intake, Refusal, TakeApart};
use headers::Message;
pub(crate) use labels::{bytes_max, refusal, shortened};
pub use v2::{News, walk_v2};
pub use walk::walk;
pub(crate) use walk::{EXEMPLAR_CHARS_MAX, chars};

/// Method and path of every route, for the router and for the test that knocks on each of them.
pub const ROUTES: &[(&str, &str)] = &[("POST", "/api/v1/write"), ("POST", "/api/v1/push")];

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(receiver: Arc<RemoteWrite>, authenticator: Arc<Authenticator>) -> Router {
    door::router(ROUTES, receiver, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// The receiver of remote write.
#[derive(Debug)]
pub struct RemoteWrite {
    intake: Arc<Intake>,
}

impl RemoteWrite {
    /// A receiver that hands rows to `intake`.
    pub fn new(intake: Arc<Intake>) -> Self {
        Self { intake }
    }

    /// Answers one request. `route` is its place in [`crate::ROUTES`].
    pub async fn handle(
        self: &Arc<Self>,
        route: usize,
        scope: WriteScope,
        request: Request,
    ) -> Response {
        let begun = self.intake.begin();
        let response = match self.write(&scope, request).await {
            Ok(outcome) => answer::carried_out(&outcome),
            Err(refusal) => answer::refused(&refusal),
        };
        self.intake.answered(route, response.status().as_u16(), begun);
        response
    }

    async fn write(&self, scope: &WriteScope, request: Request) -> Result<AppendOutcome, Refusal> {
        let (message, encoding) = headers::read(request.headers())
            .map_err(|why| self.intake.refused(scope, why.into()))?;
        let news = News::of(scope, &self.intake.families);
        let (limits, caps) = (Arc::clone(scope.limits()), self.intake.caps.clone());
        let door = Body { message, limits, caps, news };
        let written = self.intake.write(scope, encoding, request.into_body(), door).await?;
        Ok(written.outcome)
    }
}

/// One body.
struct Body {
    message: Message,
    limits: Arc<Limits>,
    caps: Caps,
    news: Option<News>,
}

impl TakeApart for Body {
    fn take_apart<'a>(
        &mut self,
        body: &'a [u8],
        rows: &mut MetricRows<'a>,
    ) -> Result<AppendOutcome, Refusal> {
        Ok(match self.message {
            Message::V1 => walk(body, &self.limits, &self.caps, rows)?,
            Message::V2 => walk_v2(body, &self.limits, &self.caps, self.news.as_ref(), rows)?,
        })
    }
}
