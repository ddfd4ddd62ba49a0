//! The DataFusion node against the direct answer, and under a memory pool that is too small.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, TimestampMillisecondType, UInt8Type};
use arrow_array::{Array, RecordBatch, StructArray};
use datafusion_common::DataFusionError;
use datafusion_execution::TaskContext;
use datafusion_execution::runtime_env::RuntimeEnvBuilder;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::execution_plan::collect;
use engine::{Engine, Options, Pool, PromqlExec};
use model::Labels;
use query::histogram::layout::indexed_buckets;
use query::{Evaluation, FloatHistogram, Value};
use tenancy::ReadScope;

use crate::properties::{QUESTIONS, table};
use crate::run::{engine_over, load};
use crate::script::{Kind, parse};

/// Labels, instant, and a float's bits or a histogram as text.
type Row = (Labels, i64, String);

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let labels = batch.column(0).as_map();
    let times = batch.column(1).as_primitive::<TimestampMillisecondType>();
    let values = batch.column(2).as_primitive::<Float64Type>();
    let histograms = batch.column(3).as_struct();
    let row = |i: usize| {
        let pairs = labels.value(i);
        let (names, texts) =
            (pairs.column(0).as_string::<i32>(), pairs.column(1).as_string::<i32>());
        let pairs = (0..names.len()).map(|j| (names.value(j), texts.value(j)));
        assert_ne!(values.is_null(i), histograms.is_null(i), "a float or a histogram");
        let value = match values.is_null(i) {
            true => histogram_at(histograms, i),
            false => float(values.value(i)),
        };
        (Labels::from_pairs(pairs), times.value(i), value)
    };
    (0..batch.num_rows()).map(row).collect()
}

fn float(value: f64) -> String {
    format!("{:x}", value.to_bits())
}

type Buckets = Vec<(i32, f64)>;

fn text(numbers: [f64; 4], schema: i32, sides: [Buckets; 2], bounds: &[f64], hint: u8) -> String {
    format!("{:?} {schema} {sides:?} {bounds:?} {hint}", numbers.map(float))
}

fn histogram(h: &FloatHistogram) -> String {
    let sides = [(&h.positive_spans, &h.positive), (&h.negative_spans, &h.negative)];
    let sides = sides.map(|(spans, counts)| indexed_buckets(spans, counts).collect());
    let numbers = [h.count, h.sum, h.zero_threshold, h.zero_count];
    text(numbers, h.schema, sides, &h.custom_values, h.reset_hint as u8)
}

fn histogram_at(histograms: &StructArray, i: usize) -> String {
    let column = |name: &str| histograms.column_by_name(name).expect("a field");
    let number = |name: &str| column(name).as_primitive::<Float64Type>().value(i);
    let side = |name: &str| -> Buckets {
        let buckets = column(name).as_list::<i32>().value(i);
        let indexes = buckets.as_struct().column(0).as_primitive::<Int32Type>();
        let counts = buckets.as_struct().column(1).as_primitive::<Float64Type>();
        indexes.values().iter().copied().zip(counts.values().iter().copied()).collect()
    };
    let bounds = column("bounds").as_list::<i32>().value(i);
    text(
        ["count", "sum", "zero_threshold", "zero_count"].map(number),
        column("schema").as_primitive::<Int32Type>().value(i),
        ["positive", "negative"].map(side),
        bounds.as_primitive::<Float64Type>().values(),
        column("reset_hint").as_primitive::<UInt8Type>().value(i),
    )
}

fn node(question: &str) -> (Engine, ReadScope, Evaluation) {
    let engine = Engine::new(Arc::new(table(0..40)), Pool::new(2), Options::default());
    let expr = query::promql::parse(question).unwrap();
    let evaluation = Evaluation { end_ms: 2_990_000, step_ms: 23_000, ..engine::instant(expr, 0) };
    (engine, ReadScope::for_test(&[(1, "test")]), evaluation)
}

/// Floats and histograms of all kinds, mixed in one series too.
const MIXED: &str = "load 23s
  h{kind=\"exponential\"} {{schema:1 sum:2.5 count:9 z_bucket:1 z_bucket_w:0.01 buckets:[1 0 2] offset:-2 n_buckets:[5]}}+{{schema:1 sum:1 count:1 buckets:[1]}}x50
  h{kind=\"custom\"} {{schema:-53 sum:5 count:4 custom_values:[5 10] buckets:[1 2 1]}}x50
  h{kind=\"mixed\"} 1 2 {{schema:0 sum:1 count:1 buckets:[1]}} _ 3 {{schema:0 sum:2 count:2 buckets:[2]}}x50
";

fn mixed_node(question: &str) -> (Engine, ReadScope, Evaluation) {
    let mut rows = std::collections::BTreeMap::new();
    for command in parse(MIXED) {
        let Kind::Load { step_ms, series, .. } = command.kind else { panic!("a load") };
        load(&mut rows, series, step_ms);
    }
    let engine = engine_over(&rows, &Options::default(), &Pool::new(2));
    let (_, scope, evaluation) = node(question);
    (engine, scope, evaluation)
}

#[tokio::test]
async fn histograms_are_rows_too() {
    for question in ["h", "rate(h[2m])", "sum by (kind) (h)", "h{kind=\"custom\"} or vector(1)"] {
        check(question, mixed_node(question)).await;
    }
}

#[tokio::test]
async fn the_node_gives_the_rows_of_the_answer() {
    for question in QUESTIONS {
        check(question, node(question)).await;
    }
}

async fn check(question: &str, (engine, scope, evaluation): (Engine, ReadScope, Evaluation)) {
    let plan = Arc::new(PromqlExec::new(engine.clone(), scope.clone(), evaluation.clone()));
    let answer = engine.evaluate(&scope, &evaluation).await.unwrap();
    let Value::Matrix(series) = answer.value else { panic!("no matrix") };
    let mut expected: Vec<Row> = Vec::new();
    for s in &series {
        let floats = s.floats.iter().map(|(t, v)| (s.labels.clone(), *t, float(*v)));
        let histograms = s.histograms.iter();
        let histograms = histograms.map(|(t, h)| (s.labels.clone(), *t, histogram(h)));
        let mut points: Vec<Row> = floats.chain(histograms).collect();
        points.sort_by_key(|(_, at_ms, _)| *at_ms);
        expected.extend(points);
    }
    // Twice: a node may be executed again.
    for _ in 0..2 {
        let context = Arc::new(TaskContext::default());
        let plan: Arc<dyn ExecutionPlan> = Arc::clone(&plan) as _;
        let batches = collect(plan, Arc::clone(&context)).await.unwrap();
        let found: Vec<Row> = batches.iter().flat_map(rows).collect();
        assert!(!expected.is_empty() && found == expected, "{question}");
        assert_eq!(context.memory_pool().reserved(), 0, "{question}");
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
