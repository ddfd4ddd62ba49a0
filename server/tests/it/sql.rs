//! SQL the whole way: the examples of its page, the command line, an arrow stream that Python reads,
//! tokens that see a part, limits, and clients that go away.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use model::{Clock, SystemClock};
use testkit::http::escaped;
use testkit::remote_write::Series;

use crate::process::{Program, run, taffrail};

const CONFIG: &str = "
[ingest.self_scrape]
enabled = false
[storage]
disk_reserve_bytes = 0
[tenancy.limits.tenants.small]
query_samples_max = 100
query_seconds_max = 1.0
";

/// `cpu` by host and mode, a value each 15 s for 20 minutes.
fn fill(server: &Program, tenant: &str, now_ms: i64) {
    let mut all = Vec::new();
    for (i, host) in ["a", "b"].into_iter().enumerate() {
        for (j, mode) in ["user", "idle"].into_iter().enumerate() {
            let sample =
                |s: i64| (now_ms - (80 - s) * 15_000, ((i + 1) * (j + 2)) as f64 * s as f64);
            let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            all.push(Series {
                labels: vec![label("__name__", "cpu"), label("host", host), label("mode", mode)],
                samples: (0..=80).map(sample).collect(),
                ..Series::default()
            });
        }
    }
    server.write(Some(tenant), &all);
}

/// Lines of two applications, one of them a fault, and an audit record.
fn fill_entries(server: &Program, tenant: &str, now_ms: i64) {
    let headers = [("X-Scope-OrgID", tenant), ("Content-Type", "application/json")];
    let at = |ago_s: i64| (now_ms - ago_s * 1_000).to_string() + "000000";
    let error =
        serde_json::json!([at(30), "level=ERROR upstream Timeout after 3 s", { "trace": "t-1" }]);
    let web = serde_json::json!({ "stream": { "app": "web" }, "values": [error, [at(20), "GET /cart 200"]] });
    let db = serde_json::json!({ "stream": { "app": "db" }, "values": [[at(10), "checkpoint"]] });
    let body = serde_json::json!({ "streams": [web, db] }).to_string();
    let answer = server.call("POST", "/loki/api/v1/push", &headers, body.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
    let record = serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "1",
        "stage": "ResponseComplete", "verb": "delete", "user": { "username": "jane" },
        "stageTimestamp": query::http::rfc3339_text(now_ms - 5_000),
    });
    let list = serde_json::json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [record] });
    let answer = server.call("POST", "/api/v1/ingest/audit", &headers, list.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn csv(server: &Program, tenant: &str, statement: &str) -> String {
    let headers =
        [("X-Scope-OrgID", tenant), ("Content-Type", "application/sql"), ("Accept", "text/csv")];
    server.call("POST", "/api/v1/sql", &headers, statement.as_bytes()).text().replace("\r\n", "\n")
}

#[test]
fn the_examples_of_the_page_have_answers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = taffrail(dir.path(), CONFIG);
    let now_ms = SystemClock::default().now_ms();
    fill(&server, "team-a", now_ms);
    fill_entries(&server, "team-a", now_ms);
    let page = include_str!("../../../docs/sql.md");
    let examples: Vec<&str> =
        page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 6, "the page has examples");
    for example in &examples {
        let answer = csv(&server, "team-a", example);
        assert!(answer.lines().count() > 1 && !answer.contains("error"), "{example}{answer}");
    }
    let first = csv(&server, "team-a", examples[0]);
    assert_eq!(first, "host,busy\nb,160\na,80\n");

    // The same by the command line, with a parameter, and as a picture.
    let url = format!("http://{}", server.address);
    let query = |more: &[&str]| {
        let common = ["query", "--sql", "--url", &url, "--tenant", "team-a"];
        let ran = run(&[&common, more].concat());
        let (out, err) =
            (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        (ran.status.success(), format!("{out}{err}"))
    };
    let table = query(&[
        "SELECT host, count(*) AS n FROM cpu WHERE host = $h GROUP BY host",
        "--param",
        "h=b",
    ]);
    assert_eq!(table, (true, "host  n\nb     162\n".to_owned()));
    let lines = query(&["--format", "csv", "SELECT 1 AS a, NULL AS b"]);
    assert_eq!(lines, (true, "a,b\r\n1,\r\n".to_owned()));
    let (drawn, picture) =
        query(&["--format", "plot", "SELECT time, host, value FROM cpu WHERE mode = 'user'"]);
    assert!(drawn && picture.contains("value{host=\"a\"}") && picture.contains('⣀'), "{picture}");
    let (worked, error) = query(&["SELECT\n nothing FROM cpu"]);
    assert!(!worked && error.contains("at line 2, column 2"), "{error}");
    let (worked, error) = query(&["--range", "1h", "SELECT 1"]);
    assert!(!worked && error.contains("WHERE time >"), "{error}");
}

/// Entries by door, command line and Python, before and after the process was killed.
#[test]
fn entries_are_asked_for_in_every_form() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let now_ms = SystemClock::default().now_ms();
    let check = |server: &Program| {
        let newest = "SELECT app, level, line FROM logs ORDER BY time DESC LIMIT 2";
        assert_eq!(
            csv(server, "team-a", newest),
            "app,level,line\ndb,unknown,checkpoint\nweb,unknown,GET /cart 200\n"
        );
        let fault = "SELECT fields['trace'] AS t, source FROM logs WHERE line LIKE '%Timeout%'";
        assert_eq!(csv(server, "team-a", fault), "t,source\nt-1,other\n");
        assert_eq!(csv(server, "team-b", "SELECT count(*) AS n FROM logs"), "n\n0\n");
        let json = server.json(
            &format!("/api/v1/sql?query={}", escaped("SELECT fields FROM audits")),
            Some("team-a"),
        );
        assert_eq!(json["data"]["rows"][0][0]["verb"], "delete", "{json}");
        let headers = [
            ("X-Scope-OrgID", "team-a"),
            ("Content-Type", "application/sql"),
            ("Accept", "application/vnd.apache.arrow.stream"),
        ];
        let arrow = server.call("POST", "/api/v1/sql", &headers, b"SELECT * FROM logs");
        assert_eq!((arrow.status, &arrow.body[..4]), (200, &[0xff; 4][..]), "a stream of messages");
        assert!(arrow.body.windows(10).any(|bytes| bytes == b"checkpoint"));
    };
    let server = taffrail(dir.path(), CONFIG);
    fill_entries(&server, "team-a", now_ms);
    check(&server);
    drop(server);
    check(&taffrail(dir.path(), CONFIG));
}

#[test]
fn tenants_are_kept_apart_and_limits_hold() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = taffrail(dir.path(), CONFIG);
    let now_ms = SystemClock::default().now_ms();
    for tenant in ["team-a", "team-c", "small"] {
        fill(&server, tenant, now_ms);
    }
    assert_eq!(csv(&server, "team-b", "SELECT count(*) AS n FROM samples"), "n\n0\n");
    let both = "SELECT __tenant_id__ AS t, count(*) AS n FROM cpu GROUP BY t ORDER BY t";
    assert_eq!(csv(&server, "team-a|team-c", both), "t,n\nteam-a,324\nteam-c,324\n");
    let refused = csv(&server, "small", "SELECT * FROM cpu");
    assert!(refused.contains("query_samples_max"), "{refused}");
    let allowed =
        csv(&server, "small", "SELECT count(*) AS n FROM cpu WHERE host = 'a' AND mode = 'user'");
    assert_eq!(allowed, "n\n81\n");
    let slow = csv(&server, "small", "SELECT count(*) FROM generate_series(1, 100000000000)");
    assert!(slow.contains("timed out"), "{slow}");
}

/// A client that reads a little of a long answer and goes away.
#[test]
fn a_client_that_goes_away_ends_the_statement() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = taffrail(dir.path(), CONFIG);
    // A tenant that was never written to is none, and its questions are listed for nobody.
    fill(&server, "team-a", SystemClock::default().now_ms());
    let statement = escaped("SELECT * FROM generate_series(1, 100000000000)");
    let mut stream = TcpStream::connect(server.address).expect("connect");
    let head = format!(
        "GET /api/v1/sql?query={statement} HTTP/1.1\r\nHost: here\r\nX-Scope-OrgID: team-a\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("send a request");
    let mut some = [0; 4096];
    stream.read_exact(&mut some).expect("a part of the answer");
    assert!(some.starts_with(b"HTTP/1.1 200"));
    let runs = || {
        let listed = server.json("/api/v1/status/queries", Some("team-a"));
        listed["data"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|one| one.to_string().contains("generate_series"))
    };
    assert!(runs(), "{}", server.json("/api/v1/status/queries", Some("team-a")));
    drop(stream);
    let gone = Instant::now();
    while runs() {
        assert!(gone.elapsed() < Duration::from_secs(10), "it still runs");
        thread::sleep(Duration::from_millis(20));
    }
}
