//! Writes a block: series in, objects out.
//!
//! `add` is plain computing and may run on any thread; full row groups become bytes at once. What
//! is ready to be sent goes out in [`BlockWriter::send_ready`] and [`BlockWriter::finish`].

mod chunks;
mod family;
mod series;
mod vectors;
mod windows;

use std::sync::Arc;

use hashbrown::HashMap;
use model::{Exemplar, Histogram, Labels, Resolution, SeriesId, TimeRange};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tenancy::TenantId;

use self::family::Held;
use self::vectors::Vectors;
pub use self::windows::WindowsInput;
use super::index::{
    FEATURE_COLD, FEATURE_STARTS, FEATURE_WINDOWS, IndexBuilder, Meta, checksum_of,
};
use super::object::{Sink, Sum, Upload};
use super::tables::{
    ChunkRows, ExemplarRows, SeriesRow, TableWriter, close_table, open_table, write_group,
};
use super::{CHUNKS, EXEMPLARS, INDEX, SERIES, TIMESTAMPS};
use crate::codec::{Effort, Encoder};
use crate::{Error, Starts};

/// How a block is laid out.
#[derive(Debug, Clone)]
pub struct BlockOptions {
    /// A row group holds a single tenant if that tenant has at least this many chunks; smaller
    /// tenants share one. A row group costs over a kilobyte of footer, whatever it holds
    /// (docs/decisions/0003-row-groups.md).
    pub tenant_chunks_min: usize,
    /// A row group ends at this many chunks: the facts of a whole group are read and kept together.
    pub group_chunks_max: usize,
    /// How much may be done for size.
    pub effort: Effort,
    /// What its rows are.
    pub resolution: Resolution,
    /// Label names with a column of their own in `series.parquet`, the most frequent ones.
    pub label_columns_max: usize,
}

impl Default for BlockOptions {
    fn default() -> Self {
        Self {
            tenant_chunks_min: 4096,
            group_chunks_max: 16384,
            effort: Effort::Young,
            resolution: Resolution::Raw,
            label_columns_max: 64,
        }
    }
}

/// Rows in a row group of the smaller tables.
const GROUP_ROWS_MAX: usize = 65536;

/// Everything of one series that goes into a block.
#[derive(Debug, Clone)]
pub struct SeriesInput<'a> {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id.
    pub id: SeriesId,
    /// Its labels.
    pub labels: Labels,
    /// Instants of the float samples, strictly increasing.
    pub timestamps: &'a [i64],
    /// Their values.
    pub values: &'a [f64],
    /// Native histograms, instants strictly increasing.
    pub histograms: &'a [(i64, Arc<Histogram>)],
    /// Start timestamps of both.
    pub starts: &'a Starts,
    /// Exemplars in any order.
    pub exemplars: &'a [Exemplar],
}

/// What a finished block holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockSummary {
    /// Number of tenants.
    pub tenants: u64,
    /// Number of series.
    pub series: u64,
    /// Number of chunks.
    pub chunks: u64,
    /// Number of float samples.
    pub samples: u64,
    /// Number of native histograms.
    pub histograms: u64,
    /// Number of exemplars.
    pub exemplars: u64,
    /// Bytes of all objects.
    pub bytes: u64,
    /// First to last sample or exemplar, if there is any.
    pub range: Option<TimeRange>,
    /// The checksum of the head of `index.bin`: it stands for the whole block.
    pub index_checksum: Option<u32>,
}

/// A block being written under one prefix.
pub struct BlockWriter {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    options: BlockOptions,
    index: IndexBuilder,
    meta: Meta,
    last: Option<(TenantId, Labels)>,
    series: Vec<SeriesRow>,
    name_counts: HashMap<u32, u64>,
    encoder: Encoder,
    payload: Vec<u8>,
    /// Whether some chunk has start timestamps.
    has_starts: bool,
    chunks: TableWriter,
    chunks_upload: Upload,
    /// Chunks of several small tenants, and those of the tenant whose series arrive now.
    shared_rows: ChunkRows,
    tenant_rows: ChunkRows,
    /// Whether the tenant already has row groups of its own.
    tenant_is_large: bool,
    /// Buckets of one histogram, until all of them are there.
    family: Vec<Held>,
    vectors: Vectors,
    exemplars: Option<TableWriter>,
    exemplar_rows: ExemplarRows,
}

impl BlockWriter {
    /// Starts a block. Nothing is written to the store before a part is full or the block finished.
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        prefix: Path,
        options: BlockOptions,
    ) -> Result<Self, Error> {
        let chunks_upload = Upload::new(Arc::clone(&objects), prefix.clone().join(CHUNKS));
        let meta = Meta { resolution: options.resolution, ..Meta::default() };
        Ok(Self {
            objects,
            prefix,
            encoder: Encoder::new(options.effort),
            vectors: Vectors::new(options.effort)?,
            options,
            index: IndexBuilder::new(),
            meta,
            last: None,
            series: Vec::new(),
            name_counts: HashMap::new(),
            payload: Vec::new(),
            has_starts: false,
            chunks: open_table(ChunkRows::schema(), ChunkRows::properties())?,
            chunks_upload,
            shared_rows: ChunkRows::default(),
            tenant_rows: ChunkRows::default(),
            tenant_is_large: false,
            family: Vec::new(),
            exemplars: None,
            exemplar_rows: ExemplarRows::default(),
        })
    }

    /// Adds the next series in order of tenant and [`Labels::stored_order`].
    pub fn add(&mut self, input: &SeriesInput<'_>) -> Result<(), Error> {
        self.check(input)?;
        self.turn_to(input.tenant, &input.labels)?;
        let row = self.index.rows();
        let chunks = self.add_chunks(input, row)?;
        for exemplar in input.exemplars {
            self.exemplar_rows.push(row, exemplar);
        }
        if self.exemplar_rows.len() >= GROUP_ROWS_MAX {
            self.flush_exemplars()?;
        }
        let range = range_of(input);
        self.add_row(input.tenant, input.id, &input.labels, chunks, range)?;
        self.meta.samples += input.values.len() as u64;
        self.meta.histograms += input.histograms.len() as u64;
        self.meta.exemplars += input.exemplars.len() as u64;
        let points = input
            .exemplars
            .iter()
            .map(|e| TimeRange { start_ms: e.timestamp_ms, end_ms: e.timestamp_ms });
        let exemplars = points.reduce(TimeRange::union);
        self.meta.range =
            [range, exemplars, self.meta.range].into_iter().flatten().reduce(TimeRange::union);
        Ok(())
    }

    /// Ends what the series before did not share with this one.
    fn turn_to(&mut self, tenant: TenantId, labels: &Labels) -> Result<(), Error> {
        let last = self.last.replace((tenant, labels.clone()));
        let (is_same_tenant, is_family) = last.map_or((true, false), |(before, others)| {
            (before == tenant, before == tenant && others.is_family_of(labels))
        });
        if !is_family {
            self.end_family()?;
        }
        if !is_same_tenant {
            self.end_tenant()?;
        }
        Ok(())
    }

    /// The row of a series that has so many chunks.
    fn add_row(
        &mut self,
        tenant: TenantId,
        id: SeriesId,
        labels: &Labels,
        chunks: u64,
        range: Option<TimeRange>,
    ) -> Result<(), Error> {
        let odd_id = (id != labels.series_id()).then_some(id.0);
        self.index.add(tenant, odd_id, labels, chunks, range)?;
        for name in self.index.last_names() {
            *self.name_counts.entry(name).or_default() += 1;
        }
        self.series.push(SeriesRow { tenant: tenant.0, odd_id, chunks: chunks as u32, range });
        self.meta.series += 1;
        Ok(())
    }

    /// Readers rely on the order; a caller that breaks it must not leave a block behind.
    fn check(&self, input: &SeriesInput<'_>) -> Result<(), Error> {
        self.check_order(input.tenant, &input.labels)?;
        let histograms_increase = input.histograms.is_sorted_by(|a, b| a.0 < b.0);
        if input.timestamps.len() != input.values.len()
            || !input.timestamps.is_sorted_by(|a, b| a < b)
            || !histograms_increase
        {
            return self.refuse(format!("samples of {} are not in time order", input.labels));
        }
        Ok(())
    }

    fn refuse(&self, reason: String) -> Result<(), Error> {
        Err(Error::Corrupt { what: format!("input of block {}", self.prefix), reason })
    }

    fn check_order(&self, of: TenantId, input: &Labels) -> Result<(), Error> {
        if let Some((tenant, labels)) = &self.last {
            let order = tenant.cmp(&of).then_with(|| labels.stored_order(input));
            if order.is_ge() {
                return self.refuse(format!("series {input} of tenant {of} is out of order"));
            }
        }
        Ok(())
    }

    fn flush_exemplars(&mut self) -> Result<(), Error> {
        if self.exemplar_rows.len() == 0 {
            return Ok(());
        }
        let mut table = match self.exemplars.take() {
            Some(table) => table,
            None => open_table(ExemplarRows::schema(), ExemplarRows::properties())?,
        };
        write_group(&mut table, &self.exemplar_rows.take_batch()?)?;
        self.exemplars = Some(table);
        Ok(())
    }

    /// Sends what fills whole parts, so that memory stays bounded while a large block is written.
    pub async fn send_ready(&mut self) -> Result<(), Error> {
        self.chunks_upload.send_full_parts(self.chunks.inner_mut()).await
    }

    /// Writes all objects, `index.bin` last. The block may be named in a manifest after this.
    pub async fn finish(mut self) -> Result<BlockSummary, Error> {
        self.end_family()?;
        self.end_tenant()?;
        self.flush_shared()?;
        self.flush_exemplars()?;
        let series = self.series_table()?;
        let (sink, tail) = close_table(self.chunks)?;
        self.meta.chunks_object = self.chunks_upload.finish(sink, tail).await?;
        let upload =
            |name: &str| Upload::new(Arc::clone(&self.objects), self.prefix.clone().join(name));
        self.meta.series_object = put_table(upload(SERIES), series).await?;
        self.meta.timestamps_object = put_table(upload(TIMESTAMPS), self.vectors.close()?).await?;
        if let Some(table) = self.exemplars {
            self.meta.exemplars_object =
                Some(put_table(upload(EXEMPLARS), close_table(table)?).await?);
        }
        let meta = self.meta;
        let tenants = self.index.tenants();
        let has_cold = self.encoder.has_cold() || self.options.effort == Effort::Cold;
        let has_windows = meta.resolution != Resolution::Raw;
        let features = [
            (has_cold, FEATURE_COLD),
            (self.has_starts, FEATURE_STARTS),
            (has_windows, FEATURE_WINDOWS),
        ];
        let features = features.iter().filter(|(has, _)| *has).map(|(_, bit)| bit).sum();
        let index = self.index.finish(&meta, features)?;
        let (index_bytes, index_checksum) = (index.len() as u64, checksum_of(&index));
        let path = self.prefix.join(INDEX);
        let put = self.objects.put(&path, PutPayload::from(index)).await;
        put.map_err(|source| Error::Objects { doing: format!("write object {path}"), source })?;
        let tables = [&meta.chunks_object, &meta.series_object, &meta.timestamps_object];
        let table_bytes: u64 =
            tables.into_iter().chain(&meta.exemplars_object).map(|o| o.size).sum();
        Ok(BlockSummary {
            tenants,
            series: meta.series,
            chunks: meta.chunks,
            samples: meta.samples,
            histograms: meta.histograms,
            exemplars: meta.exemplars,
            bytes: table_bytes + index_bytes,
            index_checksum,
            range: meta.range,
        })
    }

    /// Gives it up: an upload in parts is ended, objects already there are left to the caller.
    pub async fn abandon(mut self) {
        self.chunks_upload.abort().await;
    }
}

impl std::fmt::Debug for BlockWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockWriter")
            .field("prefix", &self.prefix)
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

async fn put_table(upload: Upload, (sink, tail): (Sink, u64)) -> Result<Sum, Error> {
    upload.finish(sink, tail).await
}

/// First to last sample of a series, exemplars aside.
fn range_of(input: &SeriesInput<'_>) -> Option<TimeRange> {
    let floats = input.timestamps.first().zip(input.timestamps.last());
    let histograms =
        input.histograms.first().map(|(at, _)| at).zip(input.histograms.last().map(|(at, _)| at));
    let ranges = [floats, histograms].into_iter().flatten();
    ranges.map(|(start, end)| TimeRange { start_ms: *start, end_ms: *end }).reduce(TimeRange::union)
}
