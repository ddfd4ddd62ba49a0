//! Writes a segment: rows in order in, objects out.

use std::io::Write;
use std::sync::Arc;

use arrow_schema::Schema;
use bytes::Bytes;
use model::Signal;
use parquet::arrow::ArrowWriter;

use super::group::{Form, Rows};
use super::index::{Group, SegmentIndex, SegmentStream};
use super::terms::{Builder, block_rows};
use super::{ENTRIES, GROUP_BYTES_MAX, GROUP_ROWS_MAX, GROUP_ROWS_MIN, STREAMS, Style, bloom};
use crate::Error;
use crate::block::object::{Sink, Sum};
use crate::block::{close_table, table_error};
use crate::entries::page::{Fields, Row};
use crate::entries::streams::{Stream, StreamCounts};
use crate::entries::tokens::Distinct;

/// A segment of which everything but `entries.parquet` is to be put: its other objects in the order
/// in which they are to be put.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) index: SegmentIndex,
    pub(crate) objects: Vec<(&'static str, Bytes)>,
    /// Stands for the whole segment.
    pub(crate) checksum: u32,
}

/// Writes rows of one signal. They come in order of (stream, instant, arrival), their stream numbers
/// being places in `streams`, which are in their order.
pub(crate) fn write<'r>(
    signal: Signal,
    streams: &[Arc<Stream>],
    rows: impl Iterator<Item = Row<'r>>,
    style: Style,
) -> Result<Written, Error> {
    let mut writer = SegmentWriter::new(signal, style)?;
    for row in rows {
        let stream = streams.get(row.stream as usize);
        let stream = stream.ok_or_else(|| Error::Internal("a row has no stream".to_owned()))?;
        writer.add(stream, row)?;
    }
    let (closed, sink) = writer.close()?;
    let (entries, sum) = sink.into_whole(closed.tail_start);
    let mut written = closed.finish(sum)?;
    written.objects.insert(0, (ENTRIES, Bytes::from(entries)));
    Ok(written)
}

/// A segment that is being written, row after row.
pub(crate) struct SegmentWriter {
    signal: Signal,
    form: Form,
    streams: Vec<SegmentStream>,
    table: ArrowWriter<Sink>,
    schema: Arc<Schema>,
    group: Rows,
    groups: Vec<Group>,
    tokens: Tokens,
    /// Of all closed groups.
    rows: u64,
    raw_bytes: u64,
}

/// Which rows have which tokens.
enum Tokens {
    Blooms {
        /// Of the open group.
        tokens: Distinct,
        all: Vec<u8>,
    },
    Terms {
        terms: Box<Builder>,
        block_rows: usize,
        /// Blocks of all closed groups.
        blocks: u64,
    },
}

/// What is known of a segment once its rows are all there.
#[derive(Debug)]
pub(crate) struct Closed {
    signal: Signal,
    form: Form,
    streams: Vec<SegmentStream>,
    groups: Vec<Group>,
    tokens: (Vec<u8>, Sum),
    block_rows: Option<u64>,
    rows: u64,
    raw_bytes: u64,
    /// Where the footer of `entries.parquet` begins.
    pub(crate) tail_start: u64,
}

impl SegmentWriter {
    pub(crate) fn new(signal: Signal, style: Style) -> Result<Self, Error> {
        let form = style.form();
        let schema = Arc::new(form.schema());
        let tokens = match style {
            Style::Young => Tokens::Blooms { tokens: Distinct::default(), all: Vec::new() },
            Style::Kept => {
                let (terms, block_rows) = (Box::new(Builder::new()), block_rows(signal));
                Tokens::Terms { terms, block_rows, blocks: 0 }
            }
        };
        let properties = Some(form.properties());
        let table = ArrowWriter::try_new(Sink::default(), Arc::clone(&schema), properties);
        Ok(Self {
            signal,
            form,
            streams: Vec::new(),
            table: table.map_err(table_error)?,
            schema,
            group: Rows::default(),
            groups: Vec::new(),
            tokens,
            rows: 0,
            raw_bytes: 0,
        })
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows + self.group.at_ns.len() as u64
    }

    /// Bytes of their lines and fields.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// What is written of `entries.parquet` and was not sent.
    pub(crate) fn sink(&mut self) -> &mut Sink {
        self.table.inner_mut()
    }

    /// Adds a row of a stream; what its own number is does not count.
    pub(crate) fn add(&mut self, stream: &Arc<Stream>, row: Row<'_>) -> Result<(), Error> {
        let is_known = |last: &SegmentStream| {
            Arc::ptr_eq(&last.stream, stream) || last.stream.order(stream).is_eq()
        };
        let is_new = !self.streams.last().is_some_and(is_known);
        let last = self.streams.last().map(|last| last.stream.tenant);
        if self.ends_before(last.is_some_and(|last| last != stream.tenant)) {
            self.close_group()?;
        }
        if is_new {
            let (first_row, stream) = (self.rows(), Arc::clone(stream));
            self.streams.push(SegmentStream { stream, first_row, counts: StreamCounts::default() });
        }
        self.group.push(self.streams.len() as u32 - 1, row);
        self.tokens.add(&row, self.group.at_ns.len(), self.signal)?;
        let bytes = row.line.len() + row.fields.len();
        self.raw_bytes += bytes as u64;
        if let Some(last) = self.streams.last_mut() {
            last.counts.add(row.at_ns, bytes);
        }
        Ok(())
    }

    /// Whether a group ends before the next row.
    fn ends_before(&self, is_of_next_tenant: bool) -> bool {
        let rows = self.group.at_ns.len();
        let bytes = self.group.raw_bytes();
        rows >= GROUP_ROWS_MAX
            || bytes >= GROUP_BYTES_MAX
            || (rows >= GROUP_ROWS_MIN && is_of_next_tenant)
    }

    fn close_group(&mut self) -> Result<(), Error> {
        let group = std::mem::take(&mut self.group);
        let rows = group.at_ns.len() as u64;
        let span = group.at_ns.iter().min().zip(group.at_ns.iter().max());
        let Some((&first_ns, &last_ns)) = span else { return Ok(()) };
        let batch = group.into_batch(self.form, &self.schema)?;
        self.table.write(&batch).and_then(|()| self.table.flush()).map_err(table_error)?;
        let (bloom_at, bloom_bytes, first_block) = self.tokens.end_group(rows)?;
        let first_row = self.rows;
        self.groups.push(Group {
            first_row,
            rows,
            first_ns,
            last_ns,
            bloom_at,
            bloom_bytes,
            first_block,
        });
        self.rows += rows;
        Ok(())
    }

    /// No more rows come: what is left to be sent of `entries.parquet`, and what is known.
    pub(crate) fn close(mut self) -> Result<(Closed, Sink), Error> {
        self.close_group()?;
        let Self { signal, form, streams, groups, rows, raw_bytes, .. } = self;
        let (sink, tail_start) = close_table(self.table)?;
        let (block_rows, tokens) = (self.tokens.block_rows(), self.tokens.finish()?);
        let closed = Closed {
            signal,
            form,
            streams,
            groups,
            tokens,
            block_rows,
            rows,
            raw_bytes,
            tail_start,
        };
        Ok((closed, sink))
    }
}

impl Tokens {
    /// Adds the tokens of a row, which is the so manieth of its group.
    fn add(&mut self, row: &Row<'_>, number: usize, signal: Signal) -> Result<(), Error> {
        match self {
            Self::Blooms { tokens, .. } => {
                tokens.add(row.line);
                for (_, value) in Fields(row.fields) {
                    tokens.add(value.as_bytes());
                }
            }
            Self::Terms { terms, block_rows, .. } => {
                if number > 1 && (number - 1).is_multiple_of(*block_rows) {
                    terms.end_block()?;
                }
                terms.add_row(row, signal);
            }
        }
        Ok(())
    }

    /// Ends a group of so many rows: where its bloom lies, and which of its blocks is the first.
    fn end_group(&mut self, rows: u64) -> Result<(u64, u64, u64), Error> {
        match self {
            Self::Blooms { tokens, all } => {
                let filter = bloom::build(tokens.all());
                tokens.clear();
                let place = (all.len() as u64, filter.len() as u64, 0);
                all.extend_from_slice(&filter);
                Ok(place)
            }
            Self::Terms { terms, block_rows, blocks } => {
                terms.end_block()?;
                let first = *blocks;
                *blocks += rows.div_ceil(*block_rows as u64);
                Ok((0, 0, first))
            }
        }
    }

    /// Rows of a block, if there is an index over terms.
    fn block_rows(&self) -> Option<u64> {
        match self {
            Self::Blooms { .. } => None,
            Self::Terms { block_rows, .. } => Some(*block_rows as u64),
        }
    }

    /// The object, and what a reader must know of it.
    fn finish(self) -> Result<(Vec<u8>, Sum), Error> {
        match self {
            Self::Blooms { all, .. } => {
                let mut sink = Sink::default();
                sink.write_all(&all).map_err(|source| Error::Disk {
                    doing: "write blooms in memory".to_owned(),
                    source,
                })?;
                Ok(sink.into_whole(0))
            }
            Self::Terms { terms, .. } => terms.finish(),
        }
    }
}

impl Closed {
    /// The rest of the segment; `entries` is the sum of its rows' object.
    pub(crate) fn finish(self, entries: Sum) -> Result<Written, Error> {
        let (tokens, sum) = self.tokens;
        let index = SegmentIndex {
            signal: self.signal,
            form: self.form,
            rows: self.rows,
            raw_bytes: self.raw_bytes,
            first_ns: self.groups.iter().map(|g| g.first_ns).min().unwrap_or_default(),
            last_ns: self.groups.iter().map(|g| g.last_ns).max().unwrap_or_default(),
            groups: self.groups,
            streams: self.streams,
            entries,
            tokens: sum,
            block_rows: self.block_rows,
        };
        let (encoded, checksum) = index.encode()?;
        let name = index.tokens_object();
        let objects = vec![(name, Bytes::from(tokens)), (STREAMS, Bytes::from(encoded))];
        Ok(Written { index, objects, checksum })
    }
}
