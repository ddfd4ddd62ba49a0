//! Whole requests of OTLP logs: what is stored of them in each form, and what senders are told.

use std::sync::Arc;

use super::*;
use crate::logs::fuzz;
use crate::logs::testing::{NOW_NS, Rig, scope};
use crate::testing::{self, request};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];

async fn send(rig: &Rig, headers: &[(&str, &str)], body: Vec<u8>) -> testing::Answer {
    let door = OtlpLogs::new(Arc::clone(&rig.intake));
    let request = request("POST", "/v1/logs", headers, body);
    testing::Answer::of(door.handle(0, scope(), request).await).await
}

/// A request with everything that a record can have.
fn full() -> String {
    format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[
            {{"key":"service.name","value":{{"stringValue":"shop"}}}},
            {{"key":"k8s.namespace.name","value":{{"stringValue":"ns"}}}},
            {{"key":"k8s.pod.name","value":{{"stringValue":"web-6d4cf56db6-x7k2v"}}}},
            {{"key":"host.arch","value":{{"stringValue":"amd64"}}}}]}},
          "scopeLogs":[{{"scope":{{"name":"lib","version":"1","attributes":[{{"key":"s","value":{{"intValue":"5"}}}}]}},
            "logRecords":[
              {{"timeUnixNano":"{NOW_NS}","observedTimeUnixNano":"{}","severityNumber":17,"severityText":"oops",
                "body":{{"stringValue":"it \"failed\""}},"flags":1,
                "attributes":[{{"key":"http.method","value":{{"stringValue":"GET"}}}},{{"key":"none","value":{{"stringValue":""}}}}],
                "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}},
              {{"observedTimeUnixNano":"{NOW_NS}","severityText":"Warn","body":{{"kvlistValue":{{"values":[{{"key":"b","value":{{"intValue":1}}}},{{"key":"a","value":{{"arrayValue":{{"values":[{{"boolValue":true}}]}}}}}}]}}}},"eventName":"e"}},
              {{"body":{{"stringValue":"level=debug"}},"severityNumber":"SEVERITY_NUMBER_INFO"}},
              {{}}
            ]}}]}},
          {{"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{NOW_NS}","body":{{"doubleValue":1.5}}}}]}}]}}]}}"#,
        NOW_NS + 1
    )
}

const STORED: [&str; 5] = [
    concat!(
        r#"{k8s_namespace_name="ns", k8s_pod_name="web-6d4cf56db6-x7k2v", namespace="ns", "#,
        r#"pod="web-6d4cf56db6-x7k2v", service_name="shop", workload="web"} (application) error "it \"failed\"" "#,
        "host_arch=amd64 scope_name=lib scope_version=1 s=5 severity_text=oops http_method=GET ",
        "trace_id=5b8efff798038103d269b633813fc60c span_id=eee19b7ec3c1b174 severity_number=17 flags=1 ",
        "observed_timestamp=1700000000000000001"
    ),
    concat!(
        r#"{k8s_namespace_name="ns", k8s_pod_name="web-6d4cf56db6-x7k2v", namespace="ns", "#,
        r#"pod="web-6d4cf56db6-x7k2v", service_name="shop", workload="web"} (application) warn "#,
        r#""{\"a\":[true],\"b\":1}" host_arch=amd64 scope_name=lib scope_version=1 s=5 severity_text=Warn "#,
        "event_name=e observed_timestamp=1700000000000000000"
    ),
    concat!(
        r#"{k8s_namespace_name="ns", k8s_pod_name="web-6d4cf56db6-x7k2v", namespace="ns", "#,
        r#"pod="web-6d4cf56db6-x7k2v", service_name="shop", workload="web"} (application) @arrival info "#,
        r#""level=debug" host_arch=amd64 scope_name=lib scope_version=1 s=5 severity_number=9"#
    ),
    concat!(
        r#"{k8s_namespace_name="ns", k8s_pod_name="web-6d4cf56db6-x7k2v", namespace="ns", "#,
        r#"pod="web-6d4cf56db6-x7k2v", service_name="shop", workload="web"} (application) @arrival "" "#,
        "host_arch=amd64 scope_name=lib scope_version=1 s=5"
    ),
    r#"{service_name="unknown_service"} (application) "1.5""#,
];

/// Fields of each entry in order of their names: JSON and protobuf name them in other orders.
fn sorted(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .map(|line| {
            let (head, fields) = line.rsplit_once("\" ").unwrap_or((&line, ""));
            let mut fields: Vec<&str> = fields.split(' ').collect();
            fields.sort_unstable();
            format!("{head}|{}", fields.join(" "))
        })
        .collect()
}

#[tokio::test]
async fn every_form_stores_the_same() {
    let rig = Rig::new();
    let expected = sorted(STORED.map(ToOwned::to_owned).into());
    let answer = send(&rig, JSON, full().into_bytes()).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    assert_eq!(sorted(rig.kept.take()), expected);
    let protobuf = logs_to_protobuf(full().as_bytes()).expect("protobuf");
    let answer = send(&rig, PROTOBUF, protobuf.clone()).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(sorted(rig.kept.take()), expected);
    let framed = [&[0][..], &(protobuf.len() as u32).to_be_bytes(), &protobuf].concat();
    let answer = send(&rig, &[("content-type", "application/grpc")], framed).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &[0; 5][..]));
    assert_eq!(sorted(rig.kept.take()), expected);
}

#[tokio::test]
async fn what_is_refused_is_told() {
    let rig = Rig::new();
    let of = |service: &str, at: &str| {
        format!(
            r#"{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}},"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{at}","body":{{"stringValue":"x"}}}}]}}]}}"#
        )
    };
    let request =
        |parts: &[String]| format!(r#"{{"resourceLogs":[{}]}}"#, parts.join(",")).into_bytes();
    let (good, old) = (of("good", &NOW_NS.to_string()), of("old", "5"));
    let answer = send(&rig, JSON, request(&[good.clone(), old.clone()])).await;
    assert_eq!(answer.status, 200);
    let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(told["partialSuccess"]["rejectedLogRecords"], "1");
    let message = told["partialSuccess"]["errorMessage"].as_str().expect("text");
    assert!(message.contains("has timestamp too old"), "{message}");
    assert_eq!(rig.kept.take().len(), 1);
    let answer = send(&rig, JSON, request(&[old])).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let endless = of("good", &u64::MAX.to_string());
    let answer = send(&rig, JSON, request(&[endless])).await;
    assert!(answer.text().contains("time_unix_nano 18446744073709551615 is out of range"));
    let answer = send(&rig, JSON, b"{".to_vec()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("malformed JSON"), "{}", answer.text());
    assert_eq!(send(&rig, PROTOBUF, vec![0x0a, 9]).await.status, 400);
    assert_eq!(send(&rig, &[("content-type", "text/plain")], vec![]).await.status, 415);
    assert!(rig.kept.take().is_empty());
}

proptest::proptest! {
    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(0u8..=255, 0..120)) {
        fuzz::door(fuzz::Door::OtlpLogs, &bytes);
    }

    #[test]
    fn broken_requests_do_no_harm(at in 0..1_000_usize, byte: u8) {
        let mut body = logs_to_protobuf(full().as_bytes()).expect("protobuf");
        if let Some(there) = body.get_mut(at) {
            *there = byte;
        }
        fuzz::door(fuzz::Door::OtlpLogs, &body);
        body.truncate(at);
        fuzz::door(fuzz::Door::OtlpLogs, &body);
    }
}
