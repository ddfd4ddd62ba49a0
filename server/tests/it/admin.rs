//! Administration from outside: the command `taffrail tenants`, deletions as Prometheus' clients
//! ask for them, and what a restart leaves of both.

use std::path::Path;
use std::process::Command;

use model::{Clock, Labels, SystemClock};
use serde_json::{Value, json};
use testkit::http::escaped;
use testkit::remote_write::Series;

use crate::process::{Program, taffrail_at, token_file_of};

const TOKENS: &[(&str, &str)] = &[
    ("collector", r#"{ tenant = "*", access = "write" }"#),
    ("reader-b", r#"{ tenant = "b", access = "read" }"#),
    ("admin-b", r#"{ tenant = "b", access = "admin" }"#),
    ("platform", r#"{ tenant = "*", access = "admin" }"#),
];

/// A server with tenants `a` and `b`, each with the same series.
struct Platform {
    server: Program,
    now_ms: i64,
    config: String,
    dir: tempfile::TempDir,
}

impl Platform {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let token_file = dir.path().join("tokens.toml");
        std::fs::write(&token_file, token_file_of(TOKENS)).expect("write the token file");
        std::fs::write(dir.path().join("platform.token"), "platform\n").expect("write a token");
        let config = format!(
            "token_file = {token_file:?}\n[tenancy]\nmode = \"token\"\n[ingest.self_scrape]\nenabled = false\n\
             [storage]\ndisk_reserve_bytes = 0\n"
        );
        let address = crate::process::free_address();
        let server = taffrail_at(dir.path(), address, &config);
        Self { server, now_ms: SystemClock::default().now_ms(), config, dir }
    }

    fn restart(&mut self) {
        self.server.kill();
        self.server = taffrail_at(self.dir.path(), self.server.address, &self.config);
    }

    fn write(&self, tenant: &str, seconds_ago: i64, value: f64) -> (u16, String) {
        let at = self.now_ms - seconds_ago * 1000;
        let labels = |name| Labels::from_pairs([("__name__", name), ("job", "x")]);
        let series = ["up", "down"].map(|name| Series::new(&labels(name), &[(at, value)]));
        let headers = [("Authorization", "Bearer collector"), ("X-Scope-OrgID", tenant)];
        let answer = self.server.remote_write(&headers, &series);
        (answer.status, answer.text())
    }

    /// Status of a request, and its body as JSON.
    fn call(&self, token: &str, tenant: Option<&str>, request: &str, body: &Value) -> (u16, Value) {
        let (method, path) = request.split_once(' ').expect("`METHOD PATH`");
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("Authorization", bearer.as_str())];
        headers.extend(tenant.map(|t| ("X-Scope-OrgID", t)));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.server.call(method, path, &headers, body.as_bytes());
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    /// How many samples a tenant has of `down` and of `up`, those without any left out.
    fn samples(&self, tenant: &str) -> String {
        let counts = ["down", "up"].map(|name| {
            let query = escaped(&format!("count_over_time({name}[1h])"));
            let path = format!("GET /api/v1/query?query={query}&time={}", self.now_ms / 1000 + 1);
            let (status, answer) = self.call("platform", Some(tenant), &path, &Value::Null);
            assert_eq!(status, 200, "{answer}");
            answer["data"]["result"][0]["value"][1].as_str().unwrap_or_default().to_owned()
        });
        counts.join(" ").trim().to_owned()
    }

    /// `taffrail tenants …`: what it printed, or why it failed.
    fn tenants(&self, arguments: &[&str]) -> Result<String, String> {
        let url = format!("http://{}", self.server.address);
        let token = self.dir.path().join("platform.token");
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_taffrail")))
            .arg("tenants")
            .args(arguments)
            .args(["--url", &url, "--token-file"])
            .arg(token)
            .output()
            .expect("run taffrail");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }
}

#[test]
fn tenants_are_looked_after_on_the_command_line() {
    let mut platform = Platform::start();
    for tenant in ["a", "b"] {
        assert_eq!(platform.write(tenant, 60, 1.0).0, 204);
    }
    let refused = platform.tenants(&["create", "a"]).expect_err("it is there");
    assert!(
        refused.contains("the name a is or was that of another tenant (status 409)"),
        "{refused}"
    );
    let limits = platform.tenants(&["limits", "a", "labels_max=1"]).expect("a limit");
    assert!(limits.contains("labels_max") && limits.contains("own"), "{limits}");
    let (status, text) = platform.write("a", 30, 2.0);
    assert_eq!((status, text.contains("the limit is 1")), (400, true), "{text}");
    platform.tenants(&["limits", "a", "labels_max=default"]).expect("back");
    let refused = platform.tenants(&["limits", "a", "label_max=1"]).expect_err("no such limit");
    assert!(refused.contains("unknown field `label_max`"), "{refused}");

    platform.tenants(&["suspend", "b", "--reason", "unpaid", "--no-reads"]).expect("suspended");
    platform.restart();
    let (status, text) = platform.write("b", 30, 2.0);
    assert_eq!((status, text.contains("(unpaid)")), (403, true), "{text}");
    assert_eq!(platform.call("reader-b", None, "GET /api/v1/query?query=up", &Value::Null).0, 403);
    assert_eq!(platform.samples("b"), "1 1", "administrators still see it");
    platform.tenants(&["resume", "b"]).expect("resumed");
    assert_eq!(platform.write("b", 30, 2.0).0, 204);

    platform.tenants(&["rename", "b", "c"]).expect("renamed");
    assert_eq!((platform.samples("b"), platform.samples("c")), ("2 2".into(), "2 2".into()));
    let usage = platform.tenants(&["usage", "c", "--json"]).expect("usage");
    let usage: Value = serde_json::from_str(&usage).expect("JSON");
    assert_eq!(
        (&usage["active_series"], &usage["head_samples"]),
        (&json!(2), &json!(4)),
        "{usage}"
    );

    let refused = platform.tenants(&["delete", "c"]).expect_err("not just so");
    assert!(refused.contains("say --yes"), "{refused}");
    platform.tenants(&["delete", "c", "--yes"]).expect("deleted");
    assert_eq!((platform.samples("c"), platform.samples("a")), (String::new(), "1 1".into()));
    assert_eq!(platform.write("c", 20, 3.0).0, 204, "the name is free");
    assert_eq!(platform.samples("c"), "1 1", "a new tenant with nothing of the old one");
    platform.restart();
    assert_eq!((platform.samples("c"), platform.samples("a")), ("1 1".into(), "1 1".into()));

    let list = platform.tenants(&["list"]).expect("a list");
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["NAME", "a", "c"], "{list}");
    let deleted = platform.tenants(&["list", "--deleted"]).expect("a list");
    assert!(deleted.contains("c     deleted"), "{deleted}");
    let audit = platform.tenants(&["audit", "--json", "--limit", "3"]).expect("records");
    let audit: Value = serde_json::from_str(&audit).expect("JSON");
    let entry = &audit["entries"][0];
    assert_eq!(
        (&entry["action"], &entry["principal"]),
        (&json!("tenant.delete"), &json!("platform"))
    );
    assert_eq!((&entry["old"], audit["more"].as_bool()), (&json!({ "name": "c" }), Some(true)));
}

#[test]
fn rows_are_deleted_as_prometheus_would() {
    let mut platform = Platform::start();
    for (ago, value) in [(90, 1.0), (60, 2.0), (30, 3.0)] {
        for tenant in ["a", "b"] {
            assert_eq!(platform.write(tenant, ago, value).0, 204);
        }
    }
    let null = Value::Null;
    let path = "/api/v1/admin/tsdb/delete_series";
    let range = format!(
        "start={}&end={}",
        (platform.now_ms - 70_000) / 1000,
        (platform.now_ms - 50_000) / 1000
    );
    let delete = format!("POST {path}?match[]={}&{range}", escaped("up{job=\"x\"}"));
    assert_eq!(platform.call("reader-b", Some("b"), &delete, &null).0, 403, "not for readers");
    let dry = json!({ "match": ["{job=\"x\"}"], "dry_run": true });
    let (status, told) = platform.call("admin-b", None, "POST /api/v1/admin/delete", &dry);
    assert_eq!(status, 200, "{told}");
    assert_eq!((&told["data"]["series"], &told["data"]["samples"]), (&json!(2), &json!(6)));
    assert_eq!(platform.samples("b"), "3 3", "nothing went");

    assert_eq!(platform.call("admin-b", None, &delete, &null).0, 204);
    assert_eq!((platform.samples("b"), platform.samples("a")), ("3 2".into(), "3 3".into()));
    platform.restart();
    assert_eq!((platform.samples("b"), platform.samples("a")), ("3 2".into(), "3 3".into()));
    assert_eq!(platform.call("platform", None, "POST /api/v1/admin/flush", &null).0, 204);
    assert_eq!((platform.samples("b"), platform.samples("a")), ("3 2".into(), "3 3".into()));
    assert_eq!(platform.write("b", 60, 9.0).0, 204, "the same instant again");
    assert_eq!(platform.samples("b"), "3 3");

    let all = json!({ "match": ["down"] });
    let (status, told) = platform.call("admin-b", None, "POST /api/v1/admin/delete", &all);
    assert_eq!((status, &told["data"]["dry_run"]), (200, &json!(false)), "{told}");
    assert_eq!(platform.samples("b"), "3");
    let names = "GET /api/v1/label/__name__/values";
    let (_, listed) = platform.call("reader-b", None, names, &null);
    assert_eq!(listed["data"], json!(["up"]));
    for (request, body, part) in [
        (format!("POST {path}"), &null, "no match[] parameter provided"),
        (format!("POST {path}?match[]=%7B%7D"), &null, "at least one non-empty matcher"),
        (format!("PUT {path}?match[]=up&start=9&end=8"), &null, "end timestamp must not be before"),
        (
            "POST /api/v1/admin/delete".to_owned(),
            &json!({ "matches": [] }),
            "unknown field `matches`",
        ),
    ] {
        let (status, told) = platform.call("admin-b", None, &request, body);
        let text = told["error"].as_str().unwrap_or_default();
        assert_eq!((status, text.contains(part)), (400, true), "{request}: {told}");
    }
    let (_, audit) = platform.call("platform", None, "GET /api/v1/admin/audit?tenant=b", &null);
    let entries = audit["data"]["entries"].as_array().cloned().unwrap_or_default();
    assert_eq!(entries.len(), 2, "{audit}");
    assert_eq!(entries[0]["new"]["match"], json!(["down"]));
    assert!(platform.server.terminate(), "SIGTERM ends it in order");
}
