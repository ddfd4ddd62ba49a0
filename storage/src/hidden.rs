//! What of a block's rows of one tenant nobody sees any more: deleted, or older than the tenant's
//! rows are kept.
//!
//! Worked out once for each question, block and tenant: a tombstone's series by one look-up in the
//! block's index, which the cache keeps; whether a series has lost all its rows from what is known
//! of its chunks. So many tombstones cost look-ups, not samples.

use std::ops::Range;
use std::sync::Arc;

use model::{Resolution, TimeRange};
use roaring::RoaringBitmap;
use tenancy::TenantId;

use crate::Error;
use crate::block::{self, Block};
use crate::tombstone::{BlockTombstones, Ranges};

/// Series whose samples are looked at in one go.
const DECODED_AT_ONCE: usize = 256;

/// Deleted and expired rows of one tenant in one block.
#[derive(Debug, Clone, Default)]
pub struct Hidden {
    /// Series rows and the stretch of time in which theirs are deleted.
    deleted: Vec<(Arc<RoaringBitmap>, TimeRange)>,
    /// Before it nothing is left of any series; empty if all may be.
    expired: Option<TimeRange>,
    /// Series rows of which nothing is left.
    gone: RoaringBitmap,
    /// Those of them for which the whole time of the tenant's rows is deleted or expired.
    whole: RoaringBitmap,
}

impl Hidden {
    /// What is only older than `oldest_ms`.
    pub(crate) fn expired(block: &Block, tenant: TenantId, oldest_ms: i64) -> Self {
        let Some(rows) = block.tenant(tenant).filter(|rows| rows.range.start_ms < oldest_ms) else {
            return Self::default();
        };
        let expired = TimeRange { start_ms: i64::MIN, end_ms: oldest_ms - 1 };
        let mut hidden = Self { expired: Some(expired), ..Self::default() };
        if rows.range.end_ms < oldest_ms {
            hidden.whole.insert_range(rows.series.clone());
            hidden.gone.clone_from(&hidden.whole);
        }
        hidden
    }

    /// The same, with what tombstones hide.
    pub(crate) async fn of(
        block: &Block,
        tenant: TenantId,
        tombstones: &BlockTombstones,
        oldest_ms: i64,
    ) -> Result<Self, Error> {
        let mut hidden = Self::expired(block, tenant, oldest_ms);
        let Some(own) = block.tenant(tenant) else { return Ok(hidden) };
        // Of a window all instants count, of which only the first is known as a row's.
        let last = block.resolution().window_of(own.range.end_ms).end_ms;
        let range = TimeRange { end_ms: last, ..own.range };
        for tombstone in tombstones.of(tenant).iter().filter(|t| t.range.overlaps(range)) {
            let rows = block.deleted_rows(tombstone)?;
            if tombstone.range.start_ms <= range.start_ms && tombstone.range.end_ms >= range.end_ms
            {
                hidden.whole |= rows.as_ref();
            } else if !rows.is_empty() {
                hidden.deleted.push((rows, tombstone.range));
            }
        }
        hidden.gone |= &hidden.whole;
        if block.resolution() == Resolution::Raw {
            hidden.find_gone(block).await?;
        }
        Ok(hidden)
    }

    /// Which of the series that lost some rows have lost all.
    async fn find_gone(&mut self, block: &Block) -> Result<(), Error> {
        let mut touched = RoaringBitmap::new();
        for (rows, _) in &self.deleted {
            touched |= rows.as_ref();
        }
        touched -= &self.gone;
        if touched.is_empty() {
            return Ok(());
        }
        let chunks: Vec<Range<u32>> = touched.iter().map(|row| block.chunks_of(row)).collect();
        let plan = block.samples().plan(&chunks, TimeRange::ALL).await?;
        let mut doubtful = Vec::new();
        for (i, row) in touched.iter().enumerate() {
            let ranges = self.ranges(row);
            // The ends of a chunk are samples of it.
            let is_left = |chunk: block::ChunkInfo| {
                !ranges.contains(chunk.range.start_ms) || !ranges.contains(chunk.range.end_ms)
            };
            if plan.chunks(i).all(|chunk| ranges.covers(chunk.range)) {
                self.gone.insert(row);
            } else if !plan.chunks(i).any(is_left) {
                doubtful.push(row);
            }
        }
        self.decide(block, &doubtful).await
    }

    /// Series whose deleted stretches have gaps: only the samples tell whether one lies there.
    async fn decide(&mut self, block: &Block, doubtful: &[u32]) -> Result<(), Error> {
        for rows in doubtful.chunks(DECODED_AT_ONCE) {
            let fetched = block.fetch(rows, TimeRange::ALL).await?;
            for (row, mut samples) in rows.iter().zip(fetched.decode()?) {
                self.ranges(*row).strip(&mut samples, Into::into);
                if samples.timestamps.is_empty() && samples.histograms.is_empty() {
                    self.gone.insert(*row);
                }
            }
        }
        Ok(())
    }

    /// Those rows of which something is left.
    #[must_use]
    pub fn left(&self, mut rows: RoaringBitmap) -> RoaringBitmap {
        if !self.gone.is_empty() {
            rows -= &self.gone;
        }
        rows
    }

    /// Whether the rows of one instant of one series row are not there any more.
    pub fn is_hidden(&self, row: u32, at_ms: i64) -> bool {
        self.whole.contains(row) || self.ranges(row).contains(at_ms)
    }

    /// The stretches of time in which nothing is left of one series row.
    pub fn ranges(&self, row: u32) -> Ranges {
        let deleted = self.deleted.iter().filter(|(rows, _)| rows.contains(row));
        Ranges::of(deleted.map(|(_, range)| *range).chain(self.expired))
    }
}
