//! The pipeline from a selection to columns: fetch, decode and evaluate morsels on the pool, take
//! their columns in order. Only a few morsels are on the way at a time, and whatever the number of
//! threads, columns arrive in the order of series, so that sums do not depend on it.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use query::Error;

use super::Evaluator;
use super::series::{Samples, SeriesWork};
use crate::budget::Reserved;
use crate::column::Column;
use crate::notes::Remark;
use crate::phases::Phase;
use crate::source::{Fetched, Selected};

/// Columns of one morsel, and the memory they are accounted with.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    /// Places in the selection, and points.
    pub(crate) list: Vec<(usize, Column)>,
    /// Places, and what is to be said of the series there.
    pub(crate) remarks: Vec<(usize, Remark)>,
    pub(crate) reserved: Reserved,
}

/// Takes columns in the order of series.
pub(crate) trait Sink: Send + 'static {
    fn take(&mut self, columns: Columns) -> Result<(), Error>;
}

type Morsel = Pin<Box<dyn Future<Output = Result<Columns, Error>> + Send>>;

/// Points below which handing work to another thread costs more than doing it. At a few
/// nanoseconds each this is well under half a millisecond.
const INLINE_POINTS_MAX: usize = 16_384;

/// Samples and steps that one morsel may have as far as they can be guessed: 256 MiB at 16 bytes
/// each. What a morsel decodes is known, and accounted for, only when it is there.
const MORSEL_POINTS_MAX: usize = 16 << 20;

/// Milliseconds between two samples, for guessing how many there are.
const USUAL_INTERVAL_MS: i64 = 15_000;

impl Evaluator {
    /// Runs the work over all series of a selection.
    pub(crate) async fn over_series<S: Sink>(
        &self,
        selected: &Arc<dyn Selected>,
        work: SeriesWork,
        mut sink: S,
    ) -> Result<S, Error> {
        let points = points_of_series(&work);
        let morsel = self.options.morsel_series.min(MORSEL_POINTS_MAX / points).max(1);
        if selected.len().saturating_mul(points) <= INLINE_POINTS_MAX {
            for range in morsels(selected.len(), morsel) {
                let fetched = self.fetch(selected, range.clone()).await?;
                self.budget.charged(|| {
                    let columns = placed(work.decoded(fetched)?, range.start);
                    self.taken(&mut sink, columns)
                })?;
            }
            return Ok(sink);
        }
        let work = Arc::new(work);
        let mut on_the_way: VecDeque<Morsel> = VecDeque::new();
        for range in morsels(selected.len(), morsel) {
            self.budget.check()?;
            let fetched = self.fetch(selected, range.clone()).await?;
            let work = Arc::clone(&work);
            on_the_way.push_back(Box::pin(
                self.lane.run(move || Ok(placed(work.decoded(fetched)?, range.start))),
            ));
            if on_the_way.len() > self.lane.threads() {
                sink = self.take_next(&mut on_the_way, sink).await?;
            }
        }
        while !on_the_way.is_empty() {
            sink = self.take_next(&mut on_the_way, sink).await?;
        }
        Ok(sink)
    }

    async fn take_next<S: Sink>(
        &self,
        on_the_way: &mut VecDeque<Morsel>,
        mut sink: S,
    ) -> Result<S, Error> {
        let Some(next) = on_the_way.pop_front() else { return Ok(sink) };
        let columns = next.await?;
        let budget = Arc::clone(&self.budget);
        let take = move || {
            let begun = Instant::now();
            sink.take(columns)?;
            budget.phases.add(Phase::Take, begun);
            Ok(sink)
        };
        self.lane.run(take).await
    }

    fn taken(&self, sink: &mut impl Sink, columns: Columns) -> Result<(), Error> {
        let begun = Instant::now();
        sink.take(columns)?;
        self.budget.phases.add(Phase::Take, begun);
        Ok(())
    }

    async fn fetch(
        &self,
        selected: &Arc<dyn Selected>,
        series: Range<usize>,
    ) -> Result<Box<dyn Fetched>, Error> {
        let begun = Instant::now();
        let fetched = selected.fetch(series).await?;
        self.budget.phases.add(Phase::Fetch, begun);
        self.budget.take_bytes(fetched.bytes())?;
        Ok(fetched)
    }

    /// The same over samples that are in memory: those of a subquery.
    pub(crate) async fn over_samples<S: Sink>(
        &self,
        samples: Vec<Samples>,
        work: SeriesWork,
        mut sink: S,
    ) -> Result<S, Error> {
        let points: usize = samples
            .iter()
            .map(|s| s.values.len().saturating_add(work.steps()))
            .fold(0, usize::saturating_add);
        let morsel = self.options.morsel_series.max(1);
        self.compute(points, move || {
            let mut samples = samples.into_iter();
            let mut start = 0;
            loop {
                let some: Vec<Samples> = samples.by_ref().take(morsel).collect();
                let count = some.len();
                if count == 0 {
                    return Ok(sink);
                }
                sink.take(placed(work.morsel(some)?, start))?;
                start += count;
            }
        })
        .await
    }

    /// Runs a computation on so many points: here if they are few, else on the pool.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        points: usize,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.budget.check()?;
        if points <= INLINE_POINTS_MAX {
            return self.budget.charged(work);
        }
        self.lane.run(work).await
    }
}

/// Samples and steps of a series, as far as they can be guessed; at least 1.
fn points_of_series(work: &SeriesWork) -> usize {
    let (first, last) = work.times.bounds();
    let span_ms = last.saturating_sub(first).saturating_add(work.reach_ms);
    let samples = usize::try_from(span_ms / USUAL_INTERVAL_MS + 1).unwrap_or(usize::MAX);
    samples.saturating_add(work.steps()).max(1)
}

fn placed(mut columns: Columns, start: usize) -> Columns {
    columns.list.iter_mut().for_each(|(place, _)| *place += start);
    columns.remarks.iter_mut().for_each(|(place, _)| *place += start);
    columns
}

fn morsels(series: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..series).step_by(size).map(move |start| start..(start + size).min(series))
}
