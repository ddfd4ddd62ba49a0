//! Lines of logs, events and audit records in SQL: the same wherever they lie, whatever of a
//! condition the store looks for itself, and nothing of anybody else.

mod answers;
mod predicates;

use std::sync::Arc;

use engine::{Options, Pool, StorageExecutor};
use model::{Clock, Labels, Level, Signal, SourceKind};
use storage::entries::{Entry, EntryRows, Field, StreamRows};
use storage::{Parts, Storage};
use tenancy::{Limits, WriteScope};
use testkit::{FaultyDisk, ManualClock, SeededRandom};

use super::ground::{Ground, NOW_MS, name_of};

/// Where entries lie when they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Head,
    /// The first half in segments, the rest in heads.
    Flushed,
    /// The same after the store was opened anew.
    Reopened,
}

const EVERYWHERE: [Lie; 3] = [Lie::Head, Lie::Flushed, Lie::Reopened];

/// An entry to be written; `at` is seconds before now.
#[derive(Debug, Clone)]
struct Said {
    tenant: u32,
    signal: Signal,
    labels: Vec<(&'static str, &'static str)>,
    ago_s: i64,
    level: Level,
    line: &'static [u8],
    fields: Vec<(&'static str, &'static str)>,
}

/// A line of a log of team 1.
fn line(app: &'static str, ago_s: i64, line: &'static str) -> Said {
    Said {
        tenant: 1,
        signal: Signal::Logs,
        labels: vec![("app", app)],
        ago_s,
        level: Level::Unknown,
        line: line.as_bytes(),
        fields: Vec::new(),
    }
}

fn at_ns(said: &Said) -> i64 {
    (NOW_MS - said.ago_s * 1_000) * 1_000_000
}

async fn ground(all: &[Said], lie: Lie) -> Ground {
    let disk = Arc::new(FaultyDisk::default());
    let open = async || {
        let parts = Parts {
            disk: Arc::<FaultyDisk>::clone(&disk) as _,
            objects: None,
            clock: Arc::new(ManualClock::new(NOW_MS)) as Arc<dyn Clock>,
            random: Arc::new(SeededRandom::new(7)),
        };
        let config =
            storage::Config { disk_reserve_bytes: 0, partitions: 2, ..storage::Config::default() };
        Storage::open(config, parts).await.unwrap()
    };
    let mut storage = open().await;
    let (first, second) = all.split_at(all.len() / 2);
    write(&storage, first).await;
    if lie != Lie::Head {
        storage.flush_all().await.unwrap();
    }
    write(&storage, second).await;
    if lie == Lie::Reopened {
        drop(storage);
        storage = open().await;
    }
    let executor = StorageExecutor::new(Arc::clone(&storage), Pool::new(2), Options::default());
    Ground { storage, executor: Arc::new(executor) }
}

async fn write(storage: &Storage, all: &[Said]) {
    for said in all {
        let mut rows = EntryRows::default();
        let mut encoded = Vec::new();
        Labels::from_pairs(said.labels.iter().copied()).encode(&mut encoded);
        let labels = rows.put(&encoded).unwrap();
        let line = rows.put(said.line).unwrap();
        for (name, value) in &said.fields {
            let name = rows.put(name.as_bytes()).unwrap();
            let value = rows.put(value.as_bytes()).unwrap();
            rows.fields.push(Field { name, value });
        }
        let fields = 0..rows.fields.len() as u32;
        let (at_ns, level) = (at_ns(said), said.level);
        rows.entries.push(Entry {
            at_ns,
            has_own_time: true,
            line,
            fields,
            level,
            is_truncated: false,
        });
        let (signal, kind) = (said.signal, SourceKind::Container);
        rows.streams.push(StreamRows { signal, kind, labels, entries: 0..1 });
        let scope = WriteScope::for_test(said.tenant, &name_of(said.tenant), Limits::default());
        let appended = storage.append_entries(&scope, &rows).unwrap();
        assert!(appended.outcome.rejected.is_empty(), "{appended:?}");
        storage.durable(appended.position.unwrap()).await.unwrap();
    }
}

/// Logs, events and audits of team 1, logs of team 2.
fn given() -> Vec<Said> {
    let level = |level, said: Said| Said { level, ..said };
    let audit = |ago_s, user: &'static str, verb: &'static str, code: &'static str| Said {
        signal: Signal::Audits,
        labels: vec![("cluster", "c1")],
        fields: vec![("user", user), ("verb", verb), ("code", code)],
        ..line("", ago_s, "{\"kind\":\"Event\"}")
    };
    vec![
        level(Level::Error, line("web", 3_700, "GET /cart failed: timeout after 3000 ms")),
        level(Level::Info, line("web", 3_650, "GET /cart 200")),
        level(Level::Info, line("db", 1_200, "checkpoint complete: wrote 45 buffers")),
        Said { labels: vec![("app", "db"), ("level", "label")], ..line("db", 900, "odd") },
        Said {
            signal: Signal::Events,
            labels: vec![("namespace", "shop")],
            fields: vec![("reason", "BackOff"), ("type", "Warning")],
            ..line("", 600, "{\"reason\":\"BackOff\"}")
        },
        audit(500, "ann", "get", "200"),
        level(Level::Fatal, line("web", 300, "Timeout: giving up")),
        Said {
            fields: vec![("trace_id", "abc"), ("empty", "")],
            ..line("web", 200, "POST /pay 500")
        },
        Said { line: b"broken \xff\xfe byte", ..line("db", 100, "") },
        audit(50, "bob", "delete", "403"),
        Said { tenant: 2, ..line("hidden", 40, "secret of team 2") },
        line("db", 0, "new\nest"),
    ]
}
