//! What the tests of all doors of entries share: a store that keeps entries as text.

use std::sync::Arc;

use model::{Clock, Level, Position};
use parking_lot::Mutex;
use storage::entries::{EntriesAppended, EntryOutcome, EntryReason, EntryRows};
use tenancy::{Limits, WriteScope};
use testkit::ManualClock;

use super::{EntryIntake, fuzz, time};
use crate::testing::{Kept, NOW_MS};
use crate::{Appender, Config, Durable, EntryAppender, Intake, Metrics};

/// The time of every test, nanoseconds.
pub(crate) const NOW_NS: i64 = NOW_MS * 1_000_000;

/// Keeps entries as text; refuses those of streams with `app="many"` as over a limit.
#[derive(Default)]
pub(crate) struct KeptEntries {
    lines: Mutex<Vec<String>>,
    waited_for: Mutex<Vec<Position>>,
}

impl EntryAppender for KeptEntries {
    fn append_entries(
        &self,
        scope: &WriteScope,
        rows: &EntryRows<'_>,
    ) -> Result<EntriesAppended, storage::Error> {
        let of_streams: usize = rows.streams.iter().map(|s| s.entries.len()).sum();
        if scope.routes().is_none() && of_streams == rows.entries.len() {
            // Nothing was refused in between: all of it must hold together.
            fuzz::check(rows);
        }
        let mut lines = self.lines.lock();
        let mut outcome = EntryOutcome::default();
        for stream in &rows.streams {
            let labels = model::Labels::from_wire(rows.bytes(&stream.labels)).expect("labels");
            if labels.get("app") == Some("many") {
                let count = stream.entries.len() as u64;
                outcome.reject(EntryReason::ActiveStreamLimit, count, || labels.to_string());
                continue;
            }
            for number in stream.entries.clone() {
                let entry = &rows.entries[number as usize];
                lines.push(shown(rows, stream, &labels, entry));
                outcome.entries += 1;
                outcome.truncated += u64::from(entry.is_truncated);
            }
        }
        Ok(EntriesAppended { outcome, position: Some(Position(7)) })
    }

    fn durable(&self, position: Position) -> Durable<'_> {
        self.waited_for.lock().push(position);
        Box::pin(async { Ok(()) })
    }
}

/// Everything that a row says, but for what is usual.
fn shown(
    rows: &EntryRows<'_>,
    stream: &storage::entries::StreamRows,
    labels: &model::Labels,
    entry: &storage::entries::Entry,
) -> String {
    let mut text = labels.to_string();
    if stream.signal != model::Signal::Logs {
        text += &format!(" {}", stream.signal);
    }
    if stream.kind != model::SourceKind::Other {
        text += &format!(" ({})", stream.kind);
    }
    match entry.has_own_time {
        true if entry.at_ns == NOW_NS => {}
        true => text += &format!(" @{}", time::shown(entry.at_ns)),
        false => text += " @arrival",
    }
    if entry.level != Level::Unknown {
        text += &format!(" {}", entry.level);
    }
    text += &format!(" {:?}", String::from_utf8_lossy(rows.bytes(&entry.line)));
    if entry.is_truncated {
        text += " cut";
    }
    for field in &rows.fields[entry.fields.start as usize..entry.fields.end as usize] {
        let text_of = |place| std::str::from_utf8(rows.bytes(place)).expect("fields are text");
        text += &format!(" {}={}", text_of(&field.name), text_of(&field.value));
    }
    text
}

impl KeptEntries {
    /// What was stored since it was asked last.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock())
    }

    /// Positions that were waited for since it was asked last.
    pub(crate) fn waited_for(&self) -> Vec<Position> {
        std::mem::take(&mut *self.waited_for.lock())
    }
}

/// An intake of entries before a store that keeps text.
pub(crate) struct Rig {
    pub(crate) kept: Arc<KeptEntries>,
    pub(crate) intake: Arc<EntryIntake>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(&Config::default())
    }

    pub(crate) fn with(config: &Config) -> Self {
        let kept = Arc::new(KeptEntries::default());
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let intake = Intake::new(
            Arc::new(Kept::default()) as Arc<dyn Appender>,
            Arc::default(),
            Arc::new(Metrics::default()),
            Arc::clone(&clock) as Arc<dyn Clock>,
            config,
        );
        let appender = Arc::clone(&kept) as Arc<dyn EntryAppender>;
        let intake = Arc::new(EntryIntake::new(Arc::new(intake), appender));
        Self { kept, intake }
    }

    /// The counters in text.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        self.intake.intake.metrics.write(&mut text);
        text
    }
}

pub(crate) fn scope() -> WriteScope {
    scope_of(Limits::default())
}

pub(crate) fn scope_of(limits: Limits) -> WriteScope {
    WriteScope::for_test(1, "team-a", limits)
}
