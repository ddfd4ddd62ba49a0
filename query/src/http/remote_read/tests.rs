//! Requests as other servers send them, answers as they read them.

use std::sync::Arc;

use axum::body::Body;
use axum::body::to_bytes;
use axum::http::Request;
use axum::http::response::Parts;
use model::{MatchOp, varint};

use super::wire::put_bytes;
use super::*;
use crate::http::tests::{Fake, block_on, querier, querier_with, send};

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint::put(out, field << 3);
    varint::put(out, value);
}

/// A query over everything from `start` to `end` with one matcher.
fn query(start: i64, end: i64, op: u64, name: &str, value: &str) -> Vec<u8> {
    let (mut matcher, mut out) = (Vec::new(), Vec::new());
    number(&mut matcher, 1, op);
    put_bytes(&mut matcher, 2, name.as_bytes());
    put_bytes(&mut matcher, 3, value.as_bytes());
    number(&mut out, 1, start as u64);
    number(&mut out, 2, end as u64);
    put_bytes(&mut out, 3, &matcher);
    out
}

fn request(queries: &[Vec<u8>], accepted: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    queries.iter().for_each(|query| put_bytes(&mut out, 1, query));
    let mut packed = Vec::new();
    accepted.iter().for_each(|form| varint::put(&mut packed, *form));
    if !packed.is_empty() {
        put_bytes(&mut out, 2, &packed);
    }
    out
}

#[test]
fn requests_are_read() {
    let parsed = ReadRequest::parse(&request(
        &[query(-5, 10, 2, "a", "x.*"), query(1, 2, 3, "b", "y")],
        &[7, 1, 0],
    ));
    let parsed = parsed.expect("a request");
    assert_eq!(parsed.form, Form::StreamedChunks);
    assert_eq!(parsed.queries.len(), 2);
    let first = &parsed.queries[0];
    assert_eq!((first.range.start_ms, first.range.end_ms), (-5, 10));
    assert_eq!((first.matchers[0].op(), first.matchers[0].value()), (MatchOp::Regex, "x.*"));
    assert_eq!(parsed.queries[1].matchers[0].op(), MatchOp::NotRegex);
    assert!(!first.series_only);

    let mut hinted = query(1, 2, 0, "a", "b");
    let mut hints = Vec::new();
    number(&mut hints, 1, 15_000);
    put_bytes(&mut hints, 2, b"series");
    put_bytes(&mut hinted, 4, &hints);
    let parsed = ReadRequest::parse(&request(&[hinted], &[])).expect("a request");
    assert!(parsed.queries[0].series_only);
    assert_eq!(parsed.form, Form::Samples, "nothing is named");
}

#[track_caller]
fn refused(message: &[u8], told: &str) {
    let text = ReadRequest::parse(message).expect_err("a bad request");
    assert!(text.contains(told), "{text}");
}

#[test]
fn bad_requests_are_refused() {
    refused(&[0xff], "not protobuf");
    refused(&[0x0a, 0x05, 0x00], "cut short");
    refused(&request(&[query(1, 2, 4, "a", "b")], &[]), "invalid matcher type");
    refused(&request(&[query(1, 2, 2, "a", "(")], &[]), "regex");
    refused(&request(&[], &[5, 6]), "does not support any of the requested response types: [5, 6]");
    refused(&request(&vec![query(1, 2, 0, "a", "b"); 101], &[]), "at most 100 queries");
}

/// The head of an answer and its body, which comes from a task of the same runtime.
fn ask(message: &[u8], querier: &Querier) -> (Parts, Vec<u8>) {
    ask_plain(snap::raw::Encoder::new().compress_vec(message).expect("a small body"), querier)
}

fn ask_plain(body: Vec<u8>, querier: &Querier) -> (Parts, Vec<u8>) {
    let request = Request::post("/api/v1/read").body(Body::from(body)).expect("a request");
    block_on(async {
        let (head, body) = send(querier, request).await.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a whole body");
        (head, body.to_vec())
    })
}

#[test]
fn samples_come_in_one_message() {
    let fake: Arc<Fake> = Arc::default();
    let queries = [query(0, 100_000, 0, "__name__", "up"), query(0, 1, 0, "__name__", "nothing")];
    let (head, body) = ask(&request(&queries, &[0]), &querier(&fake));
    assert_eq!(head.status, 200);
    assert_eq!(head.headers[header::CONTENT_TYPE], "application/x-protobuf");
    assert_eq!(head.headers[header::CONTENT_ENCODING], "snappy");
    let message = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
    let shown = shown(&message);
    // Two results, the second one empty; in the first two series of two labels and samples each.
    assert_eq!(shown.iter().filter(|(path, _)| path == "1").count(), 2);
    assert_eq!(shown.iter().filter(|(path, _)| path == "1.1").count(), 2);
    let texts: Vec<_> =
        shown.iter().filter(|(path, _)| path == "1.1.1.2").map(|(_, v)| v).collect();
    assert_eq!(texts, ["\"up\"", "\"a\"", "\"up\"", "\"b\""]);
    let times: Vec<_> =
        shown.iter().filter(|(path, _)| path == "1.1.2.2").map(|(_, v)| v).collect();
    assert_eq!(times, ["1000", "2000", "1000", "2000"]);
}

/// All fields of a message by their path: numbers, and texts where they are.
fn shown(message: &[u8]) -> Vec<(String, String)> {
    fn walk(path: &str, mut rest: &[u8], out: &mut Vec<(String, String)>) {
        while !rest.is_empty() {
            let tag = varint::take(&mut rest).expect("a tag");
            let path = format!("{path}{}{}", if path.is_empty() { "" } else { "." }, tag >> 3);
            match tag & 7 {
                0 => {
                    let value = varint::take(&mut rest).expect("a number") as i64;
                    out.push((path, value.to_string()));
                }
                1 => {
                    let (float, after) = rest.split_at(8);
                    rest = after;
                    let float = f64::from_le_bytes(float.try_into().expect("eight bytes"));
                    out.push((path, float.to_string()));
                }
                _ => {
                    let length = varint::take(&mut rest).expect("a length") as usize;
                    let (inner, after) = rest.split_at(length);
                    rest = after;
                    let is_text = path.len() == 7;
                    let text = String::from_utf8_lossy(inner);
                    out.push((
                        path.clone(),
                        if is_text { format!("{text:?}") } else { String::new() },
                    ));
                    if !is_text {
                        walk(&path, inner, out);
                    }
                }
            }
        }
    }
    let mut out = Vec::new();
    walk("", message, &mut out);
    out
}

#[test]
fn chunks_come_in_frames() {
    let queries = [query(0, 1, 0, "__name__", "nothing"), query(0, 100_000, 0, "__name__", "up")];
    let (head, body) = ask(&request(&queries, &[1, 0]), &querier(&Arc::default()));
    assert_eq!(head.status, 200);
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!(head.headers[header::CONTENT_TYPE], kind);
    assert!(!head.headers.contains_key(header::CONTENT_ENCODING));
    let mut rest = body.as_slice();
    let mut frames = 0;
    while !rest.is_empty() {
        let length = varint::take(&mut rest).expect("a length") as usize;
        let (sum, after) = rest.split_at(4);
        let (message, after) = after.split_at(length);
        rest = after;
        assert_eq!(crc32c::crc32c(message).to_be_bytes(), sum);
        // The last field: the second query.
        assert_eq!(message[message.len() - 2..], [0x10, 1]);
        frames += 1;
    }
    assert_eq!(frames, 2, "one for each series");
}

#[test]
fn large_series_are_split_over_frames() {
    let queries = [query(0, 100_000, 0, "__name__", "large")];
    let (_, body) = ask(&request(&queries, &[1]), &querier(&Arc::default()));
    let mut rest = body.as_slice();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = varint::take(&mut rest).expect("a length") as usize;
        frames.push(length);
        rest = &rest[4 + length..];
    }
    assert!(
        frames.len() > 1 && frames.iter().all(|bytes| *bytes < FRAME_BYTES + 8192),
        "{frames:?}"
    );
}

#[test]
fn errors_are_plain_text() {
    let querier = querier(&Arc::default());
    let check = |(head, body): (Parts, Vec<u8>), status: u16, told: &str| {
        assert_eq!(head.status, status);
        let kind = head.headers[header::CONTENT_TYPE].to_str().expect("text").to_owned();
        assert!(kind.starts_with("text/plain"), "{kind}");
        let text = String::from_utf8(body).expect("text");
        assert!(text.contains(told), "{text}");
    };
    check(ask_plain(b"garbage".to_vec(), &querier), 400, "snappy");
    for form in [0, 1] {
        let fails = request(&[query(0, 1, 0, "__name__", "fails")], &[form]);
        check(ask(&fails, &querier), 400, "too many samples");
        let breaks = request(&[query(0, 1, 0, "__name__", "breaks")], &[form]);
        check(ask(&breaks, &querier), 500, "disk on fire");
    }
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f];
    check(ask_plain(bomb.to_vec(), &querier), 400, "4294967295 bytes, 4194304 are allowed");
    let (head, _) = ask_plain(vec![0u8; 5000], &querier);
    assert_eq!(head.status, 400, "more than form_bytes_max");
}

#[test]
fn one_message_has_a_tenants_memory_and_no_more() {
    assert!(check_memory(100, 100).is_ok());
    let error = check_memory(150, 100).expect_err("over the limit").to_string();
    assert!(
        error.contains(
            "150 bytes of memory, the limit is 100 (query_memory_bytes_max), exceeded by 50"
        ),
        "{error}"
    );
}

#[test]
fn a_stream_keeps_its_turn_until_it_is_read() {
    let fake: Arc<Fake> = Arc::default();
    let querier = querier_with(&fake, crate::Config::default());
    let message = request(&[query(0, 100_000, 0, "__name__", "endless")], &[1]);
    let body = snap::raw::Encoder::new().compress_vec(&message).expect("a small body");
    block_on(async {
        let request = Request::post("/api/v1/read").body(Body::from(body)).expect("a request");
        let response = send(&querier, request).await;
        assert_eq!(response.status(), 200);
        let mut metrics = String::new();
        querier.metrics().write(&mut metrics);
        assert!(metrics.contains("taffrail_query_running_queries 1\n"), "{metrics}");
        drop(response);
        for _ in 0..100 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        metrics.clear();
        querier.metrics().write(&mut metrics);
        assert!(metrics.contains("taffrail_query_running_queries 0\n"), "{metrics}");
        assert!(fake.cancels.lock()[0].is_set(), "whoever reads was told to stop");
    });
}
