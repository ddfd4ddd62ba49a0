//! What comes in goes on: to another Taffrail, to Prometheus and to VictoriaMetrics, over outages,
//! crashes and reloads.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use model::{Clock, SystemClock};
use testkit::http::escaped;

use crate::process::{Program, free_address, installed, taffrail, taffrail_at};

/// What both sides run with.
const QUIET: &str = "[ingest.self_scrape]\nenabled = false\n[storage]\ndisk_reserve_bytes = 0\n";

/// Writes the file of destinations; `entry` is one in YAML's flow style, without its queue.
fn destinations(dir: &Path, entry: &str) -> String {
    let file = dir.join("forward.yml");
    let text = format!(
        "remote_write: [{{name: central, queue_config: {{batch_send_deadline: 100ms, max_backoff: 200ms}}, {entry}}}]\n"
    );
    std::fs::write(&file, text).expect("write the destinations");
    format!("{QUIET}[ingest.forward]\nconfig_file = {file:?}\n")
}

/// Imports samples `x{i=…} value` of a tenant at an instant.
fn write(edge: &Program, tenant: &str, values: std::ops::Range<u32>, at_ms: i64) {
    let mut body = String::from("# TYPE x gauge\n# HELP x Things.\n");
    for value in values {
        let _ = writeln!(body, "x{{i=\"{value}\"}} {value} {at_ms}");
    }
    let headers = [("X-Scope-OrgID", tenant)];
    let answer = edge.call("POST", "/api/v1/import/prometheus", &headers, body.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Waits until a metric of the destination has a value.
fn wait_metric(edge: &mut Program, name: &str, holds: impl Fn(f64) -> bool) {
    let start = format!("taffrail_remote_storage_{name}{{remote_name=\"central\"");
    let address = edge.address;
    edge.wait(|| {
        let answer = testkit::http::Connection::open(address)
            .and_then(|mut connection| connection.call("GET", "/metrics", &[], &[]));
        let text = answer.map(|answer| answer.text()).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(&start));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.is_some_and(&holds)
    });
}

/// The answer to a question for one number.
fn number(server: &Program, query: &str, tenant: Option<&str>, at_ms: i64) -> Option<f64> {
    let answer = server.instant(query, at_ms, tenant);
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

/// Waits until a question has an answer.
fn wait_number(server: &mut Program, query: &str, tenant: Option<&str>, at_ms: i64, value: f64) {
    let started = Instant::now();
    let mut found = None;
    while started.elapsed().as_secs() < 60 {
        found = number(server, query, tenant, at_ms);
        if found == Some(value) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{query} is {found:?}, not {value}: {}", server.output());
}

fn now_ms() -> i64 {
    SystemClock::default().now_ms()
}

#[test]
fn another_taffrail_gets_everything_over_outages_and_crashes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (of_edge, of_central) = (dir.path().join("edge"), dir.path().join("central"));
    std::fs::create_dir_all(&of_edge).expect("a directory");
    let mut central = taffrail(&of_central, QUIET);
    let url = format!("http://{}/api/v1/push", central.address);
    let entry = format!("url: '{url}', x-taffrail: {{tenants: [a, b], org_id: 'from-{{tenant}}'}}");
    let config = destinations(&of_edge, &entry);
    let mut edge = taffrail(&of_edge, &config);
    let at = now_ms();
    write(&edge, "a", 0..100, at);
    write(&edge, "b", 0..10, at);
    write(&edge, "c", 0..10, at);
    wait_number(&mut central, "count(x)", Some("from-a"), at, 100.0);
    wait_number(&mut central, "sum(x)", Some("from-b"), at, 45.0);
    assert_eq!(number(&central, "count(x)", Some("from-c"), at), None);
    let told = central.json("/api/v1/metadata?metric=x", Some("from-a"));
    assert_eq!(told["data"]["x"][0]["help"], "Things.", "{told}");
    wait_metric(&mut edge, "samples_pending", |waiting| waiting == 0.0);

    let told = edge.json("/api/v1/admin/forward", None);
    let one = &told["data"]["destinations"][0];
    assert_eq!((one["name"].as_str(), one["protocol"].as_str()), (Some("central"), Some("2.0")));
    assert_eq!((&one["rows_pending"], &one["rows_sent"]), (&0.into(), &110.into()), "{told}");

    // Nobody takes anything: writes go on, over a crash as well.
    let (address, before) = (central.address, Instant::now());
    central.kill();
    for i in 0..20 {
        write(&edge, "a", 1_000 + 10 * i..1_010 + 10 * i, at + 1);
    }
    assert!(before.elapsed().as_secs() < 10, "{:?}", before.elapsed());
    wait_metric(&mut edge, "samples_retried_total", |repeated| repeated > 0.0);
    edge.kill();
    let mut edge = taffrail_at(&of_edge, edge.address, &config);
    write(&edge, "a", 2_000..2_010, at + 2);
    let mut central = taffrail_at(&of_central, address, QUIET);
    wait_number(&mut central, "count(x)", Some("from-a"), at + 2, 310.0);
    wait_metric(&mut edge, "samples_pending", |waiting| waiting == 0.0);

    // All of it was sent: a restart has nothing to send but what is new.
    assert!(edge.terminate(), "{}", edge.output());
    let mut edge = taffrail_at(&of_edge, edge.address, &config);
    write(&edge, "a", 3_000..3_001, at + 3);
    wait_number(&mut central, "count(x)", Some("from-a"), at + 3, 311.0);
    wait_metric(&mut edge, "samples_total", |sent| sent == 1.0);
}

#[test]
fn a_reload_sends_what_waits_elsewhere() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (of_edge, of_central) = (dir.path().join("edge"), dir.path().join("central"));
    std::fs::create_dir_all(&of_edge).expect("a directory");
    let config = destinations(&of_edge, "url: 'http://127.0.0.1:1/'");
    let mut edge = taffrail(&of_edge, &config);
    let at = now_ms();
    write(&edge, "a", 0..10, at);
    wait_metric(&mut edge, "samples_retried_total", |repeated| repeated > 0.0);
    destinations(&of_edge, "url: 'nowhere'");
    let told = edge.call("POST", "/-/reload", &[], &[]);
    let text = told.text();
    assert!(told.status == 500 && text.contains("url: \"nowhere\""), "{} {text}", told.status);
    let mut central = taffrail(&of_central, QUIET);
    let url = format!("http://{}/api/v1/write", central.address);
    destinations(&of_edge, &format!("url: '{url}', headers: {{X-Scope-OrgID: all}}"));
    let hangup = Command::new("kill").args(["-HUP", &edge.pid().to_string()]).status();
    assert!(hangup.is_ok_and(|status| status.success()), "send SIGHUP");
    wait_number(&mut central, "count(x)", Some("all"), at, 10.0);
}

#[test]
fn prometheus_gets_1_0() {
    let Some(program) = installed("prometheus") else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (own, of_edge) = (dir.path().join("prometheus"), dir.path().join("edge"));
    std::fs::create_dir_all(&own).expect("a directory");
    std::fs::create_dir_all(&of_edge).expect("a directory");
    std::fs::write(own.join("prometheus.yml"), "{}\n").expect("write the configuration");
    let address = free_address();
    let arguments = [
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address={address}"),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    let mut prometheus = Program::start(&program, &own, address, &arguments);
    prometheus.wait_ready("/-/ready");
    let url = format!("http://{address}/api/v1/write");
    let mut edge = taffrail(&of_edge, &destinations(&of_edge, &format!("url: '{url}'")));
    let at = now_ms();
    write(&edge, "a", 0..100, at);
    wait_number(&mut prometheus, "sum(x)", None, at, 4_950.0);
    wait_metric(&mut edge, "samples_pending", |waiting| waiting == 0.0);
    write(&edge, "a", 200..300, at + 1);
    wait_number(&mut prometheus, "count(x)", None, at + 1, 200.0);
    wait_metric(&mut edge, "samples_failed_total", |failed| failed == 0.0);
    assert!(edge.output().contains("takes no remote write 2.0"), "{}", edge.output());
}

#[test]
fn victoria_metrics_gets_1_0() {
    let Some(program) = installed("victoria-metrics") else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (own, of_edge) = (dir.path().join("victoria"), dir.path().join("edge"));
    std::fs::create_dir_all(&of_edge).expect("a directory");
    let address = free_address();
    let arguments = ["-storageDataPath=data".to_owned(), format!("-httpListenAddr={address}")];
    let mut victoria = Program::start(&program, &own, address, &arguments);
    victoria.wait_ready("/health");
    let url = format!("http://{address}/api/v1/write");
    let edge = taffrail(&of_edge, &destinations(&of_edge, &format!("url: '{url}'")));
    write(&edge, "a", 0..100, now_ms());
    // An export has what was written a moment ago, a question has not.
    let path = format!("/api/v1/export?match[]={}", escaped("x"));
    victoria.wait(|| {
        let answer = testkit::http::Connection::open(address)
            .and_then(|mut connection| connection.call("GET", &path, &[], &[]));
        answer.is_ok_and(|answer| answer.text().lines().count() == 100)
    });
}
