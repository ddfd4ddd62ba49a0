//! What senders of OTLP are answered, by form.

use std::io::Write;
use std::sync::Arc;

use prost::Message;

use super::super::{Otlp, OtlpConfig};
use super::twin::{Data, Gauge, Number, Value, attributes, metric, request};
use crate::testing::{self, Answer, Rig, scope};

const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];
const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];

fn body(names: &[&str]) -> Vec<u8> {
    let metrics = names.iter().map(|name| {
        let value = Some(Value::Integer(1));
        let point =
            Number { attributes: attributes(&[]), time: 5_000_000, value, ..Number::default() };
        metric(name, "", Data::Gauge(Gauge { points: vec![point] }))
    });
    request(&[], metrics.collect()).encode_to_vec()
}

fn json(names: &[&str]) -> Vec<u8> {
    let metric = |name: &&str| {
        format!(
            r#"{{"name":"{name}","description":"what it is","gauge":{{"dataPoints":[{{"timeUnixNano":"5000000","asInt":"1"}}]}}}}"#
        )
    };
    let metrics: Vec<String> = names.iter().map(metric).collect();
    format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{}]}}]}}]}}"#, metrics.join(","))
        .into_bytes()
}

struct Setup {
    rig: Rig,
    otlp: Arc<Otlp>,
}

fn setup() -> Setup {
    let rig = Rig::new(&crate::Config::default());
    let otlp = Arc::new(Otlp::new(Arc::clone(&rig.intake), OtlpConfig::default()));
    Setup { rig, otlp }
}

impl Setup {
    async fn send(&self, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let request = testing::request("POST", "/v1/metrics", headers, body);
        Answer::of(self.otlp.handle(0, scope(), request).await).await
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("compresses");
    gzip.finish().expect("compresses")
}

#[tokio::test]
async fn every_form_and_compression_is_stored_alike() {
    let setup = setup();
    let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).expect("compresses");
    let (one, json) = (body(&["up"]), json(&["up"]));
    let encoded = |headers: &[(&'static str, &'static str)], encoding| {
        [headers, &[("content-encoding", encoding)]].concat()
    };
    let sample = vec![r#"{__name__="up"} 1 @5"#.to_owned()];
    let first = [sample.clone(), vec![r#"up: gauge "what it is" """#.to_owned()]].concat();
    for (i, (headers, body)) in [
        (PROTOBUF.to_vec(), one.clone()),
        (encoded(PROTOBUF, "gzip"), gzip(&one)),
        (encoded(PROTOBUF, "zstd"), zstd(&one)),
        (JSON.to_vec(), json.clone()),
        (encoded(JSON, "gzip"), gzip(&json)),
        (encoded(JSON, "identity"), json),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = setup.send(&headers, body).await;
        assert_eq!(answer.status, 200, "{headers:?} {}", answer.text());
        let is_json = headers[0].1.contains("json");
        assert_eq!(answer.text(), if is_json { "{}" } else { "" });
        let content_type = if is_json { "application/json" } else { "application/x-protobuf" };
        assert_eq!(answer.header("content-type"), content_type);
        assert_eq!(setup.rig.kept.take(), if i == 0 { first.clone() } else { sample.clone() });
    }
}

#[tokio::test]
async fn what_was_refused_is_told_in_the_same_form() {
    let setup = setup();
    let partial = setup.send(JSON, json(&["up", "bad"])).await;
    let told = r#"{"partialSuccess":{"errorMessage":"1 rows refused, 1 stored\n1 too_old: {__name__=\"bad\"}","rejectedDataPoints":"1"}}"#;
    assert_eq!((partial.status, partial.text().as_str()), (200, told));
    let partial = setup.send(PROTOBUF, body(&["up", "bad"])).await;
    assert_eq!((partial.status, &partial.body[2..4]), (200, &[0x08, 1][..]));
    let failed = setup.send(JSON, json(&["bad"])).await;
    let told = r#"{"code":3,"message":"1 rows refused, 0 stored\n1 too_old: {__name__=\"bad\"}"}"#;
    assert_eq!((failed.status, failed.text().as_str()), (400, told));
    let rate = setup.send(PROTOBUF, body(&["up", "many"])).await;
    assert_eq!(
        (rate.status, rate.header("retry-after"), &rate.body[..2]),
        (429, "5", &[0x08, 8][..])
    );
    let malformed = setup.send(PROTOBUF, vec![0x0a, 9]).await;
    assert_eq!((malformed.status, &malformed.body[..2]), (400, &[0x08, 3][..]));
    let malformed = setup.send(JSON, b"{".to_vec()).await;
    assert_eq!(malformed.status, 400);
    assert!(malformed.text().contains("malformed JSON: EOF"), "{}", malformed.text());
    for headers in
        [&[("content-type", "text/plain")][..], &[], &[PROTOBUF[0], ("content-encoding", "br")]]
    {
        assert_eq!(setup.send(headers, body(&["up"])).await.status, 415, "{headers:?}");
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc")];

#[tokio::test]
async fn grpc_answers_in_trailers() {
    use http_body_util::BodyExt;
    let setup = setup();
    let compressed = [GRPC[0], ("grpc-encoding", "gzip")];
    for (headers, body) in
        [(GRPC, framed(0, &body(&["up"]))), (&compressed, framed(1, &gzip(&body(&["up"]))))]
    {
        let request = testing::request("POST", "/x/Export", headers, body);
        let response = setup.otlp.handle(0, scope(), request).await;
        assert_eq!(response.status().as_u16(), 200);
        let collected = response.into_body().collect().await.expect("a short body");
        let trailers = collected.trailers().expect("trailers").clone();
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(collected.to_bytes(), framed(0, &[]));
        assert_eq!(setup.rig.kept.take()[0], r#"{__name__="up"} 1 @5"#);
    }
    let rate = setup.send(GRPC, framed(0, &body(&["many"]))).await;
    assert_eq!((rate.status, rate.header("grpc-status")), (200, "8"));
    assert_ne!(rate.header("grpc-status-details-bin"), "", "says when to come back");
    let failed = setup.send(GRPC, framed(0, &body(&["bad"]))).await;
    assert_eq!(failed.header("grpc-status"), "3");
    assert_eq!(
        failed.header("grpc-message"),
        "1 rows refused, 0 stored%0A1 too_old: {__name__=\"bad\"}"
    );
    let wrong = setup.send(&[GRPC[0], ("grpc-encoding", "snappy")], framed(1, b"x")).await;
    assert_eq!((wrong.status, wrong.header("grpc-status")), (200, "12"));
}
