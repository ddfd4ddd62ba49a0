//! Lines of logs, events and audit records as tables: their labels are columns, and what a
//! statement says of streams, times, lines and fields is looked for where they are stored.
//!
//! ```text
//! WHERE ─► narrow: matchers of streams, times, conditions on lines (lines.rs) and fields
//! ORDER BY time ─► order: which end is read first, and how much is enough
//!            └─► scan: pages of the store, in order of time ─► rows of Arrow arrays
//! ```

mod lines;
mod narrow;
mod order;
mod rows;
mod scan;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session};
use datafusion::datasource::TableProvider;
use datafusion_common::Result;
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion_physical_plan::ExecutionPlan;
use model::Signal;
use query::Error;

use super::columns::Columns;
use super::errors::external;
use super::push_down::Taken;
use super::reader::Reader;
use narrow::Narrowed;
pub(super) use order::InOrderOfTime;
use scan::{EntriesExec, Wanted};

/// The schema of entries.
pub(super) const ENTRIES: &str = "entries";

/// The signal whose entries a table of this name has.
pub(super) fn signal_named(table: &str) -> Option<Signal> {
    Signal::ALL.into_iter().find(|signal| signal.as_str() == table)
}

/// The schema with a table for each signal.
#[derive(Debug)]
pub(super) struct Signals(pub(super) Arc<Reader>);

#[async_trait]
impl SchemaProvider for Signals {
    fn table_names(&self) -> Vec<String> {
        Signal::ALL.map(|signal| signal.as_str().to_owned()).to_vec()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match signal_named(name) {
            Some(signal) => Ok(Some(table(&self.0, signal).await?)),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        signal_named(name).is_some()
    }
}

/// The table of a signal.
pub(super) async fn table(reader: &Arc<Reader>, signal: Signal) -> Result<Arc<dyn TableProvider>> {
    let columns = columns_of(reader, signal).await.map_err(external)?;
    Ok(Arc::new(Stored { reader: Arc::clone(reader), signal, columns }))
}

/// Its columns: those of all streams that the scope may see.
pub(super) async fn columns_of(reader: &Arc<Reader>, signal: Signal) -> Result<Columns, Error> {
    Ok(Columns::of_entries(reader.labels_of_entries(signal).await?))
}

/// A table of stored entries.
#[derive(Debug)]
struct Stored {
    reader: Arc<Reader>,
    signal: Signal,
    columns: Columns,
}

#[async_trait]
impl TableProvider for Stored {
    fn schema(&self) -> arrow_schema::SchemaRef {
        Arc::clone(self.columns.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let alone = |filter: &&Expr| Narrowed::new().take(filter, &self.columns);
        Ok(filters.iter().map(|filter| alone(filter).into()).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut narrowed = Narrowed::new();
        for filter in filters {
            let alone = Narrowed::new().take(filter, &self.columns);
            let taken = narrowed.take(filter, &self.columns);
            // What was promised must be kept: nobody looks at it again.
            if alone == Taken::Exactly && taken < alone {
                let text = "the statement has more conditions on labels, lines and fields than a \
                            search takes; ask with fewer";
                return Err(external(Error::Execution(text.to_owned())));
            }
        }
        let columns = match projection {
            Some(places) => self.columns.project(places)?,
            None => self.columns.clone(),
        };
        let (matchers, range_ns, filter) = narrowed.into_parts();
        let wanted = Wanted { signal: self.signal, matchers, range_ns, filter };
        Ok(Arc::new(EntriesExec::new(Arc::clone(&self.reader), columns, wanted, limit)))
    }
}
