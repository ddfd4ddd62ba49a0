//! Where rows go: storage, seen from here. A trait because it is the edge to a slow disk, and so
//! that answers can be tested without one.

use std::future::Future;
use std::pin::Pin;

use model::Position;
use storage::entries::{EntriesAppended, EntryRows};
use storage::{Appended, MetricRows, Storage};
use tenancy::WriteScope;

/// Takes rows and makes them durable.
pub trait Appender: Send + Sync + 'static {
    /// Applies one request's rows; good rows are kept when others are refused. Blocks the thread,
    /// for about half a microsecond a sample.
    fn append(&self, scope: &WriteScope, rows: &MetricRows<'_>)
    -> Result<Appended, storage::Error>;

    /// Waits until everything up to a position is on disk. Only then may a write be acknowledged.
    fn durable(&self, position: Position) -> Durable<'_>;
}

/// Takes entries (lines of logs, events, audit records) and makes them durable.
pub trait EntryAppender: Send + Sync + 'static {
    /// Applies one request's entries: those that a stream names, no others. Good ones are kept when
    /// others are refused. Blocks the thread.
    fn append_entries(
        &self,
        scope: &WriteScope,
        rows: &EntryRows<'_>,
    ) -> Result<EntriesAppended, storage::Error>;

    /// Waits until everything up to a position is on disk. Only then may a write be acknowledged.
    fn durable(&self, position: Position) -> Durable<'_>;
}

/// The wait for durability.
pub type Durable<'a> = Pin<Box<dyn Future<Output = Result<(), storage::Error>> + Send + 'a>>;

impl Appender for Storage {
    fn append(
        &self,
        scope: &WriteScope,
        rows: &MetricRows<'_>,
    ) -> Result<Appended, storage::Error> {
        Self::append(self, scope, rows)
    }

    fn durable(&self, position: Position) -> Durable<'_> {
        Box::pin(Self::durable(self, position))
    }
}

impl EntryAppender for Storage {
    fn append_entries(
        &self,
        scope: &WriteScope,
        rows: &EntryRows<'_>,
    ) -> Result<EntriesAppended, storage::Error> {
        Self::append_entries(self, scope, rows)
    }

    fn durable(&self, position: Position) -> Durable<'_> {
        Box::pin(Self::durable(self, position))
    }
}
