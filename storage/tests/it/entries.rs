//! Entries: what goes in comes out, wherever it lies, and nobody sees what is not theirs.

mod deletes;
mod giving_up;
mod limits;
mod merging;
mod model;
mod reading;
mod restarts;
mod retention;
mod statistics;
mod tail;
mod terms;

use std::sync::Arc;

use ::model::{Cancel, Labels, Level, Matcher, Signal, SourceKind};
use storage::Storage;
use storage::entries::{
    Direction, EntriesAppended, Entry, EntryRows, Field, FoundEntry, SelectEntries, StreamRows,
};
use tenancy::{Limits, ReadScope, WriteScope};

use crate::store::{NOW_MS, write_scope};

pub(crate) const NOW_NS: i64 = NOW_MS * 1_000_000;
pub(crate) const SECOND_NS: i64 = 1_000_000_000;

/// An entry to be written: an instant, a line, fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) signal: Signal,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) at_ns: i64,
    pub(crate) has_own_time: bool,
    pub(crate) line: Vec<u8>,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) level: Level,
}

/// A line of a log with a time of its own.
pub(crate) fn line(app: &str, at_ns: i64, text: &str) -> Line {
    Line {
        signal: Signal::Logs,
        labels: vec![("app".to_owned(), app.to_owned())],
        at_ns,
        has_own_time: true,
        line: text.as_bytes().to_vec(),
        fields: Vec::new(),
        level: Level::Unknown,
    }
}

/// Writes entries, each as a stream of its own in the request; not synced yet.
pub(crate) fn append_as(
    storage: &Storage,
    scope: &WriteScope,
    lines: &[Line],
    batch: Option<u128>,
) -> Result<EntriesAppended, storage::Error> {
    let mut rows = EntryRows { batch, ..EntryRows::default() };
    for (i, one) in (0u32..).zip(lines) {
        let mut encoded = Vec::new();
        Labels::from_pairs(one.labels.iter().map(|(n, v)| (n, v))).encode(&mut encoded);
        let labels = rows.put(&encoded).expect("there is room");
        let line = rows.put(&one.line).expect("there is room");
        let first = rows.fields.len() as u32;
        for (name, value) in &one.fields {
            let name = rows.put(name.as_bytes()).expect("there is room");
            let value = rows.put(value.as_bytes()).expect("there is room");
            rows.fields.push(Field { name, value });
        }
        let fields = first..rows.fields.len() as u32;
        let (at_ns, has_own_time, level) = (one.at_ns, one.has_own_time, one.level);
        rows.entries.push(Entry { at_ns, has_own_time, line, fields, level, is_truncated: false });
        let (signal, kind) = (one.signal, SourceKind::Container);
        rows.streams.push(StreamRows { signal, kind, labels, entries: i..i + 1 });
    }
    storage.append_entries(scope, &rows)
}

/// Writes entries of a tenant and waits until they are durable.
pub(crate) async fn write(storage: &Storage, tenant: u32, lines: &[Line]) -> EntriesAppended {
    let appended = append_as(storage, &write_scope(tenant), lines, None).expect("writes are taken");
    if let Some(position) = appended.position {
        storage.durable(position).await.expect("a sound disk");
    }
    appended
}

pub(crate) fn scope(tenant: u32) -> ReadScope {
    ReadScope::for_test(&[(tenant, &format!("team-{tenant}"))])
}

/// A question for everything.
pub(crate) fn everything() -> SelectEntries {
    SelectEntries {
        signals: Signal::ALL.to_vec(),
        start_ns: i64::MIN,
        end_ns: i64::MAX,
        limit: usize::MAX,
        direction: Direction::Forward,
        ..SelectEntries::default()
    }
}

pub(crate) async fn select(
    storage: &Storage,
    scope: &ReadScope,
    request: &SelectEntries,
) -> Vec<FoundEntry> {
    let found = storage.select_entries(scope, request, &Cancel::default()).await;
    found.expect("an answer")
}

/// Lines as text, in the order of the answer.
pub(crate) async fn texts(
    storage: &Storage,
    scope: &ReadScope,
    request: &SelectEntries,
) -> Vec<String> {
    let found = select(storage, scope, request).await;
    found.iter().map(|f| String::from_utf8_lossy(&f.line).into_owned()).collect()
}

pub(crate) fn equal(name: &str, value: &str) -> Vec<Matcher> {
    vec![Matcher::equal(name, value)]
}

pub(crate) fn limited(tenant: u32, limits: Limits) -> WriteScope {
    WriteScope::for_test(tenant, &format!("team-{tenant}"), limits)
}

/// The store, opened anew after it was dropped without a flush.
pub(crate) async fn reopened(ground: &crate::store::Ground, storage: Arc<Storage>) -> Arc<Storage> {
    drop(storage);
    ground.open().await.expect("it opens again")
}
