//! `tail`: lines as they come, over a WebSocket.
//!
//! Whoever is slow loses lines and is told of which (`dropped_entries`); a tail that ends by itself
//! closes with 1011 and says why, as Loki does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use model::Labels;
use tenancy::ReadScope;
use tokio::time::Instant;

use super::super::json::{comma, push_labels, push_string};
use super::super::tailing::{News, STALLED, Tailing, told};
use super::documents::{labels_text, push_entry, push_old_entry};
use super::params::{HOUR_NS, instant_or, limit, now_ns};
use super::{Api, Endpoint, Question, question, refused};
use crate::Error;
use crate::entries::{
    EntrySelection, EntryTail, Pipeline, TailEntries, Tailed, TailedRow, all_labels,
};
use crate::logql::Expr;
use crate::number::push_integer;

/// Seconds that lines may be held back at most, to come in order.
const DELAY_SECONDS_MAX: u64 = 5;

/// Lines that are held back at most.
const HELD_MAX: usize = 5_000;

/// How often clients are asked whether they are there.
const PING: Duration = Duration::from_secs(1);

/// Bytes of a message from a client: they send pongs and closes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Answers a request for a tail: with an error, or by turning into a WebSocket.
pub(super) async fn serve(
    api: &Api,
    scope: ReadScope,
    endpoint: Endpoint,
    parts: &mut Parts,
    body: Body,
) -> Response {
    let asked = async {
        let question = question(api, scope.clone(), endpoint, parts, body).await?;
        let asked = Asked::of(&question).await?;
        Ok::<_, Error>((question, asked))
    };
    let (question, asked) = match asked.await {
        Ok(both) => both,
        Err(error) => return refused(&error, &parts.headers),
    };
    if is_of_a_page(&parts.headers) && !api.origin.origins.allow(&parts.headers) {
        let text = "pages of other origins may not tail without credentials (query.cors_origin)\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(parts, &()).await {
        Ok(upgrade) => upgrade.max_message_size(MESSAGE_BYTES_MAX),
        Err(refusal) => return (StatusCode::BAD_REQUEST, refusal.body_text()).into_response(),
    };
    let authenticator = Arc::clone(&api.origin.authenticator);
    let parts = parts.clone();
    upgrade.on_upgrade(async move |socket| {
        let tail = match begin(&question, &asked).await {
            Ok(tail) => tail,
            Err(error) => return close(socket, told(&error)).await,
        };
        let tailing = Tailing::new(tail, &question.querier, &authenticator, parts, scope);
        asked.run(tailing, socket).await;
    })
}

/// Browsers let any page open a WebSocket to any server, and send along neither a tenant nor a
/// token; whoever sends one of them is no such page.
fn is_of_a_page(asked: &HeaderMap) -> bool {
    asked.contains_key(header::ORIGIN)
        && !asked.contains_key(header::AUTHORIZATION)
        && !asked.contains_key("X-Scope-OrgID")
}

async fn begin(question: &Question, asked: &Asked) -> Result<Box<dyn EntryTail>, Error> {
    let begun = question
        .run(async |cancel| {
            let mut request = asked.request.clone();
            request.selection.cancel = cancel;
            question.entries.tail(&question.scope, request).await
        })
        .await?;
    Ok(begun.answer)
}

async fn close(mut socket: WebSocket, reason: String) {
    let _ = socket.send(closing(&reason)).await;
}

/// A frame that closes: its reason may have 123 bytes.
fn closing(reason: &str) -> Message {
    let end = (0..=reason.len().min(123)).rev().find(|end| reason.is_char_boundary(*end));
    let reason = reason[..end.unwrap_or(0)].into();
    Message::Close(Some(CloseFrame { code: close_code::ERROR, reason }))
}

/// What a client asks for.
struct Asked {
    request: TailEntries,
    pipeline: Pipeline,
    form: Form,
    delay: Duration,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As now; fields among the labels, or beside each line.
    Now { categorizes: bool },
    /// As below `/api/prom`.
    Old,
}

impl Asked {
    async fn of(question: &Question) -> Result<Self, Error> {
        let Expr::Log(lines) = question.parsed().await? else {
            return Err(Error::BadData("only log selector is supported".to_owned()));
        };
        let pipeline = Pipeline::of(&lines, question.text())?;
        let stored_max = limit(question)?;
        let start_ns = instant_or(question, "start", now_ns(question).saturating_sub(HOUR_NS))?;
        let delay_seconds = match question.params.get("delay_for") {
            "" => 0,
            text => text.parse().map_err(|_| {
                Error::BadData(format!(
                    "could not parse 'delay_for' parameter: {text:?} is no number of seconds"
                ))
            })?,
        };
        if delay_seconds > DELAY_SECONDS_MAX {
            let text = format!("delay_for can't be greater than {DELAY_SECONDS_MAX}");
            return Err(Error::BadData(text));
        }
        let selection = EntrySelection {
            selectors: vec![lines.matchers],
            start_ns,
            filter: pipeline.filter.clone(),
            ..EntrySelection::default()
        };
        let form = match question.endpoint {
            Endpoint::OldTail => Form::Old,
            _ => Form::Now { categorizes: question.categorizes },
        };
        let request = TailEntries { selection, stored_max, after: None };
        Ok(Self { request, pipeline, form, delay: Duration::from_secs(delay_seconds) })
    }

    /// Sends what comes until one of both sides ends it.
    async fn run(&self, mut tailing: Tailing, socket: WebSocket) {
        let (mut send, mut receive) = socket.split();
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut held = Held::default();
        loop {
            let message = tokio::select! {
                news = tailing.next(STALLED) => match news {
                    News::Came(came) => {
                        held.add(self.kept(came), Instant::now() + self.delay);
                        held.due(Instant::now()).map(|due| self.message(due))
                    }
                    News::Nothing => None,
                    News::Over(over) => {
                        let _ = sent(&mut send, closing(over.text())).await;
                        return;
                    }
                },
                () = held.wait() => held.due(Instant::now()).map(|due| self.message(due)),
                _ = ping.tick() => Some(Message::Ping(Vec::new().into())),
                heard = receive.next() => match heard {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => None,
                },
            };
            if let Some(message) = message
                && !sent(&mut send, message).await
            {
                return;
            }
        }
    }

    /// What the whole query keeps.
    fn kept(&self, mut came: Tailed) -> Tailed {
        came.rows.retain(|one| self.pipeline.keeps(&one.row));
        came
    }

    fn message(&self, came: Tailed) -> Message {
        let mut out = Vec::new();
        push_message(&mut out, &came, self.form);
        // Every line was made text on its way.
        Message::Text(String::from_utf8_lossy(&out).into_owned().into())
    }
}

/// Says whether the client took it.
async fn sent(send: &mut SplitSink<WebSocket, Message>, message: Message) -> bool {
    let sent = tokio::time::timeout(STALLED, send.send(message)).await;
    matches!(sent, Ok(Ok(())))
}

/// What is held back for a while.
#[derive(Default)]
struct Held {
    came: Tailed,
    /// When the first of it is due.
    due: Option<Instant>,
}

impl Held {
    fn add(&mut self, came: Tailed, due: Instant) {
        if came.rows.is_empty() && came.dropped.count == 0 {
            return;
        }
        self.due.get_or_insert(due);
        self.came.rows.extend(came.rows);
        self.came.dropped.count += came.dropped.count;
        self.came.dropped.first.extend(came.dropped.first);
    }

    /// Waits until something is due.
    async fn wait(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// All of it, once the first is due or there is too much.
    fn due(&mut self, now: Instant) -> Option<Tailed> {
        let is_due = self.due.is_some_and(|due| due <= now) || self.came.rows.len() >= HELD_MAX;
        is_due.then(|| {
            self.due = None;
            std::mem::take(&mut self.came)
        })
    }
}

fn push_message(out: &mut Vec<u8>, came: &Tailed, form: Form) {
    let categorizes = form == Form::Now { categorizes: true };
    let mut streams: BTreeMap<Labels, Vec<&TailedRow>> = BTreeMap::new();
    for one in &came.rows {
        let labels = match categorizes {
            true => Labels::clone(&one.row.stream),
            false => all_labels(&one.row),
        };
        streams.entry(labels).or_default().push(one);
    }
    out.extend_from_slice(b"{\"streams\":[");
    for (at, (labels, rows)) in streams.iter_mut().enumerate() {
        rows.sort_by_key(|one| one.row.place.at_ns);
        comma(out, at);
        out.extend_from_slice(if form == Form::Old { b"{\"labels\":" } else { b"{\"stream\":" });
        push_stream(out, labels, form);
        out.extend_from_slice(if form == Form::Old { b",\"entries\":[" } else { b",\"values\":[" });
        for (at, one) in rows.iter().enumerate() {
            comma(out, at);
            match form {
                Form::Old => push_old_entry(out, &one.row),
                Form::Now { .. } => push_entry(out, &one.row, categorizes),
            }
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
    if came.dropped.count > 0 {
        out.extend_from_slice(b",\"dropped_entries\":[");
        for (at, (labels, at_ns)) in came.dropped.first.iter().enumerate() {
            comma(out, at);
            out.extend_from_slice(b"{\"labels\":");
            push_stream(out, labels, form);
            out.extend_from_slice(b",\"timestamp\":\"");
            push_integer(out, *at_ns);
            out.extend_from_slice(b"\"}");
        }
        out.push(b']');
    }
    if categorizes {
        out.extend_from_slice(b",\"encodingFlags\":[\"categorize-labels\"]");
    }
    out.push(b'}');
}

fn push_stream(out: &mut Vec<u8>, labels: &Labels, form: Form) {
    match form {
        Form::Old => push_string(out, &labels_text(labels)),
        Form::Now { .. } => push_labels(out, labels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_into_a_frame() {
        let reason = |text: &str| match closing(text) {
            Message::Close(Some(frame)) => frame.reason.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(reason("why"), "why");
        assert_eq!(reason(&"x".repeat(200)), "x".repeat(123));
        assert_eq!(reason(&"ü".repeat(100)), "ü".repeat(61));
    }

    #[tokio::test]
    async fn what_is_held_back_goes_together() {
        let mut held = Held::default();
        let now = Instant::now();
        held.add(Tailed::default(), now);
        assert!(held.due.is_none(), "nothing came");
        let came = |count| {
            let dropped = crate::entries::Dropped { count, ..crate::entries::Dropped::default() };
            Tailed { dropped, ..Tailed::default() }
        };
        held.add(came(1), now + Duration::from_millis(20));
        held.add(came(2), now + Duration::from_secs(30));
        assert!(held.due(now).is_none());
        held.wait().await;
        let due = held.due(Instant::now()).expect("both");
        assert_eq!((due.dropped.count, held.due), (3, None));
    }
}
