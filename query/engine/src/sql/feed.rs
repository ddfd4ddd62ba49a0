//! Rows that are read beside the pool, for a node that is polled on it.

use std::future::Future;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion_execution::SendableRecordBatchStream;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use query::Error;
use tokio::sync::mpsc;

use super::errors::external;
use super::reader::Reader;
use crate::budget::Reserved;

/// Batches and the memory they take.
pub(super) type Rows = Result<(Vec<RecordBatch>, Reserved), Error>;

/// What the work sends, batch by batch. It waits for whoever reads, and ends with them.
pub(super) fn fed<W>(
    reader: &Arc<Reader>,
    schema: SchemaRef,
    work: impl FnOnce(mpsc::Sender<Rows>) -> W,
) -> SendableRecordBatchStream
where
    W: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (send, receive) = mpsc::channel(1);
    let working = work(send.clone());
    let task = reader.apart(async move {
        if let Err(error) = working.await {
            // Nobody may be there any more.
            let _ = send.send(Err(error)).await;
        }
        Ok(())
    });
    // The task ends with the stream.
    let batches = stream::unfold((receive, task), |(mut receive, task)| async move {
        let next: Rows = receive.recv().await?;
        Some((next.map_err(external), (receive, task)))
    });
    let batches = batches.flat_map(|read| {
        let (batches, held) = match read {
            Ok((batches, held)) => (batches.into_iter().map(Ok).collect(), Some(held)),
            Err(error) => (vec![Err(error)], None),
        };
        // Memory is given back with the last of them.
        stream::iter(batches).map(move |batch| {
            let _held = &held;
            batch
        })
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}
