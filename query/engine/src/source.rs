//! What the evaluator needs from storage: matching series, and their samples in batches.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use model::Labels;
use query::{Cancel, Error};
use storage::{CountLive, LiveGroups, Liveness, Select, SeriesSamples};
use tenancy::ReadScope;

/// Where series come from.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// The series of a scope that match.
    async fn select(
        &self,
        scope: &ReadScope,
        select: Select,
        cancel: &Cancel,
    ) -> Result<Arc<dyn Selected>, Error>;

    /// How many series of a scope are alive, by group in order of their labels, where that can be
    /// told without a look at their samples.
    async fn count_live(
        &self,
        _scope: &ReadScope,
        _request: CountLive,
        _cancel: &Cancel,
    ) -> Result<Option<LiveGroups>, Error> {
        Ok(None)
    }
}

/// Matching series. Their order is a function of the set of series alone, never of where rows lie,
/// so that sums of floats, which depend on the order of their terms, do not either.
#[async_trait]
pub trait Selected: Send + Sync {
    /// How many series there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels of one.
    fn labels(&self, series: usize) -> &Labels;

    /// Reads what is needed to decode some of them.
    async fn fetch(&self, series: Range<usize>) -> Result<Box<dyn Fetched>, Error>;
}

/// Bytes at hand. Decoding them needs the processor and nothing else.
pub trait Fetched: Send {
    /// How many bytes that are, as they were stored.
    fn bytes(&self) -> usize;

    /// The samples, in the order of the series asked for.
    fn decode(self: Box<Self>) -> Result<Vec<SeriesSamples>, Error>;

    /// When there are samples, and which of them end their series: for what needs no values.
    fn decode_liveness(self: Box<Self>) -> Result<Vec<Liveness>, Error> {
        Ok(self.decode()?.into_iter().map(Liveness::from).collect())
    }
}
