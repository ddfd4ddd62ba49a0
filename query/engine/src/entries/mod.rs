//! Questions about entries (lines of logs, events, audit records) over the store: the port
//! [`query::entries::Entries`] answered from [`storage::entries`].
//!
//! ```text
//! select ─► search for a batch ─► rows ─► search behind the last of them ─► …
//! count ─► the same, oldest first ─► groups and buckets
//! tail ─► the newest of what is stored ─► what comes
//! streams, labels, sources ─► tables of streams; rows only where entries are picked by what they say
//! ```
//!
//! Everything is polled on the pool, in turns with other questions; what it reads is waited for
//! beside it.

mod counting;
mod reading;
mod tailing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use model::{Labels, Signal};
use query::entries::{
    CountEntries, Entries, EntryBatches, EntryCounts, EntryFilter, EntrySelection, EntryTail,
    SelectEntries, SourceFacts, StreamFacts, TailEntries,
};
use query::{Cancel, Error, Listing};
use storage::Storage;
use storage::entries::{EntrySource, EntryStream, SelectStreams, StreamVolume};
use tenancy::ReadScope;

use crate::budget::Budget;
use crate::drive::on_pool;
use crate::executor::{asked, budget_of};
use crate::pool::{Lane, Pool};
use reading::Reading;
pub use reading::stored_filter;
pub(crate) use reading::{Pages, counted_bytes};
use tailing::Tail;

/// Answers questions about entries from the store.
#[derive(Debug)]
pub struct StorageEntries {
    storage: Arc<Storage>,
    pool: Arc<Pool>,
}

/// What one question needs.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) storage: Arc<Storage>,
    pub(crate) scope: ReadScope,
    pub(crate) lane: Lane,
    pub(crate) budget: Arc<Budget>,
}

impl StorageEntries {
    /// Answers over a store, computed on a pool.
    pub fn new(storage: Arc<Storage>, pool: Arc<Pool>) -> Self {
        Self { storage, pool }
    }

    fn asking(&self, scope: &ReadScope, cancel: &Cancel) -> Asking {
        Asking {
            storage: Arc::clone(&self.storage),
            scope: scope.clone(),
            lane: self.pool.lane(scope, cancel),
            budget: budget_of(scope, cancel),
        }
    }
}

impl Asking {
    /// Does the work on the pool; what ends it is told as the question's limits tell it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let done = on_pool(&self.lane, &self.budget, work).await;
        done.map_err(|error| self.budget.ended(error))
    }

    /// The streams with entries of a selection, in order. Several tenants' with the same labels are
    /// one, where answers do not say whose they are.
    async fn facts(
        &self,
        selection: EntrySelection,
    ) -> Result<BTreeMap<Labels, StreamFacts>, Error> {
        let mut all = BTreeMap::new();
        if selection.filter == EntryFilter::default() {
            for volume in self.volumes(selection).await? {
                let (entries, bytes) = (volume.entries(), volume.bytes());
                add(&mut all, &volume.stream, entries, bytes);
            }
            return Ok(all);
        }
        // Tables of streams do not tell what entries say: they are looked at themselves.
        let request = SelectEntries { selection, ..SelectEntries::default() };
        let mut pages = Pages::new(self.clone(), request);
        while let Some(page) = pages.next().await? {
            for entry in &page {
                add(&mut all, &entry.stream, 1, counted_bytes(entry) as u64);
            }
        }
        Ok(all)
    }

    /// The streams with entries of a selection, whatever these say.
    async fn volumes(&self, selection: EntrySelection) -> Result<Vec<StreamVolume>, Error> {
        let Self { storage, scope, budget, .. } = self.clone();
        let work = async move {
            let request = SelectStreams {
                signals: vec![selection.signal],
                selectors: selection.selectors,
                start_ns: selection.start_ns,
                end_ns: selection.end_ns,
            };
            let until = budget.cancel();
            let found = storage.entry_streams(&scope, &request, until.stop()).await;
            let found = found.map_err(asked)?;
            budget.take_series(found.len())?;
            Ok(found)
        };
        self.run(work).await
    }
}

fn add(all: &mut BTreeMap<Labels, StreamFacts>, stream: &EntryStream, entries: u64, bytes: u64) {
    let labels = &stream.labels;
    let facts = all.entry(labels.clone()).or_insert_with(|| StreamFacts {
        labels: labels.clone(),
        kind: stream.kind,
        entries: 0,
        bytes: 0,
    });
    facts.entries += entries;
    facts.bytes += bytes;
}

#[async_trait]
impl Entries for StorageEntries {
    async fn select(
        &self,
        scope: &ReadScope,
        request: SelectEntries,
    ) -> Result<Box<dyn EntryBatches>, Error> {
        let asking = self.asking(scope, &request.selection.cancel);
        Ok(Box::new(Reading::new(Pages::new(asking, request))))
    }

    async fn count(
        &self,
        scope: &ReadScope,
        request: CountEntries,
    ) -> Result<Vec<EntryCounts>, Error> {
        let asking = self.asking(scope, &request.selection.cancel);
        counting::count(asking, request).await
    }

    async fn streams(
        &self,
        scope: &ReadScope,
        request: EntrySelection,
        limit: Option<usize>,
    ) -> Result<Listing<StreamFacts>, Error> {
        let all = self.asking(scope, &request.cancel).facts(request).await?;
        let truncated = limit.is_some_and(|limit| all.len() > limit);
        let items = all.into_values().take(limit.unwrap_or(usize::MAX)).collect();
        Ok(Listing { items, truncated })
    }

    async fn label_names(
        &self,
        scope: &ReadScope,
        request: EntrySelection,
    ) -> Result<Vec<String>, Error> {
        let all = self.asking(scope, &request.cancel).facts(request).await?;
        let names = all.keys().flat_map(|labels| labels.iter().map(|(name, _)| name));
        Ok(in_order(names))
    }

    async fn label_values(
        &self,
        scope: &ReadScope,
        name: &str,
        request: EntrySelection,
    ) -> Result<Vec<String>, Error> {
        let all = self.asking(scope, &request.cancel).facts(request).await?;
        Ok(in_order(all.keys().filter_map(|labels| labels.get(name))))
    }

    async fn sources(&self, scope: &ReadScope, cancel: &Cancel) -> Result<Vec<SourceFacts>, Error> {
        let asking = self.asking(scope, cancel);
        let Asking { storage, scope, budget, .. } = asking.clone();
        let work = async move {
            let until = budget.cancel();
            let everything = SelectStreams {
                signals: Signal::ALL.to_vec(),
                selectors: Vec::new(),
                start_ns: i64::MIN,
                end_ns: i64::MAX,
            };
            storage.entry_sources(&scope, &everything, until.stop()).await.map_err(asked)
        };
        let mut found: Vec<SourceFacts> =
            asking.run(work).await?.into_iter().map(source_facts).collect();
        let place = |s: &SourceFacts| (s.signal, s.cluster.clone(), s.kind, s.tenant.clone());
        found.sort_by_cached_key(place);
        Ok(found)
    }

    async fn tail(
        &self,
        scope: &ReadScope,
        request: TailEntries,
    ) -> Result<Box<dyn EntryTail>, Error> {
        let asking = self.asking(scope, &request.selection.cancel);
        Ok(Box::new(Tail::begin(asking, request).await?))
    }
}

fn source_facts(source: EntrySource) -> SourceFacts {
    SourceFacts {
        tenant: source.tenant_name.as_str().to_owned(),
        signal: source.signal,
        cluster: source.cluster,
        kind: source.kind,
        first_ns: source.first_ns,
        last_ns: source.last_ns,
        entries: source.entries,
        bytes: source.bytes,
    }
}

/// Each once, in order.
fn in_order<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let texts: BTreeSet<&str> = texts.collect();
    texts.into_iter().map(str::to_owned).collect()
}
