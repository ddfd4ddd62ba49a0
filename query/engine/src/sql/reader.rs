//! What all parts of one statement share: whose rows it reads, within which limits, and on which
//! threads its work is done.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion_common::DataFusionError;
use model::{METRIC_NAME, Matcher, Signal, TimeRange};
use parking_lot::Mutex;
use query::{Cancel, Error, Evaluation, PromqlRules, SqlRequest, Used, Value};
use storage::entries::SelectStreams;
use storage::{ListNames, ListValues, Select};
use tenancy::ReadScope;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::budget::Budget;
use crate::engine::Engine;
use crate::entries::Asking;
use crate::executor::{StorageSource, asked as stored};
use crate::pool::Lane;
use crate::source::{Selected, Source};

use super::errors::asked;

/// Reads for one statement.
pub(crate) struct Reader {
    pub(super) lane: Lane,
    pub(super) budget: Arc<Budget>,
    pub(super) promql: PromqlRules,
    scope: ReadScope,
    /// Stops with the question, its deadline and its processor time.
    cancel: Cancel,
    source: Arc<StorageSource>,
    engine: Engine,
    /// Where it is waited for bytes: nothing on the pool may wait.
    io: Handle,
    /// What is said beside the answer.
    notes: Mutex<Vec<String>>,
    /// Why memory was refused, if it was: nodes that would rather write to disk tell something else.
    memory_refused: Mutex<Option<String>>,
}

/// What a reader is made of.
pub(crate) struct ReaderParts<'a> {
    pub(crate) lane: Lane,
    pub(crate) scope: ReadScope,
    pub(crate) budget: Arc<Budget>,
    pub(crate) source: Arc<StorageSource>,
    pub(crate) engine: Engine,
    pub(crate) request: &'a SqlRequest,
}

impl Reader {
    /// A reader for a statement; to be made where bytes may be waited for.
    pub(crate) fn new(parts: ReaderParts<'_>) -> Arc<Self> {
        let ReaderParts { lane, scope, budget, source, engine, request } = parts;
        Arc::new(Self {
            lane,
            cancel: budget.cancel(),
            budget,
            promql: request.promql,
            scope,
            source,
            engine,
            io: Handle::current(),
            notes: Mutex::default(),
            memory_refused: Mutex::default(),
        })
    }

    /// The names of all metrics there are, in order.
    pub(super) async fn metric_names(self: &Arc<Self>) -> Result<Vec<String>, Error> {
        let names = |reader: Arc<Self>| async move {
            let named = vec![Matcher::new(model::MatchOp::NotEqual, METRIC_NAME, "")];
            let named = named.into_iter().collect::<Result<Vec<_>, _>>();
            let named = named.map_err(|e| Error::internal("list metrics", e))?;
            let question = ListValues::new(METRIC_NAME, vec![named], TimeRange::ALL);
            reader.source.ask(&reader.scope, &reader.cancel, question).await
        };
        let names = self.apart(names(Arc::clone(self))).await;
        Ok(names.map_err(|error| self.budget.ended(error))?.into_iter().collect())
    }

    /// The labels that series of a metric have, in order, the metric's name not among them; `None`
    /// if there is no such metric.
    pub(super) async fn labels_of(
        self: &Arc<Self>,
        metric: &str,
    ) -> Result<Option<Vec<String>>, Error> {
        let question = {
            let named = Matcher::equal(METRIC_NAME, metric);
            ListNames::new(vec![vec![named]], TimeRange::ALL)
        };
        let reader = Arc::clone(self);
        let found = self
            .apart(async move { reader.source.ask(&reader.scope, &reader.cancel, question).await });
        let found = found.await.map_err(|error| self.budget.ended(error))?;
        let known = !found.is_empty();
        Ok(known.then(|| found.into_iter().filter(|name| name != METRIC_NAME).collect()))
    }

    /// The labels that streams of a signal have, in order.
    pub(super) async fn labels_of_entries(
        self: &Arc<Self>,
        signal: Signal,
    ) -> Result<Vec<String>, Error> {
        let asking = self.asking();
        self.apart(async move {
            let Asking { storage, scope, budget, .. } = asking.clone();
            let work = async move {
                let all = SelectStreams {
                    signals: vec![signal],
                    selectors: Vec::new(),
                    start_ns: i64::MIN,
                    end_ns: i64::MAX,
                };
                let until = budget.cancel();
                let names = storage.entry_label_names(&scope, &all, until.stop()).await;
                names.map_err(stored)
            };
            asking.run(work).await
        })
        .await
    }

    /// What questions about entries need.
    pub(super) fn asking(&self) -> Asking {
        Asking {
            storage: Arc::clone(self.source.storage()),
            scope: self.scope.clone(),
            lane: self.lane.clone(),
            budget: Arc::clone(&self.budget),
        }
    }

    /// Finds series. For tasks where bytes may be waited for.
    pub(super) async fn select(&self, select: Select) -> Result<Arc<dyn Selected>, Error> {
        let selected = self.source.select(&self.scope, select, &self.cancel).await;
        let selected = selected.map_err(|error| self.budget.ended(error))?;
        self.budget.take_series(selected.len())?;
        Ok(selected)
    }

    /// Evaluates an expression within the limits of the statement.
    pub(super) async fn evaluate(self: &Arc<Self>, asked: Evaluation) -> Result<Value, Error> {
        let evaluation = Evaluation { cancel: self.cancel.clone(), ..asked };
        let reader = Arc::clone(self);
        self.apart(async move {
            let evaluator = reader.engine.evaluator(&reader.scope, &evaluation, None)?;
            let answer = evaluator.answer().await?;
            let mut notes = reader.notes.lock();
            notes.extend(answer.warnings);
            Ok(answer.value)
        })
        .await
    }

    /// Keeps why memory was refused.
    pub(super) fn refuse_memory(&self, error: &Error) {
        *self.memory_refused.lock() = Some(error.to_string());
    }

    /// What a plan that runs says, as the answer to the statement.
    pub(super) fn asked(&self, error: &DataFusionError) -> Error {
        let refused = self.memory_refused.lock().take();
        match (error.find_root(), refused) {
            (DataFusionError::ResourcesExhausted(_), Some(text)) => Error::Execution(text),
            _ => asked(error),
        }
    }

    /// What the statement has used so far.
    pub(super) fn used(&self) -> Used {
        self.cancel.usage().now()
    }

    /// What is to be said beside the answer.
    pub(super) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock())
    }

    /// Starts work that waits for bytes; it ends with the value returned.
    pub(super) fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Apart<T> {
        Apart(self.io.spawn(work))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Work that goes on elsewhere for as long as somebody wants its result.
pub(super) struct Apart<T>(JoinHandle<Result<T, Error>>);

impl<T> Future for Apart<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = |joined| match joined {
            Ok(result) => result,
            Err(error) => Err(Error::internal("read for a statement", error)),
        };
        Pin::new(&mut self.0).poll(context).map(ended)
    }
}

impl<T> Drop for Apart<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
