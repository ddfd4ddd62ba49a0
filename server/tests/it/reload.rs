//! Another configuration without a restart, from outside: what takes effect, what is refused, what
//! is on record.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Program, taffrail, token_file_of};

const PLATFORM: (&str, &str) = ("platform", r#"{ tenant = "*", access = "admin" }"#);

/// Status and text of a request with a token.
fn call(server: &Program, token: &str, request: &str, body: &[u8]) -> (u16, String) {
    let (method, path) = request.split_once(' ').expect("`METHOD PATH`");
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("X-Scope-OrgID", "a")];
    let answer = server.call(method, path, &headers, body);
    (answer.status, answer.text())
}

fn metric(server: &Program, name: &str) -> f64 {
    let (_, text) = call(server, "platform", "GET /metrics", &[]);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing")).parse().expect("a number")
}

/// What pages are told of the last reload.
#[track_caller]
fn tells(server: &Program, failed: bool) {
    let about = |path: &str| call(server, "platform", &format!("GET /api/v1/{path}"), &[]).1;
    let (runtime, notes) = (about("status/runtimeinfo"), about("notifications"));
    assert!(runtime.contains(&format!("\"reloadConfigSuccess\":{}", !failed)), "{runtime}");
    let note = "{\"text\":\"Configuration reload has failed.\",\"date\":";
    assert_eq!(notes.contains(note), failed, "{notes}");
    assert_eq!(notes.contains("\"data\":[]"), !failed, "{notes}");
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).expect("write a file of the test");
}

#[test]
fn limits_tokens_and_labels_change_without_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tokens = dir.path().join("tokens.toml");
    write(&tokens, &token_file_of(&[PLATFORM]));
    let config = |rest: &str| {
        format!(
            "token_file = {tokens:?}\n{rest}\n[ingest.self_scrape]\nenabled = false\n\
             [storage]\ndisk_reserve_bytes = 0\n"
        )
    };
    let begun = config("[tenancy]\nmode = \"token\"");
    let server = taffrail(dir.path(), &begun);
    let file = dir.path().join("taffrail.toml");
    let import =
        |token: &str| call(&server, token, "POST /api/v1/import/prometheus", b"x{a=\"1\"} 1\n");
    assert_eq!(import("late").0, 401);
    assert_eq!(import("platform").0, 204);

    write(&tokens, &token_file_of(&[PLATFORM, ("late", r#"{ tenant = "a", access = "write" }"#)]));
    write(
        &file,
        &config(
            "shutdown_seconds = 9\n[tenancy]\nmode = \"token\"\n[tenancy.limits.tenants.a]\nlabels_max = 1",
        ),
    );
    assert_eq!(call(&server, "late", "POST /-/reload", &[]).0, 401, "not in force yet");
    let (status, told) = call(&server, "platform", "POST /-/reload", &[]);
    assert_eq!(status, 200, "{told}");
    assert!(told.contains("changed: tenancy.limits.tenants.a.labels_max\n"), "{told}");
    assert!(told.contains("waiting for a restart: shutdown_seconds\n"), "{told}");
    assert_eq!(call(&server, "late", "POST /-/reload", &[]).0, 403, "no administrator");
    let (status, text) = import("late");
    assert_eq!((status, text.contains("the limit is 1")), (400, true), "{text}");

    // Wrong as a whole: the limit, which is right, stays as it was too.
    write(&file, &config("[tenancy]\nmode = \"token\"\nlimits.default.labels_max = 0"));
    write(&tokens, "[[tokens]]\nname = \"x\"\nsha256 = \"12\"\ngrants = []\n");
    let (status, told) = call(&server, "platform", "PUT /-/reload", &[]);
    assert_eq!(status, 500, "{told}");
    assert!(told.contains("token \"x\": sha256 must be 64 hexadecimal digits"), "{told}");
    assert_eq!(import("late").0, 400, "the token and the limit stay");
    assert_eq!(metric(&server, "taffrail_config_last_reload_successful"), 0.0);
    tells(&server, true);
    let at = metric(&server, "taffrail_config_last_reload_success_timestamp_seconds");

    write(&tokens, &token_file_of(&[PLATFORM]));
    write(&file, &begun);
    let hangup = Command::new("kill").args(["-HUP", &server.pid().to_string()]).status();
    assert!(hangup.is_ok_and(|s| s.success()), "send SIGHUP");
    let sent = Instant::now();
    while metric(&server, "taffrail_config_last_reload_successful") == 0.0 {
        assert!(sent.elapsed() < Duration::from_secs(20), "not reloaded: {}", server.output());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(metric(&server, "taffrail_config_last_reload_success_timestamp_seconds") >= at);
    assert_eq!((import("late").0, import("platform").0), (401, 204));
    tells(&server, false);

    let (_, audit) = call(&server, "platform", "GET /api/v1/admin/audit", &[]);
    let audit: Value = serde_json::from_str(&audit).expect("JSON");
    let entries = audit["data"]["entries"].as_array().expect("entries");
    let shown: Vec<String> = entries
        .iter()
        .map(|e| {
            let text = |key: &str| e[key].as_str().unwrap_or("-").to_owned();
            let failed = if e["failed"].is_string() { "failed" } else { "" };
            format!("{} {} {} {failed}", text("principal"), text("from"), text("action"))
        })
        .collect();
    let expected = [
        "SIGHUP - config.reload ",
        "platform 127.0.0.1 config.reload failed",
        "platform 127.0.0.1 config.reload ",
        "platform 127.0.0.1 config.reload ",
    ];
    assert_eq!(shown, expected, "newest first");
}

/// Reads on until a text comes.
#[track_caller]
fn until(stream: &mut TcpStream, heard: &mut String, text: &str) {
    let mut piece = [0; 4096];
    while !heard.contains(text) {
        let read = stream.read(&mut piece).unwrap_or_else(|e| panic!("{text}: {e}: {heard}"));
        assert!(read > 0, "{text} never came: {heard}");
        heard.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}

#[test]
fn a_refused_configuration_is_told_to_who_listens() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = "[ingest.self_scrape]\nenabled = false\n[query]\nnotification_listeners_max = 1\n";
    let mut server = taffrail(dir.path(), config);
    let file = dir.path().join("taffrail.toml");
    let mut listening = TcpStream::connect(server.address).expect("connect");
    listening.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    write!(listening, "GET /api/v1/notifications/live HTTP/1.1\r\nHost: t\r\n\r\n").expect("ask");
    let mut heard = String::new();
    until(&mut listening, &mut heard, "text/event-stream");
    let other = server.call("GET", "/api/v1/notifications/live", &[], &[]);
    assert_eq!(other.status, 204, "one listens already");

    write(&file, "no = such_key\n");
    assert_ne!(server.call("POST", "/-/reload", &[], &[]).status, 200);
    let event = "data: {\"text\":\"Configuration reload has failed.\",\"date\":\"";
    until(&mut listening, &mut heard, "\"active\":true}\n\n");
    assert!(heard.contains(event), "{heard}");
    write(&file, config);
    assert_eq!(server.call("POST", "/-/reload", &[], &[]).status, 200);
    until(&mut listening, &mut heard, "\"active\":false}\n\n");

    // Who listens does not hold up the end.
    let started = Instant::now();
    assert!(server.terminate(), "{}", server.output());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}
