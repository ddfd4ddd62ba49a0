//! OTLP logs over HTTP (protobuf and JSON) and gRPC: what OpenTelemetry's SDKs and Collector send.
//!
//! ```text
//! headers ─► intake: body ─► inflate ─► (JSON ─►) protobuf ─► walk ─► entries ─► answer
//! ```

mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tenancy::{Authenticator, WriteScope};

use super::builder::Entries;
use super::intake::{EntryIntake, TakeEntries};
use super::told;
use crate::caps::WalkError;
use crate::door;
use crate::intake::Refusal;
use crate::otlp::{Answer, Counted, Form, form_of, logs_to_protobuf, read_headers};

/// Method and path of every route: OTLP's own, where Loki has it, where metrics stand, and gRPC.
pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/v1/logs"),
    ("POST", "/otlp/v1/logs"),
    ("POST", "/api/v1/otlp/v1/logs"),
    ("POST", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
];

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(otlp: Arc<OtlpLogs>, authenticator: Arc<Authenticator>) -> Router {
    door::router(ROUTES, otlp, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// The receiver of OTLP logs.
#[derive(Debug)]
pub struct OtlpLogs {
    intake: Arc<EntryIntake>,
}

impl OtlpLogs {
    /// A receiver that hands entries to `intake`.
    pub fn new(intake: Arc<EntryIntake>) -> Self {
        Self { intake }
    }

    /// Answers one request. `route` is its place in [`crate::routes`].
    pub async fn handle(&self, route: usize, scope: WriteScope, request: Request) -> Response {
        let begun = self.intake.intake.begin();
        let form = form_of(request.headers());
        let answer = match self.write(&scope, form, request).await {
            Ok(answer) => answer,
            Err(refusal) => Answer::refused(&refusal),
        };
        self.intake.intake.answered(route, answer.status(), begun);
        answer.into_response(form.unwrap_or(Form::Protobuf), Counted::LogRecords)
    }

    async fn write(
        &self,
        scope: &WriteScope,
        form: Option<Form>,
        request: Request,
    ) -> Result<Answer, Refusal> {
        let (form, encoding) = read_headers(form, request.headers())
            .map_err(|why| self.intake.intake.refused(scope, why.into()))?;
        let written =
            self.intake.write(scope, encoding, request.into_body(), Body { form }).await?;
        let outcome = &written.outcome;
        let Some(told) = told::told(outcome, scope.routes().is_some()) else {
            return Ok(Answer::Stored { refused: 0, message: String::new() });
        };
        // Senders do not repeat what is told within a success.
        if outcome.entries == 0 || told.status == axum::http::StatusCode::TOO_MANY_REQUESTS {
            let (status, message, retry_after) = (told.status, told.text, told.retry_after);
            return Ok(Answer::Failed { status, message, retry_after });
        }
        let refused = outcome.rejected.iter().map(|rejected| rejected.count).sum();
        Ok(Answer::Stored { refused, message: told.text })
    }
}

/// One body.
pub(super) struct Body {
    pub(super) form: Form,
}

impl TakeEntries for Body {
    fn take_entries<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Entries<'_, 'a>,
    ) -> Result<(), Refusal> {
        match self.form {
            Form::Json => {
                let body = logs_to_protobuf(body).map_err(WalkError::Wrong)?;
                walk::walk(&body, out)?;
            }
            Form::Protobuf | Form::Grpc => walk::walk(body, out)?,
        }
        Ok(())
    }
}
