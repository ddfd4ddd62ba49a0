//! Deleting rows: at once for readers, on disk before the answer, physically later.
//!
//! ```text
//! delete ─► each partition, head locked: log record ─► head loses its rows ─► tombstone
//!        ─► log synced ─► metadata of families without series ─► answer
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Labels, Log, METRIC_NAME, Matcher, Position, RecordKind, Resolution, TimeRange};
use tenancy::{DeleteScope, TenantId};

use crate::head::Removed;
use crate::manifest::{BlockMeta, Edit};
use crate::partition::{Partition, StoredBlock};
use crate::tombstone::Tombstone;
use crate::{Error, Select, SeriesSamples, Storage};

/// Tombstones one partition keeps, over all tenants. Each is looked at by every flush.
const TOMBSTONES_MAX: usize = 200_000;

/// What is to be deleted of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// Series that match one of them; a selector without matchers means all series.
    pub selectors: Vec<Vec<Matcher>>,
    /// Which of their rows.
    pub range: TimeRange,
}

/// What a deletion did at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Numbers of the tombstones.
    pub ids: Vec<u64>,
    /// Series that lost rows that were not in blocks yet.
    pub head_series: u64,
    /// Samples and histograms that were not in blocks yet.
    pub head_samples: u64,
}

/// What a deletion would delete.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preview {
    /// Series that would lose rows.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// The first and the last instant of them.
    pub range: Option<TimeRange>,
    /// The first series.
    pub examples: Vec<Labels>,
}

/// Series named in a preview.
const EXAMPLES_MAX: usize = 20;

/// Series read at a time for a preview.
const PREVIEW_SERIES: usize = 256;

/// What the names of a family's series end in.
const FAMILY_SUFFIXES: &[&str] =
    &["", "_bucket", "_sum", "_count", "_total", "_created", "_info", "_gsum", "_gcount"];

impl Preview {
    fn add(&mut self, labels: &Labels, samples: &SeriesSamples) {
        let instants = samples.timestamps.iter().copied();
        let instants = instants.chain(samples.histograms.iter().map(|(ms, _)| *ms));
        let (first, last) =
            instants.fold((i64::MAX, i64::MIN), |(f, l), ms| (f.min(ms), l.max(ms)));
        if first > last {
            return;
        }
        let own = TimeRange { start_ms: first, end_ms: last };
        self.range = Some(self.range.map_or(own, |range| range.union(own)));
        self.series += 1;
        self.samples += samples.values.len() as u64;
        self.histograms += samples.histograms.len() as u64;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(labels.clone());
        }
    }
}

impl Storage {
    /// Deletes rows of one tenant. Readers see it when this returns, and it is durable then.
    /// Rows that are written later stay, whatever their instants.
    pub async fn delete(
        self: &Arc<Self>,
        scope: &DeleteScope,
        delete: Delete,
    ) -> Result<Deleted, Error> {
        let tenant = scope.tenant();
        let waiting = self.deletes_pending(tenant);
        let limit = scope.limits().deletes_pending_max;
        if waiting + delete.selectors.len() > limit {
            return Err(Error::Limit(format!(
                "{waiting} deletions of this tenant are not carried out yet and {} would come on top, more than \
                 {limit}, the limit deletes_pending_max; delete with fewer selectors or wait for compaction",
                delete.selectors.len()
            )));
        }
        let read = scope.to_read();
        let names =
            self.label_values(&read, METRIC_NAME, &delete.selectors, TimeRange::ALL).await?;
        let deleted = self.bury(tenant, delete, None).await?;
        self.forget_metadata(scope, names).await?;
        Ok(deleted)
    }

    /// Deletes everything of a tenant that is no more.
    pub async fn forget_tenant(self: &Arc<Self>, scope: &DeleteScope) -> Result<(), Error> {
        let all = Delete { selectors: vec![Vec::new()], range: TimeRange::ALL };
        self.bury(scope.tenant(), all, None).await?;
        self.forget_families(scope.tenant(), |_| true).await
    }

    /// What a deletion would delete. Reads all of it, within the time a query may take.
    pub async fn preview_delete(
        &self,
        scope: &DeleteScope,
        delete: &Delete,
    ) -> Result<Preview, Error> {
        let started = self.clock.monotonic();
        let read = scope.to_read();
        let mut seen: BTreeSet<Labels> = BTreeSet::new();
        let mut preview = Preview::default();
        for matchers in &delete.selectors {
            let request = Select { matchers: matchers.clone(), range: delete.range };
            let selection = self.select(&read, &request).await?;
            for start in (0..selection.len()).step_by(PREVIEW_SERIES) {
                let took = self.clock.monotonic().saturating_sub(started).as_secs_f64();
                if took > scope.limits().query_seconds_max {
                    return Err(Error::Limit(format!(
                        "counting what would be deleted takes more than {} seconds, the limit query_seconds_max; use narrower matchers or a shorter range",
                        scope.limits().query_seconds_max
                    )));
                }
                let some = start..(start + PREVIEW_SERIES).min(selection.len());
                let fetched = selection.fetch(some.clone()).await?;
                let decoded = tokio::task::spawn_blocking(move || fetched.decode()).await;
                let decoded =
                    decoded.map_err(|e| Error::Internal(format!("decode samples: {e}")))??;
                for (i, samples) in some.zip(decoded) {
                    if seen.insert(selection.labels(i).clone()) {
                        preview.add(selection.labels(i), &samples);
                    }
                }
            }
        }
        Ok(preview)
    }

    /// Carries deletions out: blocks and segments are written anew without what they hide, now, and they are
    /// forgotten. What is deleted meanwhile waits for compaction, and so does what lies in blocks
    /// that cannot be read.
    pub async fn clean_tombstones(&self) -> Result<(), Error> {
        // Of one that only the log knows, it would have to be done again after a restart.
        self.flush_all().await?;
        self.strip_deleted().await?;
        for partition in &self.partitions {
            self.drop_spent(partition).await?;
        }
        for partition in &self.entries.partitions {
            self.drop_spent_deletions(partition).await?;
        }
        Ok(())
    }

    /// Drops tombstones of one partition that hide nothing in any of its blocks.
    pub(crate) async fn drop_spent(&self, partition: &Partition) -> Result<(), Error> {
        self.note_untouched(partition).await?;
        let mut flush = partition.flush.lock().await;
        // What is frozen is not in a block yet, and will be hidden there.
        if flush.freight.is_some() || partition.check_writable().is_err() {
            return Ok(());
        }
        self.settle(partition, &mut flush).await?;
        // Of one that is not covered the log still has the record, and the snapshot may still say
        // that its series had samples.
        let covered = flush.state.covered;
        let mut spent = Vec::new();
        for tombstone in flush.state.tombstones.iter().filter(|t| t.position < covered) {
            if !self.hides(partition, tombstone).await? {
                spent.push(tombstone.id);
            }
        }
        if spent.is_empty() {
            return Ok(());
        }
        let edit = Edit {
            remove_tombstones: spent.clone(),
            next_object: flush.state.next_object,
            ..Edit::default()
        };
        partition.commit(&mut flush, edit).await?;
        partition.drop_tombstones(&spent);
        Ok(())
    }

    /// Whether a tombstone hides rows in a block.
    async fn hides(
        &self,
        partition: &Partition,
        tombstone: &Arc<Tombstone>,
    ) -> Result<bool, Error> {
        let concerns = |b: &BlockMeta| tombstone.concerns(b);
        if partition.unreadable().any(concerns) {
            return Ok(true);
        }
        for stored in partition.all_blocks().filter(|b| concerns(&b.meta)) {
            if touches(&stored, std::iter::once(tombstone)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds the blocks in which tombstones could hide rows and do not: they need not be written
    /// anew because of them. Known until the next start.
    pub(crate) async fn note_untouched(&self, partition: &Partition) -> Result<(), Error> {
        let tombstones = partition.tombstones();
        if tombstones.is_empty() {
            return Ok(());
        }
        for stored in partition.all_blocks() {
            let concerned = tombstones.of_block(&stored.meta);
            if concerned.is_empty() || touches(&stored, concerned.iter()).await? {
                continue;
            }
            partition
                .note_clean(&stored.meta.name, tombstones.deleted_to([&stored.meta].into_iter()));
        }
        Ok(())
    }

    /// Deletions of a tenant that compaction has not carried out yet.
    pub fn deletes_pending(&self, tenant: TenantId) -> usize {
        let ids = self.partitions.iter().flat_map(|partition| {
            let tombstones = partition.tombstones();
            tombstones.of(tenant).iter().map(|t| t.id).collect::<Vec<_>>()
        });
        ids.collect::<BTreeSet<_>>().len()
    }

    /// Deletes without asking for limits: also what retention and the end of a tenant delete.
    /// `only`: nothing but rows of this resolution.
    pub(crate) async fn bury(
        self: &Arc<Self>,
        tenant: TenantId,
        delete: Delete,
        only: Option<Resolution>,
    ) -> Result<Deleted, Error> {
        let turn = self.deleting.lock().await;
        let storage = Arc::clone(self);
        // Takes the heads' locks and the time their rows call for.
        let work = tokio::task::spawn_blocking(move || storage.bury_all(tenant, &delete, only));
        let (deleted, position) =
            work.await.map_err(|e| Error::Internal(format!("delete rows: {e}")))??;
        drop(turn);
        self.durable(position).await?;
        Ok(deleted)
    }

    fn bury_all(
        &self,
        tenant: TenantId,
        delete: &Delete,
        only: Option<Resolution>,
    ) -> Result<(Deleted, Position), Error> {
        self.log.ready().map_err(Error::Unavailable)?;
        for partition in &self.partitions {
            partition.check_writable()?;
            if partition.tombstones().len() + delete.selectors.len() > TOMBSTONES_MAX {
                return Err(Error::Limit(format!(
                    "partition {} keeps {TOMBSTONES_MAX} deletions that are not carried out yet; wait for compaction",
                    partition.number
                )));
            }
        }
        // No record has this position yet, and the first one below has it or a later one.
        let first = self.log.end().0;
        let created_ms = self.clock.now_ms();
        let mut deleted = Deleted::default();
        let mut position = Position(first);
        for (matchers, id) in delete.selectors.iter().zip(first..) {
            let tombstone = Tombstone {
                id,
                tenant,
                matchers: matchers.clone(),
                range: delete.range,
                position,
                created_ms,
                only,
            };
            for partition in &self.partitions {
                let (removed, at) = self.bury_in(partition, &tombstone)?;
                position = position.max(at);
                deleted.head_series += removed.series;
                deleted.head_samples += removed.samples + removed.histograms;
            }
            deleted.ids.push(id);
        }
        Ok((deleted, position))
    }

    /// One tombstone in one partition: logged, applied and seen as one, since the head is locked.
    fn bury_in(
        &self,
        partition: &Partition,
        tombstone: &Tombstone,
    ) -> Result<(Removed, Position), Error> {
        let mut head = partition.head.write();
        let payload = head.tombstone_payload(tombstone);
        let position =
            self.log_one(partition, tombstone.tenant.0, RecordKind::Tombstone, &payload)?;
        let removed = match tombstone.means(Resolution::Raw) {
            true => head.delete(tombstone.tenant, &tombstone.matchers, tombstone.range),
            false => Removed::default(),
        };
        partition.bury(Arc::new(Tombstone { position, ..tombstone.clone() }));
        self.changes.note(tombstone.tenant, tombstone.range.start_ms);
        Ok((removed, position))
    }

    /// Metadata of families whose last series went goes with them. Families that had none stay:
    /// their samples may be about to come.
    async fn forget_metadata(
        self: &Arc<Self>,
        scope: &DeleteScope,
        before: BTreeSet<String>,
    ) -> Result<(), Error> {
        let left = self.label_values(&scope.to_read(), METRIC_NAME, &[], TimeRange::ALL).await?;
        let gone: BTreeSet<String> = before.difference(&left).cloned().collect();
        if gone.is_empty() {
            return Ok(());
        }
        let ends = move |family: &str| {
            let mut has = FAMILY_SUFFIXES.iter().map(|suffix| format!("{family}{suffix}"));
            let went = has.clone().any(|name| gone.contains(&name));
            went && !has.any(|name| left.contains(&name))
        };
        self.forget_families(scope.tenant(), ends).await
    }

    /// Forgets metadata of the families that `ends` picks. Returns once that is durable.
    async fn forget_families(
        self: &Arc<Self>,
        tenant: TenantId,
        ends: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), Error> {
        let storage = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let mut last = None;
            for partition in &storage.partitions {
                let mut head = partition.head.write();
                let families: Vec<String> = head
                    .metadata(tenant)
                    .filter(|(family, _)| ends(family))
                    .map(|(family, _)| family.to_owned())
                    .collect();
                let payload = head.forget_metadata(tenant, families.iter().map(String::as_str));
                if let Some(payload) = payload {
                    partition.note_metadata_change();
                    let kind = RecordKind::Forgotten;
                    last = Some(storage.log_one(partition, tenant.0, kind, &payload)?);
                }
            }
            Ok::<_, Error>(last)
        });
        let last = work.await.map_err(|e| Error::Internal(format!("forget metadata: {e}")))??;
        match last {
            Some(position) => self.durable(position).await,
            None => Ok(()),
        }
    }
}

/// Whether one of the tombstones means rows that a block has.
async fn touches(
    stored: &StoredBlock,
    mut tombstones: impl Iterator<Item = &Arc<Tombstone>>,
) -> Result<bool, Error> {
    // Whether their tenants have rows there at all is found without the whole index.
    let tenants = stored.block.tenants().await?;
    loop {
        let Some(tombstone) = tombstones.next() else { return Ok(false) };
        let own = tenants.iter().find(|rows| rows.tenant == tombstone.tenant);
        let range = |range: TimeRange| BlockMeta { range, ..stored.meta.clone() }.range();
        if !own.is_some_and(|rows| range(rows.range).overlaps(tombstone.range)) {
            continue;
        }
        if tombstone.matchers.is_empty()
            || !stored.block.open().await?.deleted_rows(tombstone)?.is_empty()
        {
            return Ok(true);
        }
    }
}
