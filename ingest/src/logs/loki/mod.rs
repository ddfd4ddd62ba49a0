//! Loki's push: what Promtail, Grafana Alloy, Fluent Bit and Vector send.
//!
//! ```text
//! headers ─► intake: body ─► snappy | gzip | deflate ─► protobuf or JSON: walk ─► entries ─► answer
//! ```

mod json;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use tenancy::{Authenticator, WriteScope};

use super::builder::Entries;
use super::intake::{EntryIntake, TakeEntries};
use super::labels::{Around, StreamLabels};
use super::{jsonline, plain, selector, told};
use crate::door;
use crate::intake::{Encoding, HeaderError, Refusal, shown_header};
use model::{Signal, SourceKind};

/// Method and path of every route; the second is that of Loki before 1.0.
pub const ROUTES: &[(&str, &str)] = &[("POST", "/loki/api/v1/push"), ("POST", "/api/prom/push")];

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(loki: Arc<LokiPush>, authenticator: Arc<Authenticator>) -> Router {
    door::router(ROUTES, loki, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// The receiver of Loki's push.
#[derive(Debug)]
pub struct LokiPush {
    intake: Arc<EntryIntake>,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Protobuf,
    Json,
}

impl LokiPush {
    /// A receiver that hands entries to `intake`.
    pub fn new(intake: Arc<EntryIntake>) -> Self {
        Self { intake }
    }

    /// Answers one request. `route` is its place in [`crate::routes`].
    pub async fn handle(&self, route: usize, scope: WriteScope, request: Request) -> Response {
        plain::answer(&self.intake, route, StatusCode::NO_CONTENT, self.write(&scope, request))
            .await
    }

    async fn write(
        &self,
        scope: &WriteScope,
        request: Request,
    ) -> Result<Option<told::Told>, Refusal> {
        let (form, encoding) = read_headers(request.headers())
            .map_err(|why| self.intake.intake.refused(scope, why.into()))?;
        let body = request.into_body();
        let written = self.intake.write(scope, encoding, body, Push { form }).await?;
        Ok(told::told(&written.outcome, scope.routes().is_some()))
    }
}

/// JSON is what says so; everything else is protobuf in snappy, as in Loki.
fn read_headers(headers: &HeaderMap) -> Result<(Form, Encoding), HeaderError> {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let media = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let wrong_encoding = |accepted| HeaderError::Encoding {
        found: shown_header(headers.get(CONTENT_ENCODING)),
        accepted,
    };
    if media.eq_ignore_ascii_case(b"application/json") {
        return Ok((Form::Json, jsonline::encoding(headers)?));
    }
    let protobuf: [&[u8]; 3] = [b"", b"application/x-protobuf", b"application/octet-stream"];
    if !protobuf.iter().any(|known| media.eq_ignore_ascii_case(known)) {
        return Err(HeaderError::Type {
            found: shown_header(headers.get(CONTENT_TYPE)),
            accepted: "application/x-protobuf or application/json",
        });
    }
    let encoding = Encoding::of(headers, &[Encoding::Snappy]);
    Ok((Form::Protobuf, encoding.ok_or_else(|| wrong_encoding("snappy"))?))
}

/// One body.
pub(super) struct Push {
    pub(super) form: Form,
}

impl TakeEntries for Push {
    fn take_entries<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Entries<'_, 'a>,
    ) -> Result<(), Refusal> {
        match self.form {
            Form::Protobuf => walk::walk(body, out)?,
            Form::Json => json::walk(body, out)?,
        }
        Ok(())
    }
}

/// Labels that a text names. Refused labels refuse their entries only.
fn labels_of_text(text: &str, cluster: &str) -> Result<StreamLabels, super::labels::Refused> {
    let around = Around { signal: Signal::Logs, kind: SourceKind::Other, cluster };
    let pairs = selector::parse(text).map_err(|why| {
        let text = crate::remote_write::shortened(text.as_bytes());
        let told = format!("error parsing labels '{text}' with error: {why}");
        (storage::entries::EntryReason::InvalidLabels, told)
    })?;
    let mut pairs = pairs.iter().map(|(name, value)| (*name, &**value)).collect();
    StreamLabels::of(&mut pairs, around)
}

/// Gives the entries since the last stream to the one that a text names.
fn close_stream(text: &[u8], out: &mut Entries<'_, '_>) -> Result<(), crate::WalkError> {
    let (known, cluster) = (Arc::clone(&out.context.known), Arc::clone(&out.context.cluster));
    let labels = known.get(text, &cluster, || match std::str::from_utf8(text) {
        Ok(text) => labels_of_text(text, &cluster),
        Err(_) => {
            let text = crate::remote_write::shortened(text);
            let told = format!("labels '{text}' are not UTF-8");
            Err((storage::entries::EntryReason::InvalidLabels, told))
        }
    });
    let stream = match labels {
        Ok(labels) => out.stream(&labels, Signal::Logs)?,
        Err(refused) => Err(refused),
    };
    match stream {
        Ok(stream) => out.of_stream(&stream),
        Err(refused) => {
            out.refuse_open(refused);
            Ok(())
        }
    }
}
