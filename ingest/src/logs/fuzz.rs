//! Entry points for fuzzers and benchmarks: a body, small limits, and what must hold of the rows.

use std::sync::Arc;

use storage::entries::EntryRows;
use tenancy::{Limits, TenantId};

use super::builder::{Context, Entries, EntryCaps};
use super::cache::LabelCache;
use super::document::Naming;
use super::elasticsearch::Bulk;
use super::intake::TakeEntries;
use super::kubernetes::{Body as KubernetesBody, Objects};
use super::loki::{Form, Push};
use super::{elasticsearch, jsonline, otlp};

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
}

/// Takes a decompressed body apart.
fn take(door: Door, body: &[u8], context: &Context, rows: &mut EntryRows<'_>) -> bool {
    // Rows outlive no body: the one they are of is taken from them.
    let mut of_body = EntryRows { body, ..EntryRows::default() };
    let mut entries = Entries::new(&mut of_body, context);
    let (naming, out) = (Naming::default(), &mut entries);
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
    };
    let is_taken = taken.is_ok();
    if is_taken {
        check(&of_body);
    }
    rows.entries = of_body.entries;
    rows.fields = of_body.fields;
    rows.spill = of_body.spill;
    rows.streams = of_body.streams;
    is_taken
}

/// Takes a body apart within small limits; what was accepted must hold together.
pub fn door(door: Door, body: &[u8]) {
    let caps =
        EntryCaps { entries_max: 256, fields_max: 512, streams_max: 64, spill_bytes_max: 64 << 10 };
    let limits = Limits { stream_labels_max: 8, ..Limits::default() };
    take(door, body, &context(limits, caps), &mut EntryRows::default());
}

/// Entries that a body makes, for benchmarks; `None` if it is refused.
pub fn entries(door: Door, body: &[u8]) -> Option<usize> {
    let mut rows = EntryRows::default();
    let context = context(Limits::default(), EntryCaps::default());
    take(door, body, &context, &mut rows).then_some(rows.entries.len())
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
