//! What a question may use, who ends it, and what is left of it: budgets by tenant, clients that
//! go away, the list of what runs, the log of slow ones.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use model::{Clock, SystemClock};
use testkit::http::{Connection, escaped};
use testkit::remote_write::Series;

use crate::process::{Program, taffrail};

const CONFIG: &str = "
[ingest.self_scrape]
enabled = false
[storage]
disk_reserve_bytes = 0
[query]
slow_query_seconds = 0.0
[tenancy.limits.tenants.series]
query_series_max = 5
[tenancy.limits.tenants.samples]
query_samples_max = 100
[tenancy.limits.tenants.bytes]
query_bytes_max = 1000
[tenancy.limits.tenants.memory]
query_memory_bytes_max = 10000
[tenancy.limits.tenants.seconds]
query_seconds_max = 0.000001
[tenancy.limits.tenants.cpu]
query_cpu_seconds_max = 0.000001
[tenancy.limits.tenants.turns]
queries_concurrent_max = 1
queries_waiting_max = 1
";

/// Some hundred million steps of subqueries: seconds of work over little data.
const LONG: &str = "sum(max_over_time(sum_over_time(m[10m:1s])[1h:1s]))";

/// 50 series of 100 samples in a tenant.
fn fill(server: &Program, tenant: &str, now_ms: i64) {
    let series: Vec<Series> = (0..50)
        .map(|i| Series {
            labels: vec![("__name__".to_owned(), "m".to_owned()), ("i".to_owned(), i.to_string())],
            samples: (0..100).map(|s| (now_ms - (100 - s) * 1_000, s as f64)).collect(),
            ..Series::default()
        })
        .collect();
    server.write(Some(tenant), &series);
}

#[track_caller]
fn refused(server: &Program, tenant: &str, query: &str, told: &[&str], now_ms: i64) {
    let answer = server.instant(query, now_ms, Some(tenant));
    let text = answer["error"].as_str().unwrap_or_default();
    assert!(told.iter().all(|part| text.contains(part)), "{tenant}: {answer}");
}

#[test]
fn every_budget_is_a_tenants_own_and_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = taffrail(dir.path(), CONFIG);
    let now_ms = SystemClock::default().now_ms();
    let query = "sum(rate(m[1m]))";
    for (tenant, query, told) in [
        ("series", query, &["query_series_max", "5"][..]),
        ("samples", query, &["query_samples_max", "limit", "100"]),
        ("bytes", query, &["bytes, the limit is 1000 (query_bytes_max), exceeded by"]),
        ("memory", query, &["bytes, the limit is 10000 (query_memory_bytes_max), exceeded by"]),
        ("cpu", LONG, &["the limit is 0.000001 s (query_cpu_seconds_max), exceeded by"]),
        ("seconds", LONG, &["timed out"]),
    ] {
        fill(&server, tenant, now_ms);
        refused(&server, tenant, query, told, now_ms);
    }
    fill(&server, "free", now_ms);
    let answer = server.instant(query, now_ms, Some("free"));
    assert_eq!(answer["status"], "success", "nobody else's limit counts: {answer}");
    let log = server.output();
    let line = log.lines().find(|line| line.contains("slow query") && line.contains("free"));
    let line = line.unwrap_or_else(|| panic!("no slow query in {log}"));
    for part in [
        "handler",
        "query",
        "sum(rate(m[1m]))",
        "samples=2950",
        "cpu_seconds",
        "wall_seconds",
        "answered",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

/// A request that is sent and not waited for.
fn send(server: &Program, query: &str, tenant: &str, now_ms: i64) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).expect("connect");
    let time = now_ms as f64 / 1e3;
    let path = format!("/api/v1/query?query={}&time={time}", escaped(query));
    let head = format!("GET {path} HTTP/1.1\r\nHost: here\r\nX-Scope-OrgID: {tenant}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("send a request");
    stream
}

/// What runs and waits.
fn listed(connection: &mut Connection, tenant: &str) -> Vec<serde_json::Value> {
    let headers = [("X-Scope-OrgID", tenant)];
    let answer = connection.call("GET", "/api/v1/status/queries", &headers, &[]);
    let answer = answer.expect("an answer");
    let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    json["data"].as_array().cloned().unwrap_or_default()
}

/// Waits until so many questions are in a state.
#[track_caller]
fn wait_for(connection: &mut Connection, state: &str, count: usize) -> Vec<serde_json::Value> {
    let begun = Instant::now();
    loop {
        let all = listed(connection, "*");
        let found: Vec<_> = all.iter().filter(|one| one["state"] == state).cloned().collect();
        if found.len() == count {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{count} {state}: {all:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Processor time of a process. Ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let field = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    field(11) + field(12)
}

#[test]
fn work_ends_with_the_connection() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = taffrail(dir.path(), CONFIG);
    let now_ms = SystemClock::default().now_ms();
    fill(&server, "free", now_ms);
    let mut connection = Connection::open(server.address).expect("connect");
    let mut took = Vec::new();
    for _ in 0..20 {
        // What a call takes that has nothing to wait for: others use this machine as well.
        let plain = Instant::now();
        (0..3).for_each(|_| drop(listed(&mut connection, "*")));
        let plain = plain.elapsed();
        let stream = send(&server, LONG, "free", now_ms);
        wait_for(&mut connection, "running", 1);
        thread::sleep(Duration::from_millis(30));
        let gone = Instant::now();
        drop(stream);
        while !listed(&mut connection, "*").is_empty() {
            assert!(gone.elapsed() < Duration::from_secs(5), "the question runs on");
        }
        took.push(gone.elapsed().saturating_sub(plain));
        // The processor is free as well: what still runs may end its piece of work.
        thread::sleep(Duration::from_millis(50));
        let before = ticks(server.pid());
        thread::sleep(Duration::from_millis(200));
        let used = ticks(server.pid()) - before;
        assert!(used <= 5, "{used} ticks of 10 ms after the client was gone for 50 ms");
        if took.iter().any(|took| *took < Duration::from_millis(10)) {
            println!("a question was off the list {took:?} later than a plain call takes");
            return;
        }
    }
    panic!("no question was off the list within 10 ms: {took:?}");
}

#[test]
fn questions_are_ended_by_those_who_may() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = taffrail(dir.path(), CONFIG);
    let now_ms = SystemClock::default().now_ms();
    fill(&server, "turns", now_ms);
    let mut connection = Connection::open(server.address).expect("connect");
    let call = |method: &str, path: &str, tenant: &str| {
        server.call(method, path, &[("X-Scope-OrgID", tenant)], &[])
    };
    let running = send(&server, LONG, "turns", now_ms);
    wait_for(&mut connection, "running", 1);
    let waiting = send(&server, "up", "turns", now_ms);
    let shown = wait_for(&mut connection, "waiting", 1);
    assert_eq!((&shown[0]["query"], &shown[0]["tenants"][0]), (&"up".into(), &"turns".into()));
    let refused = call("GET", "/api/v1/query?query=up", "turns");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert!(refused.text().contains("queries_waiting_max"), "{}", refused.text());
    let free = call("GET", "/api/v1/query?query=up", "free");
    assert_eq!(free.status, 200, "another tenant's turn does not wait: {}", free.text());

    let shown = wait_for(&mut connection, "running", 1);
    let id = shown[0]["id"].as_u64().expect("an id");
    let path = format!("/api/v1/status/queries/{id}");
    assert!(listed(&mut connection, "free").is_empty(), "not a matter of others");
    assert_eq!(call("DELETE", &path, "free").status, 404);
    assert_eq!(call("POST", &format!("{path}/kill"), "*").status, 204);
    let begun = Instant::now();
    while !listed(&mut connection, "*").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5), "the one that waited has its turn");
    }
    drop((running, waiting));
    let log = server.output();
    assert!(log.contains("query ended"), "{log}");
    let records = call("GET", "/api/v1/admin/audit?limit=1", "*");
    let records: serde_json::Value = serde_json::from_slice(&records.body).expect("JSON");
    let record = &records["data"]["entries"][0];
    assert_eq!((&record["action"], &record["tenant"]), (&"query.end".into(), &"turns".into()));
    assert_eq!((&record["old"]["id"], &record["old"]["query"]), (&id.into(), &LONG.into()));
}
