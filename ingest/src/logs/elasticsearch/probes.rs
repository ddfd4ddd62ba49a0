//! What senders ask before they send: who is there, which licence, are templates and policies set up.
//!
//! Nothing of it is kept: templates, policies and pipelines have no meaning here, and are said to be
//! there so that senders go on.

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::{body, failure};

/// The version we answer as: senders refuse servers that are older than they are, by major number.
const VERSION: &str = "8.17.0";

/// The answer to anything that is no write.
pub(super) fn answer(method: &Method, parts: &[&str]) -> Response {
    let is_read = *method == Method::GET || *method == Method::HEAD;
    let found = match parts {
        [] => Some(info()),
        ["_license"] => Some(license()),
        ["_xpack"] => Some(json!({
            "build": {}, "license": { "mode": "basic", "type": "basic", "status": "active" },
            "features": { "ilm": { "available": true, "enabled": true },
                          "security": { "available": true, "enabled": false } } })),
        ["_cluster", "health", ..] => Some(json!({
            "cluster_name": "taffrail", "status": "green", "timed_out": false,
            "number_of_nodes": 1, "number_of_data_nodes": 1 })),
        ["_cluster", "settings"] if is_read => Some(json!({ "persistent": {}, "transient": {} })),
        ["_nodes", ..] => Some(nodes()),
        ["_data_stream", ..] if is_read => Some(json!({ "data_streams": [] })),
        ["_cat", ..] if is_read => return (StatusCode::OK, "").into_response(),
        [
            "_ilm"
            | "_slm"
            | "_index_template"
            | "_template"
            | "_component_template"
            | "_ingest"
            | "_data_stream"
            | "_security"
            | "_alias"
            | "_settings"
            | "_mapping",
            ..,
        ] => Some(if is_read { json!({}) } else { json!({ "acknowledged": true }) }),
        [index] | [index, "_settings" | "_mapping" | "_alias", ..] if !index.starts_with('_') => {
            // Every index is there: whoever asks wants to write to it.
            Some(if is_read { json!({}) } else { json!({ "acknowledged": true, "index": index }) })
        }
        _ => None,
    };
    match found {
        Some(found) => body(StatusCode::OK, &found),
        None => {
            let what = format!("{method} /{}", parts.join("/"));
            let what = &what[..what.floor_char_boundary(200)];
            failure(
                StatusCode::NOT_FOUND,
                &format!("{what} is not served: only writes are taken here"),
            )
        }
    }
}

fn info() -> Value {
    json!({
        "name": "taffrail", "cluster_name": "taffrail", "cluster_uuid": "taffrail",
        "version": {
            "number": VERSION, "build_flavor": "default", "build_type": "tar",
            "build_hash": "0000000000000000000000000000000000000000",
            "build_date": "2024-12-11T12:08:05.663969764Z", "build_snapshot": false,
            "lucene_version": "9.12.0", "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0" },
        "tagline": "You Know, for Search" })
}

fn license() -> Value {
    json!({ "license": {
        "status": "active", "uid": "00000000-0000-0000-0000-000000000000", "type": "basic",
        "issue_date": "2020-01-01T00:00:00.000Z", "issue_date_in_millis": 1_577_836_800_000_u64,
        "max_nodes": 1_000, "issued_to": "taffrail", "issuer": "elasticsearch", "start_date_in_millis": -1 } })
}

/// Senders that look for other nodes to write to find none: they stay with this address.
fn nodes() -> Value {
    json!({ "_nodes": { "total": 1, "successful": 1, "failed": 0 }, "cluster_name": "taffrail",
        "nodes": { "taffrail": { "name": "taffrail", "version": VERSION, "roles": ["data", "ingest"] } } })
}
