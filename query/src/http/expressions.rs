//! Endpoints that take an expression: `query`, `query_range`, `query_exemplars`, `format_query`.

use std::sync::Arc;

use model::{Exemplar, Labels};

use super::Question;
use super::documents::{List, Notes, Single, of_answer};
use super::json::{Timings, comma, push_labels, push_quoted, push_string};
use super::params::{invalid, quoted};
use super::reply::Reply;
use super::syntax::push_expr;
use crate::number::push_seconds;
use crate::promql::{Expr, ValueType};
use crate::querier::Timed;
use crate::running::Asked;
use crate::{Answer, Error, Evaluation, Value};

/// Farthest instant an expression is evaluated at. Milliseconds; far enough from the ends of an
/// `i64` that no offset or look-back leaves it.
const INSTANT_MS_MAX: i64 = 1 << 61;

/// The instants an expression is asked for.
#[derive(Debug, Clone, Copy)]
struct Instants {
    start_ms: i64,
    end_ms: i64,
    /// 0 for one instant.
    step_ms: i64,
}

/// `query`
pub(super) async fn instant(question: Question<'_>) -> Result<Reply, Error> {
    let limit = question.params.limit()?;
    let now_ms = question.querier.clock().now_ms();
    let at_ms = question.params.instant_or("time", now_ms)?.clamp(-INSTANT_MS_MAX, INSTANT_MS_MAX);
    evaluate(question, limit, Instants { start_ms: at_ms, end_ms: at_ms, step_ms: 0 }).await
}

/// `query_range`
pub(super) async fn range(question: Question<'_>) -> Result<Reply, Error> {
    let params = &question.params;
    let limit = params.limit()?;
    let start_ms = params.instant("start")?.clamp(-INSTANT_MS_MAX, INSTANT_MS_MAX);
    let end_ms = params.instant("end")?.clamp(-INSTANT_MS_MAX, INSTANT_MS_MAX);
    if end_ms < start_ms {
        return Err(invalid("end", "end timestamp must not be before start time"));
    }
    let step_ms = params.required_duration("step")?;
    if step_ms <= 0 {
        // Below a millisecond as well, where Prometheus fails with a division by zero.
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(invalid("step", reason));
    }
    let steps_max = question.querier.config().steps_max;
    if end_ms.saturating_sub(start_ms) / step_ms > steps_max {
        return Err(Error::BadData(format!(
            "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
            with_thousands(steps_max)
        )));
    }
    evaluate(question, limit, Instants { start_ms, end_ms, step_ms }).await
}

fn with_thousands(number: i64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

async fn evaluate(
    question: Question<'_>,
    limit: Option<usize>,
    at: Instants,
) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, .. } = question;
    let deadline = querier.deadline(&scope, params.duration("timeout")?)?;
    let lookback_ms = params.lookback_ms(&querier.config())?;
    let stats = params.get("stats").to_owned();
    let per_step_stats = stats == "all";
    let with_phases = params.switch("profile")?;
    let fresh = params.switch("nocache")?;
    let text = params.expression();
    let asked_text: Arc<str> = params.get("query").into();
    let work = async |cancel| {
        let expr = text.read(querier).await?.map_err(|reason| invalid("query", &reason))?;
        let kind = expr.value_type();
        if at.step_ms > 0 && !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let reason = format!(
                "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
            );
            return Err(invalid("query", &reason));
        }
        let (expr, text, timeout) = (Arc::new(expr), asked_text, deadline.timeout);
        let Instants { start_ms, end_ms, step_ms } = at;
        let evaluation = Evaluation {
            expr,
            text,
            start_ms,
            end_ms,
            step_ms,
            lookback_ms,
            timeout,
            per_step_stats,
            fresh,
            cancel,
        };
        querier.executor().evaluate(&scope, evaluation).await
    };
    let Instants { start_ms, end_ms, step_ms } = at;
    let asked = Asked { start_ms, end_ms, step_ms, ..asked };
    let Timed { mut answer, queued, ran } = querier.run(&scope, deadline, asked, work).await?;
    querier.count(&answer);
    let truncated = finish(&mut answer, limit);
    let wants_stats = !stats.is_empty() || with_phases;
    if !matches!(stats.as_str(), "" | "true" | "all") {
        let shown = quoted(&stats);
        let text = format!(
            "stats={shown} is deprecated and taken for \"true\"; ask for \"true\" or \"all\""
        );
        answer.warnings.push(text);
    }
    let (queued, evaluated) = (queued.as_secs_f64(), ran.as_secs_f64());
    let timings = Timings { queued, evaluated, with_phases };
    Ok(Reply::Document(of_answer(answer, truncated, wants_stats.then_some(timings))))
}

/// Puts a matrix into the order of its labels and applies `limit`; says whether that cut it.
fn finish(answer: &mut Answer, limit: Option<usize>) -> bool {
    let limit = limit.unwrap_or(usize::MAX);
    match &mut answer.value {
        Value::Scalar { .. } | Value::String { .. } => false,
        Value::Vector(points) => {
            let longer = points.len() > limit;
            points.truncate(limit);
            longer
        }
        Value::Matrix(series) => {
            if !series.is_sorted_by(|a, b| a.labels <= b.labels) {
                series.sort_by(|a, b| a.labels.cmp(&b.labels));
            }
            let longer = series.len() > limit;
            series.truncate(limit);
            longer
        }
    }
}

/// `query_exemplars`
pub(super) async fn exemplars(question: Question<'_>) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, .. } = question;
    let range = params.range()?;
    if range.end_ms < range.start_ms {
        return Err(Error::BadData("end timestamp must not be before start timestamp".to_owned()));
    }
    let deadline = querier.deadline(&scope, None)?;
    let text = params.expression();
    let work = async |cancel| {
        let expr = text.read(querier).await?.map_err(Error::BadData)?;
        let mut selectors = Vec::new();
        expr.selectors(|selector, _span| selectors.push(selector.matchers.clone()));
        if selectors.is_empty() {
            return Ok(None);
        }
        querier.executor().exemplars(&scope, selectors, range, &cancel).await.map(Some)
    };
    match querier.run(&scope, deadline, asked, work).await?.answer {
        Some(found) => Ok(Reply::document(List::new(found, Notes::default(), write_exemplars))),
        None => Ok(Reply::Nothing),
    }
}

fn write_exemplars(out: &mut Vec<u8>, of_series: &(Labels, Vec<Exemplar>)) {
    let (labels, exemplars) = of_series;
    out.extend_from_slice(b"{\"seriesLabels\":");
    push_labels(out, labels);
    out.extend_from_slice(b",\"exemplars\":[");
    for (i, exemplar) in exemplars.iter().enumerate() {
        comma(out, i);
        out.extend_from_slice(b"{\"labels\":");
        push_labels(out, &exemplar.labels);
        out.extend_from_slice(b",\"value\":");
        push_quoted(out, exemplar.value);
        out.extend_from_slice(b",\"timestamp\":");
        push_seconds(out, exemplar.timestamp_ms);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// `format_query`
pub(super) async fn format(question: Question<'_>) -> Result<Reply, Error> {
    let text = read(question).await?.pretty();
    Ok(Reply::document(Single::new(|out| push_string(out, &text))))
}

/// `parse_query`
pub(super) async fn parse(question: Question<'_>) -> Result<Reply, Error> {
    let expr = read(question).await?;
    Ok(Reply::document(Single::new(|out| push_expr(out, &expr))))
}

/// The expression, for those who want nothing but it.
async fn read(question: Question<'_>) -> Result<Expr, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, .. } = question;
    let deadline = querier.deadline(&scope, None)?;
    let text = params.expression();
    let work = async |_cancel| text.read(querier).await;
    let expr = querier.run(&scope, deadline, asked, work).await?.answer;
    expr.map_err(|reason| invalid("query", &reason))
}
