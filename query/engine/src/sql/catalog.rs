//! What a statement can name: the catalog `taffrail` with a table for each metric of the scope, and
//! one for each signal of entries.
//!
//! Tables are looked up by name, one at a time; nothing lists them but a question for the list.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, Session};
use datafusion::datasource::TableProvider;
use datafusion_common::Result;
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion_physical_plan::ExecutionPlan;
use model::{METRIC_NAME, Matcher};
use query::Error;
use storage::Select;

use super::columns::Columns;
use super::entries::{self, ENTRIES, Signals};
use super::errors::external;
use super::information::Information;
use super::push_down::{Narrowed, Taken};
use super::reader::Reader;
use super::scan::SamplesExec;

/// The only catalog.
pub(super) const CATALOG: &str = "taffrail";

/// The schema of metrics.
pub(super) const METRICS: &str = "metrics";

/// The schema about schemas.
pub(super) const INFORMATION: &str = "information_schema";

/// The table of all samples, whatever their metric.
pub(super) const SAMPLES: &str = "samples";

/// The catalog of one statement.
#[derive(Debug)]
pub(super) struct Catalog {
    metrics: Arc<Metrics>,
    entries: Arc<Signals>,
    information: Arc<Information>,
}

impl Catalog {
    pub(super) fn new(reader: &Arc<Reader>) -> Arc<Self> {
        let metrics = Arc::new(Metrics { reader: Arc::clone(reader) });
        let entries = Arc::new(Signals(Arc::clone(reader)));
        let information = Arc::new(Information::new(Arc::clone(reader)));
        Arc::new(Self { metrics, entries, information })
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        vec![ENTRIES.to_owned(), INFORMATION.to_owned(), METRICS.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            METRICS => Some(Arc::<Metrics>::clone(&self.metrics) as Arc<dyn SchemaProvider>),
            ENTRIES => Some(Arc::<Signals>::clone(&self.entries) as Arc<dyn SchemaProvider>),
            INFORMATION => {
                Some(Arc::<Information>::clone(&self.information) as Arc<dyn SchemaProvider>)
            }
            _ => None,
        }
    }
}

/// A list of one catalog.
#[derive(Debug)]
pub(super) struct Catalogs(pub(super) Arc<Catalog>);

impl CatalogProviderList for Catalogs {
    fn register_catalog(
        &self,
        _: String,
        _: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::<Catalog>::clone(&self.0) as Arc<dyn CatalogProvider>)
    }
}

/// The schema of metrics.
#[derive(Debug)]
struct Metrics {
    reader: Arc<Reader>,
}

#[async_trait]
impl SchemaProvider for Metrics {
    /// None: they are listed by [`Information`], which may wait for the answer.
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        // Names without a schema are looked for here.
        if let Some(signal) = entries::signal_named(name) {
            return Ok(Some(entries::table(&self.reader, signal).await?));
        }
        let columns = columns_of(&self.reader, name).await.map_err(external)?;
        Ok(columns.map(|columns| {
            let metric = (name != SAMPLES).then(|| name.to_owned());
            Arc::new(Samples { reader: Arc::clone(&self.reader), metric, columns })
                as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, _: &str) -> bool {
        false
    }
}

/// Whether a table has this name that is not the metric's: it is read from the table of all samples.
pub(super) fn is_taken(name: &str) -> bool {
    name == SAMPLES || entries::signal_named(name).is_some()
}

/// The columns of a table of metrics; `None` if there is no such table.
pub(super) async fn columns_of(reader: &Arc<Reader>, name: &str) -> Result<Option<Columns>, Error> {
    if name == SAMPLES {
        return Ok(Some(Columns::of_all()));
    }
    Ok(reader.labels_of(name).await?.map(Columns::of_labels))
}

/// A table of stored samples.
#[derive(Debug)]
struct Samples {
    reader: Arc<Reader>,
    /// Of one metric, or of all.
    metric: Option<String>,
    columns: Columns,
}

impl Samples {
    fn narrowed(&self) -> Narrowed {
        let metric = self.metric.iter().map(|name| Matcher::equal(METRIC_NAME, name));
        Narrowed::new(metric.collect())
    }
}

#[async_trait]
impl TableProvider for Samples {
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
        let alone = |filter: &&Expr| self.narrowed().take(filter, &self.columns);
        Ok(filters.iter().map(|filter| alone(filter).into()).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut narrowed = self.narrowed();
        for filter in filters {
            let alone = self.narrowed().take(filter, &self.columns);
            let taken = narrowed.take(filter, &self.columns);
            // What was promised must be kept: nobody looks at it again.
            if alone == Taken::Exactly && taken < alone {
                let text = "the statement compares labels with more values than a selection takes; \
                            compare with fewer";
                return Err(external(Error::Execution(text.to_owned())));
            }
        }
        let columns = match projection {
            Some(places) => self.columns.project(places)?,
            None => self.columns.clone(),
        };
        let Narrowed { matchers, range, .. } = narrowed;
        let select = Select { matchers, range };
        Ok(Arc::new(SamplesExec::new(Arc::clone(&self.reader), columns, select, limit)))
    }
}
