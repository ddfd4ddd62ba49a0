//! Entry points for fuzzers and benchmarks: a body, small limits, and what must hold of the rows.

use std::sync::Arc;

use storage::entries::EntryRows;
use tenancy::{Limits, TenantId};

use super::builder::{Context, Entries, EntryCaps};
use super::cache::LabelCache;
use super::document::{Naming, lines};
use super::elasticsearch::Bulk;
use super::intake::TakeEntries;
use super::kubernetes::{Body as KubernetesBody, Objects};
use super::loki::{Form, Push};
use super::{elasticsearch, fluent, jsonline, otlp, syslog};

/// Doors by name, for fuzzers and benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the doors")]
pub enum Door {
    LokiProtobuf,
    LokiJson,
    OtlpLogs,
    Elasticsearch,
    JsonLines,
    Events,
    Audits,
    Syslog,
    Fluent,
}

/// Takes a decompressed body apart; whether it was accepted.
fn take<'a>(door: Door, body: &'a [u8], out: &mut Entries<'_, 'a>) -> bool {
    let naming = Naming::default();
    let taken = match door {
        Door::LokiProtobuf => Push { form: Form::Protobuf }.take_entries(body, out),
        Door::LokiJson => Push { form: Form::Json }.take_entries(body, out),
        Door::OtlpLogs => otlp::Body { form: crate::otlp::Form::Protobuf }.take_entries(body, out),
        Door::Elasticsearch => {
            let target = elasticsearch::Target::Bulk { index: None };
            Bulk::new(naming, target).take_entries(body, out)
        }
        Door::JsonLines => jsonline::Body { naming }.take_entries(body, out),
        Door::Events => KubernetesBody { objects: Objects::Events }.take_entries(body, out),
        Door::Audits => KubernetesBody { objects: Objects::Audits }.take_entries(body, out),
        Door::Syslog => {
            let messages = lines(body).map(|line| {
                let start = line.as_ptr() as usize - body.as_ptr() as usize;
                start..start + line.len()
            });
            let mut batch = syslog::Batch { messages: messages.collect(), offset_seconds: 0 };
            batch.take_entries(body, out)
        }
        Door::Fluent => fluent::Message::default().take_entries(body, out),
    };
    taken.is_ok()
}

/// Takes a body apart within small limits; what was accepted must hold together.
pub fn door(door: Door, body: &[u8]) {
    let caps =
        EntryCaps { entries_max: 256, fields_max: 512, streams_max: 64, spill_bytes_max: 64 << 10 };
    let limits = Limits { stream_labels_max: 8, ..Limits::default() };
    let context = context(limits, caps);
    let mut rows = EntryRows { body, ..EntryRows::default() };
    if take(door, body, &mut Entries::new(&mut rows, &context)) {
        check(&rows);
    }
}

/// Takes a body apart so many times, as a sender's requests one after the other; how many entries
/// each makes, `None` if it is refused. For benchmarks.
pub fn entries(door: Door, body: &[u8], times: usize) -> Option<usize> {
    let context = context(Limits::default(), EntryCaps::default());
    let mut rows = EntryRows { body, ..EntryRows::default() };
    for _ in 0..times {
        rows.spill.clear();
        rows.streams.clear();
        rows.entries.clear();
        rows.fields.clear();
        if !take(door, body, &mut Entries::new(&mut rows, &context)) {
            return None;
        }
    }
    Some(rows.entries.len())
}

fn context(limits: Limits, caps: EntryCaps) -> Context {
    Context {
        limits: Arc::new(limits),
        cluster: "c".into(),
        now_ns: 1_700_000_000_000_000_000,
        caps,
        known: LabelCache::default().of(TenantId(1)),
    }
}

/// Every entry belongs to one stream, fields to one entry; labels are canonical, names and values
/// are text, all of it lies where it is said to.
pub(crate) fn check(rows: &EntryRows<'_>) {
    let bytes = (rows.body.len() + rows.spill.len()) as u32;
    let mut entries = 0;
    for stream in &rows.streams {
        assert_eq!(stream.entries.start, entries, "streams hold all entries in order");
        assert!(stream.entries.end > entries, "no stream is empty");
        entries = stream.entries.end;
        let labels = model::Labels::from_wire(rows.bytes(&stream.labels)).expect("labels");
        let mut canonical = Vec::new();
        labels.encode(&mut canonical);
        assert_eq!(rows.bytes(&stream.labels), canonical, "labels are in canonical encoding");
    }
    assert_eq!(entries as usize, rows.entries.len(), "every entry is of a stream");
    let mut fields = 0;
    for entry in &rows.entries {
        assert_eq!(entry.fields.start, fields, "entries hold all fields in order");
        fields = entry.fields.end;
        assert!(entry.line.start <= entry.line.end && entry.line.end <= bytes);
    }
    assert_eq!(fields as usize, rows.fields.len(), "every field is of an entry");
    for field in &rows.fields {
        assert!(!field.name.is_empty() && field.name.end <= bytes && field.value.end <= bytes);
        for place in [&field.name, &field.value] {
            assert!(std::str::from_utf8(rows.bytes(place)).is_ok(), "fields are text");
        }
    }
}
