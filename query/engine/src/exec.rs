//! The evaluator as a node of a DataFusion plan: a leaf that gives rows of labels, time, and a value
//! or a native histogram, series by series, under the session's memory pool. Dropping its stream ends
//! its work.

use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{
    Float64Builder, MapBuilder, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{DataFusionError, Result, internal_err};
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{TryStreamExt, stream};
use model::Labels;
use query::{Cancel, Error, Evaluation, PointValue, Value};
use tenancy::ReadScope;

use crate::budget::Accountant;
use crate::column::histogram_bytes;
use crate::engine::Engine;
use crate::exec_histograms::{HistogramBuilder, histogram_type};

/// A PromQL expression as a leaf of a plan.
#[derive(Debug)]
pub struct PromqlExec {
    engine: Engine,
    scope: ReadScope,
    evaluation: Evaluation,
    properties: Arc<PlanProperties>,
}

impl PromqlExec {
    /// A node that evaluates an expression each time it is executed.
    pub fn new(engine: Engine, scope: ReadScope, evaluation: Evaluation) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { engine, scope, evaluation, properties: Arc::new(properties) }
    }
}

/// Labels as a map, the time of the step, and what is there: a float or a histogram.
fn schema() -> SchemaRef {
    let pair = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8, true),
    ]);
    let pairs = Field::new("entries", DataType::Struct(pair), false);
    Arc::new(Schema::new(vec![
        Field::new("labels", DataType::Map(Arc::new(pairs), false), false),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("value", DataType::Float64, true),
        Field::new("histogram", histogram_type(), true),
    ]))
}

impl DisplayAs for PromqlExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evaluation { expr, start_ms, end_ms, step_ms, .. } = &self.evaluation;
        write!(f, "PromqlExec: expr={expr}, start={start_ms}, end={end_ms}, step={step_ms}")
    }
}

impl ExecutionPlan for PromqlExec {
    fn name(&self) -> &'static str {
        "PromqlExec"
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

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("PromqlExec has one partition, not {partition}");
        }
        let reservation = MemoryConsumer::new("PromqlExec").register(context.memory_pool());
        let accountant: Arc<dyn Accountant> = Arc::new(PoolAccountant(reservation));
        // Of its own: the node may be executed again, and the stream ends its work when dropped.
        let evaluation = Evaluation { cancel: Cancel::default(), ..self.evaluation.clone() };
        let guard = evaluation.cancel.guard();
        let evaluator = self.engine.evaluator(&self.scope, &evaluation, Some(accountant));
        let evaluator = evaluator.map_err(external)?;
        let rows_max = context.session_config().batch_size().max(1);
        let batches = async move {
            let answer = evaluator.answer().await.map_err(external)?;
            let series = series_of(answer.value).map_err(external)?;
            let bytes = series.iter().map(|(_, points)| points_bytes(points)).sum();
            let reserved = evaluator.budget.reserve(bytes).map_err(external)?;
            let rows = Rows { series, at: (0, 0), rows_max };
            // Guard and memory go with the last batch.
            let batches = rows.inspect(move |_| {
                let _held = (&guard, &reserved);
            });
            Ok::<_, DataFusionError>(stream::iter(batches))
        };
        let batches = stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), batches)))
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The session's pool as the evaluator's accountant.
#[derive(Debug)]
struct PoolAccountant(MemoryReservation);

impl Accountant for PoolAccountant {
    fn grow(&self, bytes: usize) -> std::result::Result<(), Error> {
        self.0.try_grow(bytes).map_err(|e| {
            Error::Execution(format!("query processing would use too much memory: {e}"))
        })
    }

    fn shrink(&self, bytes: usize) {
        self.0.shrink(bytes);
    }
}

pub(crate) type Points = Vec<(i64, PointValue)>;

pub(crate) fn points_bytes(points: &Points) -> usize {
    let beside = |(_, value): &(i64, PointValue)| match value {
        PointValue::Float(_) => 0,
        PointValue::Histogram(histogram) => histogram_bytes(histogram),
    };
    let histograms: usize = points.iter().map(beside).sum();
    histograms + points.len() * size_of::<(i64, PointValue)>()
}

pub(crate) fn series_of(value: Value) -> std::result::Result<Vec<(Labels, Points)>, Error> {
    match value {
        Value::Scalar { at_ms, value } => {
            Ok(vec![(Labels::empty(), vec![(at_ms, PointValue::Float(value))])])
        }
        Value::String { .. } => Err(Error::Execution("a string is no table".to_owned())),
        Value::Vector(points) => {
            let point = |p: query::VectorPoint| (p.labels, vec![(p.at_ms, p.value)]);
            Ok(points.into_iter().map(point).collect())
        }
        Value::Matrix(series) => Ok(series.into_iter().map(points_of).collect()),
    }
}

/// Floats and histograms of a series in order of time.
fn points_of(series: query::MatrixSeries) -> (Labels, Points) {
    let floats = series.floats.into_iter().map(|(at_ms, value)| (at_ms, PointValue::Float(value)));
    let histograms = series.histograms.into_iter();
    let histograms = histograms.map(|(at_ms, value)| (at_ms, PointValue::Histogram(value)));
    let mut points: Points = floats.chain(histograms).collect();
    points.sort_by_key(|(at_ms, _)| *at_ms);
    (series.labels, points)
}

/// Buckets and bounds of histograms at which a batch ends: some 16 MiB.
const BATCH_PARTS_MAX: usize = 1 << 20;

/// Batches cut from series, one when it is asked for.
struct Rows {
    series: Vec<(Labels, Points)>,
    /// The next series and its next point.
    at: (usize, usize),
    rows_max: usize,
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut labels = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        let mut timestamps = TimestampMillisecondBuilder::new();
        let mut values = Float64Builder::new();
        let mut histograms = HistogramBuilder::new();
        let mut rows = 0;
        while rows < self.rows_max && histograms.parts() < BATCH_PARTS_MAX {
            let Some((series, points)) = self.series.get(self.at.0) else { break };
            let Some((at_ms, value)) = points.get(self.at.1) else {
                self.at = (self.at.0 + 1, 0);
                continue;
            };
            for (name, value) in series.iter() {
                labels.keys().append_value(name);
                labels.values().append_value(value);
            }
            if let Err(error) = labels.append(true) {
                return Some(Err(error.into()));
            }
            timestamps.append_value(*at_ms);
            match value {
                PointValue::Float(value) => {
                    values.append_value(*value);
                    histograms.append(None);
                }
                PointValue::Histogram(histogram) => {
                    values.append_null();
                    histograms.append(Some(histogram));
                }
            }
            self.at.1 += 1;
            rows += 1;
        }
        if rows == 0 {
            return None;
        }
        let histograms = match histograms.finish() {
            Ok(histograms) => histograms,
            Err(error) => return Some(Err(error.into())),
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(labels.finish()),
            Arc::new(timestamps.finish()),
            Arc::new(values.finish()),
            histograms,
        ];
        Some(RecordBatch::try_new(schema(), columns).map_err(DataFusionError::from))
    }
}
