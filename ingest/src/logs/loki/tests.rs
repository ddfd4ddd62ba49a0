//! Whole requests of Loki's push: what is stored of them, and what their senders are told.

use std::io::Write;
use std::sync::Arc;

use proptest::prelude::*;
use tenancy::{Limits, WriteScope};

use super::*;
use crate::logs::fuzz;
use crate::logs::testing::{NOW_NS, Rig, scope, scope_of};
use crate::testing::{Answer, request};

/// `PushRequest` as prost writes it.
#[derive(Clone, PartialEq, prost::Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<StreamOf>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StreamOf {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryOf>,
    #[prost(uint64, tag = "3")]
    hash: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EntryOf {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(bytes = "vec", tag = "2")]
    line: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Pair>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn at(ns: i64) -> Option<Timestamp> {
    let (seconds, nanos) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) as i32);
    Some(Timestamp { seconds, nanos })
}

fn entry(ns: i64, line: &str, metadata: &[(&str, &str)]) -> EntryOf {
    let pair = |(name, value): &(&str, &str)| Pair {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let metadata = metadata.iter().map(pair).collect();
    EntryOf { timestamp: at(ns), line: line.as_bytes().to_vec(), metadata }
}

fn stream(labels: &str, entries: Vec<EntryOf>) -> StreamOf {
    StreamOf { labels: labels.to_owned(), entries, hash: 7 }
}

fn packed(streams: Vec<StreamOf>) -> Vec<u8> {
    let body = prost::Message::encode_to_vec(&PushRequest { streams });
    snap::raw::Encoder::new().compress_vec(&body).expect("compresses")
}

struct Setup {
    rig: Rig,
    scope: WriteScope,
}

impl Setup {
    fn new() -> Self {
        Self { rig: Rig::new(), scope: scope() }
    }

    fn with(limits: Limits) -> Self {
        Self { rig: Rig::new(), scope: scope_of(limits) }
    }

    async fn send(&self, headers: &[(&str, &str)], body: impl Into<axum::body::Body>) -> Answer {
        let loki = LokiPush::new(Arc::clone(&self.rig.intake));
        let request = request("POST", "/loki/api/v1/push", headers, body);
        Answer::of(loki.handle(0, self.scope.clone(), request).await).await
    }

    #[track_caller]
    fn kept(&self, expected: &[&str]) {
        assert_eq!(self.rig.kept.take(), expected);
    }
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];

#[tokio::test]
async fn protobuf_is_stored() {
    let setup = Setup::new();
    let entries = vec![
        entry(NOW_NS, "hello", &[]),
        entry(NOW_NS - 1, r#"{"level":"error"}"#, &[("trace.id", "abc"), ("empty", "")]),
        entry(NOW_NS, "info", &[("severity", "fatal")]),
    ];
    let body = packed(vec![
        stream(r#"{app="web"}"#, entries),
        stream(r#"{level="warn", app="b"}"#, vec![entry(NOW_NS, "an error", &[])]),
        stream(r#"{app="none"}"#, vec![]),
    ]);
    let answer = setup.send(&[("content-type", "application/x-protobuf")], body.clone()).await;
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    let expected = [
        r#"{app="web", service_name="web"} "hello""#,
        r#"{app="web", service_name="web"} @2023-11-14T22:13:19.999999999Z error "{\"level\":\"error\"}" trace_id=abc"#,
        r#"{app="web", service_name="web"} fatal "info" severity=fatal"#,
        r#"{app="b", level="warn", service_name="b"} warn "an error""#,
    ];
    setup.kept(&expected);
    assert_eq!(setup.rig.kept.waited_for().len(), 1, "the answer waits for the disk");
    let answer = setup.send(&[("content-encoding", "snappy")], body).await;
    assert_eq!(answer.status, 204, "the content type may be left out");
    setup.kept(&expected);
    let counted = setup.rig.metrics();
    assert!(counted.contains("taffrail_ingest_entries_total 8"), "{counted}");
    assert!(counted.contains(r#"{path="/loki/api/v1/push",code="204"}"#));
}

#[tokio::test]
async fn json_is_stored() {
    let setup = Setup::new();
    let body = r#"{"streams": [
        {"stream": {"app": "web", "pod": "a\u00e9"}, "values": [
            ["1700000000000000000", "a \"quoted\" line\n"],
            ["1700000000000000000", "x", {"trace_id": "1", "level": "debug"}]
        ]},
        {"entries": [{"ts": "2023-11-14T22:13:20Z", "line": "old form"}], "labels": "{app=\"old\"}"}
    ], "other": [1, {"a": null}]}"#;
    let expected = [
        r#"{app="web", pod="aé", service_name="web"} "a \"quoted\" line\n""#,
        r#"{app="web", pod="aé", service_name="web"} debug "x" trace_id=1 level=debug"#,
        r#"{app="old", service_name="old"} "old form""#,
    ];
    assert_eq!(setup.send(JSON, body).await.status, 204);
    setup.kept(&expected);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body.as_bytes()).expect("compresses");
    let headers = [JSON[0], ("content-encoding", "gzip")];
    assert_eq!(setup.send(&headers, gzip.finish().expect("compresses")).await.status, 204);
    setup.kept(&expected);
    let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    bare.write_all(body.as_bytes()).expect("compresses");
    let headers = [JSON[0], ("content-encoding", "deflate")];
    assert_eq!(setup.send(&headers, bare.finish().expect("compresses")).await.status, 204);
    setup.kept(&expected);
}

#[tokio::test]
async fn what_cannot_be_read_is_told() {
    let setup = Setup::new();
    let check = async |headers: &[(&str, &str)], body: &[u8], status: u16, part: &str| {
        let answer = setup.send(headers, body.to_vec()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(part), "{}", answer.text());
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        setup.kept(&[]);
    };
    check(&[("content-type", "text/plain")], b"", 415, "content type \"text/plain\"").await;
    check(&[("content-encoding", "br")], b"", 415, "\"br\" is not accepted; send snappy").await;
    check(&[], b"\xff\xff", 400, "snappy").await;
    let not_protobuf = snap::raw::Encoder::new().compress_vec(b"\x0a\xff").expect("compresses");
    check(&[], &not_protobuf, 400, "malformed protobuf").await;
    check(JSON, b"[]", 400, "malformed JSON at byte 0: an object is expected").await;
    check(JSON, br#"{"streams":[{"stream":{"a":1}}]}"#, 400, "stream must be text").await;
    let wrong =
        |values: &str| format!(r#"{{"streams":[{{"stream":{{"a":"b"}},"values":[{values}]}}]}}"#);
    let number = wrong(r#"[1700000000000000000, "x"]"#);
    check(JSON, number.as_bytes(), 400, "timestamp of an entry must be text").await;
    check(JSON, wrong(r#"["1"]"#).as_bytes(), 400, "no time and line").await;
    check(JSON, wrong(r#"["1","x",{"a":{"b":"c"}}]"#).as_bytes(), 400, "must be text").await;
    check(JSON, wrong(r#"["1","x",{},5]"#).as_bytes(), 400, "more than time, line").await;
    let bomb = wrong(&format!(r#"["1","x",{{"a":{}"#, "[".repeat(1_000_000)));
    check(JSON, bomb.as_bytes(), 400, "must be text").await;
    let bomb = format!(r#"{{"x":{}"#, "[".repeat(1_000_000));
    check(JSON, bomb.as_bytes(), 400, "nested too deeply").await;
}

#[tokio::test]
async fn one_bad_entry_refuses_no_other() {
    let setup = Setup::new();
    let day_ns = 86_400_000_000_000;
    let good = || vec![entry(NOW_NS, "x", &[])];
    let check = async |streams: Vec<StreamOf>, status: u16, text: &str| {
        let answer = setup.send(&[], packed(streams)).await;
        assert_eq!((answer.status, answer.text().as_str()), (status, text));
        setup.kept(&[r#"{app="good", service_name="good"} "x""#]);
    };
    let with_good =
        |labels: &str, entries| vec![stream(labels, entries), stream(r#"{app="good"}"#, good())];
    check(
        with_good(r#"{app="a"}"#, vec![entry(NOW_NS - 32 * day_ns, "x", &[])]),
        400,
        "entry for stream '{app=\"a\", service_name=\"a\"}' has timestamp too old: 2023-10-13T22:13:20Z, oldest \
         acceptable timestamp is: 2023-10-14T22:13:20Z (too_old: 1 entries)\n1 entries refused, 1 stored",
    )
    .await;
    let entries = vec![entry(NOW_NS + 366 * day_ns, "x", &[]), entry(NOW_NS + day_ns, "y", &[])];
    check(
        with_good(r#"{app="a"}"#, entries),
        400,
        "entry for stream '{app=\"a\", service_name=\"a\"}' has timestamp too new: 2024-11-14T22:13:20Z \
         (future_seconds_max) (too_far_in_future: 2 entries)\n2 entries refused, 1 stored",
    )
    .await;
    check(
        with_good("{app=web}", good()),
        400,
        "error parsing labels '{app=web}' with error: parse error at byte 5: a value in quotes is expected \
         (invalid_labels: 1 entries)\n1 entries refused, 1 stored",
    )
    .await;
    check(
        with_good("{}", good()),
        400,
        "at least one label pair is required per stream (invalid_labels: 1 entries)\n1 entries refused, 1 stored",
    )
    .await;
    let mut endless = entry(0, "x", &[]);
    endless.timestamp = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    check(
        with_good(r#"{app="a"}"#, vec![endless]),
        400,
        "timestamp of 9223372036854775807 s and 0 ns is out of range (invalid_timestamp: 1 entries)\n\
         1 entries refused, 1 stored",
    )
    .await;
    let answer = setup.send(&[], packed(with_good(r#"{app="many"}"#, good()))).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "5"));
    setup.kept(&[r#"{app="good", service_name="good"} "x""#]);
    let counted = setup.rig.metrics();
    let line = r#"taffrail_ingest_entries_rejected_total{reason="too_far_in_future"} 2"#;
    assert!(counted.contains(line), "{counted}");
    let refusals = setup.rig.intake.intake.admission.refusals(setup.scope.tenant());
    assert!(refusals.contains(&("too_old", 1)), "{refusals:?}");
}

#[tokio::test]
async fn limits_cut_and_refuse() {
    let limits = Limits {
        entry_line_bytes_max: 4,
        entry_fields_max: 2,
        entry_fields_bytes_max: 20,
        stream_labels_max: 2,
        entry_bytes_per_second: 10.0,
        entry_bytes_burst: 40.0,
        ..Limits::default()
    };
    let setup = Setup::with(limits);
    let long = "x".repeat(30);
    let entries = vec![
        entry(NOW_NS, "abcdé", &[]),
        entry(NOW_NS, "abé", &[("a", "1"), ("b", "2"), ("c", "3")]),
        entry(NOW_NS, "x", &[("a", &long)]),
        entry(NOW_NS, "last", &[("a", "1")]),
    ];
    let answer = setup.send(&[], packed(vec![stream(r#"{app="a"}"#, entries)])).await;
    assert_eq!(answer.status, 400);
    let text = answer.text();
    assert!(text.contains("too many structured metadata labels: '3', limit: '2'"), "{text}");
    assert!(
        text.contains("structured metadata too large: '31' bytes, limit: '20' bytes"),
        "{text}"
    );
    assert!(text.ends_with("2 entries refused, 2 stored"), "{text}");
    setup.kept(&[
        r#"{app="a", service_name="a"} "abcd" cut"#,
        r#"{app="a", service_name="a"} "last" a=1"#,
    ]);
    let three = vec![stream(r#"{a="1",b="2",c="3"}"#, vec![entry(NOW_NS, "x", &[])])];
    let text = setup.send(&[], packed(three)).await.text();
    assert!(text.contains("has 3 label names; limit 2"), "{text}");
    // 10 of 40 bytes are used up.
    let lines = |count: usize| {
        let entries = (0..count).map(|_| entry(NOW_NS, "abcd", &[])).collect();
        packed(vec![stream(r#"{app="a"}"#, entries)])
    };
    let answer = setup.send(&[], lines(9)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "1"));
    let text = answer.text();
    let told = "ingestion rate limit exceeded for user team-a (limit: 10 bytes/sec) while attempting to ingest \
                '9' lines totaling '36' bytes";
    assert!(text.starts_with(told), "{text}");
    assert_eq!(setup.send(&[], lines(7)).await.status, 204);
    assert_eq!(setup.send(&[], lines(11)).await.status, 413, "more than ever fits at once");
}

#[tokio::test]
async fn lines_come_back_byte_by_byte() {
    let setup = Setup::new();
    let mut odd = entry(NOW_NS, "", &[]);
    odd.line = b"\xff\x00 caf\xc3".to_vec();
    let body = packed(vec![stream(r#"{app="a"}"#, vec![odd, entry(NOW_NS, "", &[])])]);
    assert_eq!(setup.send(&[], body).await.status, 204);
    setup.kept(&[
        "{app=\"a\", service_name=\"a\"} \"\u{fffd}\\0 caf\u{fffd}\"",
        r#"{app="a", service_name="a"} """#,
    ]);
}

#[test]
fn a_cluster_is_added_and_belongs_to_what_is_remembered() {
    let config = crate::Config { cluster: "east".to_owned(), ..crate::Config::default() };
    let setup = Setup { rig: Rig::with(&config), scope: scope() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let send = || {
        let body = packed(vec![stream(r#"{app="a"}"#, vec![entry(NOW_NS, "x", &[])])]);
        assert_eq!(runtime.block_on(setup.send(&[], body)).status, 204);
    };
    send();
    setup.kept(&[r#"{app="a", cluster="east", service_name="a"} "x""#]);
    setup.rig.intake.intake.reconfigure(&crate::Config::default());
    send();
    setup.kept(&[r#"{app="a", service_name="a"} "x""#]);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,4}", ".{0,12}", Just("level=error".to_owned())]
}

prop_compose! {
    fn any_stream()(
        app in "[a-z]{0,2}",
        entries in proptest::collection::vec(
            (0..5_i64, text(), proptest::collection::vec(("[a-z.]{1,3}", text()), 0..3)), 0..4)
    ) -> StreamOf {
        let entries = entries.into_iter().map(|(before, line, metadata)| {
            let metadata: Vec<_> = metadata.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            entry(NOW_NS - before, &line, &metadata)
        }).collect();
        stream(&format!("{{app={app:?}, x=\"1\"}}"), entries)
    }
}

/// The same request in JSON.
fn in_json(streams: &[StreamOf]) -> String {
    let value = |entry: &EntryOf| {
        let at = entry.timestamp.expect("a time");
        let at_ns = at.seconds * 1_000_000_000 + i64::from(at.nanos);
        let pairs = entry.metadata.iter().map(|p| (p.name.clone(), p.value.clone().into()));
        let line = String::from_utf8(entry.line.clone()).expect("text");
        serde_json::json!([at_ns.to_string(), line, serde_json::Map::from_iter(pairs)])
    };
    let streams = streams.iter().map(|stream| {
        let values: Vec<_> = stream.entries.iter().map(value).collect();
        let pairs = selector::parse(&stream.labels).expect("labels");
        let pairs = pairs.into_iter().map(|(n, v)| (n.to_owned(), v.into_owned().into()));
        serde_json::json!({ "stream": serde_json::Map::from_iter(pairs), "values": values })
    });
    serde_json::json!({ "streams": streams.collect::<Vec<_>>() }).to_string()
}

proptest! {
    #[test]
    fn both_forms_store_the_same(streams in proptest::collection::vec(any_stream(), 0..4)) {
        // JSON objects have each name once and in order.
        let mut streams = streams;
        for entry in streams.iter_mut().flat_map(|s| &mut s.entries) {
            entry.metadata.sort_by(|a, b| a.name.cmp(&b.name));
            entry.metadata.dedup_by(|a, b| a.name == b.name);
        }
        let setup = Setup::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let json = in_json(&streams);
        prop_assert_eq!(runtime.block_on(setup.send(JSON, json)).status, 204);
        let of_json = setup.rig.kept.take();
        prop_assert_eq!(runtime.block_on(setup.send(&[], packed(streams.clone()))).status, 204);
        prop_assert_eq!(setup.rig.kept.take(), of_json);
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(0u8..=255, 0..120)) {
        fuzz::door(fuzz::Door::LokiProtobuf, &bytes);
        fuzz::door(fuzz::Door::LokiJson, &bytes);
    }

    #[test]
    fn broken_requests_do_no_harm(
        streams in proptest::collection::vec(any_stream(), 0..3),
        at in 0..400_usize,
        byte: u8,
    ) {
        let json = in_json(&streams).into_bytes();
        let protobuf = prost::Message::encode_to_vec(&PushRequest { streams });
        let doors = [(fuzz::Door::LokiJson, json), (fuzz::Door::LokiProtobuf, protobuf)];
        for (door, mut body) in doors {
            if let Some(there) = body.get_mut(at) {
                *there = byte;
            }
            fuzz::door(door, &body);
            body.truncate(at);
            fuzz::door(door, &body);
        }
    }
}
