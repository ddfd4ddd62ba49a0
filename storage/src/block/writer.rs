//! Writes a block: series in, objects out.
//!
//! `add` is plain computing and may run on any thread; full row groups become bytes at once. What
//! is ready to be sent goes out in [`BlockWriter::send_ready`] and [`BlockWriter::finish`].

mod family;
mod windows;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Exemplar, Histogram, Labels, Resolution, SeriesId, TimeRange};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tenancy::TenantId;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use self::family::Held;
pub use self::windows::WindowsInput;
use super::index::{
    FEATURE_COLD, FEATURE_STARTS, FEATURE_WINDOWS, IndexBuilder, Meta, checksum_of,
};
use super::object::{Sink, Sum, Upload};
use super::stats::ChunkStats;
use super::tables::{
    ChunkRow, ChunkRows, ExemplarRows, SeriesRow, SeriesRows, TableWriter, TimestampRows,
    close_table, open_table, write_group,
};
use super::{CHUNKS, EXEMPLARS, INDEX, SERIES, STARTS_BIT, TIMESTAMPS, payload_checksum};
use crate::codec::{CHUNK_SAMPLES_MAX, Codec, Effort, Encoder, histogram, starts, timestamps};
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

/// A row group ends at this many payload bytes even if it has few rows.
const GROUP_PAYLOAD_BYTES_MAX: usize = 32 << 20;

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

    /// Cuts the samples into chunks of even length, floats and histograms in order of their start;
    /// says how many. A bucket that may share its payloads is held back.
    fn add_chunks(&mut self, input: &SeriesInput<'_>, series: u32) -> Result<u64, Error> {
        if self.options.effort == Effort::Cold && family::is_bucket(input) {
            return self.hold(input, series);
        }
        self.end_family()?;
        let before = self.meta.chunks;
        let mut floats = even_cuts(input.values.len()).peekable();
        let mut histograms = input.histograms;
        loop {
            let float_start = floats.peek().map(|cut| input.timestamps[cut.start]);
            match (float_start, histograms.first()) {
                (None, None) => break,
                (Some(at), other) if other.is_none_or(|(o, _)| at <= *o) => {
                    let cut = floats.next().unwrap_or_default();
                    let (instants, values) = (&input.timestamps[cut.clone()], &input.values[cut]);
                    self.add_floats(series, instants, values, input.starts)?;
                }
                _ => {
                    let run: Vec<&Histogram> =
                        histograms.iter().take(CHUNK_SAMPLES_MAX).map(|(_, h)| &**h).collect();
                    let (now, later) = histograms.split_at(histogram::chunk_length(&run));
                    self.add_histograms(series, now, input.starts)?;
                    histograms = later;
                }
            }
            self.flush_if_full()?;
        }
        Ok(self.meta.chunks - before)
    }

    fn add_floats(
        &mut self,
        series: u32,
        instants: &[i64],
        values: &[f64],
        starts: &Starts,
    ) -> Result<(), Error> {
        let starts = starts_of_chunk(instants, starts);
        let starts_bit = begin_payload(&starts, &mut self.encoder, &mut self.payload);
        let encoded = self.encoder.encode(values, &mut self.payload);
        let stats = ChunkStats::of_values(values, encoded.constant);
        if let Some(value) = encoded.constant {
            // A value that the `min` column cannot hold to the bit stands in the payload.
            let is_in_min = stats.min.map(f64::to_bits) == Some(value.to_bits());
            if is_in_min && starts_bit == 0 {
                self.payload.clear();
            } else if !is_in_min {
                self.payload.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        }
        self.push_chunk(series, instants, encoded.codec as u8 | starts_bit, 0, stats)
    }

    fn add_histograms(
        &mut self,
        series: u32,
        histograms: &[(i64, Arc<Histogram>)],
        starts: &Starts,
    ) -> Result<(), Error> {
        let instants: Vec<i64> = histograms.iter().map(|(at, _)| *at).collect();
        let run: Vec<&Histogram> = histograms.iter().map(|(_, h)| &**h).collect();
        let starts = starts_of_chunk(&instants, starts);
        let starts_bit = begin_payload(&starts, &mut self.encoder, &mut self.payload);
        histogram::encode(&run, &mut self.encoder, &mut self.payload);
        let codec = Codec::Histogram as u8 | starts_bit;
        self.push_chunk(series, &instants, codec, 0, ChunkStats::default())
    }

    /// The payload starts with room for its checksum, or is empty.
    fn push_chunk(
        &mut self,
        series: u32,
        instants: &[i64],
        codec: u8,
        payload_back: u32,
        stats: ChunkStats,
    ) -> Result<(), Error> {
        let (Some(min_ms), Some(max_ms)) = (instants.first(), instants.last()) else {
            return Ok(());
        };
        self.has_starts |= codec & STARTS_BIT != 0;
        let ts_row = self.vectors.row(instants)?;
        let count = instants.len() as u16;
        if let Some((room, body)) = self.payload.split_first_chunk_mut::<4>() {
            *room = payload_checksum(body, codec, count, ts_row).to_le_bytes();
        }
        let row = ChunkRow {
            series,
            min_ms: *min_ms,
            max_ms: *max_ms,
            count,
            codec,
            ts_row,
            payload_back,
            min: stats.min,
            max: stats.max,
            sum: stats.sum,
            increase: stats.increase,
        };
        self.tenant_rows.push(row, &self.payload);
        self.meta.chunks += 1;
        if self.meta.chunks > u64::from(u32::MAX) {
            return Err(Error::Limit("more than 2^32 chunks in a block".to_owned()));
        }
        Ok(())
    }

    /// Ends the row group if it is full. Never between chunks that share a payload.
    fn flush_if_full(&mut self) -> Result<(), Error> {
        let is_full = self.tenant_rows.len() >= self.options.group_chunks_max
            || self.tenant_rows.payload_bytes() >= GROUP_PAYLOAD_BYTES_MAX;
        if is_full { self.flush_large_tenant() } else { Ok(()) }
    }

    fn end_tenant(&mut self) -> Result<(), Error> {
        let is_large =
            self.tenant_is_large || self.tenant_rows.len() >= self.options.tenant_chunks_min;
        self.tenant_is_large = false;
        if is_large {
            return self.flush_large_tenant();
        }
        self.shared_rows.append(&mut self.tenant_rows);
        let is_full = self.shared_rows.len() >= self.options.tenant_chunks_min
            || self.shared_rows.payload_bytes() >= GROUP_PAYLOAD_BYTES_MAX / 2;
        if is_full { self.flush_shared() } else { Ok(()) }
    }

    fn flush_large_tenant(&mut self) -> Result<(), Error> {
        self.tenant_is_large = true;
        self.flush_shared()?;
        if self.tenant_rows.len() > 0 {
            write_group(&mut self.chunks, &self.tenant_rows.take_batch()?)?;
        }
        Ok(())
    }

    fn flush_shared(&mut self) -> Result<(), Error> {
        if self.shared_rows.len() > 0 {
            write_group(&mut self.chunks, &self.shared_rows.take_batch()?)?;
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

    /// The table of series for other engines, from the labels that the index holds.
    fn series_table(&mut self) -> Result<(Sink, u64), Error> {
        let mut frequent: Vec<(u32, u64)> =
            self.name_counts.iter().map(|(n, c)| (*n, *c)).collect();
        frequent.sort_unstable_by_key(|(name, count)| (u64::MAX - count, *name));
        frequent.truncate(self.options.label_columns_max);
        let symbols = &self.index.symbols;
        let names = frequent.iter().map(|(n, _)| symbols.get(*n).to_owned()).collect();
        let mut rows = SeriesRows::new(names);
        let mut table = open_table(rows.schema(), SeriesRows::properties())?;
        let columns: HashMap<u32, usize> =
            frequent.iter().enumerate().map(|(i, (n, _))| (*n, i)).collect();
        let mut labels = self.index.label_rows();
        let mut values = vec![None; frequent.len()];
        for row in &self.series {
            values.fill(None);
            let mut rest = Vec::new();
            for (name, value) in labels.next().unwrap_or_default() {
                match columns.get(name) {
                    Some(at) => values[*at] = Some(symbols.get(*value)),
                    None => rest.push((symbols.get(*name), symbols.get(*value))),
                }
            }
            let mut encoded = Vec::new();
            if !rest.is_empty() {
                Labels::from_pairs(rest).encode(&mut encoded);
            }
            rows.push(*row, &values, &encoded)?;
            if rows.len() >= GROUP_ROWS_MAX {
                write_group(&mut table, &rows.take_batch()?)?;
            }
        }
        if rows.len() > 0 {
            write_group(&mut table, &rows.take_batch()?)?;
        }
        close_table(table)
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

/// Since when the samples of a chunk count; nothing if that is not known of any.
fn starts_of_chunk(instants: &[i64], of_series: &Starts) -> Vec<i64> {
    if of_series.is_empty() {
        return Vec::new();
    }
    let own = of_series.each(instants.iter().copied());
    if own.iter().all(|start_ms| *start_ms == 0) { Vec::new() } else { own }
}

/// Begins a payload: room for the checksum, and start timestamps if there are some. Gives the bit
/// that says so.
fn begin_payload(starts: &[i64], encoder: &mut Encoder, payload: &mut Vec<u8>) -> u8 {
    payload.clear();
    payload.extend_from_slice(&[0; 4]);
    if starts.is_empty() {
        return 0;
    }
    starts::encode(starts, encoder, payload);
    STARTS_BIT
}

/// Ranges of nearly the same length, none longer than a chunk.
fn even_cuts(samples: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let chunks = samples.div_ceil(CHUNK_SAMPLES_MAX);
    (0..chunks).map(move |i| i * samples / chunks..(i + 1) * samples / chunks)
}

/// Distinct timestamp vectors and their rows in `ts.parquet`.
struct Vectors {
    rows_by_hash: HashMap<u128, u32>,
    /// Not known to senders, so that none can choose timestamps that stand for another's.
    seed: u64,
    rows: TimestampRows,
    table: TableWriter,
    effort: Effort,
    payload: Vec<u8>,
    bytes: Vec<u8>,
}

impl Vectors {
    fn new(effort: Effort) -> Result<Self, Error> {
        Ok(Self {
            effort,
            rows_by_hash: HashMap::new(),
            seed: RandomState::new().build_hasher().finish(),
            rows: TimestampRows::default(),
            table: open_table(TimestampRows::schema(), TimestampRows::properties())?,
            payload: Vec::new(),
            bytes: Vec::new(),
        })
    }

    fn row(&mut self, instants: &[i64]) -> Result<u32, Error> {
        self.bytes.clear();
        self.bytes.extend(instants.iter().flat_map(|at| at.to_le_bytes()));
        let hash = xxh3_128_with_seed(&self.bytes, self.seed);
        if let Some(row) = self.rows_by_hash.get(&hash) {
            return Ok(*row);
        }
        let row = self.rows_by_hash.len() as u32;
        self.payload.clear();
        self.payload.extend_from_slice(&[0; 4]);
        timestamps::encode(instants, self.effort, &mut self.payload);
        if let Some((room, body)) = self.payload.split_first_chunk_mut::<4>() {
            *room = crc32c::crc32c(body).to_le_bytes();
        }
        self.rows.push(instants, &self.payload);
        self.rows_by_hash.insert(hash, row);
        if self.rows.len() >= GROUP_ROWS_MAX {
            write_group(&mut self.table, &self.rows.take_batch()?)?;
        }
        Ok(row)
    }

    fn close(mut self) -> Result<(Sink, u64), Error> {
        if self.rows.len() > 0 {
            write_group(&mut self.table, &self.rows.take_batch()?)?;
        }
        close_table(self.table)
    }
}
