//! The walk: takes `ExportLogsServiceRequest` apart where it lies.
//!
//! ```text
//! ExportLogsServiceRequest { resource_logs = 1 { resource = 1 { attributes = 1 }
//!   scope_logs = 2 { scope = 1 { name = 1, version = 2, attributes = 3 }
//!     log_records = 2 { time_unix_nano = 1, severity_number = 2, severity_text = 3, body = 5,
//!       attributes = 6, flags = 8, trace_id = 9, span_id = 10, observed_time_unix_nano = 11,
//!       event_name = 12 } } } }
//! ```
//!
//! Attributes of the resource that say where a record comes from are labels; everything else that
//! stands beside the body is a field of the record.

use std::borrow::Cow;
use std::ops::Range;

use model::{Signal, SourceKind};
use storage::entries::EntryReason;

use crate::caps::WalkError;
use crate::logs::builder::{Entries, Line, sanitised};
use crate::logs::{kubernetes, level};
use crate::otlp::{Attribute, attribute, text, value};
use crate::wire::{Reader, WireError};

/// Attributes of a resource that are labels (Loki's `default_resource_attributes_as_index_labels`).
const LABELS: [&str; 18] = [
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
    "service.instance.id",
    "service.name",
    "service.namespace",
];

/// The label that an attribute is in logs that came otherwise, beside the one above: tenants and
/// searches know namespaces and pods by one name only.
fn short_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "k8s.cluster.name" => "cluster",
        "k8s.namespace.name" => "namespace",
        "k8s.pod.name" => "pod",
        "k8s.container.name" => "container",
        "k8s.deployment.name"
        | "k8s.statefulset.name"
        | "k8s.daemonset.name"
        | "k8s.cronjob.name" => "workload",
        _ => return None,
    })
}

/// Fields that lie somewhere already: name and value.
type Placed = Vec<(Range<u32>, Range<u32>)>;

/// Takes a decompressed body apart. It need not be the body of the rows.
pub(super) fn walk(body: &[u8], out: &mut Entries<'_, '_>) -> Result<(), WalkError> {
    let mut request = Reader::new(body);
    while !request.is_at_end() {
        match request.varint()? {
            0x0a => resource_logs(request.message()?, out)?,
            tag => request.skip(tag, &[1])?,
        }
    }
    Ok(())
}

fn resource_logs(message: Reader<'_>, out: &mut Entries<'_, '_>) -> Result<(), WalkError> {
    let mut attributes = Vec::new();
    let mut parts = message;
    while !parts.is_at_end() {
        match parts.varint()? {
            0x0a => read_attributes(parts.message()?, 1, &mut attributes)?,
            tag => step_over(&mut parts, tag, &[2, 3])?,
        }
    }
    let (mut labels, mut fields): (Vec<(String, &str)>, Placed) = (Vec::new(), Vec::new());
    for attribute in &attributes {
        if !LABELS.contains(&attribute.key) {
            place_field(attribute.key, &attribute.value, &mut fields, out)?;
            continue;
        }
        let long = sanitised(attribute.key.as_bytes());
        let short = short_label(attribute.key).map(ToOwned::to_owned);
        for name in [Some(long), short].into_iter().flatten() {
            if !labels.iter().any(|(known, _)| *known == name) {
                labels.push((name, &*attribute.value));
            }
        }
    }
    let mut parts = message;
    while !parts.is_at_end() {
        match parts.varint()? {
            0x12 => scope_logs(parts.message()?, &fields, out)?,
            tag => step_over(&mut parts, tag, &[1, 3])?,
        }
    }
    close_stream(&labels, out)
}

fn close_stream(labels: &[(String, &str)], out: &mut Entries<'_, '_>) -> Result<(), WalkError> {
    let mut pairs: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let get = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let workload = match get("workload") {
        None => get("pod").and_then(kubernetes::workload_of_pod),
        Some(_) => None,
    };
    pairs.extend(workload.map(|workload| ("workload", workload)));
    if pairs.iter().all(|(_, value)| value.is_empty()) {
        pairs.push(("service_name", "unknown_service"));
    }
    match out.stream_of(&mut pairs, Signal::Logs, SourceKind::Application)? {
        Ok(stream) => out.of_stream(&stream),
        Err(refused) => {
            out.refuse_open(refused);
            Ok(())
        }
    }
}

fn scope_logs(
    message: Reader<'_>,
    of_resource: &Placed,
    out: &mut Entries<'_, '_>,
) -> Result<(), WalkError> {
    let mut fields = of_resource.clone();
    let mut parts = message;
    while !parts.is_at_end() {
        match parts.varint()? {
            0x0a => scope(parts.message()?, &mut fields, out)?,
            tag => step_over(&mut parts, tag, &[2, 3])?,
        }
    }
    let mut parts = message;
    while !parts.is_at_end() {
        match parts.varint()? {
            0x12 => record(parts.message()?, &fields, out)?,
            tag => step_over(&mut parts, tag, &[1, 3])?,
        }
    }
    Ok(())
}

fn scope(
    mut message: Reader<'_>,
    fields: &mut Placed,
    out: &mut Entries<'_, '_>,
) -> Result<(), WalkError> {
    while !message.is_at_end() {
        match message.varint()? {
            0x0a => place_field("scope_name", text(&mut message)?, fields, out)?,
            0x12 => place_field("scope_version", text(&mut message)?, fields, out)?,
            0x1a => {
                let Attribute { key, value } = attribute(message.message()?)?;
                place_field(key, &value, fields, out)?;
            }
            0x20 => {
                message.varint()?;
            }
            tag => message.skip(tag, &[1, 2, 3, 4])?,
        }
    }
    Ok(())
}

fn place_field(
    name: &str,
    value: &str,
    fields: &mut Placed,
    out: &mut Entries<'_, '_>,
) -> Result<(), WalkError> {
    if !value.is_empty() {
        fields.push((out.name(name.as_bytes())?, out.place(value.as_bytes())?));
    }
    Ok(())
}

/// The numbers of a record.
#[derive(Default)]
struct Numbers {
    time_ns: u64,
    observed_ns: u64,
    severity: u64,
    flags: u32,
}

fn record(
    mut message: Reader<'_>,
    shared: &Placed,
    out: &mut Entries<'_, '_>,
) -> Result<(), WalkError> {
    for (name, value) in shared {
        out.field(name.clone(), value.clone())?;
    }
    let (mut numbers, mut line, mut said) = (Numbers::default(), Line::default(), None);
    while !message.is_at_end() {
        match message.varint()? {
            0x09 => numbers.time_ns = message.fixed_64()?,
            0x10 => numbers.severity = message.varint()?,
            0x1a => {
                let word = text(&mut message)?;
                line.level = level::of_word(word.as_bytes());
                out.field_of(b"severity_text", word.as_bytes())?;
            }
            0x2a => line.place = body(message.message()?, out)?,
            0x32 => {
                let Attribute { key, value } = attribute(message.message()?)?;
                if level::is_level_name(key.as_bytes()) {
                    said = said.or_else(|| level::of_word(value.as_bytes()));
                }
                out.field_of(key.as_bytes(), value.as_bytes())?;
            }
            0x38 => {
                message.varint()?;
            }
            0x45 => numbers.flags = message.fixed_32()?,
            0x4a => id(b"trace_id", message.slice()?, out)?,
            0x52 => id(b"span_id", message.slice()?, out)?,
            0x59 => numbers.observed_ns = message.fixed_64()?,
            0x62 => {
                let name = text(&mut message)?;
                out.field_of(b"event_name", name.as_bytes())?;
            }
            tag => message.skip(tag, &[1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12])?,
        }
    }
    numbers.fields(out)?;
    line.level = match numbers.severity {
        0 => line.level.or(said),
        number => Some(level::of_severity(number)),
    };
    match numbers.at_ns() {
        Ok(at_ns) => line.at_ns = at_ns,
        Err(ns) => {
            let text = || format!("time_unix_nano {ns} is out of range");
            out.refuse(EntryReason::InvalidTimestamp, text);
            return Ok(());
        }
    }
    out.entry(line)?;
    Ok(())
}

impl Numbers {
    fn fields(&self, out: &mut Entries<'_, '_>) -> Result<(), WalkError> {
        let numbers: [(&[u8], u64); 3] = [
            (b"severity_number", self.severity),
            (b"flags", u64::from(self.flags)),
            (b"observed_timestamp", self.observed_ns),
        ];
        for (name, number) in numbers {
            if number != 0 {
                out.field_of(name, number.to_string().as_bytes())?;
            }
        }
        Ok(())
    }

    /// When it happened, or else when it was seen first.
    fn at_ns(&self) -> Result<Option<i64>, u64> {
        match [self.time_ns, self.observed_ns].into_iter().find(|ns| *ns != 0) {
            None => Ok(None),
            Some(ns) => i64::try_from(ns).map(Some).map_err(|_| ns),
        }
    }
}

/// A body that is text lies where it is; of any other kind it is shown as JSON.
fn body(mut message: Reader<'_>, out: &mut Entries<'_, '_>) -> Result<Range<u32>, WalkError> {
    let start = message;
    if !message.is_at_end() && message.varint()? == 0x0a {
        let bytes = message.slice()?;
        if message.is_at_end() {
            return out.place(bytes);
        }
    }
    match value(start)? {
        Cow::Borrowed(text) => out.place(text.as_bytes()),
        Cow::Owned(text) => out.put(text.as_bytes()),
    }
}

/// An id in hexadecimal; one of nothing but zeros is none.
fn id(name: &[u8], bytes: &[u8], out: &mut Entries<'_, '_>) -> Result<(), WalkError> {
    if bytes.iter().all(|b| *b == 0) || bytes.len() > 16 {
        return Ok(());
    }
    let digit = |half: u8| char::from_digit(u32::from(half), 16).map_or(b'0', |c| c as u8);
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    out.field_of(name, &hex[..2 * bytes.len()])
}

fn read_attributes<'a>(
    mut message: Reader<'a>,
    field: u64,
    out: &mut Vec<Attribute<'a>>,
) -> Result<(), WireError> {
    while !message.is_at_end() {
        match message.varint()? {
            tag if tag == field << 3 | 2 => out.push(attribute(message.message()?)?),
            tag => step_over(&mut message, tag, &[2, 3])?,
        }
    }
    Ok(())
}

/// Moves past a field that another pass reads, or that nobody does.
fn step_over(message: &mut Reader<'_>, tag: u64, known: &[u64]) -> Result<(), WireError> {
    match (tag & 7, known.contains(&(tag >> 3))) {
        (2, true) => message.range().map(drop),
        (0, true) => message.varint().map(drop),
        _ => message.skip(tag, known),
    }
}
