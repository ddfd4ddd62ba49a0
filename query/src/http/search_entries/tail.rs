//! `tail`: entries as they come, as lines of JSON or as server-sent events, each with an id to go on
//! behind it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use model::{Signal, TailId};
use tenancy::Authenticator;

use super::super::json::{comma, push_labels, push_string};
use super::super::params::{Params, invalid};
use super::super::reply::Reply;
use super::super::streaming::{self, Sender};
use super::super::tailing::{News, Over, STALLED, Tailing};
use super::Question;
use super::operations::{push_entry, size};
use crate::Error;
use crate::entries::{Dropped, TailEntries, Tailed, TailedRow};
use crate::number::{push_integer, push_unsigned};

/// After so long without anything to tell a sign of life is sent: a client that is gone shows itself.
const STILL_THERE: Duration = Duration::from_secs(15);

/// Bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;

/// How what comes is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// An object a line.
    Lines,
    /// Server-sent events.
    Events,
}

/// Answers with what comes, until one of both sides ends it.
pub(super) async fn answer(
    question: Question,
    signal: Signal,
    params: &Params,
    authenticator: &Arc<Authenticator>,
    parts: &Parts,
) -> Result<Reply, Error> {
    let form = Form::of(params, &parts.headers)?;
    if let Some(name) = ["end", "end_time", "cursor", "sort", "operation"]
        .into_iter()
        .find(|name| !params.get(name).is_empty())
    {
        return Err(invalid(name, "a tail has none: it gives what comes"));
    }
    let after = after(params, &parts.headers)?;
    let stored_max = size(params, "size", 10)?;
    let selection = question.selection(signal, params).await?;
    let begun = question
        .run(async |cancel| {
            let mut request = TailEntries { selection, stored_max, after };
            request.selection.cancel = cancel;
            question.entries.tail(&question.scope, request).await
        })
        .await?;
    let Question { querier, scope, .. } = question;
    let tailing = Tailing::new(begun.answer, &querier, authenticator, parts.clone(), scope);
    let body = streaming::body(move |send| run(tailing, form, send)).await?;
    let kind = match form {
        Form::Lines => "application/x-ndjson; charset=utf-8",
        Form::Events => "text/event-stream",
    };
    // Proxies must not hold it back.
    let headers = [
        (header::CONTENT_TYPE.as_str(), kind),
        (header::CACHE_CONTROL.as_str(), "no-cache"),
        ("X-Accel-Buffering", "no"),
    ];
    Ok(Reply::Ready((headers, body).into_response()))
}

/// What browsers send by themselves when they connect again, or the parameter of the same name.
fn after(params: &Params, headers: &HeaderMap) -> Result<Option<TailId>, Error> {
    let sent = headers.get("Last-Event-ID").and_then(|value| value.to_str().ok());
    match sent.unwrap_or(params.get("last_event_id")) {
        "" => Ok(None),
        text => {
            let id = text.parse::<TailId>();
            id.map(Some).map_err(|error| invalid("last_event_id", &error.to_string()))
        }
    }
}

async fn run(mut tailing: Tailing, form: Form, send: Sender) -> Result<(), Error> {
    loop {
        let mut out = Vec::new();
        let over = match tailing.next(STILL_THERE).await {
            News::Came(came) => {
                for one in &came.rows {
                    form.push_row(&mut out, one);
                    if out.len() >= PIECE_BYTES {
                        pass(&send, std::mem::take(&mut out)).await?;
                    }
                }
                form.push_rest(&mut out, &came);
                false
            }
            News::Nothing => {
                out.extend_from_slice(form.still_there());
                false
            }
            News::Over(over) => {
                form.push_end(&mut out, &over);
                true
            }
        };
        pass(&send, out).await?;
        if over {
            return Ok(());
        }
    }
}

async fn pass(send: &Sender, piece: Vec<u8>) -> Result<(), Error> {
    let sent = tokio::time::timeout(STALLED, send.send(Bytes::from(piece))).await;
    sent.map_err(|_| Error::Timeout("the client takes nothing any more".to_owned()))?
}

impl Form {
    fn of(params: &Params, headers: &HeaderMap) -> Result<Self, Error> {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
        match params.get("format") {
            "" if accepted.into_iter().any(|v| v.contains("text/event-stream")) => Ok(Self::Events),
            "" | "json" => Ok(Self::Lines),
            "events" => Ok(Self::Events),
            _ => Err(invalid("format", "it is one of json, events")),
        }
    }

    fn push_row(self, out: &mut Vec<u8>, one: &TailedRow) {
        self.begin(out, "entry", one.id);
        push_entry(out, &one.row);
        self.end(out);
    }

    /// What is to be told behind the rows.
    fn push_rest(self, out: &mut Vec<u8>, came: &Tailed) {
        if let Some(upto) = came.upto {
            self.begin(out, "stored", Some(upto));
            out.extend_from_slice(b"{\"entries\":");
            push_unsigned(out, came.rows.len() as u64);
            out.extend_from_slice(b",\"repeats\":");
            out.extend_from_slice(if came.repeats { b"true}" } else { b"false}" });
            self.end(out);
        }
        if came.dropped.count > 0 {
            self.begin(out, "dropped", None);
            push_dropped(out, &came.dropped);
            self.end(out);
        }
    }

    fn push_end(self, out: &mut Vec<u8>, over: &Over) {
        self.begin(out, "end", None);
        out.extend_from_slice(b"{\"reason\":");
        push_string(out, over.text());
        out.push(b'}');
        self.end(out);
    }

    fn still_there(self) -> &'static [u8] {
        match self {
            Self::Lines => b"{}\n",
            Self::Events => b":\n\n",
        }
    }

    fn begin(self, out: &mut Vec<u8>, what: &str, id: Option<TailId>) {
        let id = id.map(|id| id.to_string());
        let text = match (self, id) {
            (Self::Lines, None) => format!("{{\"{what}\":"),
            (Self::Lines, Some(id)) => format!("{{\"id\":\"{id}\",\"{what}\":"),
            // Entries are what an event is if nothing is said.
            (Self::Events, None) if what == "entry" => "data: ".to_owned(),
            (Self::Events, Some(id)) if what == "entry" => format!("id: {id}\ndata: "),
            (Self::Events, None) => format!("event: {what}\ndata: "),
            (Self::Events, Some(id)) => format!("event: {what}\nid: {id}\ndata: "),
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Lines => b"}\n",
            Self::Events => b"\n\n",
        });
    }
}

fn push_dropped(out: &mut Vec<u8>, dropped: &Dropped) {
    out.extend_from_slice(b"{\"count\":");
    push_unsigned(out, dropped.count);
    out.extend_from_slice(b",\"first\":[");
    for (at, (labels, at_ns)) in dropped.first.iter().enumerate() {
        comma(out, at);
        out.extend_from_slice(b"{\"labels\":");
        push_labels(out, labels);
        out.extend_from_slice(b",\"time_ns\":\"");
        push_integer(out, *at_ns);
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"]}");
}
