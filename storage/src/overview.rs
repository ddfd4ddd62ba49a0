//! What is stored, by tenant: for the status page and for metrics.

use std::collections::BTreeMap;

use model::Resolution;
use tenancy::{ReadScope, TenantId};

use crate::Storage;
use crate::block::TenantRows;
use crate::partition::{Partition, StoredBlock};

/// What one tenant has of one signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantOverview {
    /// Series in the heads.
    pub active_series: u64,
    /// Samples not yet in blocks.
    pub head_samples: u64,
    /// Samples and histograms in blocks, windows aside.
    pub block_samples: u64,
    /// Blocks that hold some.
    pub blocks: u64,
    /// Its share of the blocks' bytes, by chunks.
    pub block_bytes: u64,
    /// Newest instant of its own samples, in milliseconds.
    pub newest_ms: Option<i64>,
}

/// Figures of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionOverview {
    /// Its number.
    pub number: u16,
    /// Series in its head.
    pub head_series: u64,
    /// Samples and histograms not yet in blocks.
    pub head_samples: u64,
    /// Bytes of log behind its last flush.
    pub log_bytes: u64,
    /// The number of its newest manifest.
    pub manifest: u64,
    /// Deletions that are not carried out yet.
    pub tombstones: u64,
    /// Why it takes no writes, if so.
    pub read_only: Option<String>,
}

/// Figures of the whole store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Series in the heads.
    pub active_series: u64,
    /// Samples and histograms not yet in blocks.
    pub head_samples: u64,
    /// Memory of open head buffers, in bytes.
    pub head_bytes: u64,
    /// Blocks.
    pub blocks: u64,
    /// Bytes of all blocks.
    pub block_bytes: u64,
    /// Samples and histograms in blocks, windows aside.
    pub block_samples: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Segments of the log.
    pub log_segments: u64,
    /// Syncs of the log since the start.
    pub log_syncs: u64,
    /// Free bytes of the disk.
    pub disk_free_bytes: u64,
    /// Partitions that take no writes.
    pub read_only_partitions: u64,
    /// Partitions whose answers may lack acknowledged rows.
    pub incomplete_partitions: u64,
    /// Blocks that are not whole.
    pub lost_blocks: u64,
    /// Bytes in the cache of block indexes and pages.
    pub cache_bytes: u64,
}

impl Storage {
    /// What each tenant of the scope has. Reads of blocks who is in them, where that is not known.
    pub async fn overview(&self, scope: &ReadScope) -> BTreeMap<TenantId, TenantOverview> {
        let mut all: BTreeMap<TenantId, TenantOverview> = BTreeMap::new();
        for partition in &self.partitions {
            add_head(partition, scope, &mut all);
            for stored in partition.all_blocks() {
                match stored.block.tenants().await {
                    Ok(tenants) => add_block(&stored, &tenants, scope, &mut all),
                    // Questions about its time fail and say so; figures go on without it.
                    Err(error) => {
                        tracing::warn!(block = stored.meta.name, %error, "block left out of the overview");
                    }
                }
            }
        }
        all
    }

    /// Figures of each partition.
    pub fn partitions(&self) -> Vec<PartitionOverview> {
        let of = |partition: &Partition| {
            let counts = partition.counts();
            let samples =
                [counts.open, counts.frozen].iter().map(|c| c.samples + c.histograms).sum();
            PartitionOverview {
                number: partition.number,
                head_series: u64::from(partition.head.read().series_count()),
                head_samples: samples,
                log_bytes: self.log_bytes_since(partition),
                manifest: partition.manifest_number(),
                tombstones: partition.tombstones().len() as u64,
                read_only: partition.read_only(),
            }
        };
        self.partitions.iter().map(of).collect()
    }

    /// Figures of the whole store.
    pub fn totals(&self) -> Totals {
        let log = self.log.status();
        let mut totals = Totals {
            active_series: self.usage.active_series(),
            log_bytes: log.bytes,
            log_segments: log.segments,
            log_syncs: log.syncs,
            disk_free_bytes: log.free_bytes,
            read_only_partitions: self.read_only().len() as u64,
            incomplete_partitions: self.incomplete().len() as u64,
            lost_blocks: self.lost_blocks().len() as u64,
            cache_bytes: self.cache.usage().bytes as u64,
            ..Totals::default()
        };
        for partition in &self.partitions {
            let counts = partition.head.read().counts();
            totals.head_samples += counts.open.samples
                + counts.open.histograms
                + counts.frozen.samples
                + counts.frozen.histograms;
            totals.head_bytes += counts.open_bytes as u64;
            for stored in partition.all_blocks() {
                totals.blocks += 1;
                totals.block_bytes += stored.meta.bytes;
                if stored.meta.resolution == Resolution::Raw {
                    totals.block_samples += stored.meta.samples + stored.meta.histograms;
                }
            }
        }
        totals
    }
}

fn add_head(
    partition: &Partition,
    scope: &ReadScope,
    all: &mut BTreeMap<TenantId, TenantOverview>,
) {
    let head = partition.head.read();
    for tenant in scope.tenants() {
        let one = all.entry(tenant.id).or_default();
        one.active_series += head.tenant_series(tenant.id);
        one.head_samples += head.tenant_samples(tenant.id);
        let newest = head.all(tenant.id).iter().filter_map(|n| head.last_ms(n)).max();
        one.newest_ms = one.newest_ms.max(newest);
    }
}

fn add_block(
    stored: &StoredBlock,
    tenants: &[TenantRows],
    scope: &ReadScope,
    all: &mut BTreeMap<TenantId, TenantOverview>,
) {
    for tenant in scope.tenants() {
        let at = tenants.binary_search_by_key(&tenant.id, |rows| rows.tenant);
        let Some(rows) = at.ok().and_then(|at| tenants.get(at)) else { continue };
        let one = all.entry(tenant.id).or_default();
        let share = rows.chunks.len() as u64;
        one.blocks += 1;
        if stored.meta.resolution == Resolution::Raw {
            one.block_samples += stored.meta.samples * share / stored.meta.chunks.max(1);
        }
        one.block_bytes += stored.meta.bytes * share / stored.meta.chunks.max(1);
        // Its own: the block's would tell what other tenants wrote.
        let own = Some(rows.range).filter(|r| r.start_ms <= r.end_ms);
        one.newest_ms = one.newest_ms.max(own.map(|r| r.end_ms));
    }
}
