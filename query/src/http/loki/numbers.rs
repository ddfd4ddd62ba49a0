//! Queries that give numbers.

use super::super::reply::Reply;
use super::Question;
use super::documents::{Cost, Matrix, scalar, vector};
use super::params::{Limits, instant_or, now_ns};
use crate::entries::{Series, Steps, Values, evaluate};
use crate::logql::{Expr, MetricExpr};
use crate::querier::Timed;
use crate::{Cancel, Error, Used};
use model::Labels;

/// `query`: at one instant.
pub(super) async fn instant(question: Question) -> Result<Reply, Error> {
    let at_ns = instant_or(&question, "time", now_ns(&question))?;
    super::params::limit(&question)?;
    let Expr::Metric(expr) = question.parsed().await? else {
        return Err(Error::BadData(
            "log queries are not supported as an instant query type, please change your query to a \
             range query type"
                .to_owned(),
        ));
    };
    let steps = Steps { start_ns: at_ns, step_ns: 0, count: 1 };
    let found = numbers(&question, &expr, steps).await?;
    let cost = Cost::of(&found, 0);
    Ok(match found.answer.0 {
        Values::Number(value) => scalar(value, at_ns, cost),
        Values::Vector(series) => vector(&series, at_ns, cost),
    })
}

/// `query_range` of numbers.
pub(super) async fn range(
    question: Question,
    expr: MetricExpr,
    limits: Limits,
) -> Result<Reply, Error> {
    let steps = limits.steps(&question)?;
    let found = numbers(&question, &expr, steps).await?;
    let cost = Cost::of(&found, 0);
    let series = match found.answer.0 {
        // A number is a series without labels.
        Values::Number(value) => {
            vec![Series { labels: Labels::empty(), values: vec![Some(value); steps.count] }]
        }
        Values::Vector(series) => series,
    };
    Ok(Reply::document(Matrix::new(series, steps, cost)))
}

async fn numbers(
    question: &Question,
    expr: &MetricExpr,
    steps: Steps,
) -> Result<Timed<(Values, Used)>, Error> {
    question
        .run(async |cancel: Cancel| {
            let asked = (expr, question.text());
            let values =
                evaluate(&*question.entries, &question.scope, asked, steps, &cancel).await?;
            Ok((values, cancel.usage().now()))
        })
        .await
}
