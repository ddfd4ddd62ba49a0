//! Events and audit records by webhook: of the Kubernetes API server, of KubeSphere, of exporters of
//! events.
//!
//! A body is an object, a list of them (`items`), an array, or objects one after the other.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use storage::entries::EntryReason;
use tenancy::{Authenticator, WriteScope};

use super::{audit, event};
use crate::caps::WalkError;
use crate::door;
use crate::intake::Refusal;
use crate::logs::builder::Entries;
use crate::logs::document::Taken;
use crate::logs::intake::{EntryIntake, TakeEntries};
use crate::logs::json::{Json, Value};
use crate::logs::{jsonline, plain, told};

/// Method and path of every route; the last is that of KubeSphere's auditing webhook.
pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/api/v1/ingest/events"),
    ("POST", "/api/v1/ingest/audit"),
    ("POST", "/audit/webhook/event"),
];

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::logs) enum Objects {
    Events,
    Audits,
}

/// The routes of [`ROUTES`]. Each asks for a write scope before a byte of the body is read.
pub fn router(objects: Arc<KubernetesObjects>, authenticator: Arc<Authenticator>) -> Router {
    door::router(ROUTES, objects, authenticator, |door, route, scope, request| async move {
        door.handle(route, scope, request).await
    })
}

/// The receiver of Kubernetes events and audit records.
#[derive(Debug)]
pub struct KubernetesObjects {
    intake: Arc<EntryIntake>,
}

impl KubernetesObjects {
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
        let encoding = jsonline::encoding(request.headers())
            .map_err(|why| self.intake.intake.refused(scope, why.into()))?;
        let objects = match request.uri().path().ends_with("/ingest/events") {
            true => Objects::Events,
            false => Objects::Audits,
        };
        let body = request.into_body();
        let written = self.intake.write(scope, encoding, body, Body { objects }).await?;
        Ok(told::told(&written.outcome, scope.routes().is_some()))
    }
}

/// One body.
pub(in crate::logs) struct Body {
    pub(in crate::logs) objects: Objects,
}

impl TakeEntries for Body {
    fn take_entries<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Entries<'_, 'a>,
    ) -> Result<(), Refusal> {
        let mut json = Json::new(body);
        while json.end().is_err() {
            let value = json.skip().map_err(WalkError::from)?;
            self.value(value, out)?;
        }
        Ok(())
    }
}

impl Body {
    fn value<'a>(&self, value: &'a [u8], out: &mut Entries<'_, 'a>) -> Result<(), WalkError> {
        let mut json = Json::new(value);
        match json.value()? {
            Value::Array => self.items(&mut Json::new(value), out),
            Value::Object => {
                let mut is_first = true;
                while let Some(name) = json.key(&mut is_first)? {
                    let is_list = name.raw.eq_ignore_ascii_case(b"items");
                    // What watches and some exporters wrap an event in.
                    let is_wrapped =
                        self.objects == Objects::Events && (name.is("object") || name.is("event"));
                    let mut ahead = json;
                    match ahead.value()? {
                        Value::Array if is_list => return self.items(&mut json, out),
                        Value::Object if is_wrapped => {
                            let inner = json.skip()?;
                            return self.object(inner, out).map(drop);
                        }
                        _ => drop(json.skip()?),
                    }
                }
                self.object(value, out).map(drop)
            }
            _ => {
                out.refuse(EntryReason::InvalidEntry, || "what came is no object".to_owned());
                Ok(())
            }
        }
    }

    fn items<'a>(&self, json: &mut Json<'a>, out: &mut Entries<'_, 'a>) -> Result<(), WalkError> {
        let mut is_first = true;
        json.array()?;
        while json.element(&mut is_first)? {
            let item = json.skip()?;
            let _ = self.object(item, out)?;
        }
        Ok(())
    }

    fn object<'a>(&self, text: &'a [u8], out: &mut Entries<'_, 'a>) -> Result<Taken, WalkError> {
        match self.objects {
            Objects::Events => event(text, out),
            Objects::Audits => audit(text, out),
        }
    }
}
