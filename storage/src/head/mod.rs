//! The head: the recent rows of one partition, of many tenants, in memory.
//!
//! ```text
//! append ─► series table ─► bit stream per series ─► cut ─► frozen ─► block, then thaw
//!   │            ▲                    │                        │
//!   └► payloads  └ identity, index    └───────► read ◄─────────┘
//!      (log)         ▲
//!                    └ select, label names and values
//! ```
//!
//! Series are numbered densely; numbers hold until a [`Head::cut`] drops idle series. Every change
//! has a log payload, and [`Head::replay`] of the payloads on a restored snapshot gives the same
//! state. Nothing here does I/O, knows the time or locks: the owner holds a lock around it.

mod append;
mod buffer;
mod cut;
mod delete;
mod exemplars;
mod frozen;
mod generation;
mod growth;
mod histogram;
mod identity;
mod index;
mod live;
mod metadata;
mod payload;
mod rare;
mod read;
mod refs;
mod replay;
mod select;
mod series;
mod snapshot;
mod starts;
mod statistics;
mod symbols;
#[cfg(test)]
mod tests;
mod verdicts;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Labels, Metadata, SeriesId};
use roaring::RoaringBitmap;
use tenancy::TenantId;

pub use append::Append;
pub use cut::Cut;
pub use delete::Removed;
pub(crate) use delete::tombstone_of;
pub use frozen::{FlushView, Frozen, FrozenSeries};
pub use generation::Counts;
pub use histogram::check_histogram;
pub use live::{GroupBy, Groups};
pub use payload::Payloads;
pub use read::SharedTimestamps;
pub use select::LabelColumn;
pub(crate) use snapshot::{checksum as snapshot_checksum, facts as inspect_snapshot};
pub use statistics::{Cardinality, HeadCounts};
pub(crate) use verdicts::Verdicts;

use generation::Generation;
use identity::LabelStore;
use index::Index;
use metadata::Families;
use payload::Mark;
use replay::Gap;
use series::SeriesTable;

use crate::tombstone::Ranges;

/// The recent rows of one partition.
#[derive(Debug)]
pub struct Head {
    series: SeriesTable,
    labels: LabelStore,
    index: Index,
    /// Since the last cut.
    open: Generation,
    /// Cut off, being flushed.
    frozen: Option<Arc<Frozen>>,
    /// The first series in the order of the last flush; those above follow by number.
    flush_order: Vec<u32>,
    /// Newest histogram of the series that have some.
    last_histogram_ms: HashMap<u32, i64>,
    /// The newest flushed histogram of the series that have some, encoded, with its instant: what
    /// comes next goes on from it or does not.
    flushed_histograms: HashMap<u32, (i64, Box<[u8]>)>,
    metadata: BTreeMap<TenantId, Families>,
    /// Series whose rows were all deleted: not there until they get a row again.
    hidden: RoaringBitmap,
    /// What was deleted of frozen rows, by series: they are flushed as they are, and tombstones
    /// hide it in the block.
    frozen_deleted: HashMap<u32, Ranges>,
    /// How often series were numbered anew: a record of another numbering is recognised by it.
    epoch: u64,
    /// Set once records of this head are known to be lost.
    gap: Option<Gap>,
    /// From here on the newest sample of every series of the partition is known here.
    newest_known_from_ms: i64,
}

impl Head {
    /// Without rows. `hash_key` is random per process and places series and texts in the tables,
    /// so that nobody can choose ids that collide there.
    pub fn new(hash_key: u64) -> Self {
        Self {
            series: SeriesTable::new(hash_key),
            labels: LabelStore::new(hash_key.rotate_left(17)),
            index: Index::new(hash_key.rotate_left(41)),
            open: Generation::default(),
            frozen: None,
            flush_order: Vec::new(),
            last_histogram_ms: HashMap::new(),
            flushed_histograms: HashMap::new(),
            metadata: BTreeMap::new(),
            hidden: RoaringBitmap::new(),
            frozen_deleted: HashMap::new(),
            epoch: 0,
            gap: None,
            newest_known_from_ms: i64::MIN,
        }
    }

    /// How often series were numbered anew: numbers of another epoch mean nothing.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many series there are; they are numbered from 0.
    pub fn series_count(&self) -> u32 {
        self.series.len()
    }

    /// The number of a series.
    pub fn find(&self, tenant: TenantId, id: SeriesId) -> Option<u32> {
        self.series.find(tenant, id)
    }

    /// The id of a series.
    #[inline]
    pub fn id(&self, series: u32) -> SeriesId {
        self.series.all[series as usize].id
    }

    /// The tenant of a series.
    #[inline]
    pub fn tenant(&self, series: u32) -> TenantId {
        self.series.all[series as usize].tenant
    }

    /// The labels of a series.
    pub fn labels(&self, series: u32) -> Labels {
        self.labels.labels(series)
    }

    /// Metadata of a tenant's metric families, by family.
    pub fn metadata(&self, tenant: TenantId) -> impl Iterator<Item = (&str, &Metadata)> {
        let families = self.metadata.get(&tenant).into_iter().flat_map(Families::iter);
        families.map(|(family, m)| (family.as_str(), m))
    }

    fn mark(&self) -> Mark {
        let (symbols, shapes) = (self.labels.symbols.len(), self.labels.shapes.len());
        Mark { symbols, shapes, series: self.series.len() }
    }
}

/// Places a pair of numbers in a table.
#[inline]
fn hash_pair(key: u64, a: u32, b: u32) -> u64 {
    let pair = u64::from(a) << 32 | u64::from(b);
    let product = u128::from(pair ^ key) * u128::from(key.rotate_left(29) | 1 << 63 | 1);
    (product as u64) ^ (product >> 64) as u64
}
