//! What the evaluator needs from storage: matching series, and their samples in batches.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use hashbrown::HashMap;
use model::{Labels, TENANT_LABEL};
use query::Error;
use storage::{Select, SeriesSamples};
use tenancy::ReadScope;

/// Where series come from.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// The series of a scope that match.
    async fn select(&self, scope: &ReadScope, select: Select) -> Result<Arc<dyn Selected>, Error>;
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
    /// The samples, in the order of the series asked for.
    fn decode(self: Box<Self>) -> Result<Vec<SeriesSamples>, Error>;
}

/// A source of several tenants whose series lose the label that tells them apart.
#[derive(Debug)]
pub(crate) struct Merged(pub(crate) Arc<dyn Source>);

#[async_trait]
impl Source for Merged {
    async fn select(&self, scope: &ReadScope, select: Select) -> Result<Arc<dyn Selected>, Error> {
        let selected = self.0.select(scope, select).await?;
        let mut tenants: HashMap<Labels, usize> = HashMap::with_capacity(selected.len());
        let mut labels = Vec::with_capacity(selected.len());
        for series in 0..selected.len() {
            let merged = selected.labels(series).to_builder().remove(TENANT_LABEL).build();
            if let Some(other) = tenants.insert(merged.clone(), series) {
                let tenant =
                    |i: usize| selected.labels(i).get(TENANT_LABEL).unwrap_or("").to_owned();
                return Err(Error::Execution(format!(
                    "tenants {:?} and {:?} both have the series {merged}; ask without merging them",
                    tenant(other),
                    tenant(series)
                )));
            }
            labels.push(merged);
        }
        Ok(Arc::new(MergedSelected { selected, labels }))
    }
}

struct MergedSelected {
    selected: Arc<dyn Selected>,
    labels: Vec<Labels>,
}

#[async_trait]
impl Selected for MergedSelected {
    fn len(&self) -> usize {
        self.selected.len()
    }

    fn labels(&self, series: usize) -> &Labels {
        &self.labels[series]
    }

    async fn fetch(&self, series: Range<usize>) -> Result<Box<dyn Fetched>, Error> {
        self.selected.fetch(series).await
    }
}
