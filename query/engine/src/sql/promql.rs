//! `promql('…', start, end, step)` as a table: the answer to an expression, evaluated while the
//! statement is planned, since its labels are the table's columns.
//!
//! Planning does not wait, so a call that was not seen before is written down and planning fails;
//! it is evaluated, and planning begins again.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl};
use datafusion::datasource::TableProvider;
use datafusion_common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_expr::{Expr, TableType};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{TryStreamExt, stream};
use hashbrown::HashMap;
use model::Labels;
use parking_lot::Mutex;
use query::promql::{ValueType, parse_with};
use query::{Cancel, Error, Evaluation, PointValue};

use super::columns::Columns;
use super::errors::external;
use super::push_down::{NS_PER_MS, instant_ns};
use super::reader::Reader;
use super::rows::{Point, Series, batches};
use crate::budget::Reserved;

/// Different calls in one statement.
const CALLS_MAX: usize = 16;

/// The function, and the answers of one statement.
#[derive(Debug)]
pub(super) struct Promql {
    reader: Arc<Reader>,
    /// What an expression without a time is evaluated at.
    now_ms: i64,
    answers: Mutex<HashMap<Call, Arc<Answer>>>,
    /// The call that planning failed at.
    wanted: Mutex<Option<Call>>,
}

/// What is evaluated, and when.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Call {
    text: String,
    start_ms: i64,
    end_ms: i64,
    /// 0 for one instant.
    step_ms: i64,
}

/// Series of an answer.
#[derive(Debug)]
struct Answer {
    columns: Columns,
    series: Vec<(Labels, Vec<(i64, PointValue)>)>,
    /// Held as long as the answer.
    _memory: Reserved,
}

impl Promql {
    pub(super) fn new(reader: Arc<Reader>, now_ms: i64) -> Self {
        Self { reader, now_ms, answers: Mutex::default(), wanted: Mutex::default() }
    }

    /// Evaluates what planning failed at; says whether there was anything.
    pub(super) async fn evaluate_wanted(&self) -> std::result::Result<bool, Error> {
        let Some(call) = self.wanted.lock().take() else { return Ok(false) };
        if self.answers.lock().len() >= CALLS_MAX {
            let text =
                format!("a statement may have at most {CALLS_MAX} different calls of promql()");
            return Err(Error::Execution(text));
        }
        let answer = self.evaluate(&call).await?;
        self.answers.lock().insert(call, Arc::new(answer));
        Ok(true)
    }

    async fn evaluate(&self, call: &Call) -> std::result::Result<Answer, Error> {
        let rules = self.reader.promql;
        let wrong = |reason: String| Error::BadData(format!("promql(): {reason}"));
        if call.text.len() > rules.expression_bytes_max {
            return Err(wrong(format!(
                "the expression has {} bytes, the limit is {} (expression_bytes_max)",
                call.text.len(),
                rules.expression_bytes_max
            )));
        }
        if call.step_ms > 0 && (call.end_ms - call.start_ms) / call.step_ms > rules.steps_max {
            return Err(wrong(format!(
                "more than {} steps between start and end; take a longer step",
                rules.steps_max
            )));
        }
        let expr = parse_with(&call.text, rules.features).map_err(|e| wrong(e.to_string()))?;
        let kind = expr.value_type();
        let is_fit = match call.step_ms {
            0 => kind != ValueType::String,
            _ => matches!(kind, ValueType::Scalar | ValueType::Vector),
        };
        if !is_fit {
            return Err(wrong(format!("a {kind} is no table")));
        }
        let evaluation = Evaluation {
            expr: Arc::new(expr),
            text: Arc::from(call.text.as_str()),
            start_ms: call.start_ms,
            end_ms: call.end_ms,
            step_ms: call.step_ms,
            lookback_ms: rules.lookback_ms,
            timeout: std::time::Duration::MAX,
            per_step_stats: false,
            fresh: true,
            cancel: Cancel::default(),
        };
        let series = crate::exec::series_of(self.reader.evaluate(evaluation).await?)?;
        let bytes = series.iter().map(|(_, points)| crate::exec::points_bytes(points)).sum();
        let memory = self.reader.budget.reserve(bytes)?;
        let names = series.iter().flat_map(|(labels, _)| labels.iter().map(|(name, _)| name));
        let names: std::collections::BTreeSet<String> = names.map(str::to_owned).collect();
        Ok(Answer { columns: Columns::of_labels(names), series, _memory: memory })
    }
}

impl TableFunctionImpl for Promql {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = match self.read(args.exprs()) {
            Ok(call) => call,
            Err(reason) => return plan_err!("promql(): {reason}"),
        };
        if let Some(answer) = self.answers.lock().get(&call) {
            return Ok(Arc::new(Evaluated(Arc::clone(answer))));
        }
        *self.wanted.lock() = Some(call);
        plan_err!("promql(): not evaluated yet")
    }
}

impl Promql {
    fn read(&self, args: &[Expr]) -> std::result::Result<Call, String> {
        let (text, times) = match args {
            [text, times @ ..] if matches!(times.len(), 0 | 1 | 3) => (text, times),
            _ => {
                return Err(format!(
                    "it takes an expression alone, with a time, or with start, end and step; there are {} arguments",
                    args.len()
                ));
            }
        };
        let text = text_of(text).ok_or("the first argument is the expression, as a text")?;
        let at = |name: &str, arg: &Expr| {
            let ms = instant_ms(arg).filter(|ms| (-(1 << 61)..=1 << 61).contains(ms));
            ms.ok_or_else(|| {
                format!("{name} must be a timestamp, an RFC 3339 text or seconds since 1970, all constant; it is {arg}")
            })
        };
        let text = text.to_owned();
        match times {
            [start, end, step] => {
                let (start_ms, end_ms) = (at("start", start)?, at("end", end)?);
                if end_ms < start_ms {
                    return Err("the end is before the start".to_owned());
                }
                let step_ms = duration_ms(step).filter(|ms| *ms > 0).ok_or_else(|| {
                    format!("step must be a duration above 0, as INTERVAL '1 minute', '1m' or seconds; it is {step}")
                })?;
                Ok(Call { text, start_ms, end_ms, step_ms })
            }
            times => {
                let at_ms = times.first().map_or(Ok(self.now_ms), |time| at("time", time))?;
                Ok(Call { text, start_ms: at_ms, end_ms: at_ms, step_ms: 0 })
            }
        }
    }
}

fn constant(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

fn text_of(expr: &Expr) -> Option<&str> {
    match constant(expr)? {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_deref()
        }
        _ => None,
    }
}

fn seconds(expr: &Expr) -> Option<f64> {
    match constant(expr)? {
        ScalarValue::Int64(Some(seconds)) => Some(*seconds as f64),
        ScalarValue::Float64(Some(seconds)) => Some(*seconds),
        _ => None,
    }
}

fn whole_ms(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1_000.0).round();
    // Beyond that a double does not know single milliseconds.
    (ms.abs() < 9e15).then_some(ms as i64)
}

fn instant_ms(expr: &Expr) -> Option<i64> {
    if let Some(text) = text_of(expr) {
        return query::http::instant_ms(text);
    }
    match instant_ns(constant(expr)?) {
        Some(at_ns) => i64::try_from(at_ns.div_euclid(NS_PER_MS)).ok(),
        None => seconds(expr).and_then(whole_ms),
    }
}

fn duration_ms(expr: &Expr) -> Option<i64> {
    if let Some(text) = text_of(expr) {
        return query::http::duration_ms(text);
    }
    match constant(expr)? {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            let of_days = i64::from(interval.days).checked_mul(86_400_000)?;
            of_days.checked_add(interval.nanoseconds / 1_000_000)
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            let of_days = i64::from(interval.days).checked_mul(86_400_000)?;
            of_days.checked_add(i64::from(interval.milliseconds))
        }
        _ => seconds(expr).and_then(whole_ms),
    }
}

/// A table of an answer.
#[derive(Debug)]
struct Evaluated(Arc<Answer>);

#[async_trait]
impl TableProvider for Evaluated {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.columns.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = Arc::new(Rows(Arc::clone(&self.0)));
        let schema = self.schema();
        let exec = StreamingTableExec::try_new(schema, vec![rows], projection, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

/// Its rows.
#[derive(Debug)]
struct Rows(Arc<Answer>);

impl Answer {
    fn rows(&self, places: Range<usize>, rows_max: usize) -> Result<Vec<RecordBatch>> {
        let series = self.series.get(places).unwrap_or_default().iter().map(|(labels, points)| {
            let point = |(at_ms, value): &(i64, PointValue)| match value {
                PointValue::Float(value) => (*at_ms, Point::Float(*value)),
                PointValue::Histogram(h) => (*at_ms, Point::Computed(Arc::clone(h))),
            };
            Series::mixed(labels, points.iter().map(point).collect())
        });
        let rows = batches(&self.columns, &series.collect::<Vec<_>>(), rows_max);
        rows.map_err(|e| external(Error::internal("make rows of an answer", e)))
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        self.0.columns.schema()
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows_max = context.session_config().batch_size().max(1);
        let next = move |(answer, at): (Arc<Answer>, usize)| async move {
            let (mut end, mut rows) = (at, 0);
            while rows < rows_max
                && let Some((_, points)) = answer.series.get(end)
            {
                rows += points.len();
                end += 1;
            }
            if end == at {
                return Ok::<_, DataFusionError>(None);
            }
            let rows = answer.rows(at..end, rows_max)?;
            Ok(Some((stream::iter(rows.into_iter().map(Ok)), (answer, end))))
        };
        let batches = stream::try_unfold((Arc::clone(&self.0), 0), next).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(self.schema()), batches))
    }
}
