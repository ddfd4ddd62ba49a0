//! Deleting entries: at once for readers, on disk before the answer, physically later.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Log, Matcher, Position, RecordKind, Signal};
use tenancy::{DeleteScope, TenantId};

use super::{Deletion, EntryTombstone};
use crate::entries::condition::EntryFilter;
use crate::entries::partition::{EntryFlush, EntryPartition};
use crate::manifest::{Edit, SegmentMeta};
use crate::{Error, Storage};

/// Deletions one partition keeps, over all tenants.
const DELETIONS_MAX: usize = 20_000;

/// What is to be deleted of one tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeleteEntries {
    /// How it was asked for.
    pub text: String,
    /// Of these signals.
    pub signals: Vec<Signal>,
    /// Of streams that match all of one of these lists; a list without matchers means all streams.
    pub selectors: Vec<Vec<Matcher>>,
    /// Entries that pass.
    pub filter: EntryFilter,
    /// From this instant on, nanoseconds.
    pub start_ns: i64,
    /// Up to this instant, which is not inside.
    pub end_ns: i64,
}

/// What a deletion did at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntriesDeleted {
    /// Numbers of the deletions.
    pub ids: Vec<u64>,
    /// Entries that were not in segments yet and went.
    pub head_entries: u64,
}

impl Storage {
    /// Deletes entries of one tenant. Readers see it when this returns, and it is durable then.
    /// Entries that are written later stay, whatever their instants.
    pub async fn delete_entries(
        self: &Arc<Self>,
        scope: &DeleteScope,
        delete: DeleteEntries,
    ) -> Result<EntriesDeleted, Error> {
        let tenant = scope.tenant();
        let waiting = self.entry_deletions(tenant).len();
        let limit = scope.limits().deletes_pending_max;
        if waiting + delete.selectors.len() > limit {
            return Err(Error::Limit(format!(
                "{waiting} deletions of this tenant's entries are not carried out yet and {} would come on top, more \
                 than {limit}, the limit deletes_pending_max; delete with fewer selectors or wait for compaction",
                delete.selectors.len()
            )));
        }
        let turn = self.deleting.lock().await;
        let storage = Arc::clone(self);
        // Takes the heads' locks and the time their rows call for.
        let work = tokio::task::spawn_blocking(move || storage.bury_entries(tenant, &delete));
        let (deleted, position) =
            work.await.map_err(|e| Error::Internal(format!("delete entries: {e}")))??;
        drop(turn);
        self.durable(position).await?;
        Ok(deleted)
    }

    /// Deletions of a tenant's entries that are not carried out in all segments yet, in order of
    /// their numbers.
    pub fn entry_deletions(&self, tenant: TenantId) -> Vec<Arc<EntryTombstone>> {
        let mut seen = BTreeSet::new();
        let deletions = self.entries.partitions.iter().map(EntryPartition::deletions);
        let mut all: Vec<_> = deletions
            .flat_map(|of| of.iter().cloned().collect::<Vec<_>>())
            .filter(|t| t.tenant == tenant && seen.insert(t.id))
            .collect();
        all.sort_by_key(|t| t.id);
        all
    }

    fn bury_entries(
        &self,
        tenant: TenantId,
        delete: &DeleteEntries,
    ) -> Result<(EntriesDeleted, Position), Error> {
        self.log.ready().map_err(Error::Unavailable)?;
        for partition in &self.entries.partitions {
            partition.check_writable()?;
            if partition.deletions().len() + delete.selectors.len() > DELETIONS_MAX {
                return Err(Error::Limit(format!(
                    "partition {} keeps {DELETIONS_MAX} deletions that are not carried out yet; wait for compaction",
                    partition.number
                )));
            }
        }
        // No record has this position yet, and the first one below has it or a later one.
        let first = self.log.end().0;
        let mut deleted = EntriesDeleted::default();
        let mut position = Position(first);
        for (matchers, id) in delete.selectors.iter().zip(first..) {
            let tombstone = EntryTombstone {
                id,
                text: delete.text.clone(),
                tenant,
                signals: delete.signals.clone(),
                matchers: matchers.clone(),
                filter: delete.filter.clone(),
                range_ns: (delete.start_ns, delete.end_ns),
                position,
                created_ms: self.clock.now_ms(),
            };
            // Whether it can be used is known before any partition has it.
            tombstone.filter.compile()?;
            for partition in &self.entries.partitions {
                let (entries, at) = self.bury_entries_in(partition, &tombstone)?;
                position = position.max(at);
                deleted.head_entries += entries;
            }
            deleted.ids.push(id);
        }
        Ok((deleted, position))
    }

    /// One deletion in one partition: logged, applied and seen as one, since the head is locked.
    fn bury_entries_in(
        &self,
        partition: &EntryPartition,
        tombstone: &EntryTombstone,
    ) -> Result<(u64, Position), Error> {
        let mut head = partition.head.write();
        let (tenant, payload) = (tombstone.tenant.0, tombstone.encode());
        let position = self.log_entries(partition, tenant, RecordKind::Tombstone, &payload)?;
        let deletion = Deletion::new(EntryTombstone { position, ..tombstone.clone() })?;
        let removed = head.delete(&deletion)?;
        partition.bury(deletion);
        Ok((removed, position))
    }

    /// Forgets deletions that can hide nothing in any segment of a partition.
    pub(crate) async fn drop_spent_deletions(
        &self,
        partition: &EntryPartition,
    ) -> Result<(), Error> {
        if partition.deletions().is_empty() {
            return Ok(());
        }
        self.note_untouched_segments(partition).await?;
        let mut flush = partition.flush.lock().await;
        // What is frozen is not in a segment yet, and will be hidden there.
        if flush.freight.is_some() || partition.check_writable().is_err() {
            return Ok(());
        }
        self.settle_entries(partition, &mut flush).await?;
        let state = &flush.state;
        // Of one that is not covered the log still has the record.
        let is_spent = |t: &&Arc<EntryTombstone>| {
            let hides = |s: &SegmentMeta| t.concerns(s) && t.position >= partition.deleted_to(s);
            t.position < state.covered && !state.segments.iter().any(hides)
        };
        let spent: Vec<u64> =
            state.entry_tombstones.iter().filter(is_spent).map(|t| t.id).collect();
        if spent.is_empty() {
            return Ok(());
        }
        let next_object = state.next_object;
        let edit = Edit { remove_entry_tombstones: spent.clone(), next_object, ..Edit::default() };
        partition.commit(&mut flush, edit).await?;
        partition.drop_deletions(&spent);
        Ok(())
    }
}

impl EntryPartition {
    /// Whether only the log knows of some deletions.
    pub(crate) fn has_unsaved_deletions(&self, flush: &EntryFlush) -> bool {
        !self.deletions_to_save(flush, Position(u64::MAX)).0.is_empty()
    }

    /// What an edit that covers the log up to a position has to add and remove, so that the manifest
    /// knows all deletions before it.
    pub(crate) fn deletions_to_save(
        &self,
        flush: &EntryFlush,
        until: Position,
    ) -> (Vec<Arc<EntryTombstone>>, Vec<u64>) {
        let deletions = self.deletions();
        let known = &flush.state.entry_tombstones;
        let is_known = |t: &EntryTombstone| known.iter().any(|k| k.id == t.id);
        let new = deletions.iter().filter(|t| t.position < until && !is_known(t)).cloned();
        let is_there = |id| deletions.iter().any(|t| t.id == id);
        let gone = known.iter().map(|t| t.id).filter(|id| !is_there(*id)).collect();
        (new.collect(), gone)
    }
}
