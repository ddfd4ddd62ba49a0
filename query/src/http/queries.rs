//! `status/queries`: what is being asked, what it has used so far, and the end of it.
//!
//! Whoever may read all of a question's tenants sees it, and whoever administers them may end it,
//! which is put on record. With `X-Scope-OrgID: *` an administrator of the platform sees everybody's.

use std::convert::Infallible;

use serde_json::{Value, json};
use tenancy::Act;

use super::documents::{List, Notes};
use super::json::{comma, push_string, push_strings};
use super::listings::restricted;
use super::params::quoted;
use super::reply::Reply;
use super::{Acting, Question};
use crate::Error;
use crate::number::{push_seconds, push_unsigned, push_value};
use crate::running::{Asked, Entry, State};

/// `status/queries`
pub(super) fn list(question: &Question<'_>) -> Result<Reply, Error> {
    if question.scope.is_restricted() {
        return Err(restricted("queries of others"));
    }
    let now = question.querier.clock().monotonic();
    let shown = question.querier.running().visible(&question.scope);
    let shown = shown.iter().map(|entry| Shown::of(entry, now)).collect();
    Ok(Reply::document(List::new(shown, Notes::default(), |out, shown: &Shown| {
        out.extend_from_slice(&shown.0);
    })))
}

/// `DELETE status/queries/{id}`, `POST status/queries/{id}/kill`
pub(super) async fn end(question: Question<'_>) -> Result<Reply, Error> {
    if question.scope.is_restricted() {
        return Err(restricted("queries of others"));
    }
    let id = &question.named;
    let number: u64 = id.parse().map_err(|_| {
        Error::BadData(format!("{} is no query's id; status/queries lists them", quoted(id)))
    })?;
    let found = question.querier.running().find(&question.scope, number);
    let (Some(entry), Some(Acting { authenticator, principal })) = (found, &question.who) else {
        return Err(Error::NotFound(format!("no query {number} runs or waits")));
    };
    let tenants = entry.scope.tenants();
    if let Some(tenant) = tenants.iter().find(|tenant| !principal.administers(&tenant.name)) {
        return Err(Error::Forbidden(format!(
            "query {number} can only be ended by an administrator of tenant {}",
            tenant.name
        )));
    }
    let names: Vec<&str> = tenants.iter().map(|t| t.name.as_str()).collect();
    let Asked { handler, text, .. } = &entry.asked;
    let act = Act {
        who: &principal.actor(),
        action: "query.end",
        // Of several tenants it says below which.
        tenant: if let [one] = tenants { Some((&one.name, one.id)) } else { None },
        old: json!({ "id": number, "handler": handler, "query": text, "tenants": names }),
        new: Value::Null,
    };
    let ending = async {
        entry.end();
        Ok::<_, Infallible>(())
    };
    let recorded = authenticator.recorded(act, ending).await;
    recorded.map_err(|error| Error::internal(format!("end query {number}"), error))?.ok();
    tracing::info!(id = number, tenant = names.join("|"), handler, expr = text, "query ended");
    Ok(Reply::Nothing)
}

/// One question as JSON.
struct Shown(Vec<u8>);

impl Shown {
    fn of(entry: &Entry, now: std::time::Duration) -> Self {
        let mut out = Vec::with_capacity(512);
        let Asked { handler, text, start_ms, end_ms, step_ms } = &entry.asked;
        let waits = entry.state() == State::Waiting;
        let tenants: Vec<String> =
            entry.scope.tenants().iter().map(|t| t.name.as_str().to_owned()).collect();
        out.extend_from_slice(b"{\"id\":");
        push_unsigned(&mut out, entry.id);
        out.extend_from_slice(b",\"tenants\":");
        push_strings(&mut out, &tenants);
        for (name, value) in [
            ("handler", *handler),
            ("query", text),
            ("state", if waits { "waiting" } else { "running" }),
        ] {
            out.push(b',');
            push_string(&mut out, name);
            out.push(b':');
            push_string(&mut out, value);
        }
        for (name, ms) in [("start", start_ms), ("end", end_ms), ("step", step_ms)] {
            field(&mut out, name);
            push_seconds(&mut out, *ms);
        }
        let used = entry.cancel.usage().now();
        let age = now.saturating_sub(entry.came);
        let waited = if waits { age } else { entry.waited() };
        for (name, seconds) in
            [("ageSeconds", age), ("waitedSeconds", waited), ("cpuSeconds", used.cpu)]
        {
            field(&mut out, name);
            push_value(&mut out, seconds.as_secs_f64());
        }
        for (name, number) in [
            ("series", used.series),
            ("samples", used.samples),
            ("bytes", used.bytes),
            ("memoryBytes", used.memory_bytes),
            ("memoryBytesPeak", used.memory_bytes_peak),
        ] {
            field(&mut out, name);
            push_unsigned(&mut out, number);
        }
        out.push(b'}');
        Self(out)
    }
}

fn field(out: &mut Vec<u8>, name: &str) {
    comma(out, 1);
    push_string(out, name);
    out.push(b':');
}
