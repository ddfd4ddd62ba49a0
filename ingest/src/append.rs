//! Where rows go: storage, seen from here. A trait because it is the edge to a slow disk, and so
//! that answers can be tested without one.

use std::future::Future;
use std::pin::Pin;

use model::Position;
use storage::{AppendOutcome, MetricRows};
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

/// The wait for durability.
pub type Durable<'a> = Pin<Box<dyn Future<Output = Result<(), storage::Error>> + Send + 'a>>;

/// What became of the rows, and the log position that must be durable before the answer.
#[derive(Debug, Clone, Default)]
pub struct Appended {
    /// Counts and refusals.
    pub outcome: AppendOutcome,
    /// The last record of the request; `None` if nothing was logged.
    pub position: Option<Position>,
}
