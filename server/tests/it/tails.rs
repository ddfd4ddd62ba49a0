//! Live tails over the wire: Loki's WebSocket and the plain one, for two tenants, over breaks, with
//! clients that are slow or go away, and at the end of the process.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use model::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::http::escaped;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use crate::process::{Program, free_address, taffrail_at};

const CONFIG: &str = "[ingest.self_scrape]\nenabled = false\n[storage]\ndisk_reserve_bytes = 0\n\
    [tenancy.limits.default]\nentry_tails_max = 2\n";

const PATIENCE: Duration = Duration::from_secs(30);

struct Ground {
    server: Program,
    address: SocketAddr,
    now_ns: i64,
    _dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let address = free_address();
        let server = taffrail_at(dir.path(), address, CONFIG);
        Self { server, address, now_ns: SystemClock::default().now_ms() * 1_000_000, _dir: dir }
    }

    fn push(&self, tenant: &str, app: &str, lines: &[String]) {
        let value = |line: &String| json!([self.now_ns.to_string(), line, { "trace": "t-1" }]);
        let values: Vec<Value> = lines.iter().map(value).collect();
        let body = json!({ "streams": [{ "stream": { "app": app }, "values": values }] });
        let headers = [("X-Scope-OrgID", tenant), ("Content-Type", "application/json")];
        let body = body.to_string();
        let answer = self.server.call("POST", "/loki/api/v1/push", &headers, body.as_bytes());
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    fn push_one(&self, tenant: &str, app: &str, line: &str) {
        self.push(tenant, app, &[line.to_owned()]);
    }

    fn tail(&self, tenant: &str, query: &str, rest: &str) -> WebSocket<TcpStream> {
        let (address, query) = (self.address, escaped(query));
        let url = format!("ws://{address}/loki/api/v1/tail?query={query}{rest}");
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().insert("X-Scope-OrgID", tenant.parse().expect("a header"));
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        tungstenite::client(request, stream).expect("an upgrade").0
    }

    /// The plain tail: headers are read, lines follow.
    fn plain(&self, path: &str, headers: &[(&str, &str)]) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n").expect("send");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("a status");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        reader
    }
}

/// The next message that is data.
fn message(tail: &mut WebSocket<TcpStream>) -> Value {
    loop {
        match tail.read().expect("a message") {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Lines until there are so many, with what was said of dropped ones.
fn lines(tail: &mut WebSocket<TcpStream>, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let message = message(tail);
        assert!(message.get("dropped_entries").is_none(), "{message}");
        lines.extend(lines_of(&message));
    }
    lines
}

fn lines_of(message: &Value) -> Vec<String> {
    let streams = message["streams"].as_array().expect("streams");
    let values = streams.iter().flat_map(|s| s["values"].as_array().expect("values"));
    values.map(|value| value[1].as_str().expect("a line").to_owned()).collect()
}

fn closed(tail: &mut WebSocket<TcpStream>) -> CloseFrame {
    loop {
        match tail.read() {
            Ok(Message::Close(frame)) => return frame.expect("a reason"),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until as many tails may begin as before: one that was left is noticed soon.
fn until_free(ground: &Ground, tenant: &str) -> WebSocket<TcpStream> {
    let started = Instant::now();
    loop {
        let mut tail = ground.tail(tenant, r#"{app="web"}"#, "&limit=1");
        match tail.read() {
            Ok(Message::Close(_)) => {}
            Ok(_) => return tail,
            Err(error) => panic!("{error}"),
        }
        assert!(started.elapsed() < PATIENCE, "the place of a client that went away is not free");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn lines_come_over_a_websocket_to_whom_they_are_for() {
    let mut ground = Ground::new();
    ground.push_one("a", "web", "stored");
    let mut of_a = ground.tail("a", r#"{app="web"} |= "o""#, "");
    let mut of_b = ground.tail("b", r#"{app="web"}"#, "&delay_for=1");
    let first = message(&mut of_a);
    let labels =
        json!({ "app": "web", "service_name": "web", "trace": "t-1", "detected_level": "unknown" });
    let values = json!([[ground.now_ns.to_string(), "stored"]]);
    assert_eq!(first, json!({ "streams": [{ "stream": labels, "values": values }] }));
    ground.push_one("a", "web", "a miss");
    ground.push_one("a", "web", "one more");
    ground.push_one("b", "web", "of b");
    assert_eq!(lines(&mut of_a, 1), ["one more"]);

    // There are two places for each tenant.
    let mut second = ground.tail("a", r#"{app="db"}"#, "");
    ground.push_one("a", "db", "db line");
    assert_eq!(lines(&mut second, 1), ["db line"]);
    let frame = closed(&mut ground.tail("a", r#"{app="web"}"#, ""));
    assert_eq!(u16::from(frame.code), 1011);
    assert_eq!(frame.reason, "max concurrent tail requests limit exceeded, count > limit (3 > 2)");
    // One of them goes away without a word.
    drop(second);
    let mut third = until_free(&ground, "a");

    // The tenant of `b` came into being after its tail began: it may begin anew.
    match of_b.read() {
        Ok(Message::Ping(_)) => {}
        other => panic!("{other:?}"),
    }
    assert!(ground.server.terminate(), "SIGTERM ends it in order");
    for tail in [&mut of_a, &mut third] {
        assert_eq!(closed(tail).reason, "the server is shutting down");
    }
}

#[test]
fn slow_clients_hold_nobody_up_and_are_told_what_they_lost() {
    let ground = Ground::new();
    ground.push_one("a", "web", "first");
    let mut slow = ground.tail("a", r#"{app="web"}"#, "");
    assert_eq!(lines(&mut slow, 1), ["first"]);
    let mut quick = ground.tail("a", r#"{app="web"} |= "end of""#, "&limit=1");
    // More than fits into the sockets and what waits: it is not taken.
    let long = "x".repeat(8 << 10);
    let started = Instant::now();
    for round in 0..40 {
        let mut batch: Vec<String> = (0..100).map(|i| format!("{round} {i} {long}")).collect();
        batch.push(format!("end of {round}"));
        ground.push("a", "web", &batch);
    }
    println!("32 MB in {:?} past a client that takes nothing", started.elapsed());
    assert_eq!(lines(&mut quick, 40).len(), 40, "others go on");
    let (mut seen, mut dropped) = (BTreeSet::new(), 0);
    while !seen.contains("the last") {
        if dropped > 0 {
            ground.push_one("a", "web", "the last");
        }
        let came = message(&mut slow);
        dropped += came["dropped_entries"].as_array().map_or(0, Vec::len);
        for line in lines_of(&came) {
            assert!(seen.insert(line.clone()) || line == "the last", "{line} came twice");
        }
    }
    assert!(dropped > 0 && seen.len() > 100 && seen.len() < 4_040, "{dropped} {}", seen.len());
}

#[test]
fn a_plain_tail_goes_on_where_it_was_cut_off() {
    let ground = Ground::new();
    ground.push_one("a", "web", "stored");
    let of_a = [("X-Scope-OrgID", "a"), ("Accept", "text/event-stream")];
    let path = "/api/v1/search/logs/tail?must=o";
    // Events: name, id, entry.
    let next = |reader: &mut BufReader<TcpStream>| {
        let (mut name, mut id) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("more comes");
            match line.trim_end().split_once(": ") {
                Some(("event", text)) => name = text.to_owned(),
                Some(("id", text)) => id = text.to_owned(),
                Some(("data", text)) => {
                    let data: Value = serde_json::from_str(text).expect("JSON");
                    return (name, id, data);
                }
                _ => {}
            }
        }
    };
    let mut tail = ground.plain(path, &of_a);
    let (name, id, data) = next(&mut tail);
    assert_eq!((name.as_str(), id.as_str(), &data["line"]), ("", "", &json!("stored")));
    let (name, id, _) = next(&mut tail);
    assert!(name == "stored" && !id.is_empty());
    ground.push("a", "web", &["one".to_owned(), "a miss".to_owned(), "two".to_owned()]);
    let (_, id, data) = next(&mut tail);
    assert_eq!(data["line"], "one");
    drop(tail);
    ground.push_one("a", "web", "meanwhile: o");
    let mut again = ground.plain(path, &[of_a[0], of_a[1], ("Last-Event-ID", &id)]);
    let came: Vec<_> = (0..3).map(|_| next(&mut again)).collect();
    assert_eq!(came[0].0, "stored");
    assert_eq!(came[0].2, json!({ "entries": 0, "repeats": false }));
    assert_eq!((&came[1].2["line"], &came[2].2["line"]), (&json!("two"), &json!("meanwhile: o")));
    // What was flushed is given again.
    assert_eq!(ground.server.call("POST", "/api/v1/admin/flush", &[], &[]).status, 204);
    drop(again);
    let path = format!("{path}&last_event_id={id}");
    let mut late = ground.plain(&path, &of_a);
    let came: Vec<_> = (0..5).map(|_| next(&mut late)).collect();
    assert_eq!(came[4].2, json!({ "entries": 4, "repeats": true }));
    let other = ground.server.call("GET", "/api/v1/search/logs/tail?sort=asc", &of_a[..1], &[]);
    assert_eq!(other.status, 400);
}

#[test]
fn pages_of_others_get_no_tail() {
    let ground = Ground::new();
    let open = |origin: &str| {
        let url = format!("ws://{}/loki/api/v1/tail?query=%7Ba=%22b%22%7D", ground.address);
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().insert("Origin", origin.parse().expect("a header"));
        let stream = TcpStream::connect(ground.address).expect("the server listens");
        match tungstenite::client(request, stream) {
            Ok(_) => 101,
            Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => {
                answer.status().as_u16()
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(open("http://evil.example"), 403);
    assert_eq!(open(&format!("http://{}", ground.address)), 101);
}
