//! Logs, events and audit records from the door to the answer: by every protocol over HTTP and by
//! syslog, for two tenants, before and after a crash, from the head and from segments.

use std::io::Write;
use std::net::TcpStream;

use model::{Clock, SystemClock, varint};
use serde_json::{Value, json};
use testkit::http::escaped;

use crate::process::{Program, free_address, taffrail, taffrail_at};

const CONFIG: &str = "[ingest.self_scrape]\nenabled = false\n[storage]\ndisk_reserve_bytes = 0\n";

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

const SECOND_NS: i64 = 1_000_000_000;

/// What a test looks at: a server, and the time its entries are of.
struct Ground {
    server: Program,
    now_ns: i64,
}

/// A field of a protobuf message that has bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint::put(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

/// A push of one line, as Promtail sends it.
fn push_request(labels: &str, at_ns: i64, line: &str) -> Vec<u8> {
    let mut time = vec![1 << 3];
    varint::put(&mut time, (at_ns / SECOND_NS) as u64);
    time.push(2 << 3);
    varint::put(&mut time, (at_ns % SECOND_NS) as u64);
    let entry = [field(1, &time), field(2, line.as_bytes())].concat();
    let stream = [field(1, labels.as_bytes()), field(2, &entry)].concat();
    let compressed = snap::raw::Encoder::new().compress_vec(&field(1, &stream));
    compressed.expect("a small body")
}

impl Ground {
    fn write(&self, path: &str, tenant: &str, headers: &[(&str, &str)], body: &[u8]) {
        let headers = [headers, &[("X-Scope-OrgID", tenant)]].concat();
        let answer = self.server.call("POST", path, &headers, body);
        assert!(matches!(answer.status, 200 | 204), "{path}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains(r#""errors":true"#), "{path}: {}", answer.text());
    }

    /// One line by each protocol of logs, two seconds between them; one event, one audit record.
    fn write_all(&self, tenant: &str) {
        let at = |i: i64| self.now_ns + 2 * i * SECOND_NS;
        let own = json!([at(0).to_string(), format!("json of {tenant}"), { "trace": "t-1" }]);
        let stream = json!({ "stream": { "app": "web", "via": "json" }, "values": [own] });
        let body = json!({ "streams": [stream] }).to_string();
        self.write("/loki/api/v1/push", tenant, &JSON, body.as_bytes());

        let line = format!("level=error protobuf of {tenant}");
        let body = push_request(r#"{app="web", via="protobuf"}"#, at(1), &line);
        let protobuf = [("Content-Type", "application/x-protobuf")];
        self.write("/loki/api/v1/push", tenant, &protobuf, &body);

        let record = json!({
            "timeUnixNano": at(2).to_string(),
            "severityNumber": 13,
            "body": { "stringValue": format!("otlp of {tenant}") },
        });
        let name = json!({ "key": "service.name", "value": { "stringValue": "paying" } });
        let scopes = json!([{ "logRecords": [record] }]);
        let resource = json!({ "resource": { "attributes": [name] }, "scopeLogs": scopes });
        let body = json!({ "resourceLogs": [resource] }).to_string();
        self.write("/v1/logs", tenant, &JSON, body.as_bytes());

        let document = json!({
            "@timestamp": at(3) / 1_000_000,
            "message": format!("bulk of {tenant}"),
            "kubernetes": { "namespace_name": "shop", "pod_name": "web-1", "container_name": "web" },
        });
        let body = format!("{{\"create\":{{\"_index\":\"logs\"}}}}\n{document}\n");
        let bulk = [("Content-Type", "application/x-ndjson")];
        self.write("/elasticsearch/_bulk", tenant, &bulk, body.as_bytes());

        // Both happened with the line before.
        let time = self.only("logs?must=bulk", tenant)["time"].clone();
        let event = json!({
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": { "name": "web.17", "namespace": "shop" },
            "involvedObject": { "kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "u-2" },
            "reason": "BackOff",
            "message": format!("event of {tenant}"),
            "type": "Warning",
            "lastTimestamp": time,
        });
        let body = event.to_string();
        self.write("/api/v1/ingest/events", tenant, &JSON, body.as_bytes());

        let record = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": format!("audit of {tenant}"),
            "stage": "ResponseComplete",
            "verb": "create",
            "user": { "username": "jane" },
            "objectRef": { "resource": "pods", "namespace": "shop", "name": "web" },
            "responseStatus": { "code": 403 },
            "requestReceivedTimestamp": time,
        });
        let list =
            json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [record] });
        self.write("/api/v1/ingest/audit", tenant, &JSON, list.to_string().as_bytes());
    }

    fn range(&self) -> String {
        let (start, end) = (self.now_ns - 60 * SECOND_NS, self.now_ns + 60 * SECOND_NS);
        format!("start={start}&end={end}")
    }

    /// What Loki's API answers below `data`.
    fn loki(&self, path: &str, query: &str, tenant: &str) -> Value {
        let range = self.range();
        let query = escaped(query);
        let path = format!("/loki/api/v1/{path}?query={query}&{range}&limit=100");
        let answer = self.server.json(&path, Some(tenant));
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"].clone()
    }

    /// The lines that a query gives, in order of time, whichever stream they are of.
    fn lines(&self, query: &str, tenant: &str) -> Vec<String> {
        let data = self.loki("query_range", query, tenant);
        let streams = data["result"].as_array().cloned().unwrap_or_default();
        let values = streams.iter().filter_map(|stream| stream["values"].as_array()).flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut lines: Vec<_> = values.map(|v| (text(&v[0]), text(&v[1]))).collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }

    #[track_caller]
    fn check_lines(&self, query: &str, tenant: &str, expected: &[&str]) {
        assert_eq!(self.lines(query, tenant), expected, "{query} of {tenant}");
    }

    /// What a search answers below `data`.
    fn search(&self, what: &str, tenant: &str) -> Value {
        let joint = if what.contains('?') { '&' } else { '?' };
        let path = format!("/api/v1/search/{what}{joint}{}", self.range());
        let answer = self.server.json(&path, Some(tenant));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The only entry that a search finds.
    #[track_caller]
    fn only(&self, what: &str, tenant: &str) -> Value {
        let found = self.search(what, tenant);
        assert_eq!(found["entries"].as_array().map(Vec::len), Some(1), "{what}: {found}");
        found["entries"][0].clone()
    }

    /// Everything that was written for a tenant is there, and nothing of another.
    fn check_all(&self, tenant: &str) {
        let of = |text: &str| format!("{text} of {tenant}");
        let all = [of("json"), of("level=error protobuf"), of("otlp"), of("bulk")];
        assert_eq!(self.lines(r#"{service_name=~".+"}"#, tenant), all);
        // Conditions on lines, fields, labels among filters, and levels.
        self.check_lines(r#"{app="web"} |= "protobuf""#, tenant, &[&all[1]]);
        self.check_lines(r#"{app="web"} !~ "proto.uf""#, tenant, &[&all[0]]);
        self.check_lines(r#"{app="web"} | trace="t-1""#, tenant, &[&all[0]]);
        self.check_lines(r#"{app="web"} | trace="""#, tenant, &[&all[1]]);
        self.check_lines(r#"{app="web"} | via="protobuf""#, tenant, &[&all[1]]);
        self.check_lines(r#"{app=~".+"} | detected_level="error""#, tenant, &[&all[1]]);
        self.check_lines(r#"{namespace="shop"}"#, tenant, &[&all[3]]);
        self.check_lines(r#"{app="other"}"#, tenant, &[]);

        let counted = self.loki("query_range", r#"sum(count_over_time({app="web"}[2m]))"#, tenant);
        let values = counted["result"][0]["values"].as_array().cloned().unwrap_or_default();
        assert!(values.iter().any(|value| value[1] == "2"), "{counted}");
        let names = self.loki("labels", "", tenant);
        let names: Vec<&str> =
            names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for name in ["app", "via", "container", "namespace", "pod", "service_name"] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        assert_eq!(self.loki("label/via/values", "", tenant), json!(["json", "protobuf"]));
        let series = self.loki("series", r#"{via="json"}"#, tenant);
        let labels = json!([{ "app": "web", "via": "json", "service_name": "web" }]);
        assert_eq!(series, labels);

        let found = self.only("logs?must=BULK&pods=web-1", tenant);
        assert_eq!(
            (&found["line"], &found["labels"]["namespace"]),
            (&json!(all[3]), &json!("shop"))
        );
        let event = self.only("events?reason=BackOff&involved_object_name=web-1", tenant);
        assert_eq!(event["fields"]["message"], of("event"));
        let record = self.only("audits?verb=create&user_like=AN&response_code=403", tenant);
        assert_eq!(
            (&record["fields"]["auditID"], &record["level"]),
            (&json!(of("audit")), &json!("warn"))
        );
        let counts = json!({ "entries": 1, "containers": 1 });
        assert_eq!(self.search("logs?operation=statistics&containers=web", tenant), counts);
        self.check_pages(tenant, &all);
        self.check_sources(tenant);
    }

    /// Pages of one entry give each once.
    fn check_pages(&self, tenant: &str, all: &[String]) {
        let (mut lines, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.search(&format!("logs?size=1&sort=asc&cursor={cursor}"), tenant);
            let entries = page["entries"].as_array().cloned().unwrap_or_default();
            lines.extend(entries.iter().filter_map(|e| e["line"].as_str().map(str::to_owned)));
            match page["cursor"].as_str() {
                Some(next) if lines.len() < 10 => next.clone_into(&mut cursor),
                _ => break,
            }
        }
        assert_eq!(lines, all);
    }

    fn check_sources(&self, tenant: &str) {
        let sources = self.server.json("/api/v1/search/sources", Some(tenant));
        let sources = sources["data"].as_array().cloned().unwrap_or_default();
        let mut entries = std::collections::BTreeMap::new();
        for source in &sources {
            assert_eq!(source["tenant"], tenant);
            let signal = source["signal"].as_str().unwrap_or_default().to_owned();
            *entries.entry(signal).or_insert(0) += source["entries"].as_u64().unwrap_or(0);
        }
        let expected = [("audits", 1), ("events", 1), ("logs", 4)];
        assert_eq!(entries, expected.map(|(s, n)| (s.to_owned(), n)).into());
    }
}

#[test]
fn what_was_acknowledged_is_found_before_and_after_a_crash() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let now_ns = SystemClock::default().now_ms() / 1_000 * SECOND_NS - 30 * SECOND_NS;
    let mut ground = Ground { server: taffrail_at(dir.path(), address, CONFIG), now_ns };
    ground.write_all("a");
    ground.check_all("a");
    assert_eq!(ground.server.call("POST", "/api/v1/admin/flush", &[], &[]).status, 204);
    // One tenant's are in segments now, the other's in the log alone.
    ground.write_all("b");
    ground.check_all("a");
    ground.check_all("b");
    let metrics = ground.server.call("GET", "/metrics", &[], &[]).text();
    for line in ["taffrail_storage_entries_head 6", "taffrail_storage_entries_segment_rows 6"] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }

    ground.server.kill();
    ground.server = taffrail_at(dir.path(), address, CONFIG);
    ground.check_all("a");
    ground.check_all("b");

    let both = ground.lines(r#"{service_name=~".+"}"#, "a|b");
    assert_eq!(both.len(), 8, "{both:?}");
    ground.check_lines(r#"{__tenant_id__="b", app="web"} |= "json""#, "a|b", &["json of b"]);
    let whose = ground.loki("label/__tenant_id__/values", "", "a|b");
    assert_eq!(whose, json!(["a", "b"]));
    let nobody = ground.lines(r#"{service_name=~".+"}"#, "c");
    assert!(nobody.is_empty(), "{nobody:?}");
    // What comes again with a time of its own is stored once.
    ground.write_all("a");
    ground.check_lines(r#"{via="json"}"#, "a", &["json of a"]);
    assert!(ground.server.terminate(), "SIGTERM ends it in order");
}

#[test]
fn syslog_is_stored_for_the_tenant_of_the_listener() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let syslog = free_address();
    let config = format!("{CONFIG}[logs.syslog]\ntcp = \"{syslog}\"\ntenant = \"hosts\"\n");
    let mut server = taffrail(dir.path(), &config);
    let mut stream = TcpStream::connect(syslog).expect("the listener is there");
    stream.write_all(b"<11>1 - node-1 sshd - - - accepted key\n").expect("send a message");
    let question = "/api/v1/search/logs?must=accepted";
    let ask = |tenant: &str, server: &Program| {
        let found = server.json(question, Some(tenant));
        found["data"]["entries"].as_array().map_or(0, Vec::len)
    };
    let started = std::time::Instant::now();
    while ask("hosts", &server) == 0 {
        assert!(started.elapsed().as_secs() < 30, "the message is not found");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(ask("default", &server), 0);
    // The open connection does not hold the end up.
    assert!(server.terminate(), "SIGTERM ends it in order");
    drop(stream);
}

/// More than one batch of a search, with several lines to an instant, in segments and in the head.
#[test]
fn many_entries_are_counted_and_given_once() {
    const LINES: i64 = 5_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let now_ns = SystemClock::default().now_ms() / 1_000 * SECOND_NS - 30 * SECOND_NS;
    let ground = Ground { server: taffrail(dir.path(), CONFIG), now_ns };
    let (first, second): (Vec<i64>, Vec<i64>) = (0..LINES).partition(|i| i % 3 == 0);
    for numbers in [first, second] {
        // Seven to an instant.
        let value = |i: &i64| {
            let at_ns = now_ns - 20 * SECOND_NS + i / 7 * 1_000_000;
            let parity = if i % 2 == 0 { "even" } else { "odd" };
            json!([at_ns.to_string(), format!("line {i}"), { "parity": parity }])
        };
        let values: Vec<Value> = numbers.iter().map(value).collect();
        let streams = json!([{ "stream": { "app": "many" }, "values": values }]);
        let body = json!({ "streams": streams }).to_string();
        ground.write("/loki/api/v1/push", "a", &JSON, body.as_bytes());
        if numbers.contains(&0) {
            assert_eq!(ground.server.call("POST", "/api/v1/admin/flush", &[], &[]).status, 204);
        }
    }
    for sort in ["asc", "desc"] {
        let path = format!("/api/v1/search/logs?operation=export&sort={sort}&{}", ground.range());
        let answer = ground.server.call("GET", &path, &[("X-Scope-OrgID", "a")], &[]).text();
        let rows = answer.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let mut rows: Vec<Value> = rows.collect();
        let end = json!({ "end": { "complete": true, "entries": LINES } });
        assert_eq!(rows.pop(), Some(end));
        let mut found: Vec<&str> = rows.iter().filter_map(|row| row["line"].as_str()).collect();
        found.sort_unstable();
        let mut expected: Vec<String> = (0..LINES).map(|i| format!("line {i}")).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{sort}");
    }
    let histogram = ground.search("logs?operation=histogram&interval=1h&by=parity", "a");
    assert_eq!(histogram["total"], LINES);
    let groups = histogram["histograms"].as_array().cloned().unwrap_or_default();
    let by = |group: &Value| (group["by"]["parity"].clone(), group["buckets"][0]["count"].clone());
    let half = LINES / 2;
    let expected = [(json!("even"), json!(half)), (json!("odd"), json!(half))];
    assert_eq!(groups.iter().map(by).collect::<Vec<_>>(), expected);
    // What only the other side of the port can decide is read to the end.
    let query = r#"{app="many"} | parity="none" or app="none""#;
    ground.check_lines(query, "a", &[]);
    let volume = ground.loki("index/volume", r#"{app="many"}"#, "a");
    let bytes = volume["result"][0]["value"][1].as_str().and_then(|v| v.parse::<u64>().ok());
    assert!(bytes.is_some_and(|bytes| bytes > LINES as u64 * 6), "{volume}");
}

/// The place that a search with conditions gave is found among all that happened at that instant.
#[test]
fn context_is_around_the_line_that_was_found_though_others_share_its_instant() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let now_ns = SystemClock::default().now_ms() / 1_000 * SECOND_NS - 30 * SECOND_NS;
    let ground = Ground { server: taffrail(dir.path(), CONFIG), now_ns };
    let lines = ["first", "odd 1", "even 2", "odd 3", "even 4", "last"];
    let values: Vec<Value> = lines.iter().map(|line| json!([now_ns.to_string(), line])).collect();
    let body = json!({ "streams": [{ "stream": { "app": "web" }, "values": values }] });
    ground.write("/loki/api/v1/push", "a", &JSON, body.to_string().as_bytes());
    for (must, sort, around) in [
        ("odd", "asc", ["first", "odd 1", "even 2"]),
        ("odd", "desc", ["even 2", "odd 3", "even 4"]),
        ("even", "asc", ["odd 1", "even 2", "odd 3"]),
    ] {
        let found = ground.search(&format!("logs?must={must}&size=1&sort={sort}"), "a");
        let place = found["entries"][0]["place"].as_str().expect("a place").to_owned();
        let asked = format!("logs?operation=context&must={must}&sort={sort}&place={place}");
        let asked = format!("{asked}&before=1&after=1");
        let found = ground.search(&asked, "a");
        let told: Vec<_> = found["entries"].as_array().expect("entries").iter().collect();
        let told: Vec<_> = told.iter().map(|entry| entry["line"].clone()).collect();
        assert_eq!(
            (told, &found["at"]),
            (around.map(Value::from).to_vec(), &json!(1)),
            "{must} {sort}"
        );
    }
}
