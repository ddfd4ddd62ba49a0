//! OpenTelemetry's own SDKs for Python and JavaScript export the same instruments by every way there is:
//! all tenants hold the same.
//!
//! Needs `opentelemetry-sdk` and its two OTLP exporters (`TAFFRAIL_PYTHON` names a Python that has them),
//! and the packages from npm that `.ci/run` installs.

use std::collections::BTreeMap;
use std::process::Command;

use model::{Clock, SystemClock};

use crate::clients::libraries;
use crate::process::{Program, installed, taffrail};

const MODULES: [&str; 3] = [
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.grpc",
    "opentelemetry.exporter.otlp.proto.http",
];

/// Everything a tenant has at a time: series and what they show.
pub(crate) fn everything(server: &Program, tenant: &str, at_ms: i64) -> BTreeMap<String, String> {
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

/// Runs a sender, which is given the address and two tenants; both then hold the same.
fn check(of: &str, sender: &mut Command, tenants: [&str; 2]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = taffrail(dir.path(), "[ingest.self_scrape]\nenabled = false\n");
    let output = sender.arg(server.address.to_string()).args(tenants).env("NO_PROXY", "*").output();
    let output = output.expect("run the sender");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && !text.contains("Failed to export"), "{of}: {text}");
    let at_ms = SystemClock::default().now_ms();
    let [one, other] = tenants.map(|tenant| everything(&server, tenant, at_ms));
    assert_eq!(one, other, "{of}: {tenants:?}");
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
        let found = one.get(&series).map(String::as_str);
        assert_eq!(found, Some(value), "{of}: {series} in {one:#?}");
    }
    let native =
        one.get(&format!(r#"{{"__name__":"exponential_bytes",{identity}}}"#)).expect("a histogram");
    assert!(native.contains(r#""count":"4""#) && native.contains("buckets"), "{of}: {native}");
    let info = one.keys().find(|series| series.contains("target_info")).expect("target_info");
    assert!(info.contains(r#""k8s_pod_name":"cart-0""#), "{of}: {info}");
}

#[test]
fn the_python_sdk_writes_the_same_by_http_and_grpc() {
    let Some(python) = testkit::python(&MODULES) else { return };
    let script = testkit::package_dir().join("tests/it/otel_sender.py");
    // Cumulative by HTTP, delta by gRPC.
    check("Python", Command::new(python).arg(script), ["by-http", "by-grpc"]);
}

#[test]
fn the_javascript_sdk_writes_the_same_as_protobuf_and_json() {
    let package = "@opentelemetry/exporter-metrics-otlp-proto";
    let (Some(node), Some(libraries)) = (installed("node"), libraries(package)) else { return };
    let script = testkit::package_dir().join("tests/it/otel_sender.cjs");
    let mut sender = Command::new(node);
    sender.arg(script).env("NODE_PATH", libraries.join("node_modules"));
    // Cumulative as protobuf, delta as JSON.
    check("JavaScript", &mut sender, ["as-protobuf", "as-json"]);
}
