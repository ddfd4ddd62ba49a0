//! The engine over the store: what `query` asks, answered from `storage`. Everything that is not
//! arithmetic on samples comes straight from the store's index.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::Cancel as Stop;
use model::{Exemplar, Labels, Matcher, Metadata, Stopped, TimeRange};
use query::{
    Answer, Batches, BlockFacts, Cancel, Error, Evaluation, Executor, Listing, Pieces, ReadRequest,
    SeriesRequest, SqlRequest, Statistics, Value,
};
use storage::{
    BlockShare, CountLive, ListNames, ListSeries, ListValues, LiveGroups, Liveness, LookUp,
    Question, Select, SeriesSamples, Storage,
};
use tenancy::ReadScope;
use tokio::sync::oneshot;

use crate::Engine;
use crate::budget::Budget;
use crate::eval::{Evaluator, Options};
use crate::pool::{Lane, Pool};
use crate::read::Reading;
use crate::results::{self, ResultCacheUse, Results};
use crate::source::{Fetched, Selected, Source};
use crate::sql::{Reader, ReaderParts, Sessions};

/// Answers questions from the store.
#[derive(Debug)]
pub struct StorageExecutor {
    storage: Arc<Storage>,
    source: Arc<StorageSource>,
    pool: Arc<Pool>,
    engine: Engine,
    results: Arc<Results>,
    sessions: Sessions,
}

impl StorageExecutor {
    /// An executor over a store, computing on a pool.
    pub fn new(storage: Arc<Storage>, pool: Arc<Pool>, options: Options) -> Self {
        let source =
            Arc::new(StorageSource { storage: Arc::clone(&storage), pool: Arc::clone(&pool) });
        let of_engine: Arc<dyn Source> = Arc::<StorageSource>::clone(&source);
        let results = Arc::new(Results::new(options.result_cache_bytes));
        let engine = Engine::new(of_engine, Arc::clone(&pool), options);
        Self { storage, source, pool, engine, results, sessions: Sessions::default() }
    }

    /// Runs a look-up in the heads on the pool.
    async fn look_up<T: Send + 'static>(
        &self,
        scope: &ReadScope,
        cancel: &Cancel,
        look_up: impl FnOnce(&Storage, &ReadScope, &Stop) -> Result<T, storage::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (storage, scope) = (Arc::clone(&self.storage), scope.clone());
        let (lane, stop) = (self.pool.lane(&scope, cancel), cancel.stop().clone());
        lane.run(move || look_up(&storage, &scope, &stop).map_err(asked)).await
    }

    /// Answers a range query of which some steps may be kept, and keeps the answer.
    async fn with_kept(
        &self,
        scope: &ReadScope,
        evaluation: &Evaluation,
        whole: Evaluator,
        asked: results::Asked,
    ) -> Result<Answer, Error> {
        let mut answer = Answer::new(Value::Matrix(Vec::new()));
        let mut parts = Vec::new();
        if asked.has_kept() {
            for TimeRange { start_ms, end_ms } in asked.missing() {
                let part = Evaluation { start_ms, end_ms, ..evaluation.clone() };
                let evaluated = self.engine.evaluator(scope, &part, None)?.answer().await?;
                parts.push((start_ms, results::absorb(&mut answer, evaluated)));
            }
        } else {
            answer = whole.answer().await?;
        }
        let results = Arc::clone(&self.results);
        let lane = self.pool.lane(scope, &evaluation.cancel);
        // Copies what may be megabytes.
        lane.run(move || {
            if let Some(kept) = asked.kept() {
                parts.push(kept);
                parts.sort_unstable_by_key(|(start_ms, _)| *start_ms);
                answer.value = Value::Matrix(results::join(parts));
            }
            results.keep(asked, &answer);
            Ok(answer)
        })
        .await
    }

    /// What keeping answers has come to.
    pub fn result_cache(&self) -> ResultCacheUse {
        self.results.usage()
    }

    async fn ask<Q: Question>(
        &self,
        scope: &ReadScope,
        cancel: &Cancel,
        question: Q,
    ) -> Result<Q::Answer, Error> {
        let budget = budget_of(scope, cancel);
        let found = self.source.ask(scope, &budget.cancel(), question).await;
        found.map_err(|error| budget.ended(error))
    }
}

/// What a question of this scope may use, if nobody says otherwise.
pub(crate) fn budget_of(scope: &ReadScope, cancel: &Cancel) -> Arc<Budget> {
    let limits = Arc::clone(scope.limits());
    let timeout = Duration::try_from_secs_f64(limits.query_seconds_max);
    Budget::new(limits, cancel.clone(), timeout.unwrap_or(Duration::MAX), None)
}

/// Asks the store: arithmetic on the pool, reading of indexes beside it.
async fn ask<Q: Question, T: Send + 'static>(
    Asking { storage, lane, scope, stop }: Asking<'_>,
    question: Q,
    then: impl FnOnce(Q::Answer) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (storage, scope, stop) = (Arc::clone(storage), scope.clone(), stop.clone());
    let store = Arc::clone(&storage);
    // Mostly all indexes are in memory and little is found, and one job does it all.
    let begun = lane.run(move || {
        let mut looking = store.begin(&scope, question, &stop);
        match looking.go_on(&store).map_err(asked)? {
            true if looking.is_complete() => {
                looking.finish().map_err(asked).and_then(then).map(Step::Done)
            }
            is_through => Ok(Step::GoOn(Box::new(looking), is_through, then)),
        }
    });
    let (mut looking, mut is_through, then) = match begun.await? {
        Step::Done(answer) => return Ok(answer),
        Step::GoOn(looking, is_through, then) => (looking, is_through, then),
    };
    loop {
        // A job for each stretch: other questions have their turn in between.
        while !is_through {
            let store = Arc::clone(&storage);
            let go_on = move || looking.go_on(&store).map_err(asked).map(|is| (looking, is));
            (looking, is_through) = lane.run(go_on).await?;
        }
        if !looking.open_next().await.map_err(asked)? {
            break;
        }
        is_through = false;
    }
    lane.run(move || looking.finish().map_err(asked).and_then(then)).await
}

/// Of whom a question is asked, by whom, where the work is done, and what ends it.
struct Asking<'a> {
    storage: &'a Arc<Storage>,
    lane: Lane,
    scope: &'a ReadScope,
    stop: &'a Stop,
}

/// How far a question came without reading anything.
enum Step<Q, T, F> {
    Done(T),
    /// Not all was looked at; whether all that is in memory was.
    GoOn(Box<LookUp<Q>>, bool, F),
}

/// What the store says, as an answer to a question.
pub(crate) fn asked(error: storage::Error) -> Error {
    match error {
        storage::Error::Limit(_) => Error::Execution(error.to_string()),
        storage::Error::TooManyTails(text) => Error::TooMany(text),
        storage::Error::Stopped(why) => stopped(why),
        storage::Error::Restricted(_) => Error::Forbidden(error.to_string()),
        error => Error::internal("read the store", error),
    }
}

/// Why work on a question stopped, as its answer.
pub(crate) fn stopped(why: Stopped) -> Error {
    match why {
        Stopped::Canceled => {
            Error::Canceled("query was canceled in expression evaluation".to_owned())
        }
        Stopped::Late => Error::Timeout("query timed out in expression evaluation".to_owned()),
        Stopped::Laborious | Stopped::Costly => Error::Execution(why.to_string()),
    }
}

#[async_trait]
impl Executor for StorageExecutor {
    async fn evaluate(&self, scope: &ReadScope, evaluation: Evaluation) -> Result<Answer, Error> {
        // However this future ends, the threads that work for it stop.
        let _guard = evaluation.cancel.guard();
        let whole = self.engine.evaluator(scope, &evaluation, None)?;
        let asked = match self.results.may_keep(&evaluation) {
            true => self.results.find(&self.storage, scope, &evaluation, &whole.plan),
            false => None,
        };
        match asked {
            Some(asked) => self.with_kept(scope, &evaluation, whole, asked).await,
            None => whole.answer().await,
        }
    }

    async fn series(
        &self,
        scope: &ReadScope,
        request: SeriesRequest,
    ) -> Result<Listing<Labels>, Error> {
        let SeriesRequest { selectors, range, limit, cancel } = request;
        let series = self.ask(scope, &cancel, ListSeries::new(selectors, range)).await?;
        Ok(listing(series.into_iter().collect(), limit))
    }

    async fn label_names(
        &self,
        scope: &ReadScope,
        request: SeriesRequest,
    ) -> Result<Listing<String>, Error> {
        let SeriesRequest { selectors, range, limit, cancel } = request;
        let names = self.ask(scope, &cancel, ListNames::new(selectors, range)).await?;
        Ok(listing(names.into_iter().collect(), limit))
    }

    async fn label_values(
        &self,
        scope: &ReadScope,
        name: &str,
        request: SeriesRequest,
    ) -> Result<Listing<String>, Error> {
        let SeriesRequest { selectors, range, limit, cancel } = request;
        let values = self.ask(scope, &cancel, ListValues::new(name, selectors, range)).await?;
        Ok(listing(values.into_iter().collect(), limit))
    }

    async fn metadata(
        &self,
        scope: &ReadScope,
        metric: Option<&str>,
        cancel: &Cancel,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, Error> {
        let metric = metric.map(str::to_owned);
        let look_up = move |storage: &Storage, scope: &ReadScope, stop: &Stop| {
            storage.metadata(scope, metric.as_deref(), stop)
        };
        self.look_up(scope, cancel, look_up).await
    }

    async fn exemplars(
        &self,
        scope: &ReadScope,
        selectors: Vec<Vec<Matcher>>,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, Error> {
        // The store's future may not move between threads, so it stays on one that may wait.
        let (storage, scope, cancel) = (Arc::clone(&self.storage), scope.clone(), cancel.clone());
        let runtime = tokio::runtime::Handle::current();
        let (mut send, receive) = oneshot::channel();
        let waiting = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                // It neither begins nor goes on once nobody waits for it.
                let found = tokio::select! {
                    biased;
                    () = send.closed() => return,
                    found = storage.exemplars(&scope, &selectors, range, cancel.stop()) => found,
                };
                let _ = send.send(found.map_err(asked));
            });
        });
        match receive.await {
            Ok(found) => Ok(found?.into_iter().collect()),
            Err(_) => {
                waiting.await.map_err(|e| Error::internal("read exemplars", e))?;
                Err(Error::Canceled("query was canceled: the process is ending".to_owned()))
            }
        }
    }

    async fn read(
        &self,
        scope: &ReadScope,
        request: ReadRequest,
    ) -> Result<Box<dyn Batches>, Error> {
        let ReadRequest { matchers, range, cancel } = request;
        let budget = budget_of(scope, &cancel);
        let until = budget.cancel();
        let selected = self.source.select(scope, Select { matchers, range }, &until);
        let selected = selected.await.map_err(|error| budget.ended(error))?;
        budget.take_series(selected.len())?;
        let lane = self.pool.lane(scope, &cancel);
        Ok(Box::new(Reading::new(selected, budget, lane)))
    }

    async fn sql(&self, scope: &ReadScope, request: SqlRequest) -> Result<Box<dyn Pieces>, Error> {
        let limits = Arc::clone(scope.limits());
        let budget = Budget::new(limits, request.cancel.clone(), request.timeout, None);
        let reader = Reader::new(ReaderParts {
            lane: self.pool.lane(scope, &request.cancel),
            scope: scope.clone(),
            budget,
            source: Arc::clone(&self.source),
            engine: self.engine.clone(),
            request: &request,
        });
        self.sessions.answer(reader, request).await
    }

    async fn blocks(&self, scope: &ReadScope, _: &Cancel) -> Result<Vec<BlockFacts>, Error> {
        let shares = self.storage.block_shares(scope).await.map_err(asked)?;
        let facts = |BlockShare { id, level, range, series, chunks, samples }| BlockFacts {
            id,
            level,
            range,
            series,
            chunks,
            samples,
        };
        Ok(shares.into_iter().map(facts).collect())
    }

    async fn statistics(
        &self,
        scope: &ReadScope,
        limit: usize,
        cancel: &Cancel,
    ) -> Result<Statistics, Error> {
        self.look_up(scope, cancel, move |storage, scope, stop| {
            let found = storage.cardinality(scope, stop)?;
            let owned = |pairs: Vec<(&str, u64)>| {
                pairs.into_iter().map(|(n, c)| (n.to_owned(), c)).collect()
            };
            Ok(Statistics {
                series: found.series,
                label_pairs: found.labels.values().map(|values| values.len() as u64).sum(),
                chunks: found.buffered,
                range: found.range,
                series_by_metric: owned(found.top_metrics(limit)),
                values_by_label: owned(found.top_labels(limit)),
                bytes_by_label: owned(found.top_label_bytes(limit)),
                series_by_pair: found.top_pairs(limit),
            })
        })
        .await
    }
}

fn listing<T>(mut items: Vec<T>, limit: Option<usize>) -> Listing<T> {
    let truncated = limit.is_some_and(|limit| items.len() > limit);
    items.truncate(limit.unwrap_or(usize::MAX));
    Listing { items, truncated }
}

/// Series of several tenants that are told apart by nothing are an error, not one series.
fn check_apart(scope: &ReadScope, selection: &storage::Selection) -> Result<(), Error> {
    if scope.is_labelled() || scope.tenants().len() < 2 {
        return Ok(());
    }
    // Equal label sets are neighbours: a selection is in order of its labels.
    let twin = |i: &usize| selection.labels(*i) == selection.labels(*i - 1);
    let Some(twin) = (1..selection.len()).find(twin) else { return Ok(()) };
    let names: Vec<&str> = scope.tenants().iter().map(|t| t.name.as_str()).collect();
    let (names, series) = (names.join(", "), selection.labels(twin));
    Err(Error::Execution(format!(
        "more than one of the tenants {names} has the series {series}; ask without merging them"
    )))
}

/// The store as a source, and for questions about what there is.
#[derive(Debug, Clone)]
pub(crate) struct StorageSource {
    storage: Arc<Storage>,
    pool: Arc<Pool>,
}

impl StorageSource {
    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Asks what is answered without samples.
    pub(crate) async fn ask<Q: Question>(
        &self,
        scope: &ReadScope,
        cancel: &Cancel,
        question: Q,
    ) -> Result<Q::Answer, Error> {
        let lane = self.pool.lane(scope, cancel);
        let asking = Asking { storage: &self.storage, lane, scope, stop: cancel.stop() };
        ask(asking, question, Ok).await
    }
}

#[async_trait]
impl Source for StorageSource {
    async fn select(
        &self,
        scope: &ReadScope,
        select: Select,
        cancel: &Cancel,
    ) -> Result<Arc<dyn Selected>, Error> {
        let of = scope.clone();
        let apart = move |selection| check_apart(&of, &selection).map(|()| selection);
        let lane = self.pool.lane(scope, cancel);
        let asking = Asking { storage: &self.storage, lane, scope, stop: cancel.stop() };
        let selection = ask(asking, select.question(), apart).await?;
        Ok(Arc::new(StorageSelected(selection)))
    }

    async fn count_live(
        &self,
        scope: &ReadScope,
        request: CountLive,
        cancel: &Cancel,
    ) -> Result<Option<LiveGroups>, Error> {
        let (storage, scope, stop) =
            (Arc::clone(&self.storage), scope.clone(), cancel.stop().clone());
        let lane = self.pool.lane(&scope, cancel);
        lane.run(move || storage.count_live(&scope, &request, &stop).map_err(asked)).await
    }
}

struct StorageSelected(storage::Selection);

#[async_trait]
impl Selected for StorageSelected {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, series: usize) -> &Labels {
        self.0.labels(series)
    }

    async fn fetch(&self, series: Range<usize>) -> Result<Box<dyn Fetched>, Error> {
        Ok(Box::new(StorageFetched(self.0.fetch(series).await.map_err(asked)?)))
    }
}

struct StorageFetched(storage::Fetched);

impl Fetched for StorageFetched {
    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn decode(self: Box<Self>) -> Result<Vec<SeriesSamples>, Error> {
        self.0.decode().map_err(asked)
    }

    fn decode_liveness(self: Box<Self>) -> Result<Vec<Liveness>, Error> {
        self.0.decode_liveness().map_err(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_says_has_its_status() {
        for (error, status) in [
            (storage::Error::Limit("too many series".to_owned()), 422),
            (storage::Error::Restricted("cardinality"), 403),
            (storage::Error::Stopped(Stopped::Canceled), 499),
            (storage::Error::Stopped(Stopped::Late), 503),
            (storage::Error::Stopped(Stopped::Laborious), 422),
            (storage::Error::Stopped(Stopped::Costly), 422),
            (storage::Error::Internal("a task ended".to_owned()), 500),
        ] {
            assert_eq!(asked(error).status(), status);
        }
    }
}
