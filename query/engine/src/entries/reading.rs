//! Entries a batch at a time: each batch is a search behind the last entry of the one before, so no
//! more is held than what is given.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use model::{Labels, Signal};
use query::Error;
use query::entries::{
    Direction, EntryBatches, EntryFilter, EntryRow, LEVEL_NAME, LineTest, Place, SelectEntries,
};
use storage::entries as stored;
use storage::entries::FoundEntry;

use super::Asking;
use crate::budget::Reserved;
use crate::executor::asked;

/// Entries of the first batch where the question wants more: nobody knows yet how long they are.
const FIRST_ROWS: usize = 1_024;

/// Entries of a batch at most. A search looks at every stream once, so batches are not small.
const ROWS_MAX: usize = 32 << 10;

/// What a batch should take, going by the one before. Bytes.
const BATCH_BYTES: usize = 16 << 20;

/// Memory of one entry beside its line and fields. Bytes.
const ENTRY_BYTES: usize = 200;

/// Entries of a question as they are found, some at a time.
pub(crate) struct Pages {
    asking: Asking,
    request: stored::SelectEntries,
    /// Entries still wanted.
    left: usize,
    /// Entries of the next batch.
    rows: usize,
    /// Memory of what was given last.
    held: Reserved,
}

impl Pages {
    pub(super) fn new(asking: Asking, request: SelectEntries) -> Self {
        let SelectEntries { selection, direction, limit, after } = request;
        let request = stored::SelectEntries {
            signals: vec![selection.signal],
            selectors: selection.selectors,
            start_ns: selection.start_ns,
            end_ns: selection.end_ns,
            filter: stored_filter(selection.filter),
            direction: match direction {
                Direction::Forward => stored::Direction::Forward,
                Direction::Backward => stored::Direction::Backward,
            },
            limit: 0,
            after: after.map(|place| stored_place(place, selection.signal)),
            only: None,
        };
        Self::of(asking, request, limit)
    }

    /// Of what is asked of the store, whatever its own limit.
    pub(crate) fn of(asking: Asking, request: stored::SelectEntries, limit: Option<usize>) -> Self {
        let left = limit.unwrap_or(usize::MAX);
        Self { asking, request, left, rows: FIRST_ROWS, held: Reserved::default() }
    }

    /// Only in these stretches of these streams.
    pub(super) fn within(mut self, only: stored::StreamSpans) -> Self {
        self.request.only = Some(Arc::new(only));
        self
    }

    /// The next entries, never none; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<FoundEntry>>, Error> {
        self.held = Reserved::default();
        self.request.limit = self.rows.min(self.left);
        if self.request.limit == 0 {
            return Ok(None);
        }
        let work = search(self.asking.clone(), self.request.clone());
        let (found, held) = self.asking.run(work).await?;
        self.held = held;
        let Some(last) = found.last() else { return Ok(None) };
        self.request.after = Some(last.place);
        let bytes: usize = found.iter().map(|entry| ENTRY_BYTES + counted_bytes(entry)).sum();
        self.rows = (BATCH_BYTES / (bytes / found.len()).max(1)).clamp(1, ROWS_MAX);
        self.left = match found.len() < self.request.limit {
            true => 0,
            false => self.left - found.len(),
        };
        Ok(Some(found))
    }
}

/// One search, to be polled on the pool: after each stretch of it others have their turn.
async fn search(
    asking: Asking,
    request: stored::SelectEntries,
) -> Result<(Vec<FoundEntry>, Reserved), Error> {
    let Asking { storage, scope, budget, .. } = &asking;
    let until = budget.cancel();
    let begun = storage.begin_entries(scope, &request, until.stop()).await;
    searched(&asking, begun.map_err(asked)?).await
}

/// What a search finds that has begun. Scans are jobs beside it, one for each thread at a time:
/// each holds some megabytes until what it found is taken.
pub(super) async fn searched(
    Asking { lane, budget, .. }: &Asking,
    mut search: stored::EntrySearch,
) -> Result<(Vec<FoundEntry>, Reserved), Error> {
    let mut counted = 0;
    while search.load().await.map_err(asked)? {
        let mut running = VecDeque::new();
        loop {
            while running.len() < lane.threads()
                && let Some(scan) = search.next_scan()
            {
                running.push_back(lane.run(move || scan.run().map_err(asked)));
            }
            let Some(first) = running.pop_front() else { break };
            search.take(&first.await?).map_err(asked)?;
            let read = search.bytes_read();
            budget.take_bytes(read - counted)?;
            counted = read;
        }
    }
    let found = search.finish();
    budget.take_samples(found.len())?;
    let bytes = found.iter().map(|entry| ENTRY_BYTES + counted_bytes(entry)).sum();
    let held = budget.reserve(bytes)?;
    Ok((found, held))
}

/// Bytes that an entry counts for.
pub(crate) fn counted_bytes(entry: &FoundEntry) -> usize {
    let fields = entry.fields.iter().map(|(name, value)| name.len() + value.len());
    entry.line.len() + fields.sum::<usize>()
}

/// Makes rows of what was found.
#[derive(Default)]
pub(super) struct Rows {
    /// The stream of the last row, and its labels: often that of the next, too.
    last: Option<(Arc<stored::EntryStream>, Arc<Labels>)>,
}

impl Rows {
    /// The labels of a stream.
    pub(super) fn labels(&mut self, stream: &Arc<stored::EntryStream>) -> Arc<Labels> {
        match &self.last {
            Some((last, labels)) if Arc::ptr_eq(last, stream) => Arc::clone(labels),
            _ => {
                let labels = Arc::new(stream.labels.clone());
                self.last = Some((Arc::clone(stream), Arc::clone(&labels)));
                labels
            }
        }
    }

    /// An entry as a row.
    pub(super) fn row(&mut self, entry: FoundEntry) -> EntryRow {
        EntryRow {
            place: place(entry.place),
            stream: self.labels(&entry.stream),
            line: entry.line.into(),
            fields: entry.fields.into(),
            level: entry.level,
        }
    }
}

/// Pages as rows.
pub(super) struct Reading {
    pages: Pages,
    rows: Rows,
}

impl Reading {
    pub(super) fn new(pages: Pages) -> Self {
        Self { pages, rows: Rows::default() }
    }
}

#[async_trait]
impl EntryBatches for Reading {
    async fn next(&mut self) -> Result<Option<Vec<EntryRow>>, Error> {
        let Some(page) = self.pages.next().await? else { return Ok(None) };
        Ok(Some(page.into_iter().map(|entry| self.rows.row(entry)).collect()))
    }
}

/// Where an entry stands. Among those of one instant and one set of labels tenants come first, then
/// the order in which they came.
fn place(place: stored::EntryPlace) -> Place {
    let sequence = u64::from(place.tenant) << 32 | u64::from(place.nth);
    Place { at_ns: place.at_ns, stream: place.stream, sequence }
}

fn stored_place(place: Place, signal: Signal) -> stored::EntryPlace {
    stored::EntryPlace {
        at_ns: place.at_ns,
        tenant: (place.sequence >> 32) as u32,
        signal,
        stream: place.stream,
        nth: place.sequence as u32,
    }
}

/// A filter as the store takes it.
pub fn stored_filter(filter: EntryFilter) -> stored::EntryFilter {
    let test = |test| match test {
        LineTest::Contains(text) => stored::LineTest::Contains(text),
        LineTest::Words(text) => stored::LineTest::Words(text),
        LineTest::Regex(pattern) => stored::LineTest::Regex(pattern),
    };
    let lines = filter.lines.into_iter().map(|condition| stored::LineCondition {
        any: condition.any.into_iter().map(test).collect(),
        is_negative: condition.is_negative,
        ignores_case: condition.ignores_case,
    });
    stored::EntryFilter {
        lines: lines.collect(),
        fields: Vec::new(),
        named: filter.named,
        level_name: Some(LEVEL_NAME.to_owned()),
        level_min: filter.level_min,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_their_order() {
        let at = |at_ns, stream, tenant, nth| stored::EntryPlace {
            at_ns,
            tenant,
            signal: Signal::Logs,
            stream,
            nth,
        };
        let all = [
            at(-5, u128::MAX, 7, 1),
            at(3, 1, 2, u32::MAX),
            at(3, 1, u32::MAX, 0),
            at(3, 2, 1, 0),
            at(3, 2, 1, 1),
        ];
        assert!(all.iter().map(|one| place(*one)).is_sorted_by(|a, b| a < b));
        for one in all {
            assert_eq!(stored_place(place(one), Signal::Logs), one);
        }
    }
}
