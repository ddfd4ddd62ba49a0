//! Remote read: other Prometheus servers read raw samples, all in one message or chunk by chunk.
//!
//! ```text
//! snappy ─► wire::ReadRequest ─► Executor::read, batch by batch ─► one message, snappy
//!                                                          └► frames of chunks, as they come
//! ```
//!
//! A batch is read once the one before is on its way, so what is in memory does not grow with the
//! answer; a single message is limited by the tenant's memory for a query.

mod chunks;
pub(super) mod wire;

use std::vec::IntoIter;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use tenancy::ReadScope;

use super::Question;
use super::reply::{self, Reply};
use super::streaming::{self, Sender};
use crate::running::Asked;
use crate::{Batches, Cancel, Error, Querier, RawSeries, ReadRequest as Selection};
use chunks::Chunks;
use wire::{Form, Query, ReadRequest};

/// Bytes of a decompressed request: some matchers.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Bytes of chunks after which a frame ends, as in Prometheus.
const FRAME_BYTES: usize = 1 << 20;

/// `read`
pub(super) async fn read(question: Question<'_>) -> Result<Reply, Error> {
    let Question { querier, scope, body, .. } = question;
    let request = match inflated(&body).and_then(|message| ReadRequest::parse(&message)) {
        Ok(request) => request,
        Err(text) => return Ok(plain(&Error::BadData(text))),
    };
    let querier = querier.clone();
    let answer = match request.form {
        Form::Samples => samples(&querier, &scope, request.queries).await,
        Form::StreamedChunks => streamed(querier, scope, request.queries).await,
    };
    Ok(answer.map_or_else(|error| plain(&error), Reply::Ready))
}

fn inflated(body: &[u8]) -> Result<Vec<u8>, String> {
    let declared = snap::raw::decompress_len(body).map_err(|e| e.to_string())?;
    if declared > REQUEST_BYTES_MAX {
        return Err(format!(
            "the request has {declared} bytes, {REQUEST_BYTES_MAX} are allowed; ask for less at a time"
        ));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(|e| e.to_string())
}

/// An error in plain text, which is what those who read remotely put into their logs.
fn plain(error: &Error) -> Reply {
    // As Prometheus has it: a limit is the asker's fault, a 422 no status of this protocol.
    let status = match error.status() {
        422 => 400,
        status => status,
    };
    reply::plain(status, error)
}

/// What is asked, for the list of what runs.
fn asked(queries: &[Query]) -> Asked {
    let selector = |query: &Query| {
        let matchers: Vec<String> = query.matchers.iter().map(ToString::to_string).collect();
        format!("{{{}}}", matchers.join(","))
    };
    let text: Vec<String> = queries.iter().take(10).map(selector).collect();
    let start_ms = queries.iter().map(|q| q.range.start_ms).min().unwrap_or(0);
    let end_ms = queries.iter().map(|q| q.range.end_ms).max().unwrap_or(0);
    Asked { start_ms, end_ms, ..Asked::new("read", &text.join(", ")) }
}

/// The series of all queries, in order.
struct Reader<'a> {
    querier: &'a Querier,
    scope: &'a ReadScope,
    queries: &'a [Query],
    cancel: Cancel,
    /// The query that is read.
    place: usize,
    batches: Option<Box<dyn Batches>>,
    batch: IntoIter<RawSeries>,
}

impl<'a> Reader<'a> {
    fn new(
        querier: &'a Querier,
        scope: &'a ReadScope,
        queries: &'a [Query],
        cancel: Cancel,
    ) -> Self {
        let (batches, batch) = (None, Vec::new().into_iter());
        Self { querier, scope, queries, cancel, place: 0, batches, batch }
    }

    /// The next series and the place of its query; `None` after the last.
    async fn next(&mut self) -> Result<Option<(usize, RawSeries)>, Error> {
        while let Some(query) = self.queries.get(self.place) {
            for series in self.batch.by_ref() {
                if query.series_only {
                    return Ok(Some((self.place, RawSeries::bare(series.labels))));
                }
                if !series.is_empty() {
                    return Ok(Some((self.place, series)));
                }
            }
            let batches = match &mut self.batches {
                Some(batches) => batches,
                None => {
                    let (matchers, range) = (query.matchers.clone(), query.range);
                    let selection = Selection { matchers, range, cancel: self.cancel.clone() };
                    let read = self.querier.executor().read(self.scope, selection).await?;
                    self.batches.insert(read)
                }
            };
            // Encoding is work; others want this thread as well.
            tokio::task::yield_now().await;
            match batches.next().await? {
                Some(batch) => self.batch = batch.into_iter(),
                None => {
                    self.batches = None;
                    self.place += 1;
                }
            }
        }
        Ok(None)
    }
}

/// All in one message.
async fn samples(
    querier: &Querier,
    scope: &ReadScope,
    queries: Vec<Query>,
) -> Result<Response, Error> {
    let deadline = querier.deadline(scope, None)?;
    let limit = scope.limits().query_memory_bytes_max;
    let work = async |cancel: Cancel| {
        let mut results = vec![Vec::new(); queries.len()];
        let (mut bytes, mut scratch) = (0usize, Vec::new());
        let mut reader = Reader::new(querier, scope, &queries, cancel);
        while let Some((place, series)) = reader.next().await? {
            scratch.clear();
            wire::put_series(&mut scratch, &series);
            bytes += scratch.len();
            // Once as it is, once as the message, once compressed.
            check_memory(bytes.saturating_mul(3), limit)?;
            wire::put_bytes(&mut results[place], 1, &scratch);
        }
        Ok(results)
    };
    let results = querier.run(scope, deadline, asked(&queries), work).await?.answer;
    let compressed = tokio::task::spawn_blocking(move || {
        let mut message = Vec::with_capacity(results.iter().map(|r| r.len() + 16).sum());
        results.iter().for_each(|result| wire::put_bytes(&mut message, 1, result));
        drop(results);
        snap::raw::Encoder::new().compress_vec(&message)
    });
    let failed = |source: crate::Source| Error::internal("compress the answer", source);
    let compressed = compressed.await.map_err(|e| failed(e.into()))?;
    let compressed = compressed.map_err(|e| failed(e.into()))?;
    let kind =
        [(header::CONTENT_TYPE, "application/x-protobuf"), (header::CONTENT_ENCODING, "snappy")];
    Ok((kind, compressed).into_response())
}

fn check_memory(bytes: usize, limit: usize) -> Result<(), Error> {
    if bytes <= limit {
        return Ok(());
    }
    Err(Error::Execution(format!(
        "the answer would take {bytes} bytes of memory, the limit is {limit} \
         (query_memory_bytes_max), exceeded by {}; ask for STREAMED_XOR_CHUNKS or for less",
        bytes - limit
    )))
}

/// Frames, as they come. The question has its turn until the last frame is taken.
async fn streamed(
    querier: Querier,
    scope: ReadScope,
    queries: Vec<Query>,
) -> Result<Response, Error> {
    let produce = |send: Sender| async move { send_frames(&querier, &scope, queries, &send).await };
    let body = streaming::body(produce).await?;
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

async fn send_frames(
    querier: &Querier,
    scope: &ReadScope,
    queries: Vec<Query>,
    send: &Sender,
) -> Result<(), Error> {
    let deadline = querier.deadline(scope, None)?;
    let described = asked(&queries);
    let work = async |cancel: Cancel| {
        let mut reader = Reader::new(querier, scope, &queries, cancel);
        while let Some((place, series)) = reader.next().await? {
            send_series(place, &series, send).await?;
        }
        Ok(())
    };
    querier.run(scope, deadline, described, work).await.map(|_| ())
}

/// A series in as many frames as it takes.
async fn send_series(place: usize, series: &RawSeries, send: &Sender) -> Result<(), Error> {
    let mut labels = Vec::new();
    wire::put_labels(&mut labels, &series.labels);
    let mut frame = labels.clone();
    let mut chunks = Chunks::of(series).peekable();
    loop {
        if let Some(chunk) = chunks.next() {
            wire::put_chunk(&mut frame, &chunk);
        }
        let last = chunks.peek().is_none();
        if frame.len() < FRAME_BYTES && !last {
            continue;
        }
        let whole = wire::frame(&frame, place);
        send.send(whole.into()).await?;
        if last {
            return Ok(());
        }
        frame.clone_from(&labels);
    }
}

#[cfg(test)]
mod tests;
