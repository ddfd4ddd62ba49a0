//! Requests of lines, as senders write them: Loki's push, OTLP, Elasticsearch's bulk, JSON lines.

use model::{Day, varint};
use testkit::logs::{LogLine, LogSet};

use crate::load::CONNECTIONS;
use crate::sender::Door;

/// Bytes of lines in one request: what Grafana Alloy sends at most.
const REQUEST_BYTES: usize = 1 << 20;

type Labels = [(&'static str, String)];

/// Lines of one stream in a request.
type OfStream = Vec<(i64, Vec<u8>)>;

/// A way in, and how its requests are written.
pub(crate) struct Form {
    pub(crate) name: &'static str,
    pub(crate) door: Door,
    write: fn(&[(&Labels, &OfStream)]) -> Vec<u8>,
}

/// The first is the one that all of the set goes through.
pub(crate) const FORMS: [Form; 4] = [
    Form {
        name: "Loki push, protobuf",
        door: Door {
            path: "/loki/api/v1/push",
            headers: &[("Content-Type", "application/x-protobuf")],
        },
        write: loki,
    },
    Form {
        name: "OTLP, protobuf",
        door: Door { path: "/v1/logs", headers: &[("Content-Type", "application/x-protobuf")] },
        write: otlp,
    },
    Form {
        name: "Elasticsearch bulk",
        door: Door {
            path: "/elasticsearch/_bulk",
            headers: &[("Content-Type", "application/x-ndjson")],
        },
        write: |streams| documents(streams, "{\"create\":{}}\n"),
    },
    Form {
        name: "JSON lines",
        door: Door {
            path: "/api/v1/ingest/jsonline",
            headers: &[("Content-Type", "application/x-ndjson")],
        },
        write: |streams| documents(streams, ""),
    },
];

/// The requests of a set: connection, body and lines of each. A stream stays on its connection.
pub(crate) fn requests<'s>(
    mut set: LogSet,
    form: &'s Form,
) -> impl Iterator<Item = (usize, Vec<u8>, u32)> + 's {
    let streams = set.streams().to_vec();
    let mut waiting: Vec<Vec<OfStream>> = vec![vec![Vec::new(); streams.len()]; CONNECTIONS];
    let mut bytes = [0; CONNECTIONS];
    let mut is_over = false;
    std::iter::from_fn(move || {
        while !is_over && bytes.iter().all(|bytes| *bytes < REQUEST_BYTES) {
            match set.next_line() {
                Some(LogLine { stream, at_ns, line }) => {
                    let connection = stream % CONNECTIONS;
                    bytes[connection] += line.len() + 1;
                    waiting[connection][stream].push((at_ns, line.to_vec()));
                }
                None => is_over = true,
            }
        }
        let connection = (0..CONNECTIONS).max_by_key(|connection| bytes[*connection])?;
        if bytes[connection] == 0 {
            return None;
        }
        bytes[connection] = 0;
        let empty = vec![Vec::new(); streams.len()];
        let lines = std::mem::replace(&mut waiting[connection], empty);
        let of = streams.iter().map(Vec::as_slice).zip(&lines);
        let of: Vec<(&Labels, &OfStream)> = of.filter(|(_, lines)| !lines.is_empty()).collect();
        let count = of.iter().map(|(_, lines)| lines.len() as u32).sum();
        Some((connection, (form.write)(&of), count))
    })
}

/// A protobuf field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 6);
    out.push(number << 3 | 2);
    varint::put(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

fn loki(streams: &[(&Labels, &OfStream)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (labels, lines) in streams {
        let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        let mut message = field(1, format!("{{{}}}", pairs.join(", ")).as_bytes());
        for (at_ns, line) in *lines {
            let mut at = vec![0x08];
            varint::put(&mut at, (at_ns / 1_000_000_000) as u64);
            at.push(0x10);
            varint::put(&mut at, (at_ns % 1_000_000_000) as u64);
            message.extend(field(2, &[field(1, &at), field(2, line)].concat()));
        }
        out.extend(field(1, &message));
    }
    snap::raw::Encoder::new().compress_vec(&out).expect("a request is far below snappy's 4 GiB")
}

fn otlp(streams: &[(&Labels, &OfStream)]) -> Vec<u8> {
    let attribute = |name: &str, value: &str| {
        field(1, &[field(1, name.as_bytes()), field(2, &field(1, value.as_bytes()))].concat())
    };
    let mut out = Vec::new();
    for (labels, lines) in streams {
        let name = |name: &str| match name {
            "stream" => "log.iostream".to_owned(),
            other => format!("k8s.{other}.name"),
        };
        let attributes = labels.iter().flat_map(|(n, value)| attribute(&name(n), value));
        let resource = field(1, &attributes.collect::<Vec<u8>>());
        let records = lines.iter().flat_map(|(at_ns, line)| {
            let mut record = vec![0x09];
            record.extend(at_ns.to_le_bytes());
            record.extend(field(5, &field(1, String::from_utf8_lossy(line).as_bytes())));
            field(2, &record)
        });
        let scope = field(2, &records.collect::<Vec<u8>>());
        out.extend(field(1, &[resource, scope].concat()));
    }
    out
}

/// RFC 3339 to the nanosecond: of two equal lines at one instant only one would be kept.
fn instant(at_ns: i64) -> String {
    let (seconds, ns) = (at_ns.div_euclid(1_000_000_000), at_ns.rem_euclid(1_000_000_000));
    let Day { year, month, day } = Day::of_number(seconds.div_euclid(86_400));
    let (hour, minute, second) =
        (seconds.div_euclid(3_600) % 24, seconds.div_euclid(60) % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// Documents as Fluent Bit writes them, each after `action`.
fn documents(streams: &[(&Labels, &OfStream)], action: &str) -> Vec<u8> {
    let mut out = String::new();
    for (labels, lines) in streams {
        let of = |name: &str| {
            labels.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
        };
        for (at_ns, line) in *lines {
            let kubernetes = serde_json::json!({ "pod_name": of("pod"), "namespace_name": of("namespace"),
                "container_name": of("container"), "host": of("node") });
            let document = serde_json::json!({ "@timestamp": instant(*at_ns), "log": String::from_utf8_lossy(line),
                "stream": of("stream"), "kubernetes": kubernetes });
            out.push_str(action);
            out.push_str(&document.to_string());
            out.push('\n');
        }
    }
    out.into_bytes()
}
