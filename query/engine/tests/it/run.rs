//! Scripts run over an in-memory source.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Engine, Options, Pool, Table};
use model::{Histogram, Labels};
use query::promql::{Expr, Features, parse_with};
use query::{Answer, Error, Evaluation, Value};
use tenancy::ReadScope;

use crate::literals::Point;
use crate::script::{Command, Eval, Kind, Loaded, parse};
use crate::{compare, nhcb, pinned};

/// What became of one evaluation.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) line: usize,
    pub(crate) query: String,
    pub(crate) result: Result<(), String>,
}

/// The samples of one series.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) floats: Vec<(i64, f64)>,
    pub(crate) histograms: Vec<(i64, Arc<Histogram>)>,
    /// By instant of the sample.
    pub(crate) starts_ms: BTreeMap<i64, i64>,
}

/// Runs a script.
pub(crate) async fn run(text: &str, options: &Options, pool: &Arc<Pool>) -> Vec<Outcome> {
    let mut series: BTreeMap<Labels, Rows> = BTreeMap::new();
    let mut engine = None;
    let mut outcomes = Vec::new();
    for Command { line, kind } in parse(text) {
        match kind {
            Kind::Clear => series.clear(),
            Kind::Load { step_ms, series: new, with_buckets } => {
                let histograms = if with_buckets { nhcb::converted(&new) } else { Vec::new() };
                load(&mut series, new, step_ms);
                load(&mut series, histograms, step_ms);
            }
            Kind::Eval(eval) => {
                let engine = engine.get_or_insert_with(|| engine_over(&series, options, pool));
                let result = check(engine, &eval).await;
                outcomes.push(Outcome { line, query: eval.query, result });
                continue;
            }
        }
        engine = None;
    }
    outcomes
}

pub(crate) fn load(series: &mut BTreeMap<Labels, Rows>, new: Vec<Loaded>, step_ms: i64) {
    // Of a series given twice in one load the last line counts.
    let new: BTreeMap<Labels, Loaded> = new.into_iter().map(|s| (s.labels.clone(), s)).collect();
    for (labels, Loaded { points, starts_ms, .. }) in new {
        let rows = series.entry(labels).or_default();
        for (i, point) in points.into_iter().enumerate() {
            let at_ms = i as i64 * step_ms;
            match point {
                Some(Point::Float(value)) => rows.floats.push((at_ms, value)),
                Some(Point::Histogram(h)) => rows.histograms.push((at_ms, h)),
                None => continue,
            }
            if let Some(Some(offset_ms)) = starts_ms.get(i) {
                rows.starts_ms.insert(at_ms, at_ms + offset_ms);
            }
        }
    }
}

pub(crate) fn engine_over(
    series: &BTreeMap<Labels, Rows>,
    options: &Options,
    pool: &Arc<Pool>,
) -> Engine {
    let mut table = Table::default();
    for (labels, rows) in series {
        table.add(labels.clone(), &rows.floats, rows.histograms.clone());
        table.set_starts(labels, &rows.starts_ms);
    }
    Engine::new(Arc::new(table), Arc::clone(pool), options.clone())
}

pub(crate) async fn ask(
    engine: &Engine,
    query: &str,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
) -> Result<Answer, Error> {
    let expr = parse_with(query, Features::ALL).map_err(|e| Error::BadData(e.to_string()))?;
    evaluate(engine, expr, start_ms, end_ms, step_ms).await
}

async fn evaluate(
    engine: &Engine,
    expr: Expr,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
) -> Result<Answer, Error> {
    let evaluation = Evaluation { end_ms, step_ms, ..engine::instant(expr, start_ms) };
    engine.evaluate(&ReadScope::for_test(&[(1, "test")]), &evaluation).await
}

async fn check(engine: &Engine, eval: &Eval) -> Result<(), String> {
    if let Some(unknown) = &eval.unknown {
        return Err(format!("unknown: {unknown}"));
    }
    let parsed = parse_with(&eval.query, Features::ALL);
    let Ok(expr) = parsed else { return asked(engine, eval, None, eval.start_ms).await };
    asked(engine, eval, Some(&expr), eval.start_ms).await?;
    // The same with every selector at a fixed time, asked for at other times.
    for (at_ms, expr) in pinned::versions(eval, expr) {
        asked(engine, eval, Some(&expr), at_ms)
            .await
            .map_err(|e| format!("{expr} at {at_ms}: {e}"))?;
    }
    Ok(())
}

async fn asked(
    engine: &Engine,
    eval: &Eval,
    expr: Option<&Expr>,
    at_ms: i64,
) -> Result<(), String> {
    let end_ms = at_ms + eval.end_ms - eval.start_ms;
    let answer = match expr {
        Some(expr) => evaluate(engine, expr.clone(), at_ms, end_ms, eval.step_ms).await,
        None => ask(engine, &eval.query, at_ms, end_ms, eval.step_ms).await,
    };
    if let Some(text) = &eval.fail {
        return match answer {
            // What is missing fails for another reason than the one expected.
            Err(e) if e.to_string().starts_with("not supported yet") => Err(e.to_string()),
            Err(e) if text.matches(&e.to_string()) => Ok(()),
            Err(e) => Err(format!("expected to fail with {text:?}, failed with {e}")),
            Ok(answer) => Err(format!("expected to fail, got {:?}", answer.value)),
        };
    }
    let answer = answer.map_err(|e| e.to_string())?;
    compare::check(eval, &answer)?;
    if let (0, Some(expr)) = (eval.step_ms, expr) {
        let range = as_range(engine, eval, expr, at_ms, &answer).await;
        range.map_err(|e| format!("as a range query: {e}"))?;
    }
    Ok(())
}

/// An instant question must have the same answer in the middle of a range.
async fn as_range(
    engine: &Engine,
    eval: &Eval,
    expr: &Expr,
    at_ms: i64,
    answer: &Answer,
) -> Result<(), String> {
    let Value::Vector(points) = &answer.value else { return Ok(()) };
    if pinned::asks_for_the_range(&eval.query) {
        return Ok(());
    }
    let (start_ms, end_ms) = (at_ms - 60_000, at_ms + 60_000);
    let answer = evaluate(engine, expr.clone(), start_ms, end_ms, 60_000).await;
    let answer = answer.map_err(|e| e.to_string())?;
    let Value::Matrix(series) = answer.value else { return Err("no matrix".to_owned()) };
    let mut found = 0;
    for series in &series {
        let float = series.floats.iter().find(|(t, _)| *t == at_ms);
        let float = float.map(|(_, v)| query::PointValue::Float(*v));
        let histogram = series.histograms.iter().find(|(t, _)| *t == at_ms);
        let value =
            float.or_else(|| histogram.map(|(_, h)| query::PointValue::Histogram(Arc::clone(h))));
        let Some(value) = value else { continue };
        found += 1;
        let single = points.iter().find(|p| p.labels == series.labels);
        let same = single.is_some_and(|p| same_bits(&p.value, &value));
        if !same && !eval.ordered {
            return Err(format!("{}: {value:?} instead of {single:?}", series.labels));
        }
    }
    if found != points.len() && !eval.ordered {
        return Err(format!("{found} series instead of {}", points.len()));
    }
    Ok(())
}

fn same_bits(a: &query::PointValue, b: &query::PointValue) -> bool {
    match (a, b) {
        (query::PointValue::Float(a), query::PointValue::Float(b)) => {
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
        }
        // As texts, in which not a number is the same as itself. What is known of resets depends
        // on the samples that are read.
        (query::PointValue::Histogram(a), query::PointValue::Histogram(b)) => {
            let without_hint = |h: &query::FloatHistogram| {
                format!(
                    "{:?}",
                    query::FloatHistogram { reset_hint: Default::default(), ..h.clone() }
                )
            };
            without_hint(a) == without_hint(b)
        }
        _ => false,
    }
}
