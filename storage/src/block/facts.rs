//! Reads the Parquet tables of a block: footers, facts of chunks, pages of payloads.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type,
};
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Encoding;
use parquet::column::page::{Page as ParquetPage, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::ReaderProperties;
use parquet::file::serialized_reader::SerializedPageReader;

use super::STARTS_BIT;
use super::cache::{BlockCache, Key, Kind};
use super::object::{Object, Stretch};
use super::tables::PAYLOAD;
use crate::Error;
use crate::codec::{CHUNK_SAMPLES_MAX, Codec};

/// One Parquet object of a block.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) object: Object,
    kind: Kind,
}

/// A table's footer with its page index.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) metadata: Arc<ParquetMetaData>,
    arrow: ArrowReaderMetadata,
    /// First row of each row group, and the number of rows.
    pub(super) group_starts: Vec<u64>,
    payload_column: Option<usize>,
}

impl Table {
    pub(super) fn new(object: Object, kind: Kind) -> Self {
        Self { object, kind }
    }

    /// The footer, from the cache or the store.
    pub(super) async fn footer(
        &self,
        cache: &BlockCache,
        block: u64,
    ) -> Result<Arc<Footer>, Error> {
        let key = Key { block, kind: self.kind, group: 0, page: 0 };
        if let Some(footer) = cache.get(key) {
            return Ok(footer);
        }
        let sum = &self.object.sum;
        let tail_range = sum.tail_start..sum.size;
        let tail = self.object.read(std::slice::from_ref(&tail_range)).await?;
        let bytes = tail.into_iter().next().unwrap_or_default();
        let stretch = Stretch { start: sum.tail_start, bytes, size: sum.size };
        let footer = Arc::new(Footer::read(&stretch).map_err(|e| self.object.damaged(e))?);
        cache.put(key, Arc::clone(&footer), footer.metadata.memory_size() + 256);
        Ok(footer)
    }

    /// The bytes of some columns of row groups: from the first column on up to one before `end`.
    pub(super) async fn read_groups(
        &self,
        footer: &Footer,
        groups: &[usize],
        columns: usize,
    ) -> Result<Vec<Stretch>, Error> {
        let mut ranges = Vec::with_capacity(groups.len());
        for group in groups {
            let metadata = footer.metadata.row_groups().get(*group);
            let metadata = metadata.filter(|m| columns > 0 && m.num_columns() >= columns);
            let metadata =
                metadata.ok_or_else(|| self.object.damaged("a row group or column is missing"))?;
            let of_columns = metadata.columns()[..columns].iter().map(|c| c.byte_range());
            let start = of_columns.clone().map(|(start, _)| start).min().unwrap_or_default();
            let end = of_columns
                .map(|(start, length)| start.saturating_add(length))
                .max()
                .unwrap_or_default();
            ranges.push(start..end);
        }
        let read = self.object.read(&ranges).await?;
        let size = self.object.sum.size;
        Ok(ranges
            .iter()
            .zip(read)
            .map(|(range, bytes)| Stretch { start: range.start, bytes, size })
            .collect())
    }
}

impl Footer {
    fn read(stretch: &Stretch) -> Result<Self, ParquetError> {
        let metadata = ParquetMetaDataReader::new()
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .with_column_index_policy(PageIndexPolicy::Skip)
            .parse_and_finish(stretch)?;
        let metadata = Arc::new(metadata);
        let arrow = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new())?;
        let mut group_starts = vec![0u64];
        for group in metadata.row_groups() {
            let rows = u64::try_from(group.num_rows())
                .map_err(|_| ParquetError::General("negative row count".to_owned()))?;
            group_starts.push(group_starts[group_starts.len() - 1].saturating_add(rows));
        }
        let columns = metadata.file_metadata().schema_descr().columns();
        let payload_column = columns.iter().position(|c| c.name() == PAYLOAD);
        Ok(Self { metadata, arrow, group_starts, payload_column })
    }

    /// The row group of a row and the row's place in it.
    pub(super) fn group_of(&self, row: u64) -> Option<(usize, usize)> {
        let group = self.group_starts.partition_point(|start| *start <= row).checked_sub(1)?;
        (group + 1 < self.group_starts.len())
            .then(|| (group, (row - self.group_starts[group]) as usize))
    }

    /// The page of payloads that holds a row of a group.
    pub(super) fn page_of(&self, group: usize, row: usize) -> Option<PagePlace> {
        let column = self.payload_column?;
        let pages = self.metadata.offset_index()?.get(group)?.get(column)?.page_locations();
        let page = pages.partition_point(|p| p.first_row_index <= row as i64).checked_sub(1)?;
        let location = pages.get(page)?;
        let rows_end = match pages.get(page + 1) {
            Some(next) => next.first_row_index,
            None => self.metadata.row_groups().get(group)?.num_rows(),
        };
        let start = u64::try_from(location.offset).ok()?;
        Some(PagePlace {
            page: page as u32,
            first_row: usize::try_from(location.first_row_index).ok()?,
            rows: usize::try_from(rows_end.checked_sub(location.first_row_index)?).ok()?,
            start,
            end: start.checked_add(u64::try_from(location.compressed_page_size).ok()?)?,
        })
    }

    /// Decodes columns of a row group that lies in memory.
    pub(super) fn decode_group(
        &self,
        stretch: Stretch,
        group: usize,
        columns: usize,
    ) -> Result<RecordBatch, ParquetError> {
        let rows = (self.group_starts[group + 1] - self.group_starts[group]) as usize;
        let schema = self.metadata.file_metadata().schema_descr();
        let mut reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(stretch, self.arrow.clone())
                .with_row_groups(vec![group])
                .with_projection(ProjectionMask::leaves(schema, 0..columns))
                .with_batch_size(rows.max(1))
                .build()?;
        let batch =
            reader.next().ok_or_else(|| ParquetError::General("empty row group".to_owned()))??;
        if batch.num_rows() == rows {
            Ok(batch)
        } else {
            Err(ParquetError::General("row group cut short".to_owned()))
        }
    }

    /// Decompresses a page of payloads.
    pub(super) fn decode_page(
        &self,
        bytes: Bytes,
        group: usize,
        place: &PagePlace,
    ) -> Result<Page, ParquetError> {
        let invalid = |reason: &str| ParquetError::General(reason.to_owned());
        let column = self.payload_column.ok_or_else(|| invalid("no payload column"))?;
        let metadata = self.metadata.row_group(group).column(column).clone().into_builder();
        let metadata = metadata
            .set_data_page_offset(place.start as i64)
            .set_dictionary_page_offset(None)
            .set_total_compressed_size((place.end - place.start) as i64)
            .build()?;
        let stretch = Arc::new(Stretch { start: place.start, bytes, size: place.end });
        let properties = Arc::new(ReaderProperties::builder().build());
        let mut reader = SerializedPageReader::new_with_properties(
            stretch, &metadata, place.rows, None, properties,
        )?;
        match reader.get_next_page()? {
            Some(ParquetPage::DataPage { buf, num_values, encoding: Encoding::PLAIN, .. })
                if num_values as usize == place.rows =>
            {
                Page::new(buf, place.rows)
                    .ok_or_else(|| invalid("payload lengths do not fit their page"))
            }
            _ => Err(invalid("not a plain data page of the expected length")),
        }
    }
}

/// Where a page of payloads lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PagePlace {
    pub(super) page: u32,
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// A page of payloads in memory.
#[derive(Debug)]
pub(super) struct Page {
    bytes: Bytes,
    /// Where each payload starts, behind its length, and where the one before ends.
    starts: Vec<u32>,
}

impl Page {
    fn new(bytes: Bytes, rows: usize) -> Option<Self> {
        if rows > bytes.len() / 4 || u32::try_from(bytes.len()).is_err() {
            return None;
        }
        let mut starts = Vec::with_capacity(rows + 1);
        let mut at = 0usize;
        for _ in 0..rows {
            let length = bytes.get(at..at + 4)?;
            starts.push(at as u32 + 4);
            at = at.checked_add(
                4 + u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize,
            )?;
        }
        starts.push(u32::try_from(at.checked_add(4)?).ok()?);
        (at == bytes.len()).then_some(Self { bytes, starts })
    }

    pub(super) fn payload(&self, row: usize) -> Option<&[u8]> {
        let (start, next) = (*self.starts.get(row)?, *self.starts.get(row + 1)?);
        self.bytes.get(start as usize..next as usize - 4)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.len() + self.starts.len() * 4 + 64
    }
}

/// What a row of `chunks.parquet` says beside its payload. An absent statistic is a NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fact {
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    pub(super) increase: f64,
    pub(super) ts_row: u32,
    /// The payload is that of the row so many before this one.
    pub(super) payload_back: u32,
    pub(super) count: u16,
    pub(super) codec: Codec,
    /// Whether start timestamps stand before the values.
    pub(super) has_starts: bool,
}

impl Fact {
    /// What the column `codec` says.
    pub(super) fn codec_number(&self) -> u8 {
        self.codec as u8 | if self.has_starts { STARTS_BIT } else { 0 }
    }
}

/// Columns of `chunks.parquet` before the payload.
pub(super) const FACT_COLUMNS: usize = 11;

/// Facts of the rows of a group.
pub(super) fn facts_of(batch: &RecordBatch) -> Result<Vec<Fact>, String> {
    let column =
        |name: &str| batch.column_by_name(name).ok_or_else(|| format!("column {name} is missing"));
    let wrong = |name: &str| format!("column {name} has another type");
    let instants = |name: &str| {
        let values = column(name)?.as_primitive_opt::<TimestampMillisecondType>();
        values.map(|v| v.values()).ok_or_else(|| wrong(name))
    };
    let floats =
        |name: &str| column(name)?.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong(name));
    let (min_ms, max_ms) = (instants("min_ts")?, instants("max_ts")?);
    let counts =
        column("count")?.as_primitive_opt::<UInt16Type>().ok_or_else(|| wrong("count"))?.values();
    let codecs =
        column("codec")?.as_primitive_opt::<UInt8Type>().ok_or_else(|| wrong("codec"))?.values();
    let numbers = |name: &str| {
        let values = column(name)?.as_primitive_opt::<UInt32Type>();
        values.map(|v| v.values()).ok_or_else(|| wrong(name))
    };
    let (ts_rows, payloads_back) = (numbers("ts_row")?, numbers("payload_back")?);
    let (min, max, sum, increase) =
        (floats("min")?, floats("max")?, floats("sum")?, floats("increase")?);
    let at = |column: &arrow_array::Float64Array, i: usize| {
        if column.is_null(i) { f64::NAN } else { column.value(i) }
    };
    let mut facts = Vec::with_capacity(batch.num_rows());
    for i in 0..batch.num_rows() {
        let codec = Codec::from_number(codecs[i] & !STARTS_BIT)
            .ok_or_else(|| format!("codec {} is unknown", codecs[i]))?;
        if counts[i] == 0 || usize::from(counts[i]) > CHUNK_SAMPLES_MAX || min_ms[i] > max_ms[i] {
            return Err("count or times of a chunk out of bounds".to_owned());
        }
        if payloads_back[i] as usize > i {
            return Err("a payload lies outside its row group".to_owned());
        }
        facts.push(Fact {
            min_ms: min_ms[i],
            max_ms: max_ms[i],
            min: at(min, i),
            max: at(max, i),
            sum: at(sum, i),
            increase: at(increase, i),
            ts_row: ts_rows[i],
            payload_back: payloads_back[i],
            count: counts[i],
            codec,
            has_starts: codecs[i] & STARTS_BIT != 0,
        });
    }
    Ok(facts)
}
