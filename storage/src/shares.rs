//! What tenants have in each block, for whoever asks which blocks there are.

use model::TimeRange;
use tenancy::ReadScope;
use xxhash_rust::xxh3::xxh3_128;

use crate::manifest::BlockMeta;
use crate::{Error, Storage};

/// What the tenants of a scope have in one block, and nothing of what others have there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockShare {
    /// Tells blocks apart: 48 bits of its creation time in milliseconds, 80 of its name.
    pub id: u128,
    /// How often its rows were merged.
    pub level: u8,
    /// First to last sample of these tenants.
    pub range: TimeRange,
    /// Series.
    pub series: u64,
    /// Chunks.
    pub chunks: u64,
    /// Samples and histograms: exact in a block of these tenants alone, else their share by chunks.
    pub samples: u64,
}

impl Storage {
    /// The blocks that have something of a scope's tenants, oldest first. Reads of blocks who is in
    /// them, where that is not known. Answers tell of all rows, so a restricted scope gets none.
    pub async fn block_shares(&self, scope: &ReadScope) -> Result<Vec<BlockShare>, Error> {
        if scope.is_restricted() {
            return Err(Error::Restricted("blocks"));
        }
        let mut shares = Vec::new();
        for partition in &self.partitions {
            for stored in partition.blocks().iter() {
                let (mut series, mut chunks, mut range) = (0, 0, None);
                let inside = stored.block.tenants().await?;
                for rows in
                    inside.iter().filter(|r| scope.tenants().iter().any(|t| t.id == r.tenant))
                {
                    series += rows.series.len() as u64;
                    chunks += rows.chunks.len() as u64;
                    let own = Some(rows.range).filter(|r| r.start_ms <= r.end_ms);
                    range = range.into_iter().chain(own).reduce(TimeRange::union);
                }
                if let Some(range) = range {
                    shares.push(share_of(&stored.meta, (series, chunks), range));
                }
            }
        }
        shares.sort_by_key(|share| (share.range.start_ms, share.id));
        Ok(shares)
    }
}

fn share_of(meta: &BlockMeta, (series, chunks): (u64, u64), range: TimeRange) -> BlockShare {
    let created = u128::from(meta.created_ms.max(0).unsigned_abs()) & ((1 << 48) - 1);
    let name = xxh3_128(meta.name.as_bytes()) & ((1 << 80) - 1);
    let rows = u128::from(meta.samples + meta.histograms);
    let samples = (rows * u128::from(chunks) / u128::from(meta.chunks.max(1))) as u64;
    BlockShare { id: created << 80 | name, level: meta.level, range, series, chunks, samples }
}
