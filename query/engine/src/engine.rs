//! The engine: questions over a source, within limits, on a pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use query::promql::Expr;
use query::{Answer, Cancel, Error, Evaluation};
use tenancy::ReadScope;
use tokio::sync::OnceCell;

use crate::budget::{Accountant, Budget};
use crate::eval::{Evaluator, Options};
use crate::grid::Grid;
use crate::notes::Notes;
use crate::phases::Phase;
use crate::plan::{Question, lower};
use crate::pool::Pool;
use crate::source::Source;

/// Evaluates expressions over what a source holds.
#[derive(Debug, Clone)]
pub struct Engine {
    source: Arc<dyn Source>,
    pool: Arc<Pool>,
    options: Options,
}

impl Engine {
    /// An engine over a source, computing on a pool.
    pub fn new(source: Arc<dyn Source>, pool: Arc<Pool>, options: Options) -> Self {
        Self { source, pool, options }
    }

    /// Evaluates an expression at one instant or over a range.
    pub async fn evaluate(
        &self,
        scope: &ReadScope,
        evaluation: &Evaluation,
    ) -> Result<Answer, Error> {
        // However this future ends, the threads that work for it stop.
        let _guard = evaluation.cancel.guard();
        let evaluator = self.evaluator(scope, evaluation, None)?;
        evaluator.answer().await
    }

    pub(crate) fn evaluator(
        &self,
        scope: &ReadScope,
        evaluation: &Evaluation,
        accountant: Option<Arc<dyn Accountant>>,
    ) -> Result<Evaluator, Error> {
        let limits = Arc::clone(scope.limits());
        let begun = Instant::now();
        let (question, instant) = self.question(evaluation, limits.query_samples_max)?;
        let plan = lower(&evaluation.expr, question)?;
        let budget = Budget::new(limits, evaluation.cancel.clone(), evaluation.timeout, accountant);
        if evaluation.per_step_stats {
            budget.queryable.count_by_step(question.grid);
        }
        budget.take_patterns(plan.selects.iter().flat_map(|select| &select.matchers));
        budget.phases.add(Phase::Plan, begun);
        Ok(Evaluator {
            selected: plan.selects.iter().map(|_| OnceCell::new()).collect(),
            plan,
            source: Arc::clone(&self.source),
            scope: scope.clone(),
            options: self.options.clone(),
            lane: self.pool.lane(scope, &evaluation.cancel),
            budget,
            notes: Arc::new(Notes::of(&evaluation.text)),
            numbers_reserved: Mutex::default(),
            instant,
        })
    }

    fn question(
        &self,
        evaluation: &Evaluation,
        steps_max: usize,
    ) -> Result<(Question, bool), Error> {
        let instant = evaluation.is_instant();
        let grid = match instant {
            true => Grid::instant(evaluation.start_ms),
            false => Grid::new(evaluation.start_ms, evaluation.end_ms, evaluation.step_ms),
        };
        if evaluation.step_ms < 0 || grid.len == 0 {
            return Err(Error::BadData("end timestamp must not be before start time".to_owned()));
        }
        grid.check_len("the query", steps_max)?;
        let question = Question {
            grid,
            end_ms: evaluation.end_ms,
            lookback_ms: evaluation.lookback_ms,
            subquery_step_ms: self.options.subquery_step_ms,
            steps_max,
        };
        Ok((question, instant))
    }
}

/// An evaluation at one instant with everything else as usual; for tests and small tools.
pub fn instant(expr: Expr, at_ms: i64) -> Evaluation {
    Evaluation {
        expr: Arc::new(expr),
        text: Arc::from(""),
        start_ms: at_ms,
        end_ms: at_ms,
        step_ms: 0,
        lookback_ms: 300_000,
        timeout: Duration::from_secs(120),
        per_step_stats: false,
        fresh: false,
        cancel: Cancel::default(),
    }
}
