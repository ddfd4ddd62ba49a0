//! Elasticsearch's bulk API, and what its senders ask first: Fluent Bit, Vector, Filebeat, Logstash.
//!
//! Documents are stored as lines with fields; there is nothing to update, delete or search here.

mod answer;
mod bulk;
mod probes;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use tenancy::{Authenticator, WriteScope};

use super::document::Naming;
use super::intake::EntryIntake;
use super::jsonline;
use crate::door::{self, parameters};
use crate::intake::Refusal;
pub(super) use bulk::{Bulk, Target};

/// Where the API stands.
const PREFIX: &str = "/elasticsearch";

/// Method and path of every route. What comes after the prefix is looked at here: names of indexes
/// may be anything.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/elasticsearch"),
    ("GET", "/elasticsearch/"),
    ("GET", "/elasticsearch/{*path}"),
    ("POST", "/elasticsearch/{*path}"),
    ("PUT", "/elasticsearch/{*path}"),
];

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(elasticsearch: Arc<Elasticsearch>, authenticator: Arc<Authenticator>) -> Router {
    door::router(ROUTES, elasticsearch, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// The receiver of bulk requests.
#[derive(Debug)]
pub struct Elasticsearch {
    intake: Arc<EntryIntake>,
}

/// What a request asks for.
enum Asked {
    Write(Target),
    Answer(Response),
}

impl Elasticsearch {
    /// A receiver that hands entries to `intake`.
    pub fn new(intake: Arc<EntryIntake>) -> Self {
        Self { intake }
    }

    /// Answers one request. `route` is its place in [`crate::routes`].
    pub async fn handle(&self, route: usize, scope: WriteScope, request: Request) -> Response {
        let begun = self.intake.intake.begin();
        let form = answer::media_of(request.headers());
        let response = match asked(&request) {
            Asked::Answer(response) => response,
            Asked::Write(target) => match self.write(&scope, target, request).await {
                Ok(response) => response,
                Err(refusal) => answer::refused(&refusal),
            },
        };
        self.intake.intake.answered(route, response.status().as_u16(), begun);
        answer::in_form(response, form)
    }

    async fn write(
        &self,
        scope: &WriteScope,
        target: Target,
        request: Request,
    ) -> Result<Response, Refusal> {
        let begun = self.intake.intake.begin();
        let encoding = jsonline::encoding(request.headers()).map_err(Refusal::from);
        let asked = encoding.and_then(|encoding| {
            let naming = Naming::of(&parameters(request.uri())).map_err(Refusal::Parameter)?;
            Ok((encoding, naming))
        });
        let (encoding, naming) = asked.map_err(|why| self.intake.intake.refused(scope, why))?;
        let door = Bulk::new(naming, target);
        let written = self.intake.write(scope, encoding, request.into_body(), door).await?;
        let took = self.intake.intake.begin().saturating_sub(begun);
        Ok(answer::written(&written, took))
    }
}

fn asked(request: &Request) -> Asked {
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let method = request.method();
    let is_write = *method == Method::POST || *method == Method::PUT;
    let index = |index: &str| Some(decoded(index));
    match *parts {
        ["_bulk"] if is_write => Asked::Write(Target::Bulk { index: None }),
        [of, "_bulk"] | [of, _, "_bulk"] if is_write => {
            Asked::Write(Target::Bulk { index: index(of) })
        }
        [of, "_doc" | "_create"] | [of, "_doc" | "_create", _]
            if is_write && !of.starts_with('_') =>
        {
            Asked::Write(Target::Document {
                index: decoded(of),
                id: parts.get(2).map(|id| decoded(id)),
            })
        }
        _ => Asked::Answer(probes::answer(method, &parts)),
    }
}

/// A part of a path without its percent signs.
fn decoded(part: &str) -> String {
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.filter(|hex| !hex.starts_with('+'));
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(code) if *byte == b'%' => {
                out.push(code);
                rest = &after[2..];
            }
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
