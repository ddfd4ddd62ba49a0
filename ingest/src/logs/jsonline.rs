//! JSON lines: a document a line, fields named by parameters, as VictoriaLogs takes them.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tenancy::{Authenticator, WriteScope};

use super::builder::Entries;
use super::document::{Documents, Naming, lines};
use super::intake::{EntryIntake, TakeEntries};
use super::{plain, told};
use crate::door::{self, parameters};
use crate::intake::{Encoding, HeaderError, Refusal, shown_header};

/// Method and path of every route: our own, and that of VictoriaLogs.
pub const ROUTES: &[(&str, &str)] =
    &[("POST", "/api/v1/ingest/jsonline"), ("POST", "/insert/jsonline")];

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(jsonline: Arc<JsonLines>, authenticator: Arc<Authenticator>) -> Router {
    door::router(ROUTES, jsonline, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// The receiver of JSON lines.
#[derive(Debug)]
pub struct JsonLines {
    intake: Arc<EntryIntake>,
}

impl JsonLines {
    /// A receiver that hands entries to `intake`.
    pub fn new(intake: Arc<EntryIntake>) -> Self {
        Self { intake }
    }

    /// Answers one request. `route` is its place in [`crate::routes`].
    pub async fn handle(&self, route: usize, scope: WriteScope, request: Request) -> Response {
        plain::answer(&self.intake, route, StatusCode::OK, self.write(&scope, request)).await
    }

    async fn write(
        &self,
        scope: &WriteScope,
        request: Request,
    ) -> Result<Option<told::Told>, Refusal> {
        let encoding = encoding(request.headers()).map_err(Refusal::from);
        let asked = encoding.and_then(|encoding| {
            let naming = Naming::of(&parameters(request.uri())).map_err(Refusal::Parameter)?;
            Ok((encoding, naming))
        });
        let (encoding, naming) = asked.map_err(|why| self.intake.intake.refused(scope, why))?;
        let body = request.into_body();
        let written = self.intake.write(scope, encoding, body, Body { naming }).await?;
        Ok(told::told(&written.outcome, scope.routes().is_some()))
    }
}

/// Compressions of doors that take JSON.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, HeaderError> {
    let of_door = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];
    Encoding::of(headers, &of_door).ok_or_else(|| HeaderError::Encoding {
        found: shown_header(headers.get(CONTENT_ENCODING)),
        accepted: "gzip, deflate, zstd or none",
    })
}

/// One body.
pub(super) struct Body {
    pub(super) naming: Naming,
}

impl TakeEntries for Body {
    fn take_entries<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Entries<'_, 'a>,
    ) -> Result<(), Refusal> {
        let documents =
            Documents { naming: &self.naming, otherwise: ("source", "jsonline"), at_ns: None };
        for line in lines(body) {
            // What is refused is counted.
            let _ = documents.take(line, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::testing::{Rig, scope};
    use crate::testing::{Answer, request};

    async fn send(rig: &Rig, path: &str, body: &str) -> Answer {
        let door = JsonLines::new(Arc::clone(&rig.intake));
        let request = request("POST", path, &[], body.to_owned());
        Answer::of(door.handle(0, scope(), request).await).await
    }

    #[tokio::test]
    async fn lines_are_stored_and_bad_ones_told() {
        let rig = Rig::new();
        let body = "{\"_time\":\"2023-11-14T22:13:20Z\",\"_msg\":\"one\",\"app\":\"a\"}\r\n\n{\"_msg\":\"two\"}";
        assert_eq!(send(&rig, "/api/v1/ingest/jsonline", body).await.status, 200);
        let expected = [
            r#"{app="a", service_name="a"} "one""#,
            r#"{service_name="unknown_service", source="jsonline"} @arrival "two""#,
        ];
        assert_eq!(rig.kept.take(), expected);
        let body = "{\"_msg\":\"one\"}\nnothing\n[1]\n{\"_msg\":\"two\"}\n";
        let answer = send(&rig, "/insert/jsonline?_stream_fields=x", body).await;
        assert_eq!(answer.status, 400);
        let text = answer.text();
        assert!(
            text.contains(
                "malformed JSON at byte 0: an object is expected (invalid_entry: 2 entries)"
            ),
            "{text}"
        );
        assert!(text.ends_with("2 entries refused, 2 stored"), "{text}");
        assert_eq!(rig.kept.take().len(), 2);
        let answer = send(&rig, "/insert/jsonline?extra_fields=x", body).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.text(), "extra_fields=\"x\" is not a list of name=value");
    }
}
