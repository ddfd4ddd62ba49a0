//! What a question may use is refused before it is used, and deep expressions fit the stack.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Histogram, Labels, ResetHint, Span};
use query::promql::{Features, parse_with};
use query::{Answer, Error, Evaluation};
use tenancy::{Limits, ReadScope};

use super::Options;
use crate::budget::Budget;
use crate::engine::{Engine, instant};
use crate::pool::Pool;
use crate::table::Table;

const MIB: usize = 1 << 20;

fn evaluation(question: &str, end_ms: i64, step_ms: i64) -> Evaluation {
    let expr = parse_with(question, Features::ALL).expect("a right question");
    Evaluation { end_ms, step_ms, ..instant(expr, 0) }
}

fn engine(table: Table) -> Engine {
    Engine::new(Arc::new(table), Pool::new(2), Options::default())
}

/// Evaluates under limits of its own: those of a test's scope are the usual ones.
async fn ask(
    engine: &Engine,
    evaluation: &Evaluation,
    limits: &Limits,
) -> Result<(Answer, usize), Error> {
    let scope = ReadScope::for_test(&[(1, "test")]);
    let mut evaluator = engine.evaluator(&scope, evaluation, None)?;
    let limits = Arc::new(limits.clone());
    evaluator.budget = Budget::new(limits, evaluation.cancel.clone(), evaluation.timeout, None);
    let answer = evaluator.answer().await?;
    *evaluator.numbers_reserved.lock() = Default::default();
    Ok((answer, evaluator.budget.held_bytes()))
}

fn table(series: usize, samples: i64) -> Table {
    let mut table = Table::default();
    for i in 0..series {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", format!("{i:04}"))]);
        // No two values are equal.
        let samples: Vec<(i64, f64)> =
            (0..samples).map(|s| (s * 1000, (i * 10_000) as f64 + s as f64)).collect();
        table.add(labels, &samples, Vec::new());
    }
    table
}

#[tokio::test]
async fn subqueries_with_too_many_steps_are_refused_in_planning() {
    let engine = engine(table(1, 10));
    for question in [
        "vector(1)[100y:1ms]",
        "max_over_time(m[100y:1ms])",
        "max_over_time(vector(time())[1y:100ms])",
        "sum_over_time(max_over_time(m[1s:1s])[100y:1s])",
    ] {
        let began = Instant::now();
        let error = ask(&engine, &evaluation(question, 0, 0), &Limits::default())
            .await
            .expect_err("too many steps")
            .to_string();
        assert!(error.contains("(query_samples_max)"), "{question}: {error}");
        assert!(error.contains("the subquery is evaluated at"), "{question}: {error}");
        assert!(began.elapsed() < Duration::from_secs(1), "{question}");
    }
}

#[tokio::test]
async fn memory_is_refused_before_it_is_taken_and_given_back() {
    let engine = engine(table(100, 600));
    // At 10,000 steps a column has about 80 kB, so that 100 of them are 8 MB.
    let (end_ms, step_ms) = (599_940, 60);
    let limits = |bytes| Limits { query_memory_bytes_max: bytes, ..Limits::default() };
    for (question, enough, too_little) in [
        ("m", 64 * MIB, 4 * MIB),
        ("rate(m[1m])", 64 * MIB, 4 * MIB),
        ("sum(m)", 24 * MIB, MIB / 8),
        ("max by (i) (m)", 64 * MIB, 4 * MIB),
        ("quantile by (i) (0.5, m)", 64 * MIB, 8 * MIB),
        ("topk(3, m)", 64 * MIB, 4 * MIB),
        ("m + m", 96 * MIB, 16 * MIB),
        ("m or -m", 96 * MIB, 16 * MIB),
        ("m @ 0", 64 * MIB, 4 * MIB),
        ("absent(nothing)", 4 * MIB, MIB / 16),
        ("time() + 1 + time() * 2", 4 * MIB, MIB / 8),
        ("scalar(m @ 0) + max_of(1, 2)", 64 * MIB, MIB / 8),
        ("max_over_time(m[1s:100ms])", 96 * MIB, 4 * MIB),
        ("max_over_time(vector(1)[200ms:1ms])", 64 * MIB, 4 * MIB),
        // 600 values of each series, no two of them equal: 60,000 columns.
        ("count_values(\"v\", m)", 8192 * MIB, 64 * MIB),
    ] {
        let evaluation = evaluation(question, end_ms, step_ms);
        let error = ask(&engine, &evaluation, &limits(too_little)).await.expect_err(question);
        assert!(error.to_string().contains("(query_memory_bytes_max)"), "{question}: {error}");
        if enough > 1024 * MIB {
            continue;
        }
        let evaluation = Evaluation { cancel: query::Cancel::default(), ..evaluation };
        let (_, left) = ask(&engine, &evaluation, &limits(enough)).await.expect(question);
        assert_eq!(left, 0, "{question} keeps memory");
    }
}

#[tokio::test]
async fn as_many_points_as_the_interface_allows() {
    let engine = engine(table(1, 10));
    for steps in [11_001, 20_000] {
        let evaluation = evaluation("vector(1)", (steps - 1) * 1000, 1000);
        let scope = ReadScope::for_test(&[(1, "test")]);
        let answer = engine.evaluate(&scope, &evaluation).await.expect("within the limits");
        let query::Value::Matrix(series) = answer.value else { panic!("no matrix") };
        assert_eq!(series[0].floats.len() as i64, steps);
    }
}

#[tokio::test]
async fn histograms_count_by_their_size() {
    let histogram = |buckets: usize| Histogram {
        reset_hint: ResetHint::Unknown,
        schema: 0,
        zero_threshold: 0.0,
        sum: 1.0,
        positive_spans: vec![Span { offset: 0, length: buckets as u32 }],
        negative_spans: Vec::new(),
        buckets: model::Buckets::Float {
            count: 1.0,
            zero_count: 0.0,
            positive: vec![1.0; buckets],
            negative: Vec::new(),
        },
        custom_values: Vec::new(),
    };
    for buckets in [0, 100, 10_000] {
        let mut table = Table::default();
        let histograms = (0..10).map(|s| (s * 1000, Arc::new(histogram(buckets)))).collect();
        table.add(Labels::from_pairs([("__name__", "h")]), &[], histograms);
        let engine = engine(table);
        let evaluation = evaluation("count_over_time(h[20s])", 9_000, 1000);
        let (answer, _) = ask(&engine, &evaluation, &Limits::default()).await.expect("an answer");
        // About 150 bytes and 8 for each bucket, at 16 bytes a sample.
        let samples = answer.stats.samples_read as usize / 10;
        let expected = 9 + buckets / 2;
        assert!((expected..expected + 5).contains(&samples), "{buckets}: {samples}");

        let little = Limits { query_memory_bytes_max: MIB / 2, ..Limits::default() };
        let decoded = ask(&engine, &evaluation, &little).await;
        assert_eq!(decoded.is_err(), buckets == 10_000, "{buckets}: {decoded:?}");
    }
}

/// Series that never have a point together, and one side that is empty.
#[tokio::test]
async fn matching_many_series_of_one_group_is_no_square() {
    let engine = engine(table(20_000, 1));
    for question in ["nothing * on() m", "m * on() nothing", "m unless on() m"] {
        let began = Instant::now();
        let evaluation = evaluation(question, 0, 0);
        ask(&engine, &evaluation, &Limits::default()).await.expect(question);
        assert!(began.elapsed() < Duration::from_secs(5), "{question}: {:?}", began.elapsed());
    }
    let evaluation = evaluation("vector(1) * on() m", 0, 0);
    let error = ask(&engine, &evaluation, &Limits::default()).await.expect_err("many to many");
    let text = error.to_string();
    assert!(text.contains(r#"[{__name__="m", i="0001"}, {__name__="m", i="0000"}]"#), "{text}");
}

#[test]
fn expressions_as_deep_as_the_parser_allows_fit_the_stack() {
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let questions = [
        nested("(", "m", ")", 245),
        nested("-", "m", "", 245),
        nested("abs(", "m", ")", 245),
        nested("sum(", "m", ")", 245),
        nested("sum(abs(-(", "m", ")))", 60),
        nested("topk(1, ", "m", ")", 245),
        nested("label_replace(", "m", ", \"a\", \"b\", \"c\", \"d\")", 245),
        nested("1 + (", "m", ")", 120),
        nested("m + (", "m", ")", 120),
        nested("max_over_time(", "m", "[1s:1s])", 120),
        nested("absent(", "m", ")", 245),
        nested("vector(scalar(", "m", "))", 120),
        vec!["m"; 240].join(" + "),
        vec!["1"; 240].join(" ^ "),
    ];
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for question in questions {
            for (end_ms, step_ms) in [(0, 0), (9_000, 1000)] {
                let evaluation = evaluation(&question, end_ms, step_ms);
                let engine = engine(table(3, 10));
                let answer = runtime.block_on(ask(&engine, &evaluation, &Limits::default()));
                assert!(answer.is_ok(), "{question}: {answer:?}");
            }
        }
    };
    // An unoptimised build takes more than 2 MiB. The server gives its threads four times as much as
    // this.
    let thread = std::thread::Builder::new().stack_size(8 * MIB).spawn(work).expect("a thread");
    thread.join().expect("no question fails");
}
