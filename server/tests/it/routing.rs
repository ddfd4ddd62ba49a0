//! A trusted collector writes for all tenants: its rows go to whoever owned their namespace then.

use model::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::http::escaped;

use crate::process::{Program, free_address, taffrail_at, token_file_of};

/// A server with a routed token, an ordinary one, and an administrator.
struct Platform {
    server: Program,
    now_ms: i64,
    config: String,
    dir: tempfile::TempDir,
}

impl Platform {
    fn start(top: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tokens = dir.path().join("tokens.toml");
        let mut file = token_file_of(&[
            ("platform", r#"{ tenant = "*", access = "admin" }"#),
            ("collector", r#"{ tenant = "*", access = "write" }"#),
        ]);
        file += "routed = true\n";
        std::fs::write(&tokens, file).expect("write the token file");
        let config = format!(
            "{top}\ntoken_file = {tokens:?}\n[tenancy]\nmode = \"token\"\n[ingest.self_scrape]\nenabled = false\n\
             [storage]\ndisk_reserve_bytes = 0\n"
        );
        let server = taffrail_at(dir.path(), free_address(), &config);
        Self { server, now_ms: SystemClock::default().now_ms(), config, dir }
    }

    fn restart(&mut self) {
        self.server.kill();
        self.server = taffrail_at(self.dir.path(), self.server.address, &self.config);
    }

    /// Writes lines of text; `@N` at the end of one is its age in seconds.
    fn write(&self, tenant: Option<&str>, lines: &[&str]) -> (u16, String) {
        let line = |line: &&str| {
            let (series, age) = line.split_once(" @").expect("`series value @age`");
            let age: i64 = age.parse().expect("seconds");
            format!("{series} {}\n", self.now_ms - 1_000 * age)
        };
        let body: String = lines.iter().map(line).collect();
        let mut headers = vec![("Authorization", "Bearer collector")];
        headers.extend(tenant.map(|t| ("X-Scope-OrgID", t)));
        let answer =
            self.server.call("POST", "/api/v1/import/prometheus", &headers, body.as_bytes());
        (answer.status, answer.text())
    }

    fn admin(&self, request: &str, tenant: Option<&str>, body: &Value) -> (u16, Value) {
        let (method, path) = request.split_once(' ').expect("`METHOD PATH`");
        let mut headers = vec![("Authorization", "Bearer platform")];
        headers.extend(tenant.map(|t| ("X-Scope-OrgID", t)));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.server.call(method, path, &headers, body.as_bytes());
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    /// The values a tenant has of `x`, in order.
    fn values(&self, tenant: &str) -> String {
        let query =
            format!("GET /api/v1/query?query={}&time={}", escaped("x[1h]"), self.now_ms / 1000 + 1);
        let (status, answer) = self.admin(&query, Some(tenant), &Value::Null);
        assert_eq!(status, 200, "{answer}");
        let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let values =
            series.iter().flat_map(|one| one["values"].as_array().cloned().unwrap_or_default());
        let mut values: Vec<String> =
            values.map(|pair| pair[1].as_str().unwrap_or_default().to_owned()).collect();
        values.sort();
        values.join(" ")
    }

    fn all(&self) -> [String; 4] {
        ["team-a", "team-b", "system", "unassigned"].map(|tenant| self.values(tenant))
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.server.call("GET", "/metrics", &[], &[]).text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing")).parse().expect("a number")
    }
}

#[test]
fn rows_go_to_whoever_owned_the_namespace_then() {
    let mut platform = Platform::start("");
    let handed_over = platform.now_ms - 60_000;
    let table = json!({ "namespaces": [
        { "cluster": "c", "namespace": "shop", "tenant": "team-a", "to_ms": handed_over },
        { "cluster": "c", "namespace": "shop", "tenant": "team-b", "from_ms": handed_over },
        { "cluster": "c", "namespace": "till", "tenant": "team-a" },
        { "cluster": "c", "namespace": "old", "tenant": "team-a", "to_ms": 5 },
    ] });
    let (status, told) = platform.admin("PUT /api/v1/admin/routing", None, &table);
    assert_eq!((status, &told["data"]["entries"]), (200, &json!(4)), "{told}");
    let written = platform.write(
        None,
        &[
            r#"x{cluster="c",namespace="shop"} 1 @90"#,
            r#"x{cluster="c",namespace="shop"} 2 @30"#,
            r#"x{cluster="c",namespace="till"} 3 @90"#,
            r#"x{cluster="c",node="n"} 4 @90"#,
            r#"x{cluster="c",namespace="other"} 5 @90"#,
            r#"x{cluster="d",namespace="shop"} 6 @90"#,
            r#"x{cluster="c",namespace="old"} 7 @90"#,
        ],
    );
    assert_eq!(written, (204, String::new()));
    assert_eq!(platform.all(), ["1 3", "2", "4", "5 6 7"]);
    for (reason, rows) in
        [("unknown_namespace", 1.0), ("unknown_cluster", 1.0), ("not_owned_then", 1.0)]
    {
        let name = format!("taffrail_ingest_unassigned_rows_total{{reason=\"{reason}\"}}");
        assert_eq!(platform.metric(&name), rows, "{reason}");
    }
    assert_eq!(platform.metric("taffrail_ingest_routed_rows_total{to=\"workspace\"}"), 3.0);

    // With a tenant named nothing is routed.
    let line = r#"x{cluster="c",namespace="shop"} 8 @10"#;
    assert_eq!(platform.write(Some("team-c"), &[line]).0, 204);
    assert_eq!(platform.values("team-c"), "8");

    // The table and the rows are there after a restart.
    platform.restart();
    assert_eq!(platform.all(), ["1 3", "2", "4", "5 6 7"]);
    assert_eq!(platform.write(None, &[r#"x{cluster="c",namespace="shop"} 9 @20"#]).0, 204);
    assert_eq!(platform.values("team-b"), "2 9");

    // One destination that takes nothing costs the others nothing.
    let (status, _) =
        platform.admin("POST /api/v1/admin/tenants/team-a/suspend", None, &Value::Null);
    assert_eq!(status, 200);
    let limits = json!({ "labels_max": 2 });
    let (status, _) = platform.admin("PUT /api/v1/admin/tenants/system/limits", None, &limits);
    assert_eq!(status, 200);
    let (status, text) = platform.write(
        None,
        &[r#"x{cluster="c",namespace="till"} 10 @40"#, r#"x{cluster="c",namespace="shop"} 11 @10"#],
    );
    assert_eq!((status, text.contains("1 tenant_suspended: ")), (400, true), "{text}");
    assert_eq!(
        (platform.values("team-a"), platform.values("team-b")),
        ("1 3".into(), "11 2 9".into())
    );

    // A deleted workspace gets nothing, and neither does the next of its name.
    assert_eq!(platform.admin("DELETE /api/v1/admin/tenants/team-a", None, &Value::Null).0, 200);
    assert_eq!(platform.write(None, &[r#"x{cluster="c",namespace="till"} 12 @5"#]).0, 204);
    let deleted = "taffrail_ingest_unassigned_rows_total{reason=\"tenant_deleted\"}";
    assert_eq!(platform.metric(deleted), 1.0);

    let wrong = json!({ "namespaces": [{ "namespace": "", "tenant": "a" }] });
    let (status, told) = platform.admin("PUT /api/v1/admin/routing", None, &wrong);
    assert_eq!(status, 400);
    assert!(
        told["error"].as_str().unwrap_or_default().contains("entry 1: namespace is \"\""),
        "{told}"
    );
    let (_, audit) = platform.admin("GET /api/v1/admin/audit?limit=1", None, &Value::Null);
    let entry = &audit["data"]["entries"][0];
    assert_eq!(entry["action"], json!("routing.replace"), "{audit}");
    assert!(entry["failed"].as_str().unwrap_or_default().contains("entry 1"), "{audit}");
}

/// A target on a port of its own that always exposes the same; ends with the process.
fn target(text: &'static str) -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn what_a_trusted_job_scrapes_goes_to_the_owners_of_namespaces() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (routing, jobs) = (dir.path().join("namespaces.toml"), dir.path().join("jobs.yml"));
    let entry = "[[namespaces]]\ncluster = \"c\"\nnamespace = \"shop\"\ntenant = \"team-a\"\n";
    std::fs::write(&routing, entry).expect("write the routing file");
    let address = target(
        "# HELP x Things.\n# TYPE x gauge\nx{cluster=\"c\",namespace=\"shop\"} 1\nx{cluster=\"c\"} 2\n\
         x{cluster=\"c\",namespace=\"other\"} 3\n",
    );
    let job = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: state, \
         honor_labels: true, x-taffrail: {{routed: true}}, static_configs: [{{targets: ['{address}']}}]}}]\n"
    );
    std::fs::write(&jobs, job).expect("write the jobs");
    let top = format!("routing_file = {routing:?}\ningest.scrape.config_file = {jobs:?}");
    let platform = Platform::start(&top);
    let last = |tenant: &str, query: &str| {
        let path = format!("GET /api/v1/query?query={}", escaped(query));
        let (_, answer) = platform.admin(&path, Some(tenant), &Value::Null);
        answer["data"]["result"][0]["value"][1].as_str().unwrap_or_default().to_owned()
    };
    let begun = std::time::Instant::now();
    while last("unassigned", "x").is_empty() {
        assert!(begun.elapsed().as_secs() < 40, "{}", platform.server.output());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(
        [last("team-a", "x"), last("system", "x"), last("unassigned", "x")],
        ["1", "2", "3"]
    );
    assert_eq!([last("system", "up"), last("team-a", "up")], ["1", ""]);
    let counted = "taffrail_ingest_unassigned_rows_total{reason=\"unknown_namespace\"}";
    assert!(platform.metric(counted) >= 1.0);
    let (_, told) = platform.admin("GET /api/v1/metadata?metric=x", Some("team-a"), &Value::Null);
    assert_eq!(told["data"]["x"][0]["help"], json!("Things."), "{told}");
    let (_, told) = platform.admin("GET /api/v1/targets", Some("system"), &Value::Null);
    assert_eq!(told["data"]["activeTargets"][0]["scrapePool"], json!("state"), "{told}");
    let (_, told) = platform.admin("GET /api/v1/targets", Some("team-a"), &Value::Null);
    assert_eq!(told["data"]["activeTargets"], json!([]), "{told}");
}

#[test]
fn a_file_of_namespaces_is_taken_over_when_it_changes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("namespaces.toml");
    let entry = |tenant: &str| {
        format!("[[namespaces]]\ncluster = \"c\"\nnamespace = \"shop\"\ntenant = {tenant:?}\n")
    };
    std::fs::write(&file, entry("team-a")).expect("write the routing file");
    let platform = Platform::start(&format!("routing_file = {file:?}"));
    let line =
        |value: u32, age: u32| format!(r#"x{{cluster="c",namespace="shop"}} {value} @{age}"#);
    assert_eq!(platform.write(None, &[&line(1, 50)]).0, 204);
    let table = json!({ "namespaces": [] });
    let (status, told) = platform.admin("PUT /api/v1/admin/routing", None, &table);
    assert_eq!(status, 409, "{told}");

    std::fs::write(&file, entry("team-b")).expect("write the routing file");
    assert_eq!(platform.admin("POST /-/reload", None, &Value::Null).0, 200);
    assert_eq!(platform.write(None, &[&line(2, 40)]).0, 204);

    std::fs::write(&file, entry("team b")).expect("write the routing file");
    let reload =
        platform.server.call("POST", "/-/reload", &[("Authorization", "Bearer platform")], &[]);
    assert_eq!(reload.status, 500);
    assert!(
        reload.text().contains("namespaces.toml is wrong: entry 1: tenant"),
        "{}",
        reload.text()
    );
    assert_eq!(platform.write(None, &[&line(3, 30)]).0, 204);

    // Nobody asks: a file that changed is seen.
    std::fs::write(&file, entry("team-c")).expect("write the routing file");
    let begun = std::time::Instant::now();
    let mut age = 20;
    while platform.values("team-c").is_empty() {
        assert!(begun.elapsed().as_secs() < 40, "{}", platform.server.output());
        std::thread::sleep(std::time::Duration::from_secs(2));
        age = if age > 0 { age - 1 } else { 0 };
        assert_eq!(platform.write(None, &[&line(4, age)]).0, 204);
    }
    assert_eq!(platform.values("team-a"), "1");
    assert!(platform.values("team-b").starts_with("2 3"));
}
