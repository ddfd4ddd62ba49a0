//! What taking requests of logs apart costs, door by door: MB of lines a CPU second, by one thread.
//! Nothing is decompressed or stored.
//!
//! `cargo run --release -p ingest --example log_doors`

use std::io::Write;

use ingest::fuzz::{Door, entries};
use serde_json::json;

/// Lines of one request, of some streams.
const LINES: usize = 5_000;
const STREAMS: usize = 10;

/// Requests of one measurement, and measurements of which the median is told.
const REQUESTS: usize = 40;
const REPEATS: usize = 5;

const AT_NS: u64 = 1_700_000_000_000_000_000;

fn main() -> std::io::Result<()> {
    let lines: Vec<String> = (0..LINES).map(line).collect();
    let line_bytes: usize = lines.iter().map(String::len).sum();
    let bodies = [
        ("Loki push, protobuf", Door::LokiProtobuf, loki_protobuf(&lines)),
        ("Loki push, JSON", Door::LokiJson, loki_json(&lines)),
        ("OTLP logs, protobuf", Door::OtlpLogs, otlp(&lines)),
        ("Elasticsearch bulk", Door::Elasticsearch, documents(&lines, "{\"create\":{}}\n")),
        ("JSON lines", Door::JsonLines, documents(&lines, "")),
        ("syslog", Door::Syslog, syslog(&lines)),
    ];
    let mut out = std::io::stdout().lock();
    writeln!(out, "| door | bytes of body per byte of line | MB of lines per CPU s |")?;
    writeln!(out, "| --- | ---: | ---: |")?;
    for (name, door, body) in bodies {
        let mut rates: Vec<f64> = (0..REPEATS).map(|_| rate(door, &body, line_bytes)).collect();
        rates.sort_by(f64::total_cmp);
        let share = body.len() as f64 / line_bytes as f64;
        writeln!(out, "| {name} | {share:.2} | {:.0} |", rates[REPEATS / 2])?;
    }
    Ok(())
}

fn rate(door: Door, body: &[u8], line_bytes: usize) -> f64 {
    let before = on_cpu_ns();
    assert_eq!(entries(door, body, REQUESTS), Some(LINES), "{door:?} gives every line");
    let seconds = (on_cpu_ns() - before) / 1e9;
    (line_bytes * REQUESTS) as f64 / 1e6 / seconds
}

/// Nanoseconds that this thread ran.
fn on_cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number comes first")
}

/// About 160 bytes, as lines of clusters have on average.
fn line(i: usize) -> String {
    let (level, id) = (["info", "info", "warn", "error"][i % 4], i * 2_654_435_761 % (1 << 32));
    let forms = [
        format!(
            "ts=2023-11-14T22:13:{:02}.{:06}Z caller=handler.go:{} level={level} msg=\"request done\" \
             method=GET path=/api/v1/items/{id} status=200 bytes={} took={}ms trace={id:032x}",
            i % 60,
            i,
            i % 400,
            id % 9_000,
            i % 700
        ),
        format!(
            "{{\"time\":\"2023-11-14T22:13:{:02}Z\",\"level\":\"{level}\",\"logger\":\"orders\",\"msg\":\"order {id} \
             written\",\"user\":\"u-{:05}\",\"request\":{{\"id\":\"{id:016x}\",\"retries\":{}}}}}",
            i % 60,
            i % 20_000,
            i % 3
        ),
        format!(
            "10.0.{}.{} - - [14/Nov/2023:22:13:{:02} +0000] \"GET /static/app-{id:08x}.js HTTP/1.1\" 200 {} \
             \"https://shop.example.com/\" \"Mozilla/5.0 (X11; Linux x86_64)\" {}",
            i % 4,
            i % 250,
            i % 60,
            id % 90_000,
            i % 50
        ),
    ];
    forms[i % 3].clone()
}

fn labels(stream: usize) -> [(&'static str, String); 6] {
    [
        ("cluster", "production-1".to_owned()),
        ("namespace", format!("team-{stream}")),
        ("pod", format!("web-6d4cf56db6-{stream:05}")),
        ("container", "web".to_owned()),
        ("node", format!("node-{}", stream % 4)),
        ("stream", "stdout".to_owned()),
    ]
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    model::varint::put(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

/// Lines by stream: a sender's batch.
fn by_stream(lines: &[String]) -> impl Iterator<Item = (usize, &[String])> {
    lines.chunks(LINES / STREAMS).enumerate()
}

fn loki_protobuf(lines: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for (stream, lines) in by_stream(lines) {
        let text = labels(stream).map(|(name, value)| format!("{name}={value:?}")).join(", ");
        let mut message = field(1, format!("{{{text}}}").as_bytes());
        for (i, line) in lines.iter().enumerate() {
            let mut at = vec![0x08];
            model::varint::put(&mut at, AT_NS / 1_000_000_000);
            at.push(0x10);
            model::varint::put(&mut at, i as u64);
            message.extend(field(2, &[field(1, &at), field(2, line.as_bytes())].concat()));
        }
        out.extend(field(1, &message));
    }
    out
}

fn loki_json(lines: &[String]) -> Vec<u8> {
    let streams = by_stream(lines).map(|(stream, lines)| {
        let pairs = labels(stream).into_iter().map(|(n, v)| (n.to_owned(), v.into()));
        let values = lines.iter().map(|line| json!([AT_NS.to_string(), line]));
        json!({ "stream": serde_json::Map::from_iter(pairs), "values": values.collect::<Vec<_>>() })
    });
    json!({ "streams": streams.collect::<Vec<_>>() }).to_string().into_bytes()
}

fn otlp(lines: &[String]) -> Vec<u8> {
    let names = ["k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name"];
    let attribute = |name: &str, value: &str| {
        [field(1, name.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
    };
    let mut out = Vec::new();
    for (stream, lines) in by_stream(lines) {
        let attributes = names.iter().zip(labels(stream));
        let attributes = attributes.flat_map(|(name, (_, v))| field(1, &attribute(name, &v)));
        let resource = field(1, &attributes.collect::<Vec<_>>());
        let records = lines.iter().flat_map(|line| {
            let mut record = vec![0x09];
            record.extend(AT_NS.to_le_bytes());
            record.extend([0x10, 9]);
            record.extend(field(5, &field(1, line.as_bytes())));
            record.extend(field(6, &attribute("log.iostream", "stdout")));
            field(2, &record)
        });
        let scope = field(2, &records.collect::<Vec<_>>());
        out.extend(field(1, &[resource, scope].concat()));
    }
    out
}

/// Documents as Fluent Bit writes them, each after `action`.
fn documents(lines: &[String], action: &str) -> Vec<u8> {
    let documents = by_stream(lines).flat_map(|(stream, lines)| {
        let [_, (_, namespace), (_, pod), (_, container), (_, node), (_, of)] = labels(stream);
        lines.iter().map(move |line| {
            let kubernetes = json!({ "pod_name": pod, "namespace_name": namespace, "container_name": container,
                "host": node, "labels": { "app": "web" }, "docker_id": "0123456789abcdef" });
            json!({ "@timestamp": "2023-11-14T22:13:20.123Z", "log": line, "stream": of, "kubernetes": kubernetes })
        })
    });
    documents.map(|document| format!("{action}{document}\n")).collect::<String>().into_bytes()
}

fn syslog(lines: &[String]) -> Vec<u8> {
    let lines = lines.iter().enumerate();
    let lines = lines.map(|(i, line)| {
        format!("<{}>1 2023-11-14T22:13:20.123Z node-{} web {i} - - {line}\n", 8 + i % 8, i % 4)
    });
    lines.collect::<String>().into_bytes()
}
