//! A real Prometheus scrapes a real node-exporter and remote-writes into two tenants; both sides
//! are then asked the same, at times off the sample timestamps.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::http::escaped;

use crate::process::{Program, free_address, installed, taffrail, token_file_of};
use crate::senders;

/// Tenant A gets everything, tenant B only the CPU metrics.
const TENANT_A: &str = "team-a";
const TENANT_B: &str = "team-b";

/// What each token allows.
const TOKENS: &[(&str, &str)] = &[
    ("token-of-a", r#"{ tenant = "team-a", access = "read_write" }"#),
    ("token-of-b", r#"{ tenant = "team-b", access = "read_write" }"#),
    ("token-of-platform", r#"{ tenant = "*", access = "read" }"#),
];

#[test]
fn prometheus_writes_and_both_answer_alike() {
    let (Some(prometheus), Some(exporter), Some(promtool)) =
        (installed("prometheus"), installed("prometheus-node-exporter"), installed("promtool"))
    else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let token_file = dir.path().join("tokens.toml");
    std::fs::write(&token_file, token_file_of(TOKENS)).expect("write the token file");
    let config = format!(
        "token_file = {token_file:?}\n[tenancy]\nmode = \"token\"\n[ingest.self_scrape]\nenabled = false\n"
    );
    let mut taffrail = taffrail(&dir.path().join("taffrail"), &config);
    taffrail.bearer = Some("token-of-platform");
    let exporter = start_exporter(&exporter, dir.path());
    let prometheus = start_prometheus(&prometheus, dir.path(), &exporter, &taffrail);

    let at_ms = wait_for_samples(&prometheus, &taffrail);
    let expressions =
        include_str!("expressions.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let mut compared = 0;
    for expression in expressions {
        compare_instant(&prometheus, &taffrail, expression, at_ms);
        compare_range(&prometheus, &taffrail, expression, at_ms);
        compared += 1;
    }
    assert!(compared > 60, "only {compared} expressions were compared");
    tenants_are_apart(&taffrail, at_ms);
    promtool_works(&promtool, &taffrail, at_ms);
}

fn start_exporter(program: &Path, dir: &Path) -> Program {
    let address = free_address();
    let arguments =
        [format!("--web.listen-address={address}"), "--collector.disable-defaults".to_owned()]
            .into_iter()
            .chain(
                ["cpu", "meminfo", "loadavg", "stat", "netdev", "filesystem", "uname", "vmstat"]
                    .map(|c| format!("--collector.{c}")),
            )
            .collect::<Vec<_>>();
    let mut exporter = Program::start(program, &dir.join("exporter"), address, &arguments);
    exporter.wait_ready("/metrics");
    exporter
}

fn start_prometheus(program: &Path, dir: &Path, exporter: &Program, taffrail: &Program) -> Program {
    let address = free_address();
    let own_dir = dir.join("prometheus");
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}
scrape_configs:
- {{job_name: node, static_configs: [{{targets: ['{exporter}']}}]}}
- {{job_name: prometheus, static_configs: [{{targets: ['{address}']}}]}}
- {{job_name: missing, static_configs: [{{targets: ['127.0.0.1:1']}}]}}
remote_write:
- url: http://{taffrail}/api/v1/write
  authorization: {{credentials: token-of-a}}
  send_exemplars: true
  metadata_config: {{send: true, send_interval: 1s}}
  queue_config: {{batch_send_deadline: 1s}}
- url: http://{taffrail}/api/v1/push
  basic_auth: {{username: any, password: token-of-b}}
  queue_config: {{batch_send_deadline: 1s}}
  write_relabel_configs: [{{source_labels: [__name__], regex: 'node_cpu_.*', action: keep}}]
",
        exporter = exporter.address,
        taffrail = taffrail.address,
    );
    let flags = ["--enable-feature=promql-at-modifier,promql-negative-offset"];
    senders::start_prometheus_at(address, program, &own_dir, &config, &flags)
}

/// Waits until some 25 s of samples are on both sides; gives a time between two samples before the
/// newest of them.
fn wait_for_samples(prometheus: &Program, taffrail: &Program) -> i64 {
    let started = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(500));
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "samples never arrived:\n{}\n{}",
            prometheus.output(),
            taffrail.output()
        );
        let newest = newest_ms(taffrail, Some(TENANT_A));
        let oldest = oldest_ms(taffrail, Some(TENANT_A));
        if let (Some(newest), Some(oldest)) = (newest, oldest)
            && newest - oldest > 25_000
            && newest_ms(taffrail, Some(TENANT_B)).is_some_and(|b| b > newest - 5_000)
        {
            // Two scrapes back, and between the grids of both jobs.
            return newest - 4_000 + 137;
        }
    }
}

fn newest_ms(program: &Program, tenant: Option<&str>) -> Option<i64> {
    scalar_ms(program, "max(timestamp(node_cpu_seconds_total))", tenant)
}

fn oldest_ms(program: &Program, tenant: Option<&str>) -> Option<i64> {
    scalar_ms(program, "min(min_over_time(timestamp(node_cpu_seconds_total)[5m:1s]))", tenant)
}

fn scalar_ms(program: &Program, query: &str, tenant: Option<&str>) -> Option<i64> {
    let answer = program.json(&format!("/api/v1/query?query={}", escaped(query)), tenant);
    let value = answer["data"]["result"][0]["value"][1].as_str()?;
    value.parse::<f64>().ok().map(|s| (s * 1000.0).round() as i64)
}

fn compare_instant(prometheus: &Program, taffrail: &Program, expression: &str, at_ms: i64) {
    let theirs = prometheus.instant(expression, at_ms, None);
    let ours = taffrail.instant(expression, at_ms, Some(TENANT_A));
    assert_same(expression, &theirs, &ours);
}

fn compare_range(prometheus: &Program, taffrail: &Program, expression: &str, at_ms: i64) {
    let second = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let path = format!(
        "/api/v1/query_range?query={}&start={}&end={}&step=1.7",
        escaped(expression),
        second(at_ms - 15_000),
        second(at_ms)
    );
    let theirs = prometheus.json(&path, None);
    let ours = taffrail.json(&path, Some(TENANT_A));
    assert_same(&format!("{expression} (range)"), &theirs, &ours);
}

fn assert_same(what: &str, theirs: &Value, ours: &Value) {
    assert_eq!(theirs["status"], ours["status"], "{what}: {theirs} and {ours}");
    if theirs["status"] != "success" {
        assert_eq!(theirs["errorType"], ours["errorType"], "{what}");
        return;
    }
    assert_eq!(theirs["data"]["resultType"], ours["data"]["resultType"], "{what}");
    let (theirs, ours) = (in_order(theirs, what), in_order(ours, what));
    assert_eq!(theirs.len(), ours.len(), "{what}: number of series\n{theirs:?}\n{ours:?}");
    for (t, o) in theirs.iter().zip(&ours) {
        assert!(same(t, o), "{what}:\nPrometheus {t}\nTaffrail   {o}");
    }
}

/// Results in order of their labels, but for those whose order means something.
fn in_order(answer: &Value, what: &str) -> Vec<Value> {
    let Value::Array(mut result) = answer["data"]["result"].clone() else { return Vec::new() };
    let ordered =
        what.starts_with("sort") || what.starts_with("topk") || what.starts_with("bottomk");
    if !ordered || what.ends_with("(range)") {
        result.sort_by_key(|series| series["metric"].to_string());
    }
    result
}

/// Equal, numbers to the last digits that different orders of addition leave alone.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        (Value::String(a), Value::String(b)) if a != b => {
            match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => (a - b).abs() <= 1e-12 * a.abs().max(b.abs()),
                _ => false,
            }
        }
        (a, b) => a == b,
    }
}

fn tenants_are_apart(taffrail: &Program, at_ms: i64) {
    let names = |tenant| taffrail.json("/api/v1/label/__name__/values", tenant)["data"].clone();
    let of_b = names(Some(TENANT_B));
    let of_b = of_b.as_array().expect("a list of names");
    assert!(
        !of_b.is_empty()
            && of_b.iter().all(|n| n.as_str().is_some_and(|n| n.starts_with("node_cpu_"))),
        "{of_b:?}"
    );
    let count = |query: &str, tenant| {
        taffrail.instant(query, at_ms, Some(tenant))["data"]["result"][0]["value"][1]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(count("count(node_memory_MemTotal_bytes)", TENANT_A).as_deref(), Some("1"));
    assert_eq!(count("count(node_memory_MemTotal_bytes)", TENANT_B), None);
    assert_eq!(count("count({__name__=~\".+\"})", "team-unknown"), None);
    let both = taffrail.instant(
        "count by (__tenant_id__) (node_cpu_seconds_total)",
        at_ms,
        Some("team-a|team-b"),
    );
    assert_eq!(both["data"]["result"].as_array().map(Vec::len), Some(2), "{both}");
}

fn promtool_works(promtool: &Path, taffrail: &Program, at_ms: i64) {
    for path in ["", "/prometheus"] {
        let url = format!("http://any:token-of-a@{}{path}", taffrail.address);
        let time = (at_ms / 1000).to_string();
        let run = |arguments: &[&str]| {
            let output = Command::new(promtool).args(arguments).output().expect("run promtool");
            let text =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "promtool {arguments:?}: {text}");
            text
        };
        let sum = run(&["query", "instant", "--time", &time, &url, "1 + 1"]);
        assert!(sum.starts_with("scalar: 2"), "{sum}");
        let before = (at_ms / 1000 - 2).to_string();
        let up = run(&["query", "range", "--start", &before, "--end", &time, &url, "up"]);
        assert!(up.contains("job=\"node\"") && up.contains("1 @["), "{up}");
        let jobs = run(&["query", "labels", &url, "job"]);
        assert_eq!(jobs.lines().collect::<Vec<_>>(), ["missing", "node", "prometheus"]);
        let series = run(&["query", "series", "--match", "up", &url]);
        assert_eq!(series.lines().count(), 3, "{series}");
    }
}
