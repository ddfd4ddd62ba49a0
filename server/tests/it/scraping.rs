//! Scraping beside the packaged Prometheus: the same file, the same targets, the same series.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::SeededRandom;
use testkit::http::escaped;

use crate::process::{Program, free_address, installed, taffrail};
use crate::senders::start_prometheus;

/// A Taffrail that scrapes what the same file says.
fn start_taffrail(dir: &Path, config: &str) -> Program {
    std::fs::create_dir_all(dir).expect("create a directory");
    let file = dir.join("scrape.yml");
    std::fs::write(&file, config).expect("write the configuration");
    let settings = format!(
        "[ingest.self_scrape]\nenabled = false\n[ingest.scrape]\nconfig_file = {:?}\n",
        file.display().to_string()
    );
    taffrail(dir, &settings)
}

fn until(what: &str, mut is_done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_done() {
        assert!(started.elapsed() < Duration::from_secs(90), "never came: {what}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// All series of a job, as label sets.
fn series(server: &Program, job: &str) -> BTreeSet<String> {
    let path = format!("/api/v1/series?match[]={}", escaped(&format!("{{job=\"{job}\"}}")));
    let answer = server.json(&path, None);
    answer["data"].as_array().into_iter().flatten().map(Value::to_string).collect()
}

fn value(server: &Program, query: &str) -> Option<f64> {
    let answer = server.json(&format!("/api/v1/query?query={}", escaped(query)), None);
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

#[test]
fn both_store_the_same_series_of_the_same_targets() {
    let (Some(prometheus), Some(exporter)) =
        (installed("prometheus"), installed("prometheus-node-exporter"))
    else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = free_address();
    let arguments = [
        "--collector.disable-defaults".to_owned(),
        "--collector.cpu".to_owned(),
        "--collector.meminfo".to_owned(),
        "--collector.loadavg".to_owned(),
        "--web.disable-exporter-metrics".to_owned(),
        format!("--web.listen-address={node}"),
    ];
    let mut target = Program::start(&exporter, &dir.path().join("node"), node, &arguments);
    target.wait_ready("/metrics");
    let missing = free_address();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- {{job_name: node, static_configs: [{{targets: ['{node}'], labels: {{zone: a}}}}]}}
- job_name: relabelled
  honor_labels: true
  static_configs: [{{targets: ['{node}'], labels: {{cpu: of_target, __tmp: x}}}}]
  relabel_configs:
  - {{source_labels: [__address__], regex: '(.*):(.*)', target_label: instance, replacement: 'port-${{2}}'}}
  - {{source_labels: [__tmp, job], separator: /, target_label: joined}}
  - {{regex: __(tm.*), action: labelmap, replacement: of_$1}}
  metric_relabel_configs:
  - {{source_labels: [__name__], regex: 'node_(memory_[A-M].*|cpu_seconds_total|load\\d+)', action: keep}}
  - {{source_labels: [cpu, mode], target_label: shard, modulus: 7, action: hashmod}}
  - {{source_labels: [mode], target_label: mode, action: uppercase}}
  - {{regex: zone, action: labeldrop}}
- {{job_name: missing, static_configs: [{{targets: ['{missing}']}}]}}
- {{job_name: limited, sample_limit: 3, static_configs: [{{targets: ['{node}']}}]}}
"
    );
    let theirs = start_prometheus(&prometheus, &dir.path().join("prometheus"), &config, &[]);
    let mut ours = start_taffrail(&dir.path().join("taffrail"), &config);
    for job in ["node", "relabelled", "missing", "limited"] {
        let query = format!("count_over_time(up{{job=\"{job}\"}}[1m])");
        until(job, || [&theirs, &ours].iter().all(|s| value(s, &query).is_some_and(|n| n > 2.0)));
        let (theirs, ours) = (series(&theirs, job), series(&ours, job));
        let of_theirs: Vec<_> = theirs.difference(&ours).collect();
        let of_ours: Vec<_> = ours.difference(&theirs).collect();
        assert!(of_theirs.is_empty() && of_ours.is_empty(), "{job}: {of_theirs:?}\n{of_ours:?}");
        assert!(ours.len() >= 5, "{job}: {}", ours.len());
    }
    for query in [
        "up{job=\"node\"}",
        "up{job=\"missing\"}",
        "up{job=\"limited\"}",
        "scrape_samples_scraped{job=\"relabelled\"}",
        "scrape_samples_post_metric_relabeling{job=\"relabelled\"}",
        "scrape_samples_scraped{job=\"limited\"}",
        "scrape_samples_post_metric_relabeling{job=\"limited\"}",
        "scrape_series_added{job=\"node\"}",
        "scrape_samples_scraped{job=\"missing\"}",
    ] {
        assert_eq!(value(&theirs, query), value(&ours, query), "{query}");
    }
    // A target that goes away: its series end.
    target.kill();
    let gone = "up{job=\"node\"}";
    until(gone, || value(&ours, gone) == Some(0.0));
    assert_eq!(value(&ours, "count(node_load1{job=\"node\"})"), None, "ended by stale markers");
    assert!(ours.terminate(), "{}", ours.output());
}

/// What rules are made of.
const LABELS: [&str; 8] = ["a", "b", "c", "job", "instance", "__address__", "__meta_x", "__meta_y"];
const REGEXES: [&str; 12] = [
    "(.*)",
    "v(.*)",
    "(.)(.*)",
    "(v1|v2)",
    "[a-v]+\\d",
    "",
    "x?",
    "(?i)V(\\d)",
    "__meta_(.+)",
    "([^;]*);(.*)",
    ".*:(\\d+)",
    "(?P<n>\\w+)",
];
const REPLACEMENTS: [&str; 7] = ["$1", "${1}x", "lit", "", "$1-$2", "${n}", "$$1"];
const TARGETS: [&str; 5] = ["a", "d", "x_${1}", "e", "__meta_z"];

/// One rule that both take.
fn rule(random: &mut impl FnMut(usize) -> usize) -> String {
    let mut one = |list: &[&str]| format!("'{}'", list[random(list.len())]);
    let source = format!("[{}, {}]", one(&LABELS), one(&LABELS));
    let (regex, replacement, target) = (one(&REGEXES), one(&REPLACEMENTS), one(&TARGETS));
    let plain = one(&["a", "d", "e"]);
    match random(10) {
        0..=2 => format!(
            "{{source_labels: {source}, regex: {regex}, target_label: {target}, replacement: {replacement}}}"
        ),
        3 => format!("{{source_labels: {source}, separator: '', target_label: {plain}}}"),
        4 => format!(
            "{{source_labels: {source}, target_label: {plain}, modulus: {}, action: hashmod}}",
            1 + random(9)
        ),
        5 => "{regex: '__meta_(.+)', replacement: 'm_$1', action: labelmap}".to_owned(),
        6 => "{regex: '[bc]', action: labeldrop}".to_owned(),
        7 => format!(
            "{{source_labels: {source}, target_label: {plain}, action: {}}}",
            ["lowercase", "uppercase"][random(2)]
        ),
        8 => format!(
            "{{source_labels: {source}, regex: {regex}, action: {}}}",
            ["keep", "drop"][random(2)]
        ),
        _ => format!(
            "{{source_labels: [a], target_label: b, action: {}}}",
            ["keepequal", "dropequal"][random(2)]
        ),
    }
}

/// Jobs with rules made by chance, over targets that are never reached.
fn jobs(seed: u64, count: usize) -> String {
    let source = SeededRandom::new(seed);
    let mut random = |below: usize| source.below(below as u64) as usize;
    let mut text = "scrape_configs:\n".to_owned();
    for job in 0..count {
        let rules: Vec<String> = (0..1 + random(4)).map(|_| rule(&mut random)).collect();
        let _ = write!(
            text,
            "- job_name: j{job}
  scrape_interval: 1h
  static_configs:
  - {{targets: ['h1:1', 'h2:2'], labels: {{a: v1, b: V2, __meta_x: mx, c: v3}}}}
  - {{targets: ['h3:3'], labels: {{a: V2, b: V2, __meta_y: 'm;y', job: own}}}}
  relabel_configs:
  - {}
",
            rules.join("\n  - ")
        );
    }
    text
}

/// Labels of the targets of each job.
fn targets(server: &Program) -> BTreeMap<String, BTreeSet<String>> {
    let answer = server.json("/api/v1/targets?state=active", None);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for target in answer["data"]["activeTargets"].as_array().into_iter().flatten() {
        let pool = target["scrapePool"].as_str().unwrap_or("").to_owned();
        found.entry(pool).or_default().insert(target["labels"].to_string());
    }
    found
}

#[test]
fn rules_made_by_chance_do_what_they_do_in_prometheus() {
    let Some(prometheus) = installed("prometheus") else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let jobs = jobs(0x5c4a_9e01, 400);
    let theirs = start_prometheus(&prometheus, &dir.path().join("prometheus"), &jobs, &[]);
    // The packaged one knows the old alphabet of names alone.
    let legacy = format!("global: {{metric_name_validation_scheme: legacy}}\n{jobs}");
    let ours = start_taffrail(&dir.path().join("taffrail"), &legacy);
    until("targets of both", || targets(&theirs).len() > 100 && targets(&ours).len() > 100);
    // Discovery of the last jobs takes some seconds in Prometheus.
    let started = Instant::now();
    while targets(&theirs) != targets(&ours) && started.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(500));
    }
    let (theirs, ours) = (targets(&theirs), targets(&ours));
    let differ: Vec<String> = theirs
        .keys()
        .chain(ours.keys())
        .filter(|job| theirs.get(*job) != ours.get(*job))
        .map(|job| {
            let config = jobs.split("- job_name: ").find(|j| j.starts_with(&format!("{job}\n")));
            format!("{}\n{:?}\n{:?}", config.unwrap_or(job), theirs.get(job), ours.get(job))
        })
        .collect();
    assert!(differ.is_empty(), "{} jobs differ\n{}", differ.len(), differ[0]);
    println!("{} jobs of {} have targets, all the same", ours.len(), 400);
}

#[test]
fn wrong_files_are_refused_with_their_place_and_leave_what_runs_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = "scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:1']}]}]\n";
    let ours = start_taffrail(dir.path(), config);
    let pools = || ours.json("/api/v1/scrape_pools", None)["data"]["scrapePools"].to_string();
    assert_eq!(pools(), r#"["a"]"#);
    let file = dir.path().join("scrape.yml");
    let reload = |text: &str| {
        std::fs::write(&file, text).expect("write the configuration");
        let answer = ours.call("POST", "/-/reload", &[], &[]);
        (answer.status, answer.text())
    };
    let (status, text) = reload("scrape_configs:\n- {job_name: b, scrape_intervall: 1s}\n");
    assert_ne!(status, 200, "{text}");
    let place = "scrape.yml: line 2, column 17: field scrape_intervall not found in scrape_config";
    assert!(text.contains(place), "{text}");
    assert_eq!(pools(), r#"["a"]"#);
    let (status, text) = reload("scrape_configs: [{job_name: b}]\nrule_files: [x]\n");
    assert_eq!(status, 200, "{text}");
    assert_eq!(pools(), r#"["b"]"#);
    let check = |file: &Path| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_taffrail"))
            .args(["config", "check"])
            .arg(file)
            .output();
        let output = output.expect("run taffrail");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let (is_valid, text) = check(&file);
    assert!(is_valid && text.contains("rule_files is passed over"), "{text}");
    std::fs::write(&file, "scrape_configs: 1\n").expect("write the configuration");
    let (is_valid, text) = check(&file);
    assert!(!is_valid && text.contains("line 1, column 17: expected a list"), "{text}");
}
