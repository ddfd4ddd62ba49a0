//! Scripts run over an in-memory source.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Engine, Options, Pool, Table};
use model::{Histogram, Labels};
use query::promql::{Features, parse_with};
use query::{Answer, Error, Evaluation, Value};
use tenancy::ReadScope;

use crate::compare;
use crate::literals::Point;
use crate::script::{Command, Eval, Kind, parse};

/// What became of one evaluation.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) line: usize,
    pub(crate) query: String,
    pub(crate) result: Result<(), String>,
}

#[derive(Default)]
struct Loaded {
    floats: Vec<(i64, f64)>,
    histograms: Vec<(i64, Arc<Histogram>)>,
}

/// Runs a script.
pub(crate) async fn run(text: &str, options: &Options, pool: &Arc<Pool>) -> Vec<Outcome> {
    let mut series: BTreeMap<Labels, Loaded> = BTreeMap::new();
    let mut engine = None;
    let mut outcomes = Vec::new();
    for Command { line, kind } in parse(text) {
        match kind {
            Kind::Clear => series.clear(),
            Kind::Load { step_ms, series: new, with_buckets } => {
                assert!(!with_buckets || new.iter().all(|(l, _)| !l.is_empty()), "line {line}");
                load(&mut series, new, step_ms);
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

fn load(
    series: &mut BTreeMap<Labels, Loaded>,
    new: Vec<(Labels, Vec<Option<Point>>)>,
    step_ms: i64,
) {
    // Of a series given twice in one load the last line counts.
    let new: BTreeMap<Labels, Vec<Option<Point>>> = new.into_iter().collect();
    for (labels, points) in new {
        let loaded = series.entry(labels).or_default();
        for (i, point) in points.into_iter().enumerate() {
            match point {
                Some(Point::Float(value)) => loaded.floats.push((i as i64 * step_ms, value)),
                Some(Point::Histogram(h)) => loaded.histograms.push((i as i64 * step_ms, h)),
                None => {}
            }
        }
    }
}

fn engine_over(series: &BTreeMap<Labels, Loaded>, options: &Options, pool: &Arc<Pool>) -> Engine {
    let mut table = Table::default();
    for (labels, loaded) in series {
        table.add(labels.clone(), &loaded.floats, loaded.histograms.clone());
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
    let evaluation = Evaluation { end_ms, step_ms, ..engine::instant(expr, start_ms) };
    engine.evaluate(&ReadScope::for_test(&[(1, "test")]), &evaluation).await
}

async fn check(engine: &Engine, eval: &Eval) -> Result<(), String> {
    if let Some(unknown) = &eval.unknown {
        return Err(format!("unknown: {unknown}"));
    }
    let answer = ask(engine, &eval.query, eval.start_ms, eval.end_ms, eval.step_ms).await;
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
    if eval.step_ms == 0 {
        as_range(engine, eval, &answer).await.map_err(|e| format!("as a range query: {e}"))?;
    }
    Ok(())
}

/// An instant question must have the same answer in the middle of a range.
async fn as_range(engine: &Engine, eval: &Eval, answer: &Answer) -> Result<(), String> {
    let of_the_range = ["start()", "end()", "range()", "step()"];
    let Value::Vector(points) = &answer.value else { return Ok(()) };
    if of_the_range.iter().any(|word| eval.query.contains(word)) {
        return Ok(());
    }
    let (start_ms, end_ms) = (eval.start_ms - 60_000, eval.start_ms + 60_000);
    let answer =
        ask(engine, &eval.query, start_ms, end_ms, 60_000).await.map_err(|e| e.to_string())?;
    let Value::Matrix(series) = answer.value else { return Err("no matrix".to_owned()) };
    let middle = |t: i64| t == eval.start_ms;
    let mut found = 0;
    for series in &series {
        let float = series
            .floats
            .iter()
            .find(|(t, _)| middle(*t))
            .map(|(_, v)| query::PointValue::Float(*v));
        let histogram = series.histograms.iter().find(|(t, _)| middle(*t));
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
        (a, b) => a == b,
    }
}
