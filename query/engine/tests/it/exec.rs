//! The DataFusion node against the direct answer, and under a memory pool that is too small.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use datafusion_common::DataFusionError;
use datafusion_execution::TaskContext;
use datafusion_execution::runtime_env::RuntimeEnvBuilder;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::execution_plan::collect;
use engine::{Engine, Options, Pool, PromqlExec};
use model::Labels;
use query::{Evaluation, Value};
use tenancy::ReadScope;

use crate::properties::{QUESTIONS, table};

type Row = (Labels, i64, u64);

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let labels = batch.column(0).as_map();
    let times = batch.column(1).as_primitive::<TimestampMillisecondType>();
    let values = batch.column(2).as_primitive::<Float64Type>();
    let row = |i: usize| {
        let pairs = labels.value(i);
        let (names, texts) =
            (pairs.column(0).as_string::<i32>(), pairs.column(1).as_string::<i32>());
        let pairs = (0..names.len()).map(|j| (names.value(j), texts.value(j)));
        (Labels::from_pairs(pairs), times.value(i), values.value(i).to_bits())
    };
    (0..batch.num_rows()).map(row).collect()
}

fn node(question: &str) -> (Engine, ReadScope, Evaluation) {
    let engine = Engine::new(Arc::new(table(0..40)), Pool::new(2), Options::default());
    let expr = query::promql::parse(question).unwrap();
    let evaluation = Evaluation { end_ms: 2_990_000, step_ms: 23_000, ..engine::instant(expr, 0) };
    (engine, ReadScope::for_test(&[(1, "test")]), evaluation)
}

#[tokio::test]
async fn the_node_gives_the_rows_of_the_answer() {
    for question in QUESTIONS {
        let (engine, scope, evaluation) = node(question);
        let plan = Arc::new(PromqlExec::new(engine.clone(), scope.clone(), evaluation.clone()));
        let answer = engine.evaluate(&scope, &evaluation).await.unwrap();
        let Value::Matrix(series) = answer.value else { panic!("no matrix") };
        let points = series
            .iter()
            .flat_map(|s| s.floats.iter().map(|(t, v)| (s.labels.clone(), *t, v.to_bits())));
        let expected: Vec<Row> = points.collect();
        // Twice: a node may be executed again.
        for _ in 0..2 {
            let context = Arc::new(TaskContext::default());
            let plan: Arc<dyn ExecutionPlan> = Arc::clone(&plan) as _;
            let batches = collect(plan, Arc::clone(&context)).await.unwrap();
            let found: Vec<Row> = batches.iter().flat_map(rows).collect();
            assert!(found == expected, "{question}");
            assert_eq!(context.memory_pool().reserved(), 0, "{question}");
        }
    }
}

#[tokio::test]
async fn the_sessions_memory_is_a_limit() {
    let (engine, scope, evaluation) = node("m_total");
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(10_000, 1.0).build_arc().unwrap();
    let context = Arc::new(TaskContext::default().with_runtime(runtime));
    let plan = Arc::new(PromqlExec::new(engine, scope, evaluation));
    let error = collect(plan, Arc::clone(&context)).await.unwrap_err();
    assert!(
        matches!(&error, DataFusionError::External(e) if e.to_string().contains("too much memory")),
        "{error}"
    );
    assert_eq!(context.memory_pool().reserved(), 0);
}
