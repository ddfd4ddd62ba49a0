//! Reading a table of samples: a leaf of a plan that selects series, reads them some at a time, and
//! makes rows of them on the pool.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{Result, internal_err};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion_physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, stream};
use model::{METRIC_NAME, TimeRange};
use query::Error;
use storage::Select;
use tokio::sync::mpsc::Sender;

use super::columns::Columns;
use super::feed::{Rows, fed};
use super::reader::Reader;
use super::rows::{Series, batches};
use crate::eval::decoded_bytes;
use crate::read::samples_of;
use crate::source::Selected;

/// Series that are read at a time: what is in memory is some times as many.
const SERIES: usize = 32;

/// Stored samples of some series as rows.
#[derive(Debug)]
pub(super) struct SamplesExec {
    reader: Arc<Reader>,
    columns: Columns,
    select: Select,
    /// Rows that are enough.
    rows_max: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl SamplesExec {
    pub(super) fn new(
        reader: Arc<Reader>,
        columns: Columns,
        select: Select,
        rows_max: Option<usize>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(columns.schema())),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (metrics, properties) = (ExecutionPlanMetricsSet::new(), Arc::new(properties));
        Self { reader, columns, select, rows_max, metrics, properties }
    }
}

impl DisplayAs for SamplesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Select { matchers, range, .. } = &self.select;
        let named = matchers.iter().find(|m| m.name() == METRIC_NAME);
        let rest = matchers.iter().filter(|m| Some(*m) != named).map(ToString::to_string);
        let rest: Vec<String> = rest.collect();
        f.write_str("SamplesExec: ")?;
        match named {
            Some(metric) => write!(f, "metric={}", metric.value())?,
            None => f.write_str("all metrics")?,
        }
        write!(f, ", labels=[{}]", rest.join(", "))?;
        let instant = query::http::rfc3339_text;
        let from = (range.start_ms > i64::MIN).then(|| instant(range.start_ms));
        let to = (range.end_ms < i64::MAX).then(|| instant(range.end_ms));
        if *range != TimeRange::ALL {
            let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
            write!(f, ", time=[{from}, {to}]")?;
        }
        let fields = self.columns.schema().fields();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        write!(f, ", columns=[{}]", names.join(", "))?;
        self.rows_max.map_or(Ok(()), |rows| write!(f, ", limit={rows}"))
    }
}

impl ExecutionPlan for SamplesExec {
    fn name(&self) -> &'static str {
        "SamplesExec"
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

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("SamplesExec has one partition, not {partition}");
        }
        let counter = |name| MetricBuilder::new(&self.metrics).counter(name, partition);
        let reading = Reading {
            reader: Arc::clone(&self.reader),
            columns: self.columns.clone(),
            batch_rows_max: context.session_config().batch_size().max(1),
            rows_left: self.rows_max,
            counts: Counts {
                series: counter("series"),
                samples: counter("samples"),
                bytes: counter("bytes_read"),
                rows: MetricBuilder::new(&self.metrics).output_rows(partition),
            },
        };
        let select = self.select.clone();
        let schema = Arc::clone(self.columns.schema());
        let work = move |send| async move { reading.run(select, &send).await };
        Ok(fed(&self.reader, schema, work))
    }
}

#[derive(Debug, Clone)]
struct Counts {
    series: Count,
    samples: Count,
    bytes: Count,
    rows: Count,
}

/// A scan that goes on.
struct Reading {
    reader: Arc<Reader>,
    columns: Columns,
    batch_rows_max: usize,
    rows_left: Option<usize>,
    counts: Counts,
}

impl Reading {
    async fn run(mut self, select: Select, send: &Sender<Rows>) -> std::result::Result<(), Error> {
        if select.range.start_ms > select.range.end_ms || self.rows_left == Some(0) {
            return Ok(());
        }
        let selected = self.reader.select(select).await?;
        self.counts.series.add(selected.len());
        let starts = (0..selected.len()).step_by(SERIES);
        // As many at a time as there are threads, and one that is being fetched.
        let at_once = if self.rows_left.is_some() { 1 } else { self.reader.lane.threads() + 1 };
        let read = starts.map(|start| self.some(Arc::clone(&selected), start));
        let mut read = stream::iter(read.collect::<Vec<_>>()).buffered(at_once);
        while let Some(rows) = read.next().await {
            let (mut batches, held) = rows?;
            if let Some(left) = &mut self.rows_left {
                shorten(&mut batches, left);
            }
            self.counts.rows.add(batches.iter().map(RecordBatch::num_rows).sum());
            let gone = send.send(Ok((batches, held))).await.is_err();
            if gone || self.rows_left == Some(0) {
                break;
            }
        }
        Ok(())
    }

    /// The rows of some series.
    fn some(
        &self,
        selected: Arc<dyn Selected>,
        start: usize,
    ) -> impl Future<Output = Rows> + Send + use<> {
        let (reader, columns) = (Arc::clone(&self.reader), self.columns.clone());
        let (counts, rows_max) = (self.counts.clone(), self.batch_rows_max);
        async move {
            let budget = Arc::clone(&reader.budget);
            budget.check()?;
            let range = start..selected.len().min(start + SERIES);
            let fetched = selected.fetch(range.clone()).await?;
            budget.take_bytes(fetched.bytes())?;
            counts.bytes.add(fetched.bytes());
            let job = move || {
                let decoded = fetched.decode()?;
                let mut held = budget.reserve(decoded_bytes(&decoded))?;
                let samples = decoded.iter().map(samples_of).sum();
                budget.take_samples(samples)?;
                counts.samples.add(samples);
                let series: Vec<Series<'_>> = range
                    .zip(decoded)
                    .map(|(place, samples)| Series::of_stored(selected.labels(place), samples))
                    .collect();
                let rows = batches(&columns, &series, rows_max);
                let rows = rows.map_err(|e| Error::internal("make rows of samples", e))?;
                let bytes = rows.iter().map(RecordBatch::get_array_memory_size).sum();
                held.absorb(budget.reserve(bytes)?);
                Ok((rows, held))
            };
            reader.lane.run(job).await
        }
    }
}

/// Keeps as many rows as are left to give.
fn shorten(batches: &mut Vec<RecordBatch>, left: &mut usize) {
    for batch in batches.iter_mut() {
        if batch.num_rows() > *left {
            *batch = batch.slice(0, *left);
        }
        *left -= batch.num_rows();
    }
    batches.retain(|batch| batch.num_rows() > 0);
}
