//! Reading a table of entries: a leaf of a plan that searches the store page by page, oldest or
//! newest first, and makes rows of what is found on the pool.

use std::fmt;
use std::sync::Arc;

use arrow_schema::SortOptions;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{Result, internal_err};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::expressions::Column as PhysicalColumn;
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion_physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use model::{Matcher, Signal};
use query::Error;
use storage::entries::{Direction, EntryFilter, LineCondition, LineTest, SelectEntries};
use tokio::sync::mpsc::Sender;

use super::super::columns::Columns;
use super::super::feed::{Rows, fed};
use super::super::reader::Reader;
use super::rows::batch;
use crate::entries::{Pages, counted_bytes};

/// What is searched for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) signal: Signal,
    /// All hold for the stream.
    pub(super) matchers: Vec<Matcher>,
    /// First and last instant.
    pub(super) range_ns: (i64, i64),
    pub(super) filter: EntryFilter,
}

/// Stored entries as rows, in order of time.
#[derive(Debug)]
pub(super) struct EntriesExec {
    reader: Arc<Reader>,
    columns: Columns,
    wanted: Arc<Wanted>,
    direction: Direction,
    /// Rows that are enough.
    rows_max: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl EntriesExec {
    /// Oldest first.
    pub(super) fn new(
        reader: Arc<Reader>,
        columns: Columns,
        wanted: Wanted,
        rows_max: Option<usize>,
    ) -> Self {
        Self::made(reader, columns, Arc::new(wanted), Direction::Forward, rows_max)
    }

    fn made(
        reader: Arc<Reader>,
        columns: Columns,
        wanted: Arc<Wanted>,
        direction: Direction,
        rows_max: Option<usize>,
    ) -> Self {
        let options =
            SortOptions { descending: direction == Direction::Backward, nulls_first: false };
        let order = columns.time().map(|place| {
            let name = columns.schema().field(place).name();
            vec![PhysicalSortExpr::new(Arc::new(PhysicalColumn::new(name, place)), options)]
        });
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(columns.schema()), order),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let metrics = ExecutionPlanMetricsSet::new();
        Self { reader, columns, wanted, direction, rows_max, metrics, properties }
    }

    /// The same from this end, with no more rows than these; `None` if it does not know when they
    /// happened.
    pub(super) fn ordered(
        &self,
        place: usize,
        direction: Direction,
        rows_max: Option<usize>,
    ) -> Option<Self> {
        let rows_max = match (self.rows_max, rows_max) {
            // It would be others.
            (Some(_), _) if direction != self.direction => return None,
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        (self.columns.time()? == place).then(|| {
            let (reader, wanted) = (Arc::clone(&self.reader), Arc::clone(&self.wanted));
            Self::made(reader, self.columns.clone(), wanted, direction, rows_max)
        })
    }
}

impl DisplayAs for EntriesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted { signal, matchers, range_ns, filter } = &*self.wanted;
        let all = |matchers: &[Matcher]| {
            matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        write!(f, "EntriesExec: {signal}, labels=[{}]", all(matchers))?;
        let instant = |at_ns: i64| match at_ns {
            i64::MIN | i64::MAX => String::new(),
            at_ns => instant_text(at_ns),
        };
        if *range_ns != (i64::MIN, i64::MAX) {
            write!(f, ", time=[{}, {}]", instant(range_ns.0), instant(range_ns.1))?;
        }
        if !filter.lines.is_empty() {
            let lines: Vec<String> = filter.lines.iter().map(told).collect();
            write!(f, ", lines=[{}]", lines.join(", "))?;
        }
        if !filter.fields.is_empty() {
            write!(f, ", fields=[{}]", all(&filter.fields))?;
        }
        if let Some(least) = filter.level_min {
            write!(f, ", level>={least}")?;
        }
        let first = if self.direction == Direction::Forward { "oldest" } else { "newest" };
        let fields = self.columns.schema().fields();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        write!(f, ", {first} first, columns=[{}]", names.join(", "))?;
        self.rows_max.map_or(Ok(()), |rows| write!(f, ", limit={rows}"))
    }
}

/// An instant with as many digits as it takes.
fn instant_text(at_ns: i64) -> String {
    let text = query::http::rfc3339_text(at_ns.div_euclid(1_000_000));
    match at_ns.rem_euclid(1_000_000) {
        0 => text,
        finer => format!("{}{finer:06}Z", text.trim_end_matches('Z')),
    }
}

fn told(condition: &LineCondition) -> String {
    let test = |test: &LineTest| match test {
        LineTest::Contains(text) => format!("{text:?}"),
        LineTest::Words(text) => format!("word {text:?}"),
        LineTest::Regex(pattern) => format!("~ {pattern:?}"),
    };
    let tests: Vec<String> = condition.any.iter().map(test).collect();
    let not = if condition.is_negative { "not " } else { "" };
    let case = if condition.ignores_case { "i" } else { "" };
    format!("{not}{}{case}", tests.join(" or "))
}

impl ExecutionPlan for EntriesExec {
    fn name(&self) -> &'static str {
        "EntriesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let rows_max = match (self.rows_max, limit) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        let (reader, wanted) = (Arc::clone(&self.reader), Arc::clone(&self.wanted));
        let columns = self.columns.clone();
        Some(Arc::new(Self::made(reader, columns, wanted, self.direction, rows_max)))
    }

    fn fetch(&self) -> Option<usize> {
        self.rows_max
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("EntriesExec has one partition, not {partition}");
        }
        let reading = Reading {
            reader: Arc::clone(&self.reader),
            columns: self.columns.clone(),
            batch_rows_max: context.session_config().batch_size().max(1),
            bytes: MetricBuilder::new(&self.metrics).counter("bytes_found", partition),
            rows: MetricBuilder::new(&self.metrics).output_rows(partition),
        };
        let request = self.request();
        let rows_max = self.rows_max;
        let schema = Arc::clone(self.columns.schema());
        let work = move |send| async move {
            match request {
                Some(request) => reading.run(request, rows_max, &send).await,
                None => Ok(()),
            }
        };
        Ok(fed(&self.reader, schema, work))
    }
}

impl EntriesExec {
    /// The question to the store; none where nothing can be found.
    fn request(&self) -> Option<SelectEntries> {
        let Wanted { signal, matchers, range_ns: (first, last), filter } = &*self.wanted;
        (first <= last).then(|| SelectEntries {
            signals: vec![*signal],
            selectors: if matchers.is_empty() { Vec::new() } else { vec![matchers.clone()] },
            start_ns: *first,
            end_ns: last.saturating_add(1),
            filter: filter.clone(),
            direction: self.direction,
            limit: 0,
            after: None,
            only: None,
        })
    }
}

/// A scan that goes on.
struct Reading {
    reader: Arc<Reader>,
    columns: Columns,
    batch_rows_max: usize,
    bytes: Count,
    rows: Count,
}

impl Reading {
    async fn run(
        self,
        request: SelectEntries,
        rows_max: Option<usize>,
        send: &Sender<Rows>,
    ) -> std::result::Result<(), Error> {
        let Self { reader, columns, batch_rows_max, bytes, rows } = self;
        let mut pages = Pages::of(reader.asking(), request, rows_max);
        while let Some(page) = pages.next().await? {
            bytes.add(page.iter().map(counted_bytes).sum());
            rows.add(page.len());
            let (budget, columns) = (Arc::clone(&reader.budget), columns.clone());
            let job = move || {
                let parts = page.chunks(batch_rows_max).map(|part| batch(&columns, part));
                let batches = parts.collect::<std::result::Result<Vec<_>, _>>();
                let batches = batches.map_err(|e| Error::internal("make rows of entries", e))?;
                let bytes = batches.iter().map(|batch| batch.get_array_memory_size()).sum();
                let held = budget.reserve(bytes)?;
                Ok((batches, held))
            };
            let made = reader.lane.run(job).await?;
            if send.send(Ok(made)).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
