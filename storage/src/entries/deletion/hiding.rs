//! What deletions hide in one place: in a segment, or in the pages of a head.

use std::sync::Arc;

use model::{Labels, Pace};

use super::{Deletion, Deletions};
use crate::Error;
use crate::entries::page::Page;
use crate::entries::segment::Columns;
use crate::entries::streams::{Stream, StreamCounts};

/// Deletions that may hide entries of a place, and of which of its streams.
#[derive(Debug, Default)]
pub(crate) struct Hiding(Vec<(Arc<Deletion>, Vec<bool>)>);

impl Hiding {
    /// `deletions` are those that concern the place; `streams` are its own, by number.
    pub(crate) fn of<'s>(
        deletions: &Deletions,
        streams: impl Iterator<Item = &'s Stream> + Clone,
        pace: &mut Pace,
    ) -> Result<Self, Error> {
        let mut all = Vec::new();
        for deletion in deletions.0.iter() {
            let mut meant = Vec::new();
            for stream in streams.clone() {
                pace.work(4)?;
                meant.push(deletion.tombstone.matches(stream));
            }
            if meant.contains(&true) {
                all.push((Arc::clone(deletion), meant));
            }
        }
        Ok(Self(all))
    }

    /// Whether nothing is hidden.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of rows must be decoded to tell which are hidden.
    pub(crate) fn columns(&self) -> Columns {
        let none = Columns { lines: false, fields: false };
        self.0.iter().fold(none, |all, (deletion, _)| all.with(deletion.filter.columns()))
    }

    /// The rows of a page, of those given in order, that are not hidden; `labels` are those of a
    /// stream by its number.
    pub(crate) fn keep<'a>(
        &self,
        page: &Page,
        mut rows: Vec<u32>,
        labels: impl Fn(u32) -> Option<&'a Labels>,
        pace: &mut Pace,
    ) -> Result<Vec<u32>, Error> {
        for (deletion, streams) in &self.0 {
            let is_meant = |row: &u32| {
                let row = *row as usize;
                let stream = page.streams()[row] as usize;
                streams.get(stream).is_some_and(|meant| *meant)
                    && deletion.is_inside(page.instants()[row])
            };
            pace.work(1 + rows.len() / 4)?;
            let meant: Vec<u32> = rows.iter().copied().filter(is_meant).collect();
            if meant.is_empty() {
                continue;
            }
            let hidden = deletion.filter.keep(page, meant, pace)?;
            let hidden = deletion.filter.keep_named(page, hidden, &labels, pace)?;
            if !hidden.is_empty() {
                let mut hidden = hidden.into_iter().peekable();
                rows.retain(|row| hidden.next_if_eq(row).is_none());
            }
        }
        Ok(rows)
    }

    /// Whether something of a stream between two instants, both inside, may be hidden.
    pub(crate) fn may_hide(&self, stream: usize, (first_ns, last_ns): (i64, i64)) -> bool {
        self.0.iter().any(|(deletion, meant)| {
            let (start, end) = deletion.tombstone.range_ns;
            meant[stream] && first_ns < end && last_ns >= start
        })
    }

    /// Whether all that a stream has in this place is hidden, going by its counts alone.
    pub(crate) fn hides_all(&self, stream: usize, counts: &StreamCounts) -> bool {
        self.0.iter().any(|(deletion, meant)| {
            meant[stream]
                && deletion.tombstone.filter.is_empty()
                && deletion.is_inside(counts.first_ns)
                && deletion.is_inside(counts.last_ns)
        })
    }
}
