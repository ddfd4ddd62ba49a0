//! Queries that give lines.

use super::super::reply::Reply;
use super::Question;
use super::documents::{Cost, Streams, old_streams};
use super::params::{HOUR_NS, Limits};
use crate::entries::{Direction, EntryRow, EntrySelection, Pipeline, SelectEntries};
use crate::logql::LogExpr;
use crate::querier::Timed;
use crate::{Cancel, Error, Used};

/// `query_range` of lines.
pub(super) async fn range(
    question: Question,
    lines: LogExpr,
    limits: Limits,
) -> Result<Reply, Error> {
    if !matches!(question.params.get("interval"), "" | "0" | "0s") {
        let text = "not supported yet: the parameter interval, which thins lines out";
        return Err(Error::BadData(text.to_owned()));
    }
    let pipeline = Pipeline::of(&lines, question.text())?;
    let found = read(&question, lines, pipeline, limits).await?;
    let cost = Cost::of(&found, found.answer.0.len());
    Ok(Reply::document(Streams::new(found.answer.0, question.categorizes, cost)))
}

/// `/api/prom/query`
pub(super) async fn old_query(question: Question) -> Result<Reply, Error> {
    let limits = Limits::of(&question, HOUR_NS)?;
    let (lines, pipeline) = question.pipeline().await?;
    let found = read(&question, lines, pipeline, limits).await?;
    Ok(old_streams(&found.answer.0))
}

/// Entries in the asked direction, and what they cost.
async fn read(
    question: &Question,
    lines: LogExpr,
    pipeline: Pipeline,
    limits: Limits,
) -> Result<Timed<(Vec<EntryRow>, Used)>, Error> {
    let memory_max = question.scope.limits().query_memory_bytes_max;
    question
        .run(async |cancel: Cancel| {
            let selection = EntrySelection {
                selectors: vec![lines.matchers],
                start_ns: limits.start_ns,
                end_ns: limits.end_ns,
                filter: pipeline.filter.clone(),
                cancel: cancel.clone(),
                ..EntrySelection::default()
            };
            let Limits { direction, limit, .. } = limits;
            // What is decided here is not known where the rows are.
            let told = pipeline.is_filter().then_some(limit);
            let request = SelectEntries { selection, direction, limit: told, after: None };
            let mut batches = question.entries.select(&question.scope, request).await?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            'reading: while let Some(batch) = batches.next().await? {
                for row in batch.into_iter().filter(|row| pipeline.keeps(row)) {
                    bytes += row.counted_bytes() as usize + size_of::<EntryRow>();
                    if bytes > memory_max {
                        return Err(too_large(memory_max));
                    }
                    rows.push(row);
                    if rows.len() >= limit {
                        break 'reading;
                    }
                }
            }
            debug_assert!(rows.is_sorted_by(|a, b| match direction {
                Direction::Forward => a.place <= b.place,
                Direction::Backward => a.place >= b.place,
            }));
            Ok((rows, cancel.usage().now()))
        })
        .await
}

fn too_large(limit: usize) -> Error {
    Error::Execution(format!(
        "the lines of this answer take more than {limit} bytes (query_memory_bytes_max); \
         ask for fewer lines or a shorter range"
    ))
}
