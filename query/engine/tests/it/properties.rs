//! Answers must not depend on how the work is cut: morsels, threads, fusing. The order in which
//! series were written does not reach the engine: sources give them in order of their labels.

use std::sync::Arc;

use engine::{Engine, Options, Pool, Table};
use model::Labels;
use query::{Answer, Value};

use crate::run::ask;

/// Series with gaps, resets, stale markers and values that rounding hurts.
pub(crate) fn table(order: impl Iterator<Item = usize>) -> Table {
    let mut table = Table::default();
    for i in order {
        let labels = Labels::from_pairs([
            ("__name__", "m_total".to_owned()),
            ("job", format!("j{}", i % 7)),
            ("instance", format!("i{i:03}")),
        ]);
        let mut state = i as u64 * 0x9e37_79b9 + 1;
        let mut value = 0.0;
        let mut samples = Vec::new();
        for step in 0..200i64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let dice = state >> 40;
            value = if dice.is_multiple_of(61) {
                0.1
            } else {
                value + (dice % 1000) as f64 * 0.1 + 1e9 * (dice % 3) as f64
            };
            match dice % 47 {
                0 => {}
                1 => samples.push((step * 15_000, model::stale_nan())),
                _ => samples.push((step * 15_000, value)),
            }
        }
        table.add(labels, &samples, Vec::new());
        let zone = Labels::from_pairs([
            ("__name__", "target_info".to_owned()),
            ("job", format!("j{}", i % 7)),
            ("instance", format!("i{i:03}")),
            ("zone", format!("z{}", i % 3)),
        ]);
        let seen = (i as i64 % 20..200).step_by(11);
        table.add(zone, &seen.map(|step| (step * 15_000, 1.0)).collect::<Vec<_>>(), Vec::new());
    }
    table
}

/// Numbers below `below` in an order that a seed gives.
fn shuffled(below: usize, mut seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..below).collect();
    for i in (1..below).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(i, (seed >> 33) as usize % (i + 1));
    }
    order
}

pub(crate) const QUESTIONS: &[&str] = &[
    "m_total",
    "rate(m_total[5m])",
    "sum(m_total)",
    "sum by (job) (rate(m_total[5m]))",
    "avg by (job) (m_total)",
    "avg without (instance) (increase(m_total[90s]))",
    "stddev by (job) (m_total)",
    "max by (job) (max_over_time(m_total[2m]))",
    "count by (job) (m_total > 1e9)",
    "count by (job) (m_total)",
    "group without (job) ({__name__!=''})",
    "group(irate(m_total[1m]))",
    "topk(3, m_total)",
    "quantile by (job) (0.9, rate(m_total[5m]))",
    "sum(sum_over_time(rate(m_total[1m])[5m:30s]))",
    "sum by (job) (m_total) / on (job) group_right sum by (job, instance) (m_total offset 1m)",
];

/// What is switched on only where somebody asks for it.
const EXPERIMENTAL: &[&str] = &[
    "increase(m_total[5m] smoothed)",
    "sum by (job) (rate(m_total[5m] anchored))",
    "m_total smoothed",
    "sum by (zone) (info(rate(m_total[2m])))",
    "info(m_total{job=\"j3\"}, {zone=~\"z[12]\"})",
    "m_total{job=\"j1\"} + ignoring (job) fill (1) m_total{job=\"j2\"}",
    "limitk by (job) (2, m_total)",
    "count by (job) (limit_ratio(-0.3, m_total))",
    "mad_over_time(m_total[3m]) + ts_of_max_over_time(m_total[3m])",
];

async fn answer(table: Table, threads: usize, options: Options, question: &str) -> Answer {
    let engine = Engine::new(Arc::new(table), Pool::new(threads), options);
    ask(&engine, question, 0, 2_990_000, 23_000).await.unwrap()
}

/// Everything of an answer, floats by their bits.
fn bits(answer: &Answer) -> Vec<(String, Vec<(i64, u64)>)> {
    let Value::Matrix(series) = &answer.value else { panic!("no matrix") };
    let points = |floats: &[(i64, f64)]| floats.iter().map(|(t, v)| (*t, v.to_bits())).collect();
    series.iter().map(|s| (s.labels.to_string(), points(&s.floats))).collect()
}

#[tokio::test]
async fn answers_do_not_depend_on_how_work_is_cut() {
    let options = |morsel_series, fuse| Options { morsel_series, fuse, ..Options::default() };
    for (seed, question) in (1u64..).zip(QUESTIONS.iter().chain(EXPERIMENTAL)) {
        let expected = bits(&answer(table(0..300), 1, options(1_000, false), question).await);
        assert!(!expected.is_empty(), "{question}");
        for (threads, morsel, fuse) in [(1, 1, true), (2, 7, true), (3, 256, true), (2, 64, false)]
        {
            let found =
                bits(&answer(table(0..300), threads, options(morsel, fuse), question).await);
            assert!(
                found == expected,
                "{question} with {threads} threads, {morsel} series a morsel, fused {fuse}"
            );
        }
        let order = shuffled(300, seed);
        let (threads, morsel) = (1 + order[0] % 4, 1 + order[1]);
        let shuffled = table(order.into_iter());
        let found = bits(&answer(shuffled, threads, options(morsel, true), question).await);
        assert!(
            found == expected,
            "{question} with series written in another order, seed {seed}, {threads} threads, {morsel} series a morsel"
        );
    }
}

#[tokio::test]
async fn limits_and_cancellation_end_a_question() {
    let scope = tenancy::ReadScope::for_test(&[(1, "test")]);
    let engine = Engine::new(Arc::new(table(0..300)), Pool::new(2), Options::default());
    let expr = query::promql::parse("sum(rate(m_total[5m]))").unwrap();
    let evaluation =
        query::Evaluation { end_ms: 2_990_000, step_ms: 1_000, ..engine::instant(expr, 0) };
    let cancelled = evaluation.clone();
    cancelled.cancel.set();
    assert!(matches!(engine.evaluate(&scope, &cancelled).await, Err(query::Error::Canceled(_))));
    let late = query::Evaluation {
        timeout: std::time::Duration::ZERO,
        cancel: query::Cancel::default(),
        ..evaluation.clone()
    };
    assert!(matches!(engine.evaluate(&scope, &late).await, Err(query::Error::Timeout(_))));
    let fine_steps = query::Evaluation {
        end_ms: 100_000_000,
        step_ms: 1,
        cancel: query::Cancel::default(),
        ..evaluation
    };
    assert!(matches!(engine.evaluate(&scope, &fine_steps).await, Err(query::Error::Execution(_))));
}
