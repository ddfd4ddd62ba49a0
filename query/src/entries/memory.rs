//! Entries in a list, for tests of everything above the port: every answer is worked out the
//! slowest and plainest way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::{Labels, Level, Matcher, Signal, SourceKind, TailId};
use tenancy::ReadScope;
use tokio::sync::broadcast;

use super::{
    CountEntries, Counted, Direction, Dropped, Entries, EntryBatches, EntryCounts, EntryFilter,
    EntryRow, EntrySelection, EntryTail, LineCondition, LineTest, Place, SelectEntries,
    SourceFacts, StreamFacts, TailEntries, Tailed, TailedRow,
};
use crate::{Cancel, Error, Listing};

/// Entries of one signal and many tenants.
#[derive(Debug)]
pub(crate) struct Memory {
    entries: parking_lot::Mutex<Vec<Held>>,
    news: broadcast::Sender<Held>,
    /// Rows given at a time.
    batch_rows: usize,
}

#[derive(Debug, Clone)]
struct Held {
    tenant: String,
    signal: Signal,
    row: EntryRow,
}

/// An entry on its way in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct New<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) signal: Signal,
    pub(crate) labels: &'a [(&'a str, &'a str)],
    pub(crate) at_ns: i64,
    pub(crate) line: &'a str,
    pub(crate) fields: &'a [(&'a str, &'a str)],
    pub(crate) level: Level,
}

impl Default for Memory {
    fn default() -> Self {
        let (news, _) = broadcast::channel(64);
        Self { entries: parking_lot::Mutex::default(), news, batch_rows: 3 }
    }
}

impl Memory {
    pub(crate) fn add(&self, new: New<'_>) {
        let labels = Labels::from_pairs(new.labels.iter().copied());
        let stream = new.labels.iter().flat_map(|(n, v)| n.bytes().chain(v.bytes()));
        let stream = stream.fold(7_u128, |hash, byte| {
            hash.wrapping_mul(1_099_511_628_211).wrapping_add(u128::from(byte))
        });
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut entries = self.entries.lock();
        let sequence = entries.len() as u64;
        let held = Held {
            tenant: new.tenant.to_owned(),
            signal: new.signal,
            row: EntryRow {
                place: Place { at_ns: new.at_ns, stream, sequence },
                stream: Arc::new(labels),
                line: Bytes::copy_from_slice(new.line.as_bytes()),
                fields: new.fields.iter().map(own).collect(),
                level: new.level,
            },
        };
        entries.push(held.clone());
        // Nobody may be listening.
        let _ = self.news.send(held);
    }

    /// Entries that match, oldest first.
    fn found(&self, scope: &ReadScope, selection: &EntrySelection) -> Vec<EntryRow> {
        let entries = self.entries.lock();
        let mut found: Vec<_> =
            entries.iter().filter_map(|held| matching(held, scope, selection)).collect();
        for row in &found {
            selection.cancel.usage().add_samples(1);
            selection.cancel.usage().add_bytes(row.counted_bytes());
        }
        found.sort_by_key(|row| row.place);
        found
    }
}

/// The entry as the scope shows it, if it matches.
fn matching(held: &Held, scope: &ReadScope, selection: &EntrySelection) -> Option<EntryRow> {
    let tenant = scope.tenants().iter().find(|tenant| tenant.name.as_str() == held.tenant)?;
    let mut row = held.row.clone();
    if scope.is_labelled() {
        let mut labels = row.stream.to_builder();
        labels.set("__tenant_id__", &held.tenant);
        row.stream = Arc::new(labels.build());
    }
    let holds = |matcher: &Matcher| matcher.matches(row.stream.get(matcher.name()).unwrap_or(""));
    let selectors = &selection.selectors;
    let selected = selectors.is_empty() || selectors.iter().any(|all| all.iter().all(holds));
    let in_range = (selection.start_ns..selection.end_ns).contains(&row.place.at_ns);
    let readable = tenant.allows(&held.row.stream);
    let wanted = held.signal == selection.signal && in_range && readable && selected;
    (wanted && passes(&row, &selection.filter)).then_some(row)
}

fn passes(row: &EntryRow, filter: &EntryFilter) -> bool {
    filter.lines.iter().all(|condition| line_passes(&row.line, condition))
        && filter.named.iter().all(|matcher| matcher.matches(row.named(matcher.name())))
        && filter.level_min.is_none_or(|least| row.level >= least)
}

fn line_passes(line: &[u8], condition: &LineCondition) -> bool {
    let regex = |pattern: &str| {
        regex::bytes::RegexBuilder::new(pattern)
            .case_insensitive(condition.ignores_case)
            .build()
            .expect("a test's pattern")
    };
    let holds = |test: &LineTest| match test {
        LineTest::Contains(text) => regex(&regex::escape(text)).is_match(line),
        LineTest::Words(text) => {
            let escaped = regex::escape(text);
            regex(&format!(r"(?:^|[^\w]){escaped}(?:$|[^\w])")).is_match(line)
        }
        LineTest::Regex(pattern) => regex(pattern).is_match(line),
    };
    condition.any.iter().any(holds) != condition.is_negative
}

struct Given {
    rows: std::vec::IntoIter<EntryRow>,
    batch_rows: usize,
}

#[async_trait]
impl EntryBatches for Given {
    async fn next(&mut self) -> Result<Option<Vec<EntryRow>>, Error> {
        let rows: Vec<_> = self.rows.by_ref().take(self.batch_rows).collect();
        Ok((!rows.is_empty()).then_some(rows))
    }
}

struct Listening {
    before: Option<Vec<EntryRow>>,
    news: broadcast::Receiver<Held>,
    given: u64,
    scope: ReadScope,
    selection: EntrySelection,
}

impl Listening {
    fn id(&self) -> TailId {
        TailId { position: self.given, row: 0, newest_ns: 0 }
    }
}

#[async_trait]
impl EntryTail for Listening {
    async fn next(&mut self) -> Result<Option<Tailed>, Error> {
        if let Some(before) = self.before.take() {
            let rows = before.into_iter().map(|row| TailedRow { id: None, row }).collect();
            return Ok(Some(Tailed { rows, upto: Some(self.id()), ..Tailed::default() }));
        }
        let mut dropped = Dropped::default();
        loop {
            match self.news.recv().await {
                Ok(held) => {
                    if let Some(row) = matching(&held, &self.scope, &self.selection) {
                        self.given += 1;
                        let rows = vec![TailedRow { id: Some(self.id()), row }];
                        return Ok(Some(Tailed { rows, dropped, ..Tailed::default() }));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => dropped.count += missed,
                Err(broadcast::error::RecvError::Closed) => return Ok(None),
            }
        }
    }
}

#[async_trait]
impl Entries for Memory {
    async fn select(
        &self,
        scope: &ReadScope,
        request: SelectEntries,
    ) -> Result<Box<dyn EntryBatches>, Error> {
        let mut rows = self.found(scope, &request.selection);
        if request.direction == Direction::Backward {
            rows.reverse();
        }
        if let Some(after) = request.after {
            rows.retain(|row| match request.direction {
                Direction::Forward => row.place > after,
                Direction::Backward => row.place < after,
            });
        }
        rows.truncate(request.limit.unwrap_or(usize::MAX));
        Ok(Box::new(Given { rows: rows.into_iter(), batch_rows: self.batch_rows }))
    }

    async fn count(
        &self,
        scope: &ReadScope,
        request: CountEntries,
    ) -> Result<Vec<EntryCounts>, Error> {
        let start_ns = request.selection.start_ns;
        let mut groups: BTreeMap<Labels, Vec<u64>> = BTreeMap::new();
        for row in self.found(scope, &request.selection) {
            let names = request.by.iter().map(|name| (name, row.named(name)));
            let counts = groups.entry(Labels::from_pairs(names));
            let counts = counts.or_insert_with(|| vec![0; request.buckets]);
            let bucket = usize::try_from((row.place.at_ns - start_ns) / request.width_ns);
            if let Some(count) = bucket.ok().and_then(|at| counts.get_mut(at)) {
                *count += match request.counted {
                    Counted::Entries => 1,
                    Counted::Bytes => row.line.len() as u64,
                };
            }
        }
        if groups.len() > request.groups_max {
            return Err(super::metric::too_many_series(request.groups_max));
        }
        Ok(groups.into_iter().map(|(labels, counts)| EntryCounts { labels, counts }).collect())
    }

    async fn streams(
        &self,
        scope: &ReadScope,
        request: EntrySelection,
        limit: Option<usize>,
    ) -> Result<Listing<StreamFacts>, Error> {
        let mut streams: BTreeMap<Labels, (u64, u64)> = BTreeMap::new();
        for row in self.found(scope, &request) {
            let sums = streams.entry(Labels::clone(&row.stream)).or_default();
            *sums = (sums.0 + 1, sums.1 + row.counted_bytes());
        }
        let truncated = limit.is_some_and(|limit| streams.len() > limit);
        let items = streams.into_iter().take(limit.unwrap_or(usize::MAX)).map(
            |(labels, (entries, bytes))| StreamFacts {
                labels,
                kind: SourceKind::Container,
                entries,
                bytes,
            },
        );
        Ok(Listing { items: items.collect(), truncated })
    }

    async fn label_names(
        &self,
        scope: &ReadScope,
        request: EntrySelection,
    ) -> Result<Vec<String>, Error> {
        let rows = self.found(scope, &request);
        let names = rows.iter().flat_map(|row| row.stream.iter().map(|(name, _)| name.to_owned()));
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn label_values(
        &self,
        scope: &ReadScope,
        name: &str,
        request: EntrySelection,
    ) -> Result<Vec<String>, Error> {
        let rows = self.found(scope, &request);
        let values = rows.iter().filter_map(|row| row.stream.get(name).map(str::to_owned));
        Ok(values.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn sources(&self, scope: &ReadScope, _: &Cancel) -> Result<Vec<SourceFacts>, Error> {
        let entries = self.entries.lock();
        let mut sources: Vec<SourceFacts> = Vec::new();
        for held in entries.iter() {
            if !scope.tenants().iter().any(|tenant| tenant.name.as_str() == held.tenant) {
                continue;
            }
            let cluster = held.row.stream.get("cluster").unwrap_or("").to_owned();
            let at_ns = held.row.place.at_ns;
            let same = |s: &&mut SourceFacts| {
                s.tenant == held.tenant && s.signal == held.signal && s.cluster == cluster
            };
            match sources.iter_mut().find(same) {
                Some(known) => {
                    known.first_ns = known.first_ns.min(at_ns);
                    known.last_ns = known.last_ns.max(at_ns);
                    known.entries += 1;
                    known.bytes += held.row.counted_bytes();
                }
                None => sources.push(SourceFacts {
                    tenant: held.tenant.clone(),
                    signal: held.signal,
                    cluster,
                    kind: SourceKind::Container,
                    first_ns: at_ns,
                    last_ns: at_ns,
                    entries: 1,
                    bytes: held.row.counted_bytes(),
                }),
            }
        }
        Ok(sources)
    }

    async fn tail(
        &self,
        scope: &ReadScope,
        request: TailEntries,
    ) -> Result<Box<dyn EntryTail>, Error> {
        let news = self.news.subscribe();
        let TailEntries { mut selection, stored_max, .. } = request;
        selection.end_ns = i64::MAX;
        let mut before = self.found(scope, &selection);
        before.drain(..before.len().saturating_sub(stored_max));
        selection.start_ns = i64::MIN;
        let scope = scope.clone();
        Ok(Box::new(Listening { before: Some(before), news, given: 0, scope, selection }))
    }
}
