//! An open block: selects series and finds their samples.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMillisecondType, UInt32Type};
use model::{Exemplar, Labels, Matcher, Pace, Resolution, SeriesId, TimeRange};
use object_store::ObjectStore;
use object_store::path::Path;
use roaring::RoaringBitmap;
use tenancy::TenantId;
use xxhash_rust::xxh3::xxh3_64;

use super::cache::{BlockCache, Key, Kind};
use super::facts::Table;
use super::handle::BlockHandle;
use super::index::{Index, Lists, RowCursor, TenantRows};
use super::object::Object;
use super::{CHUNKS, EXEMPLARS, TIMESTAMPS};
use crate::Error;
use crate::tombstone::Tombstone;

/// A block whose index is in memory, as long as this is held.
#[derive(Clone)]
pub struct Block {
    pub(super) samples: Arc<Samples>,
    pub(super) index: Arc<Index>,
}

/// The tables of a block, without its index: all that is needed once the chunk rows are known.
pub struct Samples {
    pub(super) number: u64,
    pub(super) cache: Arc<BlockCache>,
    pub(super) range: Option<TimeRange>,
    pub(super) chunks: Table,
    pub(super) timestamps: Table,
    exemplars: Option<Table>,
    /// What is cached of the block is forgotten with the last handle.
    handle: Arc<BlockHandle>,
}

/// An exemplar and the series row it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExemplar {
    /// The series row.
    pub row: u32,
    /// The exemplar.
    pub exemplar: Exemplar,
}

impl Block {
    /// Reads and checks the index of the block under `prefix`.
    pub async fn open(
        objects: Arc<dyn ObjectStore>,
        prefix: Path,
        cache: Arc<BlockCache>,
    ) -> Result<Self, Error> {
        BlockHandle::new(objects, prefix, cache).open().await
    }

    pub(super) fn new(handle: &Arc<BlockHandle>, index: Arc<Index>) -> Self {
        let object = |name: &str, sum: &super::object::Sum| {
            let path = handle.prefix.clone().join(name);
            Object::new(Arc::clone(&handle.objects), path, sum.clone())
        };
        let meta = &index.meta;
        let exemplars = meta.exemplars_object.as_ref();
        let samples = Samples {
            number: handle.number,
            cache: Arc::clone(&handle.cache),
            range: meta.range,
            chunks: Table::new(object(CHUNKS, &meta.chunks_object), Kind::ChunksFooter),
            timestamps: Table::new(
                object(TIMESTAMPS, &meta.timestamps_object),
                Kind::TimestampsFooter,
            ),
            exemplars: exemplars
                .map(|sum| Table::new(object(EXEMPLARS, sum), Kind::ExemplarsFooter)),
            handle: Arc::clone(handle),
        };
        Self { samples: Arc::new(samples), index }
    }

    /// Where its objects lie.
    pub fn prefix(&self) -> &Path {
        self.samples.handle.prefix()
    }

    /// The store it lies in.
    pub(super) fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.samples.handle.objects)
    }

    /// Its tables, to be read after the index was let go.
    pub fn samples(&self) -> &Arc<Samples> {
        &self.samples
    }

    /// The chunk rows of a series row.
    pub fn chunks_of(&self, row: u32) -> Range<u32> {
        self.index.chunks_of(row)
    }

    /// First to last sample or exemplar, if there is any.
    pub fn range(&self) -> Option<TimeRange> {
        self.index.meta.range
    }

    /// What its rows are.
    pub fn resolution(&self) -> Resolution {
        self.index.meta.resolution
    }

    /// Number of series rows.
    pub fn series_count(&self) -> u32 {
        self.index.meta.series as u32
    }

    /// Number of float samples and of native histograms.
    pub fn sample_count(&self) -> u64 {
        self.index.meta.samples + self.index.meta.histograms
    }

    /// Tenants with their rows, by tenant.
    pub fn tenants(&self) -> &[TenantRows] {
        &self.index.tenants
    }

    /// The rows of one tenant.
    pub fn tenant(&self, tenant: TenantId) -> Option<&TenantRows> {
        self.index.tenant(tenant)
    }

    /// Memory of its index.
    pub fn resident_bytes(&self) -> usize {
        self.index.resident_bytes()
    }

    /// Series rows of a tenant that satisfy all matchers.
    pub fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        pace: &mut Pace,
    ) -> Result<RoaringBitmap, Error> {
        self.index.select(tenant, matchers, self.samples.as_ref(), pace)
    }

    /// Series rows that a tombstone of a tenant means. Found once while the cache has room.
    pub fn deleted_rows(&self, tombstone: &Tombstone) -> Result<Arc<RoaringBitmap>, Error> {
        let (group, page) = ((tombstone.id >> 32) as u32, tombstone.id as u32);
        let key = Key { block: self.samples.number, kind: Kind::Deleted, group, page };
        if let Some(known) = self.samples.cache.get(key) {
            return Ok(known);
        }
        // What was deleted is not decided by how long a question may take.
        let pace = &mut Pace::endless();
        let rows = Arc::new(self.select(tombstone.tenant, &tombstone.matchers, pace)?);
        let bytes = rows.serialized_size() + 64;
        self.samples.cache.put(key, Arc::clone(&rows), bytes);
        Ok(rows)
    }

    /// The labels of a series row.
    pub fn labels(&self, row: u32) -> Result<Labels, Error> {
        self.index.labels(row, &mut RowCursor::default())
    }

    /// The id of a series row.
    pub fn id(&self, row: u32) -> Result<SeriesId, Error> {
        Ok(self.index.id(row, &self.labels(row)?))
    }

    /// Id and labels of many rows; ascending order is fastest.
    pub fn for_each_series(
        &self,
        rows: impl IntoIterator<Item = u32>,
        pace: &mut Pace,
        mut each: impl FnMut(u32, SeriesId, Labels),
    ) -> Result<(), Error> {
        let mut cursor = RowCursor::default();
        for row in rows {
            pace.work(50)?;
            let labels = self.index.labels(row, &mut cursor)?;
            each(row, self.index.id(row, &labels), labels);
        }
        Ok(())
    }

    /// Id and encoded labels of many rows, for those who know most of the series already: labels are
    /// made by [`Block::decoded`]. Ascending order is fastest.
    pub fn for_each_encoded(
        &self,
        rows: impl IntoIterator<Item = u32>,
        pace: &mut Pace,
        mut each: impl FnMut(u32, SeriesId, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut cursor, mut encoded) = (RowCursor::default(), Vec::new());
        for row in rows {
            pace.work(50)?;
            self.index.encoded(row, &mut cursor, &mut encoded)?;
            each(row, self.index.id_of_encoded(row, &encoded), &encoded)?;
        }
        Ok(())
    }

    /// The labels that [`Block::for_each_encoded`] gave.
    pub fn decoded(&self, encoded: &[u8]) -> Result<Labels, Error> {
        self.index.decoded(encoded)
    }

    /// Label names of a tenant in byte order, of `rows` only if given.
    pub fn label_names(
        &self,
        tenant: TenantId,
        rows: Option<&RoaringBitmap>,
        pace: &mut Pace,
    ) -> Result<Vec<String>, Error> {
        self.index.label_names(tenant, rows, pace)
    }

    /// Values of a label in byte order, of `rows` only if given.
    pub fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        rows: Option<&RoaringBitmap>,
        pace: &mut Pace,
    ) -> Result<Vec<String>, Error> {
        self.index.label_values(tenant, name, rows, pace)
    }

    /// Exemplars of some rows within a range, by row and then as they were written.
    pub async fn exemplars(
        &self,
        rows: &RoaringBitmap,
        range: TimeRange,
        pace: &mut Pace,
    ) -> Result<Vec<BlockExemplar>, Error> {
        let samples = &self.samples;
        let Some(table) = &samples.exemplars else { return Ok(Vec::new()) };
        let (Some(first), Some(last)) = (rows.min(), rows.max()) else { return Ok(Vec::new()) };
        let footer = table.footer(&samples.cache, samples.number).await?;
        let columns = footer.metadata.file_metadata().schema_descr().num_columns();
        let mut found = Vec::new();
        for (group, metadata) in footer.metadata.row_groups().iter().enumerate() {
            let bounds = metadata.columns().first().and_then(|c| c.statistics());
            if bounds.is_some_and(|b| is_outside(b, first, last)) {
                continue;
            }
            for stretch in table.read_groups(&footer, &[group], columns).await? {
                pace.look()?;
                let batch = footer
                    .decode_group(stretch, group, columns)
                    .map_err(|e| table.object.damaged(e))?;
                take_exemplars(&batch, rows, range, &mut found)
                    .map_err(|e| table.object.damaged(e))?;
            }
        }
        Ok(found)
    }
}

/// The rows of one pattern, and which it is: a hash alone may be another's.
struct Listed {
    key: Vec<u8>,
    rows: Arc<RoaringBitmap>,
}

impl Lists for Samples {
    fn rows(
        &self,
        tenant: TenantId,
        matcher: &Matcher,
        find: &mut dyn FnMut() -> Result<RoaringBitmap, Error>,
    ) -> Result<Arc<RoaringBitmap>, Error> {
        let own = listed_key(tenant, matcher);
        let hash = xxh3_64(&own);
        let (group, page) = ((hash >> 32) as u32, hash as u32);
        let key = Key { block: self.number, kind: Kind::Listed, group, page };
        if let Some(known) = self.cache.get::<Listed>(key).filter(|known| known.key == own) {
            return Ok(Arc::clone(&known.rows));
        }
        let rows = Arc::new(find()?);
        let bytes = rows.serialized_size() + own.len() + size_of::<Listed>();
        let listed = Listed { key: own, rows: Arc::clone(&rows) };
        self.cache.put(key, Arc::new(listed), bytes);
        Ok(rows)
    }
}

/// Tells a tenant's patterns apart: the same pattern, wanted or not, lists the same rows.
fn listed_key(tenant: TenantId, matcher: &Matcher) -> Vec<u8> {
    let (name, value) = (matcher.name().as_bytes(), matcher.value().as_bytes());
    let length = (name.len() as u64).to_le_bytes();
    [tenant.0.to_le_bytes().as_slice(), &length, name, value].concat()
}

/// Whether a row group's series rows, as its statistics bound them, lie outside `first..=last`.
fn is_outside(bounds: &parquet::file::statistics::Statistics, first: u32, last: u32) -> bool {
    let parquet::file::statistics::Statistics::Int32(bounds) = bounds else { return false };
    let (min, max) = (bounds.min_opt(), bounds.max_opt());
    min.is_some_and(|m| *m as u32 > last) || max.is_some_and(|m| (*m as u32) < first)
}

fn take_exemplars(
    batch: &RecordBatch,
    rows: &RoaringBitmap,
    range: TimeRange,
    found: &mut Vec<BlockExemplar>,
) -> Result<(), String> {
    let column =
        |name: &str| batch.column_by_name(name).ok_or_else(|| format!("column {name} is missing"));
    let wrong = |name: &str| format!("column {name} has another type");
    let series = column("series_row")?
        .as_primitive_opt::<UInt32Type>()
        .ok_or_else(|| wrong("series_row"))?;
    let instants =
        column("ts")?.as_primitive_opt::<TimestampMillisecondType>().ok_or_else(|| wrong("ts"))?;
    let values =
        column("value")?.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong("value"))?;
    let labels = column("labels")?.as_binary_opt::<i32>().ok_or_else(|| wrong("labels"))?;
    for i in 0..batch.num_rows() {
        if !rows.contains(series.value(i)) || !range.contains(instants.value(i)) {
            continue;
        }
        let labels = Labels::from_wire(labels.value(i)).map_err(|e| e.to_string())?;
        let exemplar = Exemplar { labels, value: values.value(i), timestamp_ms: instants.value(i) };
        found.push(BlockExemplar { row: series.value(i), exemplar });
    }
    Ok(())
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block")
            .field("prefix", self.prefix())
            .field("meta", &self.index.meta)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Samples").field("prefix", self.handle.prefix()).finish_non_exhaustive()
    }
}
