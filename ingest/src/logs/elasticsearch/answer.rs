//! Answers as Elasticsearch gives them.

use std::time::Duration;

use axum::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use storage::entries::EntryReason;

use super::bulk::{Bulk, Item, Result, Target};
use crate::intake::{Refusal, seconds_of};
use crate::logs::intake::WrittenEntries;

/// Clients go on only if the server says this.
const PRODUCT: HeaderName = HeaderName::from_static("x-elastic-product");

/// The media type of clients that name the version they are of.
const VERSIONED: &str = "application/vnd.elasticsearch+json";

/// The media type of the answer: the one the client asks for, with its version, or plain JSON.
pub(super) fn media_of(headers: &HeaderMap) -> HeaderValue {
    let asked = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let asked = asked.and_then(|accept| accept.split(',').next()).map(str::trim);
    let versioned = asked.filter(|media| media.starts_with(VERSIONED));
    let media = versioned.and_then(|media| HeaderValue::from_str(media).ok());
    media.unwrap_or(HeaderValue::from_static("application/json"))
}

/// The answer with the headers that every answer has.
pub(super) fn in_form(mut response: Response, media: HeaderValue) -> Response {
    let headers = response.headers_mut();
    headers.insert(PRODUCT, HeaderValue::from_static("Elasticsearch"));
    if headers.get(CONTENT_TYPE).is_none_or(|known| known == "application/json") {
        headers.insert(CONTENT_TYPE, media);
    }
    response
}

/// JSON with a status.
pub(super) fn body(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A whole request that was refused.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let (_, status) = refusal.kind();
    let mut response = failure(status, &refusal.to_string());
    if let Some(wait) = refusal.retry_after(status) {
        response.headers_mut().insert(RETRY_AFTER, seconds_of(wait));
    }
    response
}

pub(super) fn failure(status: StatusCode, reason: &str) -> Response {
    let cause = json!({ "type": kind_of(status.as_u16()), "reason": reason });
    let mut error = cause.clone();
    error["root_cause"] = json!([cause]);
    body(status, &json!({ "error": error, "status": status.as_u16() }))
}

fn kind_of(status: u16) -> &'static str {
    match status {
        429 => "es_rejected_execution_exception",
        413 => "content_too_long_exception",
        503 => "unavailable_shards_exception",
        404 => "index_not_found_exception",
        500 => "exception",
        _ => "illegal_argument_exception",
    }
}

/// The answer to a write that was carried out, item by item.
pub(super) fn written(written: &WrittenEntries<Bulk>, took: Duration) -> Response {
    let verdicts = Verdicts::of(written);
    let Bulk { target, items, .. } = &written.door;
    if let (Target::Document { .. }, [item]) = (target, items.as_slice()) {
        let (status, mut told) = verdicts.item(item, 0);
        if status >= 400 {
            let error = told["error"].take();
            told = json!({ "error": error, "status": status });
        }
        return body(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), &told);
    }
    let mut has_errors = false;
    let items = items.iter().enumerate().map(|(number, item)| {
        let (status, told) = verdicts.item(item, number);
        has_errors |= status >= 400;
        json!({ item.action.as_str(): told })
    });
    let items: Vec<_> = items.collect();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    body(StatusCode::OK, &json!({ "took": took_ms, "errors": has_errors, "items": items }))
}

/// What is told of each item.
struct Verdicts<'w> {
    written: &'w WrittenEntries<Bulk>,
    /// Refused entries in order of their numbers.
    refused: Vec<(u32, EntryReason)>,
    /// Why the store refused entries that it gave no numbers of. Each may be one of them.
    unknown: Option<EntryReason>,
}

impl<'w> Verdicts<'w> {
    fn of(written: &'w WrittenEntries<Bulk>) -> Self {
        let mut refused = written.refused.clone();
        refused.sort_by_key(|(number, _)| *number);
        let told = |reason| {
            let by_number = refused.iter().filter(|(_, r)| *r == reason).count();
            let of_door = written.door.items.iter();
            by_number + of_door.filter(|item| item.result == Result::Refused(reason)).count()
        };
        // Of several a rate comes first: what can be sent again must not be given up.
        let mut unknown: Vec<_> = written.outcome.rejected.iter().collect();
        unknown.retain(|rejected| rejected.count > told(rejected.reason) as u64);
        unknown.sort_by_key(|rejected| !rejected.reason.is_rate());
        let unknown = unknown.first().map(|rejected| rejected.reason);
        Self { written, refused, unknown }
    }

    fn item(&self, item: &Item, number: usize) -> (u16, Value) {
        let reason = match &item.result {
            Result::Unsupported => {
                let text = "documents are never changed here: send create or index";
                let told = json!({ "_index": *item.index, "_id": item.id, "status": 400,
                    "error": { "type": kind_of(400), "reason": text } });
                return (400, told);
            }
            Result::Refused(reason) => Some(*reason),
            Result::Entry(entry) => {
                let at = self.refused.binary_search_by_key(entry, |(number, _)| *number);
                at.map(|at| self.refused[at].1).ok().or(self.unknown)
            }
        };
        let Some(reason) = reason else {
            let id = item.id.as_deref().map_or_else(|| number.to_string(), ToOwned::to_owned);
            let told = json!({ "_index": *item.index, "_id": id, "_version": 1, "result": "created",
                "_shards": { "total": 1, "successful": 1, "failed": 0 },
                "_seq_no": 0, "_primary_term": 1, "status": 201 });
            return (201, told);
        };
        let status = if reason.is_rate() { 429 } else { 400 };
        let example = self.written.outcome.rejected.iter().find(|r| r.reason == reason);
        let example = example.map_or("", |rejected| rejected.example.as_str());
        let example = &example[..example.floor_char_boundary(512)];
        let kind = if status == 429 { kind_of(429) } else { "document_parsing_exception" };
        let told = json!({ "_index": *item.index, "_id": item.id, "status": status,
            "error": { "type": kind, "reason": format!("{reason}: {example}") } });
        (status, told)
    }
}
