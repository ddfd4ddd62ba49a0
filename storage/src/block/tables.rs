//! The Parquet tables of a block: schemas, how columns are written, and rows gathered until they
//! make a row group.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, Float64Array, RecordBatch, TimestampMillisecondArray, UInt8Array,
    UInt16Array, UInt32Array,
};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::object::Sink;
use crate::Error;

/// Level of zstd for all pages.
const ZSTD_LEVEL: i32 = 3;

/// Uncompressed bytes of a page of payloads: large enough for zstd, small enough that one series
/// does not cost much to read.
const PAYLOAD_PAGE_BYTES: usize = 96 << 10;

/// Rows in a page of the other columns.
const PAGE_ROWS: usize = 8192;

pub(super) const PAYLOAD: &str = "payload";

/// The time zone of all timestamps.
const UTC: &str = "UTC";

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()))
}

fn timestamps(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values).with_timezone(UTC))
}

/// A table being written.
pub(crate) type TableWriter = ArrowWriter<Sink>;

pub(super) fn open_table(
    schema: Schema,
    properties: WriterProperties,
) -> Result<TableWriter, Error> {
    ArrowWriter::try_new(Sink::default(), Arc::new(schema), Some(properties)).map_err(table_error)
}

/// Writes a row group.
pub(super) fn write_group(table: &mut TableWriter, batch: &RecordBatch) -> Result<(), Error> {
    table.write(batch).and_then(|()| table.flush()).map_err(table_error)
}

/// Ends a table: what is left to send, and where its page index and footer begin.
pub(crate) fn close_table(mut table: TableWriter) -> Result<(Sink, u64), Error> {
    let metadata = table.finish().map_err(table_error)?;
    let columns = metadata.row_groups().iter().flat_map(|g| g.columns());
    let indexes = columns.flat_map(|c| [c.column_index_offset(), c.offset_index_offset()]);
    let data = metadata.row_groups().iter().flat_map(|g| g.columns());
    let data_end =
        data.map(|c| c.byte_range()).map(|(start, length)| start + length).max().unwrap_or(4);
    let tail = indexes.flatten().min().map_or(data_end, |i| i as u64);
    // `into_inner` would finish it a second time.
    Ok((std::mem::take(table.inner_mut()), tail))
}

pub(crate) fn table_error(source: ParquetError) -> Error {
    Error::Disk {
        doing: "write a Parquet table in memory".to_owned(),
        source: std::io::Error::other(source),
    }
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default()))
        .set_created_by("taffrail".to_owned())
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_max_row_group_row_count(None)
        .set_column_index_truncate_length(Some(16))
        .set_statistics_truncate_length(Some(16))
}

/// Payloads: no dictionary, no statistics, lengths left to zstd.
fn payload_properties(builder: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    let column = || ColumnPath::from(PAYLOAD);
    builder
        .set_column_dictionary_enabled(column(), false)
        .set_column_encoding(column(), Encoding::PLAIN)
        .set_column_statistics_enabled(column(), EnabledStatistics::None)
        .set_column_data_page_size_limit(column(), PAYLOAD_PAGE_BYTES)
}

/// Binary values one after the other.
#[derive(Debug, Default)]
struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Payloads {
    fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len() as i32);
    }

    fn append(&mut self, other: &mut Self) {
        let start = self.bytes.len() as i32;
        self.bytes.append(&mut other.bytes);
        self.ends.extend(other.ends.drain(..).map(|e| e + start));
    }

    fn into_array(self) -> Result<ArrayRef, Error> {
        let mut offsets = Vec::with_capacity(self.ends.len() + 1);
        offsets.push(0);
        offsets.extend(self.ends);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let array = BinaryArray::try_new(offsets, Buffer::from_vec(self.bytes), None);
        Ok(Arc::new(array.map_err(|e| table_error(e.into()))?))
    }
}

/// One row of `chunks.parquet`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ChunkRow {
    pub(super) series: u32,
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    pub(super) count: u16,
    pub(super) codec: u8,
    pub(super) ts_row: u32,
    /// The payload is that of the row so many before this one.
    pub(super) payload_back: u32,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) sum: Option<f64>,
    pub(super) increase: Option<f64>,
}

/// Rows of `chunks.parquet` that wait for their row group.
#[derive(Debug, Default)]
pub(super) struct ChunkRows {
    rows: Vec<ChunkRow>,
    payloads: Payloads,
}

impl ChunkRows {
    pub(super) fn push(&mut self, row: ChunkRow, payload: &[u8]) {
        self.rows.push(row);
        self.payloads.push(payload);
    }

    pub(super) fn append(&mut self, other: &mut Self) {
        self.rows.append(&mut other.rows);
        self.payloads.append(&mut other.payloads);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn payload_bytes(&self) -> usize {
        self.payloads.bytes.len()
    }

    pub(super) fn schema() -> Schema {
        Schema::new(vec![
            Field::new("series_row", DataType::UInt32, false),
            Field::new("min_ts", timestamp(), false),
            Field::new("max_ts", timestamp(), false),
            Field::new("count", DataType::UInt16, false),
            Field::new("codec", DataType::UInt8, false),
            Field::new("ts_row", DataType::UInt32, false),
            Field::new("min", DataType::Float64, true),
            Field::new("max", DataType::Float64, true),
            Field::new("sum", DataType::Float64, true),
            Field::new("increase", DataType::Float64, true),
            Field::new("payload_back", DataType::UInt32, false),
            Field::new(PAYLOAD, DataType::Binary, false),
        ])
    }

    pub(super) fn properties() -> WriterProperties {
        let mut builder = payload_properties(properties())
            .set_column_dictionary_enabled(ColumnPath::from("series_row"), false)
            .set_column_encoding(ColumnPath::from("series_row"), Encoding::DELTA_BINARY_PACKED);
        for column in ["min", "max", "sum", "increase"] {
            builder = builder
                .set_column_dictionary_enabled(ColumnPath::from(column), false)
                .set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::None)
                .set_column_encoding(ColumnPath::from(column), Encoding::BYTE_STREAM_SPLIT);
        }
        for column in ["min_ts", "max_ts", "ts_row"] {
            builder = builder
                .set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
        }
        builder.build()
    }

    /// All rows as a batch; none are left.
    pub(super) fn take_batch(&mut self) -> Result<RecordBatch, Error> {
        let rows = std::mem::take(&mut self.rows);
        let payloads = std::mem::take(&mut self.payloads);
        let floats = |of: fn(&ChunkRow) -> Option<f64>| -> ArrayRef {
            Arc::new(Float64Array::from_iter(rows.iter().map(of)))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.series))),
            timestamps(rows.iter().map(|r| r.min_ms).collect()),
            timestamps(rows.iter().map(|r| r.max_ms).collect()),
            Arc::new(UInt16Array::from_iter_values(rows.iter().map(|r| r.count))),
            Arc::new(UInt8Array::from_iter_values(rows.iter().map(|r| r.codec))),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.ts_row))),
            floats(|r| r.min),
            floats(|r| r.max),
            floats(|r| r.sum),
            floats(|r| r.increase),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.payload_back))),
            payloads.into_array()?,
        ];
        batch(Self::schema(), columns)
    }
}

/// Rows of `ts.parquet` that wait for their row group.
#[derive(Debug, Default)]
pub(super) struct TimestampRows {
    min_ms: Vec<i64>,
    max_ms: Vec<i64>,
    count: Vec<u16>,
    payloads: Payloads,
}

impl TimestampRows {
    pub(super) fn push(&mut self, instants: &[i64], payload: &[u8]) {
        self.min_ms.push(instants.first().copied().unwrap_or_default());
        self.max_ms.push(instants.last().copied().unwrap_or_default());
        self.count.push(instants.len() as u16);
        self.payloads.push(payload);
    }

    pub(super) fn len(&self) -> usize {
        self.count.len()
    }

    pub(super) fn schema() -> Schema {
        Schema::new(vec![
            Field::new("min_ts", timestamp(), false),
            Field::new("max_ts", timestamp(), false),
            Field::new("count", DataType::UInt16, false),
            Field::new(PAYLOAD, DataType::Binary, false),
        ])
    }

    pub(super) fn properties() -> WriterProperties {
        payload_properties(properties()).build()
    }

    pub(super) fn take_batch(&mut self) -> Result<RecordBatch, Error> {
        let rows = std::mem::take(self);
        let columns: Vec<ArrayRef> = vec![
            timestamps(rows.min_ms),
            timestamps(rows.max_ms),
            Arc::new(UInt16Array::from(rows.count)),
            rows.payloads.into_array()?,
        ];
        batch(Self::schema(), columns)
    }
}

/// Rows of `exemplars.parquet` that wait for their row group.
#[derive(Debug, Default)]
pub(super) struct ExemplarRows {
    series: Vec<u32>,
    instants: Vec<i64>,
    values: Vec<f64>,
    labels: Payloads,
}

impl ExemplarRows {
    pub(super) fn push(&mut self, series: u32, exemplar: &model::Exemplar) {
        self.series.push(series);
        self.instants.push(exemplar.timestamp_ms);
        self.values.push(exemplar.value);
        let mut encoded = Vec::new();
        exemplar.labels.encode(&mut encoded);
        self.labels.push(&encoded);
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn schema() -> Schema {
        Schema::new(vec![
            Field::new("series_row", DataType::UInt32, false),
            Field::new("ts", timestamp(), false),
            Field::new("value", DataType::Float64, false),
            Field::new("labels", DataType::Binary, false),
        ])
    }

    pub(super) fn properties() -> WriterProperties {
        // A dictionary could merge values that compare equal.
        properties().set_column_dictionary_enabled(ColumnPath::from("value"), false).build()
    }

    pub(super) fn take_batch(&mut self) -> Result<RecordBatch, Error> {
        let rows = std::mem::take(self);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(rows.series)),
            timestamps(rows.instants),
            Arc::new(Float64Array::from(rows.values)),
            rows.labels.into_array()?,
        ];
        batch(Self::schema(), columns)
    }
}

/// Rows of `series.parquet`: a column per frequent label, the rest together.
pub(super) struct SeriesRows {
    names: Vec<String>,
    tenants: Vec<u32>,
    ids: FixedSizeBinaryBuilder,
    labels: Vec<StringBuilder>,
    rest: BinaryBuilder,
    chunks: Vec<u32>,
    min_ms: Vec<Option<i64>>,
    max_ms: Vec<Option<i64>>,
}

/// One row of `series.parquet`, without its labels.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeriesRow {
    pub(super) tenant: u32,
    /// Only where it is not the id of the labels.
    pub(super) odd_id: Option<u128>,
    pub(super) chunks: u32,
    pub(super) range: Option<model::TimeRange>,
}

impl SeriesRows {
    pub(super) fn new(names: Vec<String>) -> Self {
        let labels = names.iter().map(|_| StringBuilder::new()).collect();
        Self {
            names,
            tenants: Vec::new(),
            ids: FixedSizeBinaryBuilder::new(16),
            labels,
            rest: BinaryBuilder::new(),
            chunks: Vec::new(),
            min_ms: Vec::new(),
            max_ms: Vec::new(),
        }
    }

    /// Adds a row: values in order of the columns, and the other labels in canonical encoding.
    pub(super) fn push(
        &mut self,
        row: SeriesRow,
        values: &[Option<&str>],
        rest: &[u8],
    ) -> Result<(), Error> {
        self.tenants.push(row.tenant);
        match row.odd_id {
            Some(id) => {
                self.ids.append_value(id.to_be_bytes()).map_err(|e| table_error(e.into()))?
            }
            None => self.ids.append_null(),
        }
        for (column, value) in self.labels.iter_mut().zip(values) {
            column.append_option(*value);
        }
        self.rest.append_option((!rest.is_empty()).then_some(rest));
        self.chunks.push(row.chunks);
        self.min_ms.push(row.range.map(|r| r.start_ms));
        self.max_ms.push(row.range.map(|r| r.end_ms));
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.tenants.len()
    }

    pub(super) fn schema(&self) -> Schema {
        let mut fields = vec![
            Field::new("tenant", DataType::UInt32, false),
            Field::new("series_id", DataType::FixedSizeBinary(16), true),
        ];
        fields
            .extend(self.names.iter().map(|n| Field::new(format!("l_{n}"), DataType::Utf8, true)));
        fields.extend([
            Field::new("labels_rest", DataType::Binary, true),
            Field::new("chunks", DataType::UInt32, false),
            Field::new("min_ts", timestamp(), true),
            Field::new("max_ts", timestamp(), true),
        ]);
        Schema::new(fields)
    }

    pub(super) fn properties() -> WriterProperties {
        properties().build()
    }

    pub(super) fn take_batch(&mut self) -> Result<RecordBatch, Error> {
        let schema = self.schema();
        let instants = |values: &mut Vec<Option<i64>>| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from(std::mem::take(values)).with_timezone(UTC))
        };
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(std::mem::take(&mut self.tenants))),
            Arc::new(self.ids.finish()),
        ];
        columns.extend(self.labels.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef));
        columns.push(Arc::new(self.rest.finish()));
        columns.push(Arc::new(UInt32Array::from(std::mem::take(&mut self.chunks))));
        columns.push(instants(&mut self.min_ms));
        columns.push(instants(&mut self.max_ms));
        batch(schema, columns)
    }
}

fn batch(schema: Schema, columns: Vec<ArrayRef>) -> Result<RecordBatch, Error> {
    RecordBatch::try_new(Arc::new(schema), columns).map_err(|e| table_error(e.into()))
}
