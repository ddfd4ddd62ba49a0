//! Reads segments: the table of streams, blooms, and groups of rows as pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaDataReader;

use super::index::SegmentIndex;
use super::{ENTRIES, GROUP_ROWS_MAX, STREAMS, bloom, group};
use crate::Error;
use crate::block::BlockCache;
use crate::block::cache::{Key, Kind};
use crate::block::object::{Object, Stretch};
use crate::entries::needs::Need;
use crate::entries::page::Page;
use crate::manifest::SegmentMeta;

/// Numbers of segments in the cache, which blocks use as well: these are counted downwards.
static NUMBERS: AtomicU64 = AtomicU64::new(u64::MAX);

/// A segment of a manifest. What it holds is read when a question needs it.
#[derive(Debug)]
pub(crate) struct SegmentHandle {
    pub(crate) meta: SegmentMeta,
    number: u64,
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) cache: Arc<BlockCache>,
}

/// What of rows is decoded beside stream, instant and mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) lines: bool,
    pub(crate) fields: bool,
}

impl Columns {
    pub(crate) const ALL: Self = Self { lines: true, fields: true };

    /// These and others.
    pub(crate) fn with(self, other: Self) -> Self {
        Self { lines: self.lines || other.lines, fields: self.fields || other.fields }
    }
}

/// A segment whose table of streams was read.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) index: SegmentIndex,
    pub(super) entries: Object,
    pub(super) tokens: Object,
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

    pub(super) fn key_of(&self, kind: Kind, page: u32) -> Key {
        Key { block: self.number, kind, group: 0, page }
    }

    /// Its table of streams and its footer, from the cache or the store.
    pub(crate) async fn open(&self) -> Result<Arc<Open>, Error> {
        let key = self.key_of(Kind::SegmentIndex, 0);
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
        let entries = object(ENTRIES, &index.entries);
        let tokens = object(index.tokens_object(), &index.tokens);
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
        let open = Arc::new(Open { index, entries, tokens, metadata });
        self.cache.put(key, Arc::clone(&open), bytes);
        Ok(open)
    }

    /// Its blooms, from the cache or the store.
    pub(crate) async fn blooms(&self, open: &Open) -> Result<Arc<Bytes>, Error> {
        let key = self.key_of(Kind::SegmentBlooms, 0);
        if let Some(blooms) = self.cache.get(key) {
            return Ok(blooms);
        }
        let size = open.tokens.sum.size;
        let blooms = match size {
            0 => Bytes::new(),
            _ => {
                let read = open.tokens.read(std::slice::from_ref(&(0..size))).await?;
                read.into_iter().next().unwrap_or_default()
            }
        };
        let blooms = Arc::new(blooms);
        self.cache.put(key, Arc::clone(&blooms), blooms.len());
        Ok(blooms)
    }
}

/// Whether no row of a group can have the tokens that a filter requires.
pub(crate) fn prune(blooms: &Bytes, open: &Open, group: usize, needs: &[Need]) -> bool {
    let Some(group) = open.index.groups.get(group) else { return false };
    let end = group.bloom_at.saturating_add(group.bloom_bytes);
    let filter = blooms.get(group.bloom_at as usize..end as usize);
    let Some(filter) = filter else { return false };
    needs.iter().any(|need| !need.may_be(&|token| bloom::may_have(filter, token)))
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

    /// The rows of a group; their stream numbers are places in the table of streams. Lines and
    /// fields that are not asked for are empty.
    pub(crate) fn decode(
        &self,
        group: usize,
        stretch: &Stretch,
        columns: Columns,
    ) -> Result<Page, Error> {
        let mut page = match columns.lines {
            true => self.decode_lines(group, stretch)?,
            false => Page::of_empty_lines(self.index.groups.get(group).map_or(0, |g| g.rows)),
        };
        self.decode_rest(group, stretch, columns, &mut page)?;
        Ok(page)
    }

    /// The lines of a group, and nothing else: [`Open::decode_rest`] makes a whole page of it.
    pub(crate) fn decode_lines(&self, group: usize, stretch: &Stretch) -> Result<Page, Error> {
        let mut page = Page::default();
        let form = self.index.form;
        self.read(group, stretch, &[form.line_column()], &mut |batch| {
            group::add_lines(&mut page, batch, form)
        })?;
        self.check_rows(group, page.rows())?;
        Ok(page)
    }

    /// Puts everything else beside the lines of a group.
    pub(crate) fn decode_rest(
        &self,
        group: usize,
        stretch: &Stretch,
        columns: Columns,
        page: &mut Page,
    ) -> Result<(), Error> {
        let form = self.index.form;
        let all = ["stream", form.instant_column(), "level", "flags", "fields"];
        let names = if columns.fields { &all[..] } else { &all[..4] };
        let streams = self.index.streams.len();
        self.read(group, stretch, names, &mut |batch| {
            group::add_rest(page, batch, form, streams, columns.fields)
        })?;
        self.check_rows(group, page.instants().len())
    }

    fn check_rows(&self, group: usize, rows: usize) -> Result<(), Error> {
        match self.index.groups.get(group).is_some_and(|g| g.rows == rows as u64) {
            true => Ok(()),
            false => Err(self.entries.damaged("a row group has another number of rows")),
        }
    }

    /// Hands the named columns of a group on, batch by batch.
    fn read(
        &self,
        group: usize,
        stretch: &Stretch,
        names: &[&str],
        take: &mut dyn FnMut(&RecordBatch) -> Result<(), &'static str>,
    ) -> Result<(), Error> {
        let damaged = |e: &dyn ToString| self.entries.damaged(e.to_string());
        let schema = self.metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::columns(schema, names.iter().copied());
        let (stretch, metadata) = (stretch.clone(), self.metadata.clone());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(stretch, metadata)
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(GROUP_ROWS_MAX)
            .build()
            .map_err(|e| damaged(&e))?;
        for batch in reader {
            let batch = batch.map_err(|e| damaged(&e))?;
            if batch.columns().iter().any(|c| c.null_count() > 0) {
                return Err(damaged(&"a row lacks something"));
            }
            take(&batch).map_err(|e| damaged(&e))?;
        }
        Ok(())
    }
}
