//! Entries as they come: the store's tail, with what is stored searched on the pool first.

use async_trait::async_trait;
use query::Error;
use query::entries::{Dropped, EntryTail, TailEntries, Tailed, TailedRow};
use storage::entries as stored;

use super::Asking;
use super::reading::{Rows, searched, stored_filter};
use crate::executor::asked;

/// A tail over the store.
pub(super) struct Tail {
    /// What is stored, until it is given.
    first: Option<Tailed>,
    tail: stored::EntryTail,
    rows: Rows,
}

impl Tail {
    /// Begins: listens, then looks for what was stored by then.
    pub(super) async fn begin(asking: Asking, request: TailEntries) -> Result<Self, Error> {
        let TailEntries { selection, stored_max, after } = request;
        let request = stored::TailEntries {
            signals: vec![selection.signal],
            selectors: selection.selectors,
            filter: stored_filter(selection.filter),
            start_ns: selection.start_ns,
            stored_max,
            after,
            waiting: stored::WaitingMax::default(),
        };
        let of_search = asking.clone();
        let work = async move {
            let Asking { storage, scope, budget, .. } = &of_search;
            let until = budget.cancel();
            let begun = storage.tail_entries(scope, &request, until.stop()).await;
            let (mut tail, search) = begun.map_err(asked)?;
            let mut rows = Rows::default();
            let mut first =
                Tailed { upto: Some(tail.upto()), repeats: tail.repeats(), ..Tailed::default() };
            if let Some(search) = search {
                // Held by whoever takes them from here on: there are few.
                let (found, _held) = searched(&of_search, search).await?;
                for entry in found.into_iter().rev() {
                    tail.note_newest(entry.at_ns);
                    first.rows.push(TailedRow { id: None, row: rows.row(entry) });
                }
                first.upto = Some(tail.upto());
            }
            Ok(Self { first: Some(first), tail, rows })
        };
        asking.run(work).await
    }
}

#[async_trait]
impl EntryTail for Tail {
    async fn next(&mut self) -> Result<Option<Tailed>, Error> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(came) = self.tail.next().await.map_err(asked)? else { return Ok(None) };
        let rows = &mut self.rows;
        let first = came.dropped.first.into_iter();
        let dropped = Dropped {
            count: came.dropped.count,
            first: first.map(|(stream, at_ns)| (rows.labels(&stream), at_ns)).collect(),
        };
        let came = came.entries.into_iter();
        let rows = came.map(|t| TailedRow { id: Some(t.id), row: rows.row(t.entry) }).collect();
        Ok(Some(Tailed { rows, dropped, ..Tailed::default() }))
    }
}
