//! The packaged Pushgateway and our own door, given the same pushes: the one scraped and the other not,
//! both tenants hold the same.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use model::{Clock, SystemClock};
use serde_json::Value;

use crate::otel::everything;
use crate::process::{Program, free_address, installed, taffrail};

/// Method, path and body of pushes, in turn. A family has one type everywhere: Pushgateway refuses others.
const PUSHES: [(&str, &str, &str); 16] = [
    ("PUT", "job/a", "# TYPE x counter\nx{l=\"1\"} 3\ny 2\n"),
    // Replaces y, adds z, leaves x.
    ("POST", "job/a", "y 5\nz 1\n"),
    ("PUT", "job/a/instance/i1/zone/b", "# TYPE x counter\nx 1\nw 1\n"),
    // Replaces the whole group.
    ("PUT", "job/a/instance/i1/zone/b", "# TYPE x counter\nx 9\n"),
    ("POST", "job/a/instance/i2", "# HELP x about\n# TYPE x counter\nx 4\n"),
    // Names with slashes, and empty ones.
    ("PUT", "job@base64/YS9i/path@base64/L3Zhci90bXA", "v 1\n"),
    ("PUT", "job/c/empty@base64/=", "v 2\n"),
    // Labels of the group win.
    ("PUT", "job/d/zone/own", "u{job=\"other\",zone=\"else\",kept=\"k\"} 1\n"),
    (
        "PUT",
        "job/h",
        "# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 2.5\nh_count 3\n\
         # TYPE s summary\ns{quantile=\"0.9\"} 1.5\ns_sum 4\ns_count 2\n",
    ),
    ("PUT", "job/gone", "t 1\n"),
    ("DELETE", "job/gone", ""),
    ("DELETE", "job/never", ""),
    // What is refused changes nothing but the time of the failure.
    ("PUT", "job/a", "x 1\nx 2\n"),
    ("PUT", "job/a", "x{ 1\n"),
    ("POST", "job/a", "x 1 1000\n"),
    ("PUT", "job/odd/zone", "x 1\n"),
];

/// All series of a tenant but those of Pushgateway itself; of times only that they are there.
fn stored(server: &Program, tenant: &str) -> BTreeMap<String, String> {
    let all = everything(server, tenant, SystemClock::default().now_ms());
    let is_own = |series: &str| {
        ["up\"", "scrape_", "go_", "process_", "pushgateway_", "promhttp_"]
            .iter()
            .any(|name| series.starts_with(&format!("{{\"__name__\":\"{name}")))
    };
    all.into_iter()
        .filter(|(series, _)| !is_own(series))
        .map(|(series, value)| match series.contains("_time_seconds") {
            true => {
                let is_never = value == "\"0\"";
                (series, if is_never { "never".to_owned() } else { "some time".to_owned() })
            }
            false => (series, value),
        })
        .collect()
}

/// Groups by their labels, without what differs: times, and the empty `instance` that Pushgateway makes up.
fn listed(server: &Program) -> BTreeMap<String, Value> {
    let answer = server.json("/api/v1/metrics", Some("pushed"));
    assert_eq!(answer["status"], "success", "{answer}");
    let groups = answer["data"].as_array().cloned().unwrap_or_default();
    let named = groups.into_iter().map(|mut group| {
        for (name, family) in group.as_object_mut().expect("a group").iter_mut() {
            let is_time = name.ends_with("_time_seconds");
            let Some(family) = family.as_object_mut().filter(|f| f.contains_key("metrics")) else {
                continue;
            };
            assert!(family.remove("time_stamp").is_some_and(|at| at.is_string()), "{name}");
            let metrics = family["metrics"].as_array_mut().expect("a list");
            metrics.sort_by_key(|metric| metric["labels"].to_string());
            for metric in metrics {
                let labels = metric["labels"].as_object_mut().expect("labels");
                labels.retain(|name, value| name != "instance" || value != "");
                if is_time {
                    metric["value"] = (metric["value"] != "0").into();
                }
            }
        }
        let labels = group["labels"].as_object_mut().expect("labels");
        labels.retain(|name, value| name != "instance" || value != "");
        (group["labels"].to_string(), group)
    });
    named.collect()
}

#[test]
fn pushes_end_as_they_do_with_the_packaged_pushgateway() {
    let Some(packaged) = installed("prometheus-pushgateway") else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let arguments = [format!("--web.listen-address={address}")];
    let mut theirs = Program::start(&packaged, &dir.path().join("theirs"), address, &arguments);
    theirs.wait_ready("/-/ready");
    let jobs = dir.path().join("scrape.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- {{job_name: pushgateway, honor_labels: true, x-taffrail: {{tenant: scraped}}, static_configs: [{{targets: ['{address}']}}]}}
"
    );
    std::fs::write(&jobs, text).expect("write the configuration");
    let settings = format!(
        "[ingest.self_scrape]\nenabled = false\n[ingest.pushgateway]\ninterval_seconds = 1\n\
         [ingest.scrape]\nconfig_file = {:?}\n",
        jobs.display().to_string()
    );
    let ours = taffrail(&dir.path().join("ours"), &settings);
    for (method, grouping, body) in PUSHES {
        let path = format!("/metrics/{grouping}");
        let push = |server: &Program| {
            let answer =
                server.call(method, &path, &[("X-Scope-OrgID", "pushed")], body.as_bytes());
            (answer.status, answer.text())
        };
        let (theirs, ours) = (push(&theirs), push(&ours));
        assert_eq!(theirs.0, ours.0, "{method} {path}: {theirs:?} {ours:?}");
    }
    assert_eq!(listed(&theirs), listed(&ours));
    let both = || (stored(&ours, "scraped"), stored(&ours, "pushed"));
    let started = Instant::now();
    while both().0 != both().1 && started.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(300));
    }
    let (scraped, pushed) = both();
    assert_eq!(scraped, pushed, "{}", ours.output());
    let value = |series: &str| pushed.get(series).map(String::as_str);
    assert_eq!(value(r#"{"__name__":"y","job":"a"}"#), Some("\"5\""));
    assert_eq!(value(r#"{"__name__":"v","job":"a/b","path":"/var/tmp"}"#), Some("\"1\""));
    assert!(!pushed.keys().any(|series| series.contains("gone")), "{pushed:#?}");
    assert!(pushed.len() >= 25, "{pushed:#?}");
}
