//! The last step of planning: plans are run by polling on the pool, where nothing may be spawned and
//! no poll may last. Partitions are read one after the other, and what makes rows gives way.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_array::StringArray;
use arrow_schema::SchemaRef;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion_common::{Result, internal_err};
use datafusion_execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_plan::analyze::AnalyzeExec;
use datafusion_physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion_physical_plan::display::DisplayableExecutionPlan;
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::limit::GlobalLimitExec;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::errors::external;
use super::reader::Reader;

/// Makes a plan one for the pool.
#[derive(Debug)]
pub(super) struct OnThePool(pub(super) Arc<Reader>);

/// Nodes that make more rows than they are given.
const MULTIPLY: [&str; 6] = [
    "CrossJoinExec",
    "NestedLoopJoinExec",
    "HashJoinExec",
    "SortMergeJoinExec",
    "UnnestExec",
    "RecursiveQueryExec",
];

impl PhysicalOptimizerRule for OnThePool {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| self.adapt(plan)).data()
    }

    fn name(&self) -> &'static str {
        "on_the_pool"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl OnThePool {
    fn adapt(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
        let node = |what, input: &Arc<dyn ExecutionPlan>, schema| -> Arc<dyn ExecutionPlan> {
            Arc::new(Adapted::new(what, Arc::clone(input), schema, Arc::clone(&self.0)))
        };
        let any: &dyn Any = &*plan;
        if let Some(coalesce) = any.downcast_ref::<CoalescePartitionsExec>() {
            let chained = node(What::Chain, coalesce.input(), coalesce.schema());
            let plan = match coalesce.fetch() {
                Some(rows) => Arc::new(GlobalLimitExec::new(chained, 0, Some(rows))),
                None => chained,
            };
            return Ok(Transformed::yes(plan));
        }
        if plan.children().is_empty() || MULTIPLY.contains(&plan.name()) {
            return Ok(Transformed::yes(node(What::GiveWay, &plan, plan.schema())));
        }
        Ok(Transformed::no(plan))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Reads partitions one after the other.
    Chain,
    /// Lets others have the thread now and then, and looks whether to go on.
    GiveWay,
    /// Runs its input and tells what that took.
    Analyze { verbose: bool },
}

/// A node put in on the way to the pool.
#[derive(Debug)]
struct Adapted {
    what: What,
    input: Arc<dyn ExecutionPlan>,
    reader: Arc<Reader>,
    properties: Arc<PlanProperties>,
}

impl Adapted {
    fn new(
        what: What,
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        reader: Arc<Reader>,
    ) -> Self {
        let properties = match what {
            What::GiveWay => Arc::clone(input.properties()),
            What::Chain | What::Analyze { .. } => Arc::new(PlanProperties::new(
                EquivalenceProperties::new(schema),
                Partitioning::UnknownPartitioning(1),
                if what == What::Chain { EmissionType::Incremental } else { EmissionType::Final },
                Boundedness::Bounded,
            )),
        };
        Self { what, input, reader, properties }
    }

    fn over(&self, mut inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (inputs.pop(), inputs.pop()) {
            (Some(input), None) => {
                Ok(Arc::new(Self::new(self.what, input, self.schema(), Arc::clone(&self.reader))))
            }
            _ => internal_err!("{} has one input", self.name()),
        }
    }
}

impl DisplayAs for Adapted {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for Adapted {
    fn name(&self) -> &'static str {
        match self.what {
            What::Chain => "ChainExec",
            What::GiveWay => "GiveWayExec",
            What::Analyze { .. } => "AnalyzeExec",
        }
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.what == What::GiveWay]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.over(children)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.over(children)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = Arc::clone(&self.input);
        let schema = self.schema();
        Ok(match self.what {
            What::GiveWay => Box::pin(GivingWay {
                input: input.execute(partition, context)?,
                reader: Arc::clone(&self.reader),
                since: Instant::now(),
            }),
            What::Chain => {
                let partitions = input.properties().output_partitioning().partition_count();
                let parts = stream::iter(0..partitions);
                let batches =
                    parts.map(move |one| input.execute(one, Arc::clone(&context))).try_flatten();
                Box::pin(RecordBatchStreamAdapter::new(schema, batches))
            }
            What::Analyze { verbose } => {
                let batches = input.execute(0, context)?;
                let of = Arc::clone(&schema);
                let told = async move {
                    let count =
                        |rows, batch: RecordBatch| async move { Ok(rows + batch.num_rows()) };
                    let rows = batches.try_fold(0usize, count).await?;
                    told(&input, rows, verbose, of)
                };
                Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(told)))
            }
        })
    }
}

/// The plan with what its nodes counted.
fn told(
    plan: &Arc<dyn ExecutionPlan>,
    rows: usize,
    verbose: bool,
    schema: SchemaRef,
) -> Result<RecordBatch> {
    let shown = if verbose {
        DisplayableExecutionPlan::with_full_metrics(&**plan)
    } else {
        DisplayableExecutionPlan::with_metrics(&**plan)
    };
    let kinds = StringArray::from(vec!["Plan with Metrics", "Output Rows"]);
    let plans = StringArray::from(vec![shown.indent(verbose).to_string(), rows.to_string()]);
    Ok(RecordBatch::try_new(schema, vec![Arc::new(kinds), Arc::new(plans)])?)
}

/// How long a poll may go on before it gives way.
const POLL_MAX: Duration = Duration::from_millis(2);

/// Batches of a node, with pauses.
struct GivingWay {
    input: SendableRecordBatchStream,
    reader: Arc<Reader>,
    /// When it last gave way.
    since: Instant,
}

impl Stream for GivingWay {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.since.elapsed() >= POLL_MAX {
            self.since = Instant::now();
            if let Err(error) = self.reader.budget.check() {
                return Poll::Ready(Some(Err(external(error))));
            }
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let batch = ready!(self.input.poll_next_unpin(context));
        Poll::Ready(batch)
    }
}

impl RecordBatchStream for GivingWay {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

/// A plan that is read as one partition.
pub(super) fn one_partition(
    plan: Arc<dyn ExecutionPlan>,
    reader: &Arc<Reader>,
) -> Arc<dyn ExecutionPlan> {
    let node = |what, input: Arc<dyn ExecutionPlan>, schema| -> Arc<dyn ExecutionPlan> {
        Arc::new(Adapted::new(what, input, schema, Arc::clone(reader)))
    };
    let any: &dyn Any = &*plan;
    // What is to be analysed is planned as a whole before the node is put above it.
    if let Some(analyze) = any.downcast_ref::<AnalyzeExec>() {
        let what = What::Analyze { verbose: analyze.verbose() };
        return node(what, one_partition(Arc::clone(analyze.input()), reader), plan.schema());
    }
    match plan.properties().output_partitioning().partition_count() {
        1 => plan,
        _ => {
            let schema = plan.schema();
            node(What::Chain, plan, schema)
        }
    }
}
