//! A generation of rows in a head: what came between two flushes, in the order it came.

use std::sync::Arc;

use model::{Pace, Position};
use tenancy::TenantId;

use super::deletion::{Deletion, Deletions, Hiding};
use super::page::{Page, Row};
use super::payload::{Named, NewStream};
use super::streams::{Stream, StreamTable};
use super::tail;
use crate::Error;

/// A page is closed at so many rows; what is open is copied by each question that reads it.
const PAGE_ROWS: usize = 1_024;

/// The same in bytes of lines and fields.
const PAGE_BYTES: usize = 128 << 10;

/// A stream that the log has not named in this generation yet.
const UNNAMED: u32 = u32::MAX;

/// Rows with the table of their streams.
#[derive(Debug)]
pub(crate) struct Generation {
    /// A position of the log: since then streams are numbered as they are there.
    pub(crate) number: u64,
    pub(crate) streams: StreamTable,
    /// The number of each stream in the log.
    named: Vec<u32>,
    names: u32,
    closed: Vec<Arc<Page>>,
    open: Page,
    /// Where records stand in the log, and how many rows there were before each.
    records: Vec<(Position, u64)>,
    rows: u64,
    raw_bytes: u64,
}

/// What a question sees of a generation.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) streams: Arc<[Arc<Stream>]>,
    pub(crate) pages: Vec<Arc<Page>>,
}

impl Generation {
    pub(crate) fn new(number: u64, key: u64) -> Self {
        Self {
            number,
            streams: StreamTable::new(key),
            named: Vec::new(),
            names: 0,
            closed: Vec::new(),
            open: Page::default(),
            records: Vec::new(),
            rows: 0,
            raw_bytes: 0,
        }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of lines and fields.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Memory taken, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let pages: usize = self.closed.iter().map(|p| p.heap_bytes()).sum();
        let records = self.records.capacity() * size_of::<(Position, u64)>();
        pages + self.open.heap_bytes() + self.streams.heap_bytes() + records
    }

    /// Adds a stream that is not there.
    pub(crate) fn add_stream(&mut self, stream: Arc<Stream>) -> u32 {
        self.named.push(UNNAMED);
        self.streams.push(stream)
    }

    /// What the log calls a stream from now on, and what it has to be told of it.
    pub(crate) fn name_of(&mut self, stream: u32) -> Named {
        let name = &mut self.named[stream as usize];
        if *name != UNNAMED {
            return Named { number: *name, new: None };
        }
        *name = self.names;
        self.names += 1;
        let Stream { signal, kind, id, labels, .. } = &*self.streams.all()[stream as usize];
        let new = NewStream { signal: *signal, kind: *kind, id: *id, labels: labels.clone() };
        Named { number: *name, new: Some(new) }
    }

    /// Begins to number streams for the log anew.
    pub(crate) fn renumber(&mut self, number: u64) {
        self.number = number;
        self.names = 0;
        self.named.iter_mut().for_each(|name| *name = UNNAMED);
    }

    /// The rows that are added next are those of a record.
    pub(crate) fn note_record(&mut self, at: Position) {
        self.records.push((at, self.rows));
    }

    /// The records from a position on, of tenants that are asked for: each is of one tenant.
    pub(crate) fn records_from(
        &self,
        position: u64,
        is_asked: impl Fn(TenantId) -> bool,
    ) -> Vec<tail::Record> {
        let first = self.records.partition_point(|(at, _)| at.0 < position);
        let streams: Arc<[Arc<Stream>]> = self.streams.all().into();
        let ends = self.records[first..].iter().skip(1).map(|(_, row)| *row).chain([self.rows]);
        let mut pages = self.closed.iter().map(AsRef::as_ref).chain([&self.open]);
        // The page that is looked at, and how many rows there are before it.
        let (mut page, mut before) = (pages.next(), 0);
        let mut records = Vec::new();
        for ((position, row), end) in self.records[first..].iter().zip(ends) {
            let mut own = Page::default();
            let mut tenant = None;
            for row in *row..end {
                while let Some(passed) = page.filter(|page| row - before >= page.rows() as u64) {
                    before += passed.rows() as u64;
                    page = pages.next();
                }
                let Some(page) = page else { break };
                let row = page.row((row - before) as usize);
                let of = streams.get(row.stream as usize).map(|stream| stream.tenant);
                tenant = of.filter(|tenant| is_asked(*tenant));
                if tenant.is_none() {
                    break;
                }
                own.push(row);
            }
            let Some(tenant) = tenant else { continue };
            let (position, streams, page) = (*position, Arc::clone(&streams), Arc::new(own));
            records.push(tail::Record { position, tenant, streams, page, first_row: 0 });
        }
        records
    }

    /// Adds the rows of a page; its stream numbers are places in `streams`.
    pub(crate) fn push(&mut self, page: &Page, streams: &[u32]) {
        for i in 0..page.rows() {
            let row = page.row(i);
            let Some(&stream) = streams.get(row.stream as usize) else { continue };
            self.push_row(Row { stream, ..row });
        }
    }

    fn push_row(&mut self, row: Row<'_>) {
        let bytes = row.line.len() + row.fields.len();
        if self.open.rows() >= PAGE_ROWS
            || self.open.raw_bytes() + bytes > PAGE_BYTES && !self.open.is_empty()
        {
            self.close();
        }
        self.open.push(row);
        self.streams.count(row.stream, row.at_ns, bytes);
        self.rows += 1;
        self.raw_bytes += bytes as u64;
    }

    /// The same without what a deletion means; `None` if it means none of the rows. However long
    /// it takes: deletions are logged before they are carried out.
    pub(crate) fn without(&self, deletion: &Arc<Deletion>) -> Result<Option<Self>, Error> {
        let mut pace = Pace::endless();
        let streams = self.streams.all();
        let own = streams.iter().map(AsRef::as_ref);
        let hiding = Hiding::of(&Deletions::only(deletion), own, &mut pace)?;
        if hiding.is_empty() {
            return Ok(None);
        }
        let labels = |stream: u32| streams.get(stream as usize).map(|s| &s.labels);
        let mut left = Self {
            streams: self.streams.without_rows(),
            named: self.named.clone(),
            names: self.names,
            ..Self::new(self.number, 0)
        };
        let (mut records, mut before) = (self.records.iter().peekable(), 0);
        for page in self.closed.iter().map(AsRef::as_ref).chain([&self.open]) {
            let rows = 0..page.rows() as u32;
            let kept = hiding.keep(page, rows.clone().collect(), labels, &mut pace)?;
            let mut kept = kept.into_iter().peekable();
            for row in rows {
                while let Some((at, _)) = records.next_if(|(_, first)| *first <= before) {
                    left.note_record(*at);
                }
                if kept.next_if_eq(&row).is_some() {
                    left.push_row(page.row(row as usize));
                }
                before += 1;
            }
        }
        records.for_each(|(at, _)| left.note_record(*at));
        Ok((left.rows < self.rows).then_some(left))
    }

    /// Closes the open page.
    pub(crate) fn close(&mut self) {
        if !self.open.is_empty() {
            // A copy takes what it holds; what grew takes up to twice of that, and grows no more.
            self.closed.push(Arc::new(self.open.clone()));
            self.open.clear();
        }
    }

    /// Pages that are closed.
    pub(crate) fn closed(&self) -> &[Arc<Page>] {
        &self.closed
    }

    /// What a question sees that begins now.
    pub(crate) fn view(&self) -> View {
        let mut pages = self.closed.clone();
        if !self.open.is_empty() {
            pages.push(Arc::new(self.open.clone()));
        }
        View { streams: self.streams.all().into(), pages }
    }
}
