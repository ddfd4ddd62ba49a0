//! Rows of one segment, in their order, a group at a time.

use std::cmp::Ordering;
use std::sync::Arc;

use model::Pace;

use crate::Error;
use crate::entries::deletion::Hiding;
use crate::entries::page::{Page, Row};
use crate::entries::segment::{Columns, Open};
use crate::entries::streams::Stream;

/// A reader of one segment from its first row to its last.
#[derive(Debug)]
pub(super) struct Cursor {
    open: Arc<Open>,
    /// What of it is deleted.
    hiding: Hiding,
    /// Rows of the page that are, in order.
    hidden: Vec<u32>,
    /// The next group to be read.
    group: usize,
    page: Page,
    /// The next row of the page.
    row: usize,
}

impl Cursor {
    pub(super) fn new(open: Arc<Open>, hiding: Hiding) -> Self {
        Self { open, hiding, hidden: Vec::new(), group: 0, page: Page::default(), row: 0 }
    }

    /// Whether it must be given more before it can be merged on.
    pub(super) fn is_dry(&self) -> bool {
        self.row == self.page.rows() && self.group < self.open.index.groups.len()
    }

    /// Reads the next group; gives the bytes of its lines and fields.
    pub(super) async fn load(mut self) -> Result<(Self, usize), Error> {
        let stretch = self.open.fetch(self.group).await?;
        let decoding = tokio::task::spawn_blocking(move || {
            self.page = self.open.decode(self.group, &stretch, Columns::ALL)?;
            (self.row, self.group) = (0, self.group + 1);
            self.hidden = self.hidden_rows()?;
            let bytes = self.page.raw_bytes();
            Ok((self, bytes))
        });
        decoding.await.map_err(|e| Error::Internal(format!("decode a segment: {e}")))?
    }

    fn hidden_rows(&self) -> Result<Vec<u32>, Error> {
        if self.hiding.is_empty() {
            return Ok(Vec::new());
        }
        let streams = &self.open.index.streams;
        let labels = |stream: u32| streams.get(stream as usize).map(|s| &s.stream.labels);
        let all: Vec<u32> = (0..self.page.rows() as u32).collect();
        // Decided long ago: it is carried out however long that takes.
        let kept = self.hiding.keep(&self.page, all.clone(), labels, &mut Pace::endless())?;
        let mut kept = kept.into_iter().peekable();
        Ok(all.into_iter().filter(|row| kept.next_if_eq(row).is_none()).collect())
    }

    /// Whether a row of the page is deleted.
    pub(super) fn is_hidden(&self, row: usize) -> bool {
        !self.hidden.is_empty() && self.hidden.binary_search(&(row as u32)).is_ok()
    }

    /// The stream of the next row.
    pub(super) fn stream(&self) -> Option<&Arc<Stream>> {
        let number = self.page.streams().get(self.row)?;
        Some(&self.open.index.streams.get(*number as usize)?.stream)
    }

    /// The next row, if it is of that stream.
    pub(super) fn row_of(&self, stream: &Stream) -> Option<Row<'_>> {
        let own = self.stream()?;
        let is_same = std::ptr::eq(own.as_ref(), stream) || own.order(stream) == Ordering::Equal;
        is_same.then(|| self.page.row(self.row))
    }

    /// How many rows from the next one on are of its stream and come before an instant, or at it.
    pub(super) fn run(&self, until_ns: i64, is_until_inside: bool) -> std::ops::Range<usize> {
        let Some(first) = self.page.streams().get(self.row) else { return self.row..self.row };
        let (streams, instants) =
            (&self.page.streams()[self.row..], &self.page.instants()[self.row..]);
        let is_in = |at: &usize| {
            let at_ns = instants[*at];
            streams[*at] == *first && (at_ns < until_ns || (is_until_inside && at_ns == until_ns))
        };
        let rows = (0..streams.len()).take_while(is_in).count();
        self.row..self.row + rows
    }

    /// A row of the page.
    pub(super) fn row(&self, at: usize) -> Row<'_> {
        self.page.row(at)
    }

    /// Goes on to a row of the page.
    pub(super) fn go_to(&mut self, row: usize) {
        self.row = row;
    }
}
