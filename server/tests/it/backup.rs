//! Backup and restore by the binary: while writes go on, to a directory and to S3, and back again.

use std::path::Path;
use std::process::Command;

use model::{Clock, Labels, SystemClock};
use testkit::S3Server;
use testkit::remote_write::Series;

use crate::process::{Program, binary, on_s3, taffrail};

const QUIET: &str =
    "[ingest.self_scrape]\nenabled = false\n[storage]\npartitions = 3\ndisk_reserve_bytes = 0\n";

fn send(server: &Program, tenant: &str, at_ms: i64) {
    let series: Vec<Series> = (0..20)
        .map(|n| {
            let labels = Labels::from_pairs([("__name__", "backed_up"), ("n", &n.to_string())]);
            Series::new(&labels, &[(at_ms, f64::from(n) / 3.0)])
        })
        .collect();
    server.write(Some(tenant), &series);
}

/// What tenants have, and what they may.
fn answers(server: &Program, at_ms: i64) -> Vec<String> {
    let mut answers = Vec::new();
    for tenant in ["one", "two"] {
        for query in ["backed_up", "sum(backed_up) by (n)", "backed_up[1h]", "pushed"] {
            answers.push(server.instant(query, at_ms, Some(tenant))["data"].to_string());
        }
        let limits = server.json(&format!("/api/v1/admin/tenants/{tenant}/limits"), None);
        answers.push(limits["data"].to_string());
    }
    answers
}

/// Runs the binary; gives whether it succeeded and what it said.
fn run(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary()).args(arguments).output().expect("run the binary");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn must(arguments: &[&str]) -> String {
    let (done, text) = run(arguments);
    assert!(done, "{arguments:?}: {text}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of this test")
}

/// Rows of two tenants in blocks and in the log, limits, and a pushed group.
fn fill(server: &Program, now_ms: i64) {
    for minute in 0..5 {
        send(server, "one", now_ms - minute * 60_000);
        send(server, "two", now_ms - minute * 60_000);
        if minute == 2 {
            server.call("POST", "/api/v1/admin/flush", &[], &[]);
        }
    }
    let limits =
        server.call("PUT", "/api/v1/admin/tenants/two/limits", &[], b"{\"labels_max\": 17}");
    assert_eq!(limits.status, 200, "{}", limits.text());
    let pushed =
        server.call("PUT", "/metrics/job/batch", &[("X-Scope-OrgID", "one")], b"pushed 7\n");
    assert!(pushed.status < 300, "{}", pushed.text());
}

/// Of two backups, of which this is the first, one is let go.
fn check_pruning(shelf: &Path, first: &str) {
    let prune = |more: &[&str]| run(&[&["prune", "--from", text(shelf)], more].concat());
    assert!(!prune(&[]).0, "somebody has to say what to keep");
    let (done, told) = prune(&["--keep", "1"]);
    assert!(done && told.starts_with(&format!("goes   {first}\nstays  ")), "{told}");
    assert!(told.contains("nothing was changed"), "{told}");
    let (done, told) = prune(&["--keep", "1", "--older-than", "1", "--yes"]);
    assert!(done && !told.contains("goes"), "of today: {told}");
    assert!(prune(&["--keep", "1", "--yes"]).0);
    let listed = must(&["restore", "--from", text(shelf), "--list"]);
    assert!(listed.lines().count() == 1 && !listed.starts_with(first), "{listed}");
    must(&["restore", "--from", text(shelf), "--check"]);
}

#[test]
fn a_backup_of_a_running_server_is_restored() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let s3 = S3Server::start();
    let at = |name: &str| dir.path().join(name);
    let on_s3 = |prefix: &str| {
        let objects = s3.as_ref().map_or_else(String::new, |s3| on_s3(s3, prefix));
        format!("{QUIET}{objects}")
    };
    let server = taffrail(&at("first"), &on_s3("store"));
    let now_ms = SystemClock::default().now_ms();
    fill(&server, now_ms);
    let before = answers(&server, now_ms);
    if s3.is_some() {
        let metrics = server.call("GET", "/metrics", &[], &[]).text();
        let counted = r#"taffrail_object_store_requests_total{kind="put",outcome="ok"}"#;
        assert!(metrics.contains(counted), "{metrics}");
    }
    let url = format!("http://{}", server.address);
    let shelf = at("backups");
    let told = must(&["backup", "--url", &url, "--to", text(&shelf)]);
    assert!(told.contains("objects") && told.contains("bytes"), "{told}");
    send(&server, "one", now_ms);
    let (done, told) = run(&["backup", "--url", &url, "--to", text(&at("first/data/inside"))]);
    assert!(!done && told.contains("lie in each other"), "{told}");
    let told = must(&["backup", "--url", &url, "--to", text(&shelf)]);
    assert!(!told.contains(" 0 objects were there"), "{told}");
    let listed = must(&["restore", "--from", text(&shelf), "--list"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let first = listed.split(' ').next().expect("a number").to_owned();
    must(&["restore", "--from", text(&shelf), "--check"]);
    drop(server);

    // Onto local disk, wherever it was.
    let data = at("second/data");
    must(&["restore", "--from", text(&shelf), "--backup", &first, "--data-dir", text(&data)]);
    let (done, told) = run(&["restore", "--from", text(&shelf), "--data-dir", text(&data)]);
    assert!(!done && told.contains("not empty"), "{told}");
    let again = taffrail(&at("second"), QUIET);
    assert_eq!(answers(&again, now_ms), before);
    let groups = |data: &Path| std::fs::read(data.join("pushgateway/groups.log")).expect("groups");
    assert_eq!(groups(&data), groups(&at("first/data")), "what was pushed goes on");
    send(&again, "one", now_ms + 1);
    drop(again);

    check_pruning(&shelf, &first);

    // Onto S3, from a backup on S3.
    if s3.is_some() {
        let again =
            taffrail(&at("second"), &on_s3("store").replace("kind = \"s3\"", "kind = \"local\""));
        let url = format!("http://{}", again.address);
        must(&["backup", "--url", &url, "--to", "s3://rows/shelf"]);
        let before = answers(&again, now_ms);
        drop(again);
        let config = at("third.toml");
        std::fs::write(&config, on_s3("third")).expect("a configuration");
        let data = at("third/data");
        let told = must(&[
            "restore",
            "--config",
            text(&config),
            "--from",
            "s3://rows/shelf",
            "--data-dir",
            text(&data),
        ]);
        assert!(told.contains("s3://rows/third"), "{told}");
        let third = taffrail(&at("third"), &on_s3("third"));
        assert_eq!(answers(&third, now_ms), before);
    }
}
