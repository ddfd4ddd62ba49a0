//! Looking at one page or group: work for a processor that needs nothing more of the search it
//! belongs to, so several are done side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{Cancel, Pace};

use super::looking::{Loaded, Unit, Wanted};
use crate::Error;
use crate::block::object::Stretch;
use crate::entries::condition::Filter;
use crate::entries::deletion::Hiding;
use crate::entries::needs::Blocks;
use crate::entries::page::Page;
use crate::entries::segment::{Columns, Open};

/// What all scans of a search look for, and what they have read.
#[derive(Debug)]
pub(super) struct Sought {
    pub(super) filter: Filter,
    /// Instants that the question is about, the second not inside.
    pub(super) range: (i64, i64),
    /// Columns of rows that are needed whatever the filter asks.
    pub(super) columns: Columns,
    pub(super) bytes_max: usize,
    pub(super) bytes: AtomicUsize,
    pub(super) cancel: Cancel,
}

/// A page or a group that was loaded and may have something of the answer.
#[derive(Debug)]
pub struct EntryScan {
    pub(super) sought: Arc<Sought>,
    pub(super) unit: Unit,
    pub(super) loaded: Loaded,
    /// By stream number; `None`: not asked for, or not to be seen.
    pub(super) wanted: Arc<[Option<Wanted>]>,
    /// What of the place is deleted.
    pub(super) hiding: Arc<Hiding>,
    /// Blocks of rows that may have what is needed, where that is known.
    pub(super) blocks: Option<Arc<Blocks>>,
}

/// What a scan found.
#[derive(Debug)]
pub struct EntriesScanned {
    pub(super) unit: Unit,
    /// The rows that pass, if there are any.
    pub(super) passing: Option<Passing>,
}

/// Rows of a page that pass.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) page: Arc<Page>,
    /// Their numbers, in order.
    pub(super) rows: Vec<u32>,
}

impl EntryScan {
    /// Finds the rows that are asked for and pass the filter. CPU work.
    pub fn run(self) -> Result<EntriesScanned, Error> {
        let mut pace = Pace::new(&self.sought.cancel);
        pace.look()?;
        let (unit, passing) = (self.unit, self.passing(&mut pace)?);
        Ok(EntriesScanned { unit, passing })
    }

    fn passing(self, pace: &mut Pace) -> Result<Option<Passing>, Error> {
        let Self { sought, wanted, hiding, .. } = &self;
        let filter = &sought.filter;
        let (page, mut rows, is_searched) = match &self.loaded {
            Loaded::Page(page) => {
                let rows = (0..page.rows() as u32).collect();
                (Arc::clone(page), rows, false)
            }
            Loaded::Group(open, stretch) => match self.open_group(open, stretch, pace)? {
                Some((page, rows)) => (Arc::new(page), rows, filter.finds_in_lines()),
                None => return Ok(None),
            },
        };
        let (start, end) = sought.range;
        let is_asked = |row: &u32| {
            let at = page.instants()[*row as usize];
            let stream = page.streams()[*row as usize] as usize;
            (start..end).contains(&at)
                && wanted.get(stream).and_then(Option::as_ref).is_some_and(|w| w.has(at))
        };
        rows.retain(is_asked);
        pace.work(page.rows())?;
        if rows.is_empty() {
            return Ok(None);
        }
        let rows = match is_searched {
            true => {
                let rows = filter.keep_levels(&page, rows);
                filter.keep_fields(&page, rows, pace)?
            }
            false => {
                self.count_read(page.raw_bytes())?;
                filter.keep(&page, rows, pace)?
            }
        };
        let labels = |stream: u32| Some(&wanted.get(stream as usize)?.as_ref()?.stream.labels);
        let rows = filter.keep_named(&page, rows, labels, pace)?;
        let rows = hiding.keep(&page, rows, labels, pace)?;
        Ok((!rows.is_empty()).then_some(Passing { page, rows }))
    }

    /// Decodes a group as far as it is needed. Lines come first where the filter asks for what
    /// stands in them: mostly it stands in none, and nothing else need be decoded.
    fn open_group(
        &self,
        open: &Open,
        stretch: &Stretch,
        pace: &mut Pace,
    ) -> Result<Option<(Page, Vec<u32>)>, Error> {
        let (group, filter) = (self.unit.page as usize, &self.sought.filter);
        let columns = self.sought.columns.with(filter.columns()).with(self.hiding.columns());
        if !filter.finds_in_lines() {
            let page = open.decode(group, stretch, columns)?;
            let rows = (0..page.rows() as u32).collect();
            return Ok(Some((page, rows)));
        }
        let rows = self.rows_of(open, group);
        if rows.is_empty() {
            return Ok(None);
        }
        let mut page = open.decode_lines(group, stretch)?;
        let span = rows.first().zip(rows.last()).map(|(first, last)| {
            page.place(*last as usize).end - page.place(*first as usize).start
        });
        self.count_read(span.unwrap_or(0))?;
        let rows = filter.keep_lines(&page, rows, pace)?;
        if rows.is_empty() {
            return Ok(None);
        }
        open.decode_rest(group, stretch, columns, &mut page)?;
        Ok(Some((page, rows)))
    }

    /// The rows of a group that are of streams that are asked for, in blocks that may have what is
    /// needed.
    fn rows_of(&self, open: &Open, group: usize) -> Vec<u32> {
        let Some(group) = open.index.groups.get(group) else { return Vec::new() };
        let (first, end) = (group.first_row, group.first_row + group.rows);
        let streams = &open.index.streams;
        let from = streams.partition_point(|s| s.first_row <= first).saturating_sub(1);
        let mut rows = Vec::with_capacity(group.rows as usize);
        let of_group = streams.iter().zip(self.wanted.iter()).skip(from);
        for (stream, _) in of_group
            .take_while(|(stream, _)| stream.first_row < end)
            .filter(|(_, wanted)| wanted.is_some())
        {
            let last = stream.first_row + stream.counts.rows();
            let (own, own_end) = (stream.first_row.max(first), last.clamp(first, end));
            rows.extend((own - first) as u32..(own_end - first) as u32);
        }
        let blocks = self.blocks.as_deref().and_then(Option::as_ref);
        if let Some((blocks, of_block)) = blocks.zip(open.index.block_rows) {
            let all = open.index.blocks_of(group);
            let may: Vec<bool> = all.map(|block| blocks.contains(block)).collect();
            rows.retain(|row| may[(u64::from(*row) / of_block) as usize]);
        }
        rows
    }

    /// Counts what is read against the limit of the question.
    fn count_read(&self, bytes: usize) -> Result<(), Error> {
        let Sought { bytes_max: limit, bytes: read, .. } = &*self.sought;
        let bytes = read.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if bytes > *limit {
            return Err(Error::Limit(format!(
                "the question reads more than {bytes} bytes of entries, the limit is {limit}; \
                 ask for fewer streams or less time"
            )));
        }
        Ok(())
    }
}
