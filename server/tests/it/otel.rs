//! OpenTelemetry's own SDK for Python exports over HTTP and over gRPC: both tenants hold the same.
//!
//! Needs `opentelemetry-sdk` and its two OTLP exporters; `TAFFRAIL_PYTHON` names a Python that has them.

use std::collections::BTreeMap;
use std::process::Command;

use model::{Clock, SystemClock};

use crate::process::{Program, taffrail};

const MODULES: [&str; 3] = [
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.grpc",
    "opentelemetry.exporter.otlp.proto.http",
];

/// Everything a tenant has at a time: series and what they show.
fn everything(server: &Program, tenant: &str, at_ms: i64) -> BTreeMap<String, String> {
    let answer = server.instant("{__name__=~\".+\"}", at_ms, Some(tenant));
    let result = answer["data"]["result"].as_array().expect("a vector").clone();
    let shown = |series: &serde_json::Value| {
        let value = match &series["histogram"] {
            serde_json::Value::Null => series["value"][1].to_string(),
            histogram => histogram[1].to_string(),
        };
        (series["metric"].to_string(), value)
    };
    result.iter().map(shown).collect()
}

#[test]
fn the_python_sdk_writes_the_same_by_http_and_grpc() {
    let Some(python) = testkit::python(&MODULES) else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = taffrail(dir.path(), "[ingest.self_scrape]\nenabled = false\n");
    let script = testkit::package_dir().join("tests/it/otel_sender.py");
    let address = server.address.to_string();
    let output = Command::new(python).arg(script).args([&address, "by-http", "by-grpc"]).output();
    let output = output.expect("run Python");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && !text.contains("Failed to export"), "{text}");
    let at_ms = SystemClock::default().now_ms();
    let (http, grpc) =
        (everything(&server, "by-http", at_ms), everything(&server, "by-grpc", at_ms));
    assert_eq!(http, grpc, "cumulative and delta, HTTP and gRPC");
    let identity = r#""instance":"cart-0","job":"shop/cart""#;
    for (name, labels, value) in [
        ("http_server_requests_total", format!(r#","http_method":"GET",{identity}"#), r#""3""#),
        ("http_server_requests_total", format!(r#","http_method":"POST",{identity}"#), r#""2""#),
        ("queue_length", format!(",{identity}"), r#""3""#),
        ("room_temperature_celsius", format!(r#",{identity},"room":"a""#), r#""21.5""#),
        ("request_duration_seconds_count", format!(",{identity}"), r#""4""#),
        ("request_duration_seconds_bucket", format!(r#",{identity},"le":"5""#), r#""2""#),
        ("request_duration_seconds_bucket", format!(r#",{identity},"le":"+Inf""#), r#""4""#),
    ] {
        let series = format!(r#"{{"__name__":"{name}"{labels}}}"#);
        assert_eq!(http.get(&series).map(String::as_str), Some(value), "{series} in {http:#?}");
    }
    let native = http
        .get(&format!(r#"{{"__name__":"exponential_bytes",{identity}}}"#))
        .expect("a histogram");
    assert!(native.contains(r#""count":"4""#) && native.contains("buckets"), "{native}");
    let info = http.keys().find(|series| series.contains("target_info")).expect("target_info");
    assert!(info.contains(r#""k8s_pod_name":"cart-0""#), "{info}");
}
