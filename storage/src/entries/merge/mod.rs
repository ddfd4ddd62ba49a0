//! Merging of segments: many small ones become few large ones, while nobody notices.
//!
//! ```text
//! planner (plain function) ─► job: cursors ─► rows in order, without what is kept no longer or
//!            repeats ─► outputs ─► new segments ─► ONE manifest edit ─► readers
//! ```
//!
//! Invariants: a reader sees a row in the old segments or in the new ones, never in both or in none;
//! of equal entries with a time of their own the first stays, wherever they lay; a merge that fails
//! or is stopped leaves everything as it was; memory is a group of each input and the open groups of
//! the outputs. Part of the rounds of `compact`, at its pace.

mod cursor;
mod keeps;
mod outputs;
mod planner;
mod repeats;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::{HashMap, HashSet};
use model::{Pace, Position};
use object_store::path::Path;
use tenancy::TenantId;

use self::cursor::Cursor;
use self::keeps::Keeps;
use self::outputs::{Deal, Names, Outputs};
use self::planner::{DAY_NS, FRESH, HOUR, Job, When, plan, start_of};
use self::repeats::Repeats;
use super::deletion::Hiding;
use super::partition::EntryPartition;
use super::segment::{Open, SegmentHandle, Style};
use super::streams::{HOUR_NS, Stream};
use crate::block::BlockCache;
use crate::compact::{CompactState, Extent, ROUNDS_MAX, Rest, STRIP_AFTER_MS, Stop};
use crate::manifest::{Edit, SegmentMeta};
use crate::{Error, Storage};

/// Days that a segment is dealt out to at a time; the rest is in one for the next merge.
const DAYS_MAX: usize = 32;

/// Tables of streams and footers of the inputs in memory: they are held anyway, so few are enough.
const CACHE_BYTES: usize = 1 << 20;

/// Groups read at a time.
const LOADS_AT_ONCE: usize = 4;

/// What a merge did.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    segments: usize,
    bytes: u64,
    rows: u64,
    /// Rows that are kept no longer.
    over: u64,
    /// Rows that repeated others.
    repeated: u64,
    /// Rows that were deleted.
    deleted: u64,
    work_seconds: f64,
}

impl Storage {
    /// Merges what is due; failures are logged and tried again later.
    pub(crate) async fn merge_entries_due(&self, state: &mut CompactState, stop: &Stop) {
        for partition in &self.entries.partitions {
            if let Err(error) = self.note_untouched_segments(partition).await {
                let error: &dyn std::error::Error = &error;
                tracing::error!(
                    partition = partition.number,
                    error,
                    "segments cannot be looked at"
                );
            }
            while !*stop.borrow() && partition.read_only().is_none() {
                let now = self.monotonic();
                let jobs = self.merges_of(partition, Extent::Due);
                let Some(job) = jobs.iter().find(|job| state.is_ready(&job.key(), now)) else {
                    break;
                };
                match self.merge_one(partition, job, Extent::Due, stop).await {
                    Ok(true) => state.done(&job.key()),
                    Ok(false) => break,
                    Err(error) => {
                        self.counters.update(|totals| totals.failures += 1);
                        let wait = state.failed(job.key(), now);
                        let error: &dyn std::error::Error = &error;
                        tracing::error!(
                            partition = partition.number,
                            level = job.level,
                            segments = job.inputs.len(),
                            retry_seconds = wait,
                            error,
                            "merging segments failed and will be tried again"
                        );
                    }
                }
            }
        }
    }

    /// Merges everything that can be, as if all days were over.
    pub(crate) async fn merge_all_entries(
        &self,
        state: &mut CompactState,
        stop: &Stop,
    ) -> Result<(), Error> {
        for partition in &self.entries.partitions {
            partition.check_writable()?;
            for _ in 0..ROUNDS_MAX {
                let jobs = self.merges_of(partition, Extent::Everything);
                let Some(job) = jobs.first() else { break };
                self.merge_one(partition, job, Extent::Everything, stop).await?;
                state.done(&job.key());
            }
        }
        Ok(())
    }

    /// Writes all segments anew in which something is deleted, at once.
    pub(crate) async fn strip_deleted_entries(
        &self,
        state: &mut CompactState,
        stop: &Stop,
    ) -> Result<(), Error> {
        for partition in self.entries.partitions.iter().filter(|p| p.read_only().is_none()) {
            for _ in 0..ROUNDS_MAX {
                self.note_untouched_segments(partition).await?;
                let stripped = self.stripped(partition, 0);
                let is_stripped = |job: &&Job| job.inputs.iter().any(|n| stripped.contains(n));
                let jobs = self.plan_of(partition, Extent::Due, &stripped);
                let Some(job) = jobs.iter().find(is_stripped) else { break };
                if !self.merge_one(partition, job, Extent::Everything, stop).await? {
                    break;
                }
                state.done(&job.key());
            }
        }
        Ok(())
    }

    /// Finds the segments in which deletions could hide entries and do not: they need not be written
    /// anew because of them. Known until the next start.
    pub(crate) async fn note_untouched_segments(
        &self,
        partition: &EntryPartition,
    ) -> Result<(), Error> {
        let deletions = partition.deletions();
        if deletions.is_empty() {
            return Ok(());
        }
        for segment in partition.segments().iter() {
            let concerned = deletions.of_segment(&segment.meta);
            let looked_to = partition.deleted_to(&segment.meta);
            if concerned.iter().all(|t| t.position < looked_to) {
                continue;
            }
            let open = segment.open().await?;
            let own = open.index.streams.iter().map(|s| s.stream.as_ref());
            if Hiding::of(&concerned, own, &mut Pace::endless())?.is_empty() {
                let to = deletions.deleted_to(std::iter::once(&segment.meta));
                partition.note_clean(&segment.meta.name, to);
            }
        }
        Ok(())
    }

    /// Segments with entries that were deleted so long ago: they must go.
    fn stripped(&self, partition: &EntryPartition, after_ms: i64) -> Vec<String> {
        let (deletions, now_ms) = (partition.deletions(), self.clock.now_ms());
        if deletions.is_empty() {
            return Vec::new();
        }
        let is_old = |segment: &&Arc<SegmentHandle>| {
            let cleaned_to = partition.deleted_to(&segment.meta);
            deletions.of_segment(&segment.meta).iter().any(|t| {
                t.position >= cleaned_to && now_ms >= t.created_ms.saturating_add(after_ms)
            })
        };
        partition.segments().iter().filter(is_old).map(|s| s.meta.name.clone()).collect()
    }

    /// Segments that are due to be merged, and their bytes.
    pub(crate) fn entries_backlog(&self) -> (u64, u64) {
        let jobs = self.entries.partitions.iter().flat_map(|p| self.merges_of(p, Extent::Due));
        jobs.fold((0, 0), |(segments, bytes), job| {
            (segments + job.inputs.len() as u64, bytes + job.bytes)
        })
    }

    /// What the manifests say of all segments that can be read, by partition and log position.
    pub fn segments(&self) -> Vec<(u16, SegmentMeta)> {
        let of = |p: &EntryPartition| {
            p.segments().iter().map(|s| (p.number, s.meta.clone())).collect::<Vec<_>>()
        };
        self.entries.partitions.iter().flat_map(of).collect()
    }

    fn merges_of(&self, partition: &EntryPartition, extent: Extent) -> Vec<Job> {
        self.plan_of(partition, extent, &self.stripped(partition, STRIP_AFTER_MS))
    }

    fn plan_of(&self, partition: &EntryPartition, extent: Extent, stripped: &[String]) -> Vec<Job> {
        let segments: Vec<SegmentMeta> =
            partition.segments().iter().map(|s| s.meta.clone()).collect();
        let unreadable: Vec<SegmentMeta> =
            partition.losses.segments.iter().map(|(meta, _)| meta.clone()).collect();
        let fresh_max = self.config.compaction.fresh_blocks_max;
        let when = When { now_ms: self.clock.now_ms(), extent, fresh_max };
        plan(&segments, &unreadable, stripped, when)
    }

    /// Does one merge; says whether it was done.
    async fn merge_one(
        &self,
        partition: &EntryPartition,
        job: &Job,
        extent: Extent,
        stop: &Stop,
    ) -> Result<bool, Error> {
        let started = self.monotonic();
        let rest = Rest::new(self, extent, stop.clone());
        let names = Names { storage: self, partition, given: Vec::new() };
        let (done, added) = (Done::default(), Vec::new());
        let mut run =
            Run { storage: self, partition, job, rest, names, done, added, deleted_to: None };
        let outcome = run.merge_and_commit().await;
        let Run { rest, names, mut done, .. } = run;
        done.work_seconds = rest.work_seconds;
        match &outcome {
            Ok(true) => {}
            // Nobody may go on from a manifest that may or may not name what was written.
            Err(Error::Unsettled { .. }) => {}
            Err(_) if partition.read_only().is_some() => {}
            _ => self.discard(names.given.iter().map(|n| Path::from(n.as_str())).collect()).await,
        }
        if !outcome? {
            return Ok(false);
        }
        self.retire_segments(partition, &job.inputs);
        let seconds = self.monotonic() - started;
        self.note_merge(partition, job, &done, seconds);
        Ok(true)
    }

    fn note_merge(&self, partition: &EntryPartition, job: &Job, done: &Done, seconds: f64) {
        self.counters.update(|totals| {
            let level = usize::from(job.level).clamp(1, totals.entry_merges.len()) - 1;
            totals.entry_merges[level] += 1;
            totals.segment_bytes_in += job.bytes;
            totals.segment_bytes_out += done.bytes;
            totals.entries += done.rows;
            totals.work_seconds += done.work_seconds;
            totals.wall_seconds += seconds;
        });
        tracing::info!(
            partition = partition.number,
            signal = %job.signal,
            level = job.level,
            segments_in = job.inputs.len(),
            segments_out = done.segments,
            bytes_in = job.bytes,
            bytes_out = done.bytes,
            entries = done.rows,
            over = done.over,
            repeated = done.repeated,
            deleted = done.deleted,
            work_seconds = done.work_seconds,
            seconds,
            "merged segments"
        );
    }
}

/// A merge under way.
struct Run<'a> {
    storage: &'a Storage,
    partition: &'a EntryPartition,
    job: &'a Job,
    rest: Rest<'a>,
    names: Names<'a>,
    done: Done,
    /// New segments, whole.
    added: Vec<SegmentMeta>,
    /// Up to where deletions are carried out in them.
    deleted_to: Option<Position>,
}

impl Run<'_> {
    async fn merge_and_commit(&mut self) -> Result<bool, Error> {
        let Some(sources) = self.open().await? else { return Ok(false) };
        let mut outputs = Some(Outputs::new(self.deal(&sources)));
        let cursors = self.cursors(sources)?;
        let merged = self.merge_into(cursors, &mut outputs).await;
        if !matches!(merged, Ok(true)) {
            if let Some(outputs) = outputs {
                outputs.abandon().await;
            }
            return merged;
        }
        self.check_rows()?;
        self.commit().await
    }

    /// All that is read, in order of log positions; `None` if one is gone. What is read goes past
    /// the cache: questions keep theirs.
    async fn open(&self) -> Result<Option<Vec<Arc<Open>>>, Error> {
        let (segments, cache) = (self.partition.segments(), BlockCache::new(CACHE_BYTES));
        let mut all = Vec::with_capacity(self.job.inputs.len());
        for name in &self.job.inputs {
            let Some(known) = segments.iter().find(|s| s.meta.name == *name) else {
                return Ok(None);
            };
            let own = SegmentHandle::new(known.meta.clone(), &self.storage.objects, &cache);
            all.push(own.open().await?);
        }
        Ok(Some(all))
    }

    /// Readers that know what is deleted now. What is deleted from now on is hidden in the result.
    fn cursors(&mut self, sources: Vec<Arc<Open>>) -> Result<Vec<Cursor>, Error> {
        let (deletions, segments) = (self.partition.deletions(), self.partition.segments());
        let metas = segments.iter().map(|s| &s.meta).filter(|m| self.job.inputs.contains(&m.name));
        let metas: Vec<&SegmentMeta> = metas.collect();
        if !deletions.is_empty() {
            self.deleted_to = Some(deletions.deleted_to(metas.iter().copied()));
        }
        let cursor = |(open, name): (Arc<Open>, &String)| {
            let meta = metas.iter().find(|m| m.name == *name);
            let concerned = meta.map(|meta| deletions.of_segment(meta)).unwrap_or_default();
            let own = open.index.streams.iter().map(|s| s.stream.as_ref());
            let hiding = Hiding::of(&concerned, own, &mut Pace::endless())?;
            Ok(Cursor::new(open, hiding))
        };
        sources.into_iter().zip(&self.job.inputs).map(cursor).collect()
    }

    fn deal(&self, sources: &[Arc<Open>]) -> Deal {
        let mut days = BTreeSet::new();
        let mut bytes: HashMap<TenantId, u64> = HashMap::new();
        for one in sources.iter().flat_map(|open| &open.index.streams) {
            *bytes.entry(one.stream.tenant).or_default() += one.counts.bytes();
            let hours = one.counts.hours.iter();
            days.extend(hours.map(|h| start_of(h.hour.saturating_mul(HOUR_NS), DAY_NS)));
        }
        let least = self.storage.config.compaction.split_bytes;
        let large = bytes.into_iter().filter(|(_, bytes)| *bytes >= least).map(|(t, _)| t);
        let large: HashSet<TenantId> = large.collect();
        let (rules, now_ms) = (self.storage.rules.read().clone(), self.storage.retention_now_ms());
        Deal {
            signal: self.job.signal,
            style: if self.job.level < HOUR { Style::Young } else { Style::Kept },
            days: days.into_iter().take(DAYS_MAX).collect(),
            large: self.job.splits.then_some(large),
            keeps: Keeps { rules, now_ms },
        }
    }

    /// `outputs` is empty afterwards only if merging panicked.
    async fn merge_into(
        &mut self,
        mut cursors: Vec<Cursor>,
        outputs: &mut Option<Outputs>,
    ) -> Result<bool, Error> {
        let mut repeats = Repeats::default();
        loop {
            let started = self.storage.monotonic();
            let read;
            (cursors, read) = refill(cursors).await?;
            let Some(mut open) = outputs.take() else { return Ok(false) };
            let merging = tokio::task::spawn_blocking(move || {
                let merged = merge(&mut cursors, &mut open, &mut repeats);
                (cursors, open, repeats, merged)
            });
            let (back, open, repeats_back, merged) =
                merging.await.map_err(|e| Error::Internal(format!("merge segments: {e}")))?;
            (cursors, repeats) = (back, repeats_back);
            let open = outputs.insert(open);
            let step = merged?;
            for sent in open.send_ready(&mut self.names).await? {
                let written = tokio::task::spawn_blocking(|| sent.closed.finish(sent.entries));
                let written =
                    written.await.map_err(|e| Error::Internal(format!("end a segment: {e}")))??;
                let (level, positions) = (self.job.level, self.job.positions);
                let put = self.storage.put_segment(sent.name, level, written, positions);
                let deleted_to = self.deleted_to;
                self.added.push(SegmentMeta { deleted_to, ..put.await? });
            }
            self.done.rows += step.rows;
            self.done.over += step.over;
            self.done.repeated += step.repeated;
            self.done.deleted += step.deleted;
            if step.is_end {
                return Ok(true);
            }
            let work = self.storage.monotonic() - started;
            let is_fresh = |s: &&Arc<SegmentHandle>| s.meta.level == FRESH;
            let fresh = self.partition.segments().iter().filter(is_fresh).count();
            self.rest.after(read as u64, work, fresh).await;
            if self.rest.is_stopped() {
                return Ok(false);
            }
        }
    }

    /// Nothing is given up for a result that is not all of it.
    fn check_rows(&self) -> Result<(), Error> {
        let Done { rows, over, repeated, deleted, .. } = self.done;
        let written: u64 = self.added.iter().map(|s| s.rows).sum();
        if rows + over + repeated + deleted == self.job.rows && written == rows {
            return Ok(());
        }
        Err(Error::Internal(format!(
            "merging {} entries of partition {} gave {written}, with {over} that are over, {repeated} repeated and {deleted} deleted",
            self.job.rows, self.partition.number
        )))
    }

    /// The one edit that puts the new segments in place of the old; says whether it was made.
    async fn commit(&mut self) -> Result<bool, Error> {
        let mut flush = self.partition.flush.lock().await;
        self.partition.check_writable()?;
        self.storage.settle_entries(self.partition, &mut flush).await?;
        // Retention may have taken some meanwhile.
        let exists = |name: &String| flush.state.segments.iter().any(|s| s.name == *name);
        if !self.job.inputs.iter().all(exists) {
            return Ok(false);
        }
        let edit = Edit {
            add_segments: self.added.clone(),
            remove_segments: self.job.inputs.clone(),
            next_object: flush.state.next_object,
            ..Edit::default()
        };
        self.partition.commit(&mut flush, edit).await?;
        self.done.segments = self.added.len();
        self.done.bytes = self.added.iter().map(|s| s.bytes).sum();
        let added = self.storage.segment_handles(std::mem::take(&mut self.added));
        self.partition.replace(&self.job.inputs, added);
        Ok(true)
    }
}

/// Gives every dry cursor its next group, some at a time; and how many bytes that were.
async fn refill(cursors: Vec<Cursor>) -> Result<(Vec<Cursor>, usize), Error> {
    let loaded: Vec<(Cursor, usize)> =
        stream::iter(cursors)
            .map(|cursor| async move {
                if cursor.is_dry() { cursor.load().await } else { Ok((cursor, 0)) }
            })
            .buffered(LOADS_AT_ONCE)
            .try_collect()
            .await?;
    let bytes = loaded.iter().map(|(_, bytes)| bytes).sum();
    Ok((loaded.into_iter().map(|(cursor, _)| cursor).collect(), bytes))
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    rows: u64,
    over: u64,
    repeated: u64,
    deleted: u64,
    /// Whether there are no more rows, and all segments are closed.
    is_end: bool,
}

/// Merges rows until a cursor runs dry or something is to be sent. CPU work.
fn merge(
    cursors: &mut [Cursor],
    outputs: &mut Outputs,
    repeats: &mut Repeats,
) -> Result<Step, Error> {
    let mut step = Step::default();
    while !cursors.iter().any(Cursor::is_dry) && !outputs.has_ready() {
        let streams = cursors.iter().filter_map(Cursor::stream);
        let Some(stream) = streams.min_by(|a, b| a.order(b)).cloned() else {
            outputs.close_all()?;
            step.is_end = true;
            break;
        };
        merge_stream(&stream, cursors, outputs, repeats, &mut step)?;
    }
    Ok(step)
}

/// The same for the rows of one stream, which is the first of all that are left.
fn merge_stream(
    stream: &Arc<Stream>,
    cursors: &mut [Cursor],
    outputs: &mut Outputs,
    repeats: &mut Repeats,
    step: &mut Step,
) -> Result<(), Error> {
    outputs.turn_to(stream)?;
    repeats.turn_to(stream);
    let keeps = outputs.keeps().of(stream);
    loop {
        // Cursors are in order of log positions: of one instant, the lower one's rows come first.
        let heads = cursors.iter().enumerate();
        let heads = heads.filter_map(|(at, c)| Some((c.row_of(stream)?.at_ns, at)));
        let mut heads: Vec<(i64, usize)> = heads.collect();
        heads.sort_unstable();
        let Some(&(_, first)) = heads.first() else {
            return Ok(());
        };
        let (until_ns, is_inside) = match heads.get(1) {
            Some(&(next_ns, next)) => (next_ns, first < next),
            None => (i64::MAX, true),
        };
        let run = cursors[first].run(until_ns, is_inside);
        for at in run.clone() {
            let row = cursors[first].row(at);
            if cursors[first].is_hidden(at) {
                step.deleted += 1;
            } else if !keeps.has(&row) {
                step.over += 1;
            } else if repeats.has(&row) {
                step.repeated += 1;
            } else {
                outputs.add(stream, row)?;
                step.rows += 1;
            }
        }
        cursors[first].go_to(run.end);
        if cursors[first].is_dry() || outputs.has_ready() {
            return Ok(());
        }
    }
}
