//! The way of a statement: read, planned, run, encoded.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use datafusion::catalog::TableFunction;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use datafusion_common::DataFusionError;
use datafusion_execution::SendableRecordBatchStream;
use datafusion_execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion_execution::runtime_env::RuntimeEnvBuilder;
use datafusion_expr::execution_props::ExecutionProps;
use futures::StreamExt;
use query::{Error, Pieces, SqlRequest};

use super::catalog::{CATALOG, Catalog, Catalogs, METRICS};
use super::encode::Encoder;
use super::entries::InOrderOfTime;
use super::errors::asked;
use super::memory::QuestionMemory;
use super::physical::{OnThePool, one_partition};
use super::promql::Promql;
use super::reader::Reader;
use super::statement;
use crate::drive::drive;

/// Rows that nodes hand on at a time.
const BATCH_ROWS: usize = 8_192;

/// Functions that make much of little: a text or a list of any length in one step, of which no
/// accountant hears before it is there.
const REFUSED: [&str; 8] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "array_resize",
    "generate_series",
    "range",
    "regexp_replace",
];

/// Makes sessions; what all of them share is made once.
#[derive(Default)]
pub(crate) struct Sessions {
    base: OnceLock<SessionState>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    /// Answers a statement.
    pub(crate) async fn answer(
        &self,
        reader: Arc<Reader>,
        request: SqlRequest,
    ) -> Result<Box<dyn Pieces>, Error> {
        // However this ends, the threads that work for it stop; later the answer has the guard.
        let guard = request.cancel.guard();
        let base = self.base.get_or_init(base).clone();
        let format = request.format;
        let planning = Box::pin(plan(base, Arc::clone(&reader), request));
        let poll =
            |planning: &mut Planning, context: &mut Context<'_>| planning.as_mut().poll(context);
        let planning: Planning = planning;
        let (_, planned) = drive(&reader.lane, &reader.budget, planning, poll).await?;
        let batches = planned.map_err(|error| reader.budget.ended(error))?;
        let encoder = Encoder::new(format, &batches.schema())?;
        let running = Running { batches, encoder, reader: Arc::clone(&reader), is_over: false };
        Ok(Box::new(Answer { running: Some(running), reader, _guard: guard }))
    }
}

type Planning = Pin<Box<dyn Future<Output = Result<SendableRecordBatchStream, Error>> + Send>>;

/// What sessions share: functions and settings.
fn base() -> SessionState {
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(BATCH_ROWS)
        .with_default_catalog_and_schema(CATALOG, METRICS)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_round_robin_repartition(false)
        .with_collect_statistics(false)
        // Nothing spills, so nothing is kept for it.
        .with_sort_spill_reservation_bytes(0);
    config.options_mut().sql_parser.collect_spans = true;
    let mut functions = SessionStateDefaults::default_scalar_functions();
    functions.retain(|function| !REFUSED.contains(&function.name()));
    SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(functions)
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .build()
}

/// The session of one statement.
fn session(
    base: SessionState,
    reader: &Arc<Reader>,
    promql: &Arc<Promql>,
    now_ms: i64,
) -> Result<SessionState, DataFusionError> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(QuestionMemory(Arc::clone(reader))))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .build_arc()?;
    let props = match DateTime::from_timestamp_millis(now_ms) {
        Some(now) => ExecutionProps::new().with_query_execution_start_time(now),
        None => ExecutionProps::new(),
    };
    let function = |name: &str, function| Arc::new(TableFunction::new(name.to_owned(), function));
    let mut functions = SessionStateDefaults::default_table_functions();
    functions.retain(|function| ["generate_series", "range"].contains(&function.name()));
    functions.push(function("promql", Arc::<Promql>::clone(promql) as _));
    Ok(SessionStateBuilder::new_from_existing(base)
        .with_catalog_list(Arc::new(Catalogs(Catalog::new(reader))))
        .with_runtime_env(runtime)
        .with_execution_props(props)
        .with_table_function_list(functions)
        .with_physical_optimizer_rule(Arc::new(InOrderOfTime))
        .with_physical_optimizer_rule(Arc::new(OnThePool(Arc::clone(reader))))
        .build())
}

/// Plans a statement and begins to run it.
async fn plan(
    base: SessionState,
    reader: Arc<Reader>,
    request: SqlRequest,
) -> Result<SendableRecordBatchStream, Error> {
    let SqlRequest { text, parameters, now_ms, .. } = request;
    let statement = statement::read(&text, &parameters)?;
    let promql = Arc::new(Promql::new(Arc::clone(&reader), now_ms));
    let state = session(base, &reader, &promql, now_ms).map_err(|e| asked(&e))?;
    let plan = loop {
        match logical(&state, statement.clone()).await {
            Ok(plan) => break plan,
            Err(error) if !promql.evaluate_wanted().await? => return Err(asked(&error)),
            Err(_) => {}
        }
    };
    let plan = state.create_physical_plan(&plan).await.map_err(|e| asked(&e))?;
    let plan = one_partition(plan, &reader);
    plan.execute(0, state.task_ctx()).map_err(|e| asked(&e))
}

async fn logical(
    state: &SessionState,
    statement: Statement,
) -> Result<datafusion_expr::LogicalPlan, DataFusionError> {
    let plan = state.statement_to_plan(statement).await?;
    // What the syntax tree did not show: it reads, and does nothing else.
    let only_reads =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_reads.verify_plan(&plan)?;
    Ok(plan)
}

/// A plan that runs.
struct Running {
    batches: SendableRecordBatchStream,
    encoder: Encoder,
    reader: Arc<Reader>,
    is_over: bool,
}

impl Running {
    /// The next piece; none after the last.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        if self.is_over {
            return Poll::Ready(Ok(None));
        }
        let piece = match ready!(self.batches.poll_next_unpin(context)) {
            Some(Ok(batch)) => self.encoder.rows(&batch),
            Some(Err(error)) => Err(self.reader.asked(&error)),
            None => {
                self.is_over = true;
                self.encoder.end(&self.reader.take_notes(), self.reader.used())
            }
        };
        Poll::Ready(piece.map(Some))
    }
}

/// An answer on its way.
struct Answer {
    /// Gone while a job works on it, and after an error.
    running: Option<Running>,
    reader: Arc<Reader>,
    _guard: query::CancelGuard,
}

#[async_trait]
impl Pieces for Answer {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(running) = self.running.take() else { return Ok(None) };
            let driven = drive(&self.reader.lane, &self.reader.budget, running, Running::poll);
            let (running, piece) = driven.await?;
            match piece.map_err(|error| self.reader.budget.ended(error))? {
                // Encoders may keep what is too little to be sent.
                Some(piece) if piece.is_empty() => self.running = Some(running),
                Some(piece) => {
                    self.running = Some(running);
                    return Ok(Some(piece));
                }
                None => return Ok(None),
            }
        }
    }
}
