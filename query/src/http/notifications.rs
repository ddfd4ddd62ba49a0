//! `notifications` and `notifications/live`: a configuration that was refused, in the words of
//! Prometheus' own pages. Before the log is read back and once the process is to end, nothing is
//! served, so that there is no more to tell.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use futures::stream;

use super::Question;
use super::documents::Single;
use super::json::push_string_map;
use super::reply::Reply;
use super::times::rfc3339_text;
use crate::reloads::{Listener, Refused};

/// After so long without anything to tell a comment is sent: a client that is gone shows itself.
const STILL_THERE: Duration = Duration::from_secs(30);

/// `notifications`: what stands.
pub(super) fn list(question: &Question<'_>) -> Reply {
    let failed = question.querier.reloads().failed_ms();
    Reply::document(Single::new(move |out| {
        out.push(b'[');
        if let Some(at_ms) = failed {
            push(out, Refused { at_ms, stands: true });
        }
        out.push(b']');
    }))
}

/// `notifications/live`: what stands and what changes, as server-sent events; 204 while as many
/// listen as may.
pub(super) fn live(question: &Question<'_>) -> Reply {
    let Some(listener) = question.querier.reloads().listen() else { return Reply::Nothing };
    let events = stream::unfold(listener, |mut listener| async move {
        Some((Ok::<_, Infallible>(event(&mut listener).await?), listener))
    });
    let mut response = Response::new(Body::from_stream(events));
    for (name, value) in [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Reply::Ready(response)
}

async fn event(listener: &mut Listener) -> Option<Bytes> {
    let Ok(next) = tokio::time::timeout(STILL_THERE, listener.next()).await else {
        return Some(Bytes::from_static(b":\n\n"));
    };
    let mut out = b"data: ".to_vec();
    push(&mut out, next?);
    out.extend_from_slice(b"\n\n");
    Some(out.into())
}

fn push(out: &mut Vec<u8>, refused: Refused) {
    let text = "Configuration reload has failed.".to_owned();
    push_string_map(out, &[("text", text), ("date", rfc3339_text(refused.at_ms))]);
    out.pop();
    out.extend_from_slice(if refused.stands {
        b",\"active\":true}"
    } else {
        b",\"active\":false}"
    });
}
