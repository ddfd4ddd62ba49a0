//! Rows of a group: columns of `entries.parquet` when they are written, a page when they are read.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt8Type, UInt32Type};
use arrow_array::{
    ArrayRef, BinaryArray, RecordBatch, TimestampNanosecondArray, UInt8Array, UInt32Array,
};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use pco::ChunkConfig;
use pco::DeltaSpec::TryConsecutive;

use super::{GROUP_ROWS_MAX, lines};
use crate::Error;
use crate::block::table_error;
use crate::entries::page::{Mark, Page, Row, are_fields};

/// What is wrong with a group.
type Wrong = &'static str;

const WRONG_TYPE: Wrong = "a column has another type";

/// The time zone of all instants.
const UTC: &str = "UTC";

/// Bytes of a page of Parquet: a column of a group is one.
const PAGE_BYTES: usize = 16 << 20;

/// How rows are stored (docs/decisions/0013-lines.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Quick to write, for segments that are soon merged: instants and lines are columns.
    Quick,
    /// Small, for segments that stay: instants and lines of a group are one piece each.
    Packed,
}

impl Form {
    pub(super) fn zstd_level(self) -> i32 {
        match self {
            Self::Quick => 1,
            Self::Packed => 6,
        }
    }

    pub(super) fn instant_column(self) -> &'static str {
        match self {
            Self::Quick => "ts",
            Self::Packed => "instants",
        }
    }

    pub(super) fn line_column(self) -> &'static str {
        match self {
            Self::Quick => "line",
            Self::Packed => "lines",
        }
    }

    pub(super) fn schema(self) -> Schema {
        let instant = match self {
            Self::Quick => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
            Self::Packed => DataType::Binary,
        };
        Schema::new(vec![
            Field::new("stream", DataType::UInt32, false),
            Field::new(self.instant_column(), instant, false),
            Field::new("level", DataType::UInt8, false),
            Field::new("flags", DataType::UInt8, false),
            Field::new(self.line_column(), DataType::Binary, false),
            Field::new("fields", DataType::Binary, false),
        ])
    }

    pub(super) fn properties(self) -> WriterProperties {
        let zstd = |level| Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default());
        let mut builder = WriterProperties::builder()
            .set_compression(zstd(self.zstd_level()))
            .set_created_by("taffrail".to_owned())
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_data_page_row_count_limit(GROUP_ROWS_MAX)
            .set_max_row_group_row_count(None);
        for (name, encoding) in [
            ("ts", Encoding::DELTA_BINARY_PACKED),
            ("line", Encoding::DELTA_LENGTH_BYTE_ARRAY),
            ("fields", Encoding::DELTA_LENGTH_BYTE_ARRAY),
            ("instants", Encoding::DELTA_LENGTH_BYTE_ARRAY),
            ("lines", Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ] {
            let column = || ColumnPath::from(name);
            builder = builder
                .set_column_dictionary_enabled(column(), false)
                .set_column_encoding(column(), encoding);
        }
        // What is packed does not get smaller; the lengths of the empty rows do.
        for name in ["instants", "lines"] {
            builder = builder.set_column_compression(ColumnPath::from(name), zstd(1));
        }
        builder.build()
    }
}

/// Rows of a group.
#[derive(Default)]
pub(super) struct Rows {
    streams: Vec<u32>,
    pub(super) at_ns: Vec<i64>,
    levels: Vec<u8>,
    flags: Vec<u8>,
    lines: Bytewise,
    fields: Bytewise,
}

/// Texts one after the other.
#[derive(Default)]
struct Bytewise {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Bytewise {
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        // A group ends long before two gigabytes.
        self.ends.push(self.bytes.len() as i32);
    }

    fn into_array(self) -> ArrayRef {
        let offsets: Vec<i32> = std::iter::once(0).chain(self.ends).collect();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Arc::new(BinaryArray::new(offsets, Buffer::from_vec(self.bytes), None))
    }

    fn texts(&self) -> Vec<&[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let text = |(start, end): (&i32, &i32)| &self.bytes[*start as usize..*end as usize];
        starts.zip(&self.ends).map(text).collect()
    }

    /// A text in the first row; the others have none.
    fn in_first(text: Vec<u8>, rows: usize) -> Self {
        Self { ends: vec![text.len() as i32; rows], bytes: text }
    }
}

impl Rows {
    /// Adds a row, of the stream with this number.
    pub(super) fn push(&mut self, stream: u32, row: Row<'_>) {
        self.streams.push(stream);
        self.at_ns.push(row.at_ns);
        self.levels.push(row.mark.level() as u8);
        self.flags.push(row.mark.flags());
        self.lines.push(row.line);
        self.fields.push(row.fields);
    }

    /// Bytes of lines and fields.
    pub(super) fn raw_bytes(&self) -> usize {
        self.lines.bytes.len() + self.fields.bytes.len()
    }

    pub(super) fn into_batch(self, form: Form, schema: &Arc<Schema>) -> Result<RecordBatch, Error> {
        let rows = self.at_ns.len();
        let (instants, lines): (ArrayRef, ArrayRef) = match form {
            Form::Quick => (
                Arc::new(TimestampNanosecondArray::from(self.at_ns).with_timezone(UTC)),
                self.lines.into_array(),
            ),
            Form::Packed => {
                let instants = pack_instants(&self.at_ns)?;
                let packed = lines::encode(&self.lines.texts(), form.zstd_level());
                let packed = packed.map_err(|source| Error::Disk {
                    doing: "pack lines in memory".to_owned(),
                    source,
                })?;
                let in_first = |text| Bytewise::in_first(text, rows).into_array();
                (in_first(instants), in_first(packed))
            }
        };
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(self.streams)),
            instants,
            Arc::new(UInt8Array::from(self.levels)),
            Arc::new(UInt8Array::from(self.flags)),
            lines,
            self.fields.into_array(),
        ];
        RecordBatch::try_new(Arc::clone(schema), arrays).map_err(|e| table_error(e.into()))
    }
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, Wrong> {
    batch.column_by_name(name).ok_or("a column is missing")
}

/// Differences with what they are all multiples of, entropy-coded.
fn pack_instants(at_ns: &[i64]) -> Result<Vec<u8>, Error> {
    let config = ChunkConfig::default().with_delta_spec(TryConsecutive(1));
    pco::standalone::simple_compress(at_ns, &config).map_err(|e| Error::Disk {
        doing: "pack instants in memory".to_owned(),
        source: std::io::Error::other(e),
    })
}

fn unpack_instants(packed: &[u8], rows: usize) -> Option<Vec<i64>> {
    let mut at_ns = vec![0; rows];
    let read = pco::standalone::simple_decompress_into(packed, &mut at_ns).ok()?;
    (read.finished && read.n_processed == rows).then_some(at_ns)
}

/// Lines of a group, from the batches of its column; of packed ones there is one batch.
pub(super) fn add_lines(page: &mut Page, batch: &RecordBatch, form: Form) -> Result<(), Wrong> {
    let lines = column(batch, form.line_column())?.as_binary_opt::<i32>().ok_or(WRONG_TYPE)?;
    match form {
        Form::Quick => page.push_lines(lines.value_data(), lines.value_offsets()),
        Form::Packed => {
            let packed = first_of(lines, page.is_empty())?;
            let lines = lines::decode(packed, batch.num_rows());
            *page = Page::of_lines(lines.map_err(|lines::Damaged(reason)| reason)?);
        }
    }
    Ok(())
}

/// Adds what stands beside the lines of a batch, of streams of which there are so many.
pub(super) fn add_rest(
    page: &mut Page,
    batch: &RecordBatch,
    form: Form,
    streams: usize,
    with_fields: bool,
) -> Result<(), Wrong> {
    let stream = column(batch, "stream")?.as_primitive_opt::<UInt32Type>().ok_or(WRONG_TYPE)?;
    let levels = column(batch, "level")?.as_primitive_opt::<UInt8Type>().ok_or(WRONG_TYPE)?;
    let flags = column(batch, "flags")?.as_primitive_opt::<UInt8Type>().ok_or(WRONG_TYPE)?;
    if stream.values().iter().any(|stream| *stream as usize >= streams) {
        return Err("a row is of a stream that is not there");
    }
    let marks = levels.values().iter().zip(flags.values());
    let marks = marks.map(|(level, flags)| Mark::of_stored(*level, *flags));
    let marks: Vec<Mark> = marks.collect::<Option<_>>().ok_or("a mark is unknown")?;
    let at = column(batch, form.instant_column())?;
    match form {
        Form::Quick => {
            let at = at.as_primitive_opt::<TimestampNanosecondType>().ok_or(WRONG_TYPE)?;
            page.push_columns(stream.values(), at.values(), &marks);
        }
        Form::Packed => {
            let at = at.as_binary_opt::<i32>().ok_or(WRONG_TYPE)?;
            let packed = first_of(at, page.instants().is_empty())?;
            let at_ns = unpack_instants(packed, batch.num_rows());
            let at_ns = at_ns.ok_or("instants are not as they are written")?;
            page.push_columns(stream.values(), &at_ns, &marks);
        }
    }
    if !with_fields {
        page.push_no_fields(batch.num_rows());
        return Ok(());
    }
    let fields = column(batch, "fields")?.as_binary_opt::<i32>().ok_or(WRONG_TYPE)?;
    for own in fields.iter().flatten() {
        if !own.is_empty() && !are_fields(own) {
            return Err("fields are not in canonical encoding");
        }
        page.push_fields(own);
    }
    Ok(())
}

/// What is packed: in the first row, which the first of all is to be.
fn first_of(column: &BinaryArray, is_first: bool) -> Result<&[u8], Wrong> {
    let first = column.iter().next().flatten().filter(|_| is_first);
    first.ok_or("what is packed is not read as a whole")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::page::put_field;

    /// Some rows through Parquet's memory form and back.
    fn read_back(form: Form, rows: &[Row<'_>], batches: &[usize]) -> Result<Page, Wrong> {
        let mut group = Rows::default();
        rows.iter().for_each(|row| group.push(row.stream, *row));
        let batch = group.into_batch(form, &Arc::new(form.schema())).expect("a batch");
        let (mut page, mut at) = (Page::default(), 0);
        for rows in batches {
            add_lines(&mut page, &batch.slice(at, *rows), form)?;
            at += rows;
        }
        at = 0;
        for rows in batches {
            add_rest(&mut page, &batch.slice(at, *rows), form, 3, true)?;
            at += rows;
        }
        Ok(page)
    }

    #[test]
    fn rows_come_back_in_either_form() {
        let mut fields = Vec::new();
        put_field(&mut fields, "trace_id", "5b8aa5a2d2c872e8321cf37308d69df2");
        let lines: Vec<String> = (0..100).map(|i| format!("took {}ms\n of {i}", i * i)).collect();
        let row = |i: usize| Row {
            stream: i as u32 / 40,
            at_ns: 1_790_000_000_000_000_000 + (i as i64 % 40) * 1_000,
            mark: Mark::of_stored(i as u8 % 8, i as u8 % 4).expect("a mark"),
            line: if i % 10 == 9 { b"\xff" } else { lines[i].as_bytes() },
            fields: if i.is_multiple_of(3) { &fields } else { b"" },
        };
        let mut rows: Vec<Row<'_>> = (0..lines.len()).map(row).collect();
        for form in [Form::Quick, Form::Packed] {
            let page = read_back(form, &rows, &[100]).expect("it is read");
            let again: Vec<Row<'_>> = (0..100).map(|i| page.row(i)).collect();
            assert_eq!(again, rows, "{form:?}");
            assert_eq!(page.range(), Some((rows[0].at_ns, rows[39].at_ns)));
            let in_parts = read_back(form, &rows, &[60, 40]);
            assert_eq!(in_parts.is_ok(), form == Form::Quick, "{form:?} in parts");
        }
        rows[5].stream = 3;
        for form in [Form::Quick, Form::Packed] {
            let error = read_back(form, &rows, &[100]).expect_err("there are three streams");
            assert_eq!(error, "a row is of a stream that is not there");
        }
    }

    #[track_caller]
    fn check(at_ns: &[i64], bytes_max: usize) {
        let packed = pack_instants(at_ns).expect("packed");
        assert!(packed.len() <= bytes_max, "{} bytes", packed.len());
        assert_eq!(unpack_instants(&packed, at_ns.len()).as_deref(), Some(at_ns));
        assert_eq!(unpack_instants(&packed, at_ns.len() + 1), None);
        if let Some(fewer) = at_ns.len().checked_sub(1) {
            assert_eq!(unpack_instants(&packed, fewer), None);
        }
        for cut in 0..packed.len() {
            assert_eq!(unpack_instants(&packed[..cut], at_ns.len()), None, "cut at {cut}");
        }
    }

    #[test]
    fn instants_come_back_and_take_what_they_tell() {
        let random = testkit::SeededRandom::new(7);
        let grown = |step: i64, count: u64| {
            let mut last = 1_790_000_000_000_000_000;
            let next = |_| {
                last += step * random.below(1_000) as i64;
                last
            };
            (0..count).map(next).collect::<Vec<_>>()
        };
        check(&[0], 40);
        check(&[i64::MIN, i64::MAX, 0, -1, i64::MIN], 80);
        // A thousand choices are ten bits, whatever they are multiples of.
        check(&grown(1, 8_192), 10_500);
        check(&grown(1_000, 8_192), 10_500);
        check(&grown(1_000_000, 8_192), 10_500);
        let streams: Vec<i64> = [grown(1_000, 3_000), grown(1_000, 3_000)].concat();
        check(&streams, 8_200);
        check(&[1_790_000_000_000_000_000; 8_192], 100);
    }
}
