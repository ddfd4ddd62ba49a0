//! Reads segments: the table of streams, blooms, and groups of rows as pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt8Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaDataReader;

use super::index::SegmentIndex;
use super::{BLOOM, ENTRIES, GROUP_ROWS_MAX, STREAMS, bloom};
use crate::Error;
use crate::block::BlockCache;
use crate::block::cache::{Key, Kind};
use crate::block::object::{Object, Stretch};
use crate::entries::page::{Mark, Page, Row, are_fields};
use crate::manifest::SegmentMeta;

/// Numbers of segments in the cache, which blocks use as well: these are counted downwards.
static NUMBERS: AtomicU64 = AtomicU64::new(u64::MAX);

/// A segment of a manifest. What it holds is read when a question needs it.
#[derive(Debug)]
pub(crate) struct SegmentHandle {
    pub(crate) meta: SegmentMeta,
    number: u64,
    pub(super) objects: Arc<dyn ObjectStore>,
    cache: Arc<BlockCache>,
}

/// A segment whose table of streams was read.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) index: SegmentIndex,
    pub(super) entries: Object,
    pub(super) bloom: Object,
    metadata: ArrowReaderMetadata,
}

impl SegmentHandle {
    pub(crate) fn new(
        meta: SegmentMeta,
        objects: &Arc<dyn ObjectStore>,
        cache: &Arc<BlockCache>,
    ) -> Arc<Self> {
        let number = NUMBERS.fetch_sub(1, Ordering::Relaxed);
        Arc::new(Self { meta, number, objects: Arc::clone(objects), cache: Arc::clone(cache) })
    }

    pub(super) fn path(&self, object: &str) -> Path {
        Path::from(self.meta.name.as_str()).join(object)
    }

    fn key(&self, kind: Kind) -> Key {
        Key { block: self.number, kind, group: 0, page: 0 }
    }

    /// Its table of streams and its footer, from the cache or the store.
    pub(crate) async fn open(&self) -> Result<Arc<Open>, Error> {
        let key = self.key(Kind::SegmentIndex);
        if let Some(open) = self.cache.get(key) {
            return Ok(open);
        }
        let path = self.path(STREAMS);
        let read = async { self.objects.get(&path).await?.bytes().await };
        let bytes = read.await.map_err(|source| match source {
            object_store::Error::NotFound { .. } => Error::Corrupt {
                what: format!("object {path}"),
                reason: "the object is missing".to_owned(),
            },
            source => Error::Objects { doing: format!("read object {path}"), source },
        })?;
        let name = format!("object {path}");
        let index = SegmentIndex::decode(&bytes, &name, self.meta.index_checksum)?;
        let object = |name, sum: &crate::block::object::Sum| {
            Object::new(Arc::clone(&self.objects), self.path(name), sum.clone())
        };
        let (entries, bloom) = (object(ENTRIES, &index.entries), object(BLOOM, &index.bloom));
        let sum = &entries.sum;
        let tail = entries.read(std::slice::from_ref(&(sum.tail_start..sum.size))).await?;
        let tail = tail.into_iter().next().unwrap_or_default();
        let stretch = Stretch { start: sum.tail_start, bytes: tail, size: sum.size };
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&stretch);
        let metadata = metadata.map_err(|e| entries.damaged(e))?;
        let kept = metadata.memory_size();
        let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
            .map_err(|e| entries.damaged(e))?;
        let groups = metadata.metadata().row_groups();
        let fits = groups.len() == index.groups.len()
            && groups.iter().zip(&index.groups).all(|(a, b)| a.num_rows() as u64 == b.rows);
        if !fits {
            return Err(entries.damaged("its row groups are not those of the table of streams"));
        }
        let bytes = index.heap_bytes() + kept;
        let open = Arc::new(Open { index, entries, bloom, metadata });
        self.cache.put(key, Arc::clone(&open), bytes);
        Ok(open)
    }

    /// Its blooms, from the cache or the store.
    pub(crate) async fn blooms(&self, open: &Open) -> Result<Arc<Bytes>, Error> {
        let key = self.key(Kind::SegmentBlooms);
        if let Some(blooms) = self.cache.get(key) {
            return Ok(blooms);
        }
        let size = open.bloom.sum.size;
        let blooms = match size {
            0 => Bytes::new(),
            _ => {
                let read = open.bloom.read(std::slice::from_ref(&(0..size))).await?;
                read.into_iter().next().unwrap_or_default()
            }
        };
        let blooms = Arc::new(blooms);
        self.cache.put(key, Arc::clone(&blooms), blooms.len());
        Ok(blooms)
    }
}

/// Whether no row of a group can have the tokens that a filter requires.
pub(crate) fn prune(blooms: &Bytes, open: &Open, group: usize, required: &[Vec<Vec<u64>>]) -> bool {
    let Some(group) = open.index.groups.get(group) else { return false };
    let end = group.bloom_at.saturating_add(group.bloom_bytes);
    let filter = blooms.get(group.bloom_at as usize..end as usize);
    let Some(filter) = filter else { return false };
    required
        .iter()
        .any(|any| any.iter().all(|all| all.iter().any(|token| !bloom::may_have(filter, *token))))
}

impl Open {
    /// The bytes of a group, checked.
    pub(crate) async fn fetch(&self, group: usize) -> Result<Stretch, Error> {
        let metadata = self.metadata.metadata().row_groups().get(group);
        let metadata = metadata.ok_or_else(|| self.entries.damaged("a row group is missing"))?;
        let places = metadata.columns().iter().map(|c| c.byte_range());
        let start = places.clone().map(|(start, _)| start).min().unwrap_or_default();
        let end = places.map(|(start, length)| start.saturating_add(length)).max();
        let range = start..end.unwrap_or_default();
        let read = self.entries.read(std::slice::from_ref(&range)).await?;
        let bytes = read.into_iter().next().unwrap_or_default();
        Ok(Stretch { start, bytes, size: self.entries.sum.size })
    }

    /// The rows of a group; their stream numbers are places in the table of streams.
    pub(crate) fn decode(&self, group: usize, stretch: Stretch) -> Result<Page, Error> {
        let damaged = |e: &dyn ToString| self.entries.damaged(e.to_string());
        let reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(stretch, self.metadata.clone())
                .with_row_groups(vec![group])
                .with_batch_size(GROUP_ROWS_MAX)
                .build()
                .map_err(|e| damaged(&e))?;
        let mut page = Page::default();
        for batch in reader {
            let batch = batch.map_err(|e| damaged(&e))?;
            add(&mut page, &batch, self.index.streams.len()).map_err(|e| damaged(&e))?;
        }
        let rows = self.index.groups.get(group).map_or(0, |g| g.rows);
        if page.rows() as u64 != rows {
            return Err(damaged(&"a row group has another number of rows"));
        }
        Ok(page)
    }
}

/// Adds the rows of a batch.
fn add(page: &mut Page, batch: &RecordBatch, streams: usize) -> Result<(), &'static str> {
    let column = |name| batch.column_by_name(name).ok_or("a column is missing");
    let wrong = "a column has another type";
    let stream = column("stream")?.as_primitive_opt::<UInt32Type>().ok_or(wrong)?;
    let at = column("ts")?.as_primitive_opt::<TimestampNanosecondType>().ok_or(wrong)?;
    let levels = column("level")?.as_primitive_opt::<UInt8Type>().ok_or(wrong)?;
    let flags = column("flags")?.as_primitive_opt::<UInt8Type>().ok_or(wrong)?;
    let lines = column("line")?.as_binary_opt::<i32>().ok_or(wrong)?;
    let fields = column("fields")?.as_binary_opt::<i32>().ok_or(wrong)?;
    if batch.columns().iter().any(|c| c.null_count() > 0) {
        return Err("a row lacks something");
    }
    if page.is_empty() {
        *page = Page::with_capacity(batch.num_rows(), lines.value_data().len() + batch.num_rows());
    }
    for i in 0..batch.num_rows() {
        let (stream, own) = (stream.value(i), fields.value(i));
        let mark = Mark::of_stored(levels.value(i), flags.value(i)).ok_or("a mark is unknown")?;
        if stream as usize >= streams {
            return Err("a row is of a stream that is not there");
        }
        if !own.is_empty() && !are_fields(own) {
            return Err("fields are not in canonical encoding");
        }
        page.push(Row { stream, at_ns: at.value(i), mark, line: lines.value(i), fields: own });
    }
    Ok(())
}
