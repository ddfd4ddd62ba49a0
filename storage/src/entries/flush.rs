//! Flush of entries: a partition's rows become segments, and the log before them can go.
//!
//! ```text
//! cut (head locked, no row is touched) ─► a segment for each signal and hour ─► ONE manifest edit
//!                                         ─► readers see them instead of the rows ─► trim the log
//! ```
//!
//! A flush that fails leaves the frozen rows readable and is tried again under new object names.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::{Log, Position, RecordKind, Signal};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use super::generation::Generation;
use super::page::Row;
use super::partition::{EntryFlush, EntryPartition};
use super::payload;
use super::segment::{self, SegmentHandle, Style, Written};
use super::streams::{HOUR_NS, Stream};
use crate::manifest::{Edit, SegmentMeta};
use crate::{Error, Storage};

/// Segments of one signal that one flush makes at most. Older hours share the oldest one: late
/// entries are few, however many hours they are of.
const HOURS_MAX: usize = 24;

/// Rows on their way from head to segments. Kept until they have arrived.
#[derive(Debug, Clone)]
pub(crate) struct EntryFreight {
    frozen: Option<Arc<Generation>>,
    /// Everything the partition logged before is in `frozen` or in segments.
    until: Position,
}

impl Storage {
    /// Flushes partitions of entries that are due, or all of them; says whether one failed.
    pub(crate) async fn flush_entries_due(&self, all: bool) -> Result<(), Error> {
        let mut first = Ok(());
        for partition in &self.entries.partitions {
            if partition.read_only().is_some() {
                continue;
            }
            let has_enough = self.has_enough_entries(partition, &partition.head.read());
            if !all && !has_enough && !self.are_entries_old(partition).await {
                continue;
            }
            let flushed = self.flush_entries(partition).await;
            if let Err(error) = &flushed {
                let (error, partition): (&dyn std::error::Error, _) = (error, partition.number);
                tracing::error!(partition, error, "flush failed and will be tried again");
            }
            first = first.and(flushed);
        }
        self.entries.active.forget_quiet(self.clock.now_ms());
        first
    }

    async fn are_entries_old(&self, partition: &EntryPartition) -> bool {
        let flush = partition.flush.lock().await;
        if flush.freight.is_some() || flush.manifest.is_unsettled() {
            return true;
        }
        let flushed_at = flush.flushed_at;
        self.clock.monotonic().as_secs_f64() - flushed_at >= self.config.flush_seconds as f64
    }

    /// Flushes one partition. Does nothing if nothing came in since the last time.
    pub(crate) async fn flush_entries(&self, partition: &EntryPartition) -> Result<(), Error> {
        let mut flush = partition.flush.lock().await;
        partition.check_writable()?;
        self.settle_entries(partition, &mut flush).await?;
        if flush.freight.is_none() {
            let has_news = partition.has_unsaved_deletions(&flush);
            flush.freight = self.cut_entries(partition, has_news)?;
        }
        let now = self.clock.monotonic().as_secs_f64();
        let Some(freight) = flush.freight.clone() else {
            flush.flushed_at = now;
            return Ok(());
        };
        let mut put = Vec::new();
        let flushed = self.deliver_entries(partition, &mut flush, &freight, &mut put).await;
        flush.flushed_at = self.clock.monotonic().as_secs_f64();
        if let Err(error) = &flushed {
            match flush.manifest.broken() {
                // The manifest may or may not name what was put, so nobody may go on from it.
                Some(reason) => partition.make_read_only(&format!("its manifest: {reason}")),
                None if matches!(error, Error::Unsettled { .. }) => {}
                None => self.discard(put).await,
            }
        }
        flushed
    }

    /// Freezes what is buffered; nothing is to be done if there is nothing, and no other news for
    /// the manifest. Batches that are still remembered are logged behind it.
    fn cut_entries(
        &self,
        partition: &EntryPartition,
        has_news: bool,
    ) -> Result<Option<EntryFreight>, Error> {
        let mut head = partition.head.write();
        let is_idle = self.entry_log_bytes(partition) < self.config.log_segment_bytes;
        if head.size().open_rows == 0 && is_idle && !has_news {
            return Ok(None);
        }
        let until = self.log.end();
        let frozen = head.cut(until);
        head.batches.forget_before(self.clock.now_ms());
        if !head.batches.is_empty() {
            let payload = payload::encode_batches(head.batches.iter());
            self.log_entries(partition, 0, RecordKind::Batches, &payload)?;
        }
        Ok(Some(EntryFreight { frozen, until }))
    }

    async fn deliver_entries(
        &self,
        partition: &EntryPartition,
        flush: &mut EntryFlush,
        freight: &EntryFreight,
        put: &mut Vec<Path>,
    ) -> Result<(), Error> {
        let (add, remove) = partition.deletions_to_save(flush, freight.until);
        let mut edit = Edit {
            covered: Some(freight.until),
            add_entry_tombstones: add,
            remove_entry_tombstones: remove,
            ..Edit::default()
        };
        if let Some(frozen) = &freight.frozen {
            let positions = (flush.state.covered, freight.until);
            for part in Parts::of(frozen).0 {
                let frozen = Arc::clone(frozen);
                let written = tokio::task::spawn_blocking(move || part.write(&frozen)).await;
                let written =
                    written.map_err(|e| Error::Internal(format!("encode a segment: {e}")))??;
                let number = flush.state.next_object;
                flush.state.next_object += 1;
                let name = format!("segments/{}/{number:012}", partition.number);
                put.push(Path::from(name.as_str()));
                edit.add_segments.push(self.put_segment(name, 0, written, positions).await?);
            }
        }
        edit.next_object = flush.state.next_object;
        let added = edit.add_segments.clone();
        partition.commit(flush, edit).await?;
        self.entries_arrived(partition, flush, added);
        Ok(())
    }

    /// Puts those objects of a segment that are not there yet, that which names the others last.
    pub(crate) async fn put_segment(
        &self,
        name: String,
        level: u8,
        written: Written,
        positions: (Position, Position),
    ) -> Result<SegmentMeta, Error> {
        let index = &written.index;
        let mut bytes = index.entries.size + index.tokens.size;
        for (object, content) in &written.objects {
            let path = Path::from(name.as_str()).join(*object);
            if *object == segment::STREAMS {
                bytes += content.len() as u64;
            }
            let put = self.objects.put(&path, PutPayload::from_bytes(Bytes::clone(content))).await;
            put.map_err(|source| Error::Objects { doing: format!("put object {path}"), source })?;
        }
        Ok(SegmentMeta {
            name,
            signal: index.signal,
            level,
            range_ns: (index.first_ns, index.last_ns),
            positions,
            streams: index.streams.len() as u64,
            rows: index.rows,
            raw_bytes: index.raw_bytes,
            bytes,
            created_ms: self.clock.now_ms(),
            deleted_to: None,
            index_checksum: written.checksum,
        })
    }

    /// What was frozen is in segments that a manifest names: readers see those instead, from one
    /// moment on.
    fn entries_arrived(
        &self,
        partition: &EntryPartition,
        flush: &mut EntryFlush,
        added: Vec<SegmentMeta>,
    ) {
        let added = self.segment_handles(added);
        {
            let mut head = partition.head.write();
            partition.replace(&[], added);
            head.thaw();
        }
        flush.freight = None;
        self.trim_log();
    }

    pub(crate) fn segment_handles(&self, metas: Vec<SegmentMeta>) -> Vec<Arc<SegmentHandle>> {
        let handle = |meta| SegmentHandle::new(meta, &self.objects, &self.cache);
        metas.into_iter().map(handle).collect()
    }

    /// Finds out about the last edit of a partition, if need be. Fails while the store does.
    pub(crate) async fn settle_entries(
        &self,
        partition: &EntryPartition,
        flush: &mut EntryFlush,
    ) -> Result<(), Error> {
        let settled = flush.manifest.settle().await;
        if let Some(reason) = flush.manifest.broken() {
            partition.make_read_only(&format!("its manifest: {reason}"));
        }
        let Some((edit, state)) = settled? else { return Ok(()) };
        let next_object = flush.state.next_object.max(state.next_object);
        flush.state = crate::manifest::PartitionState { next_object, ..state };
        partition.note_state(&flush.state);
        // Only the edit of a flush holds what was frozen; others have come between.
        let is_flush = flush.freight.as_ref().is_some_and(|f| edit.covered == Some(f.until));
        if is_flush {
            self.entries_arrived(partition, flush, edit.add_segments);
            return Ok(());
        }
        partition.drop_deletions(&edit.remove_entry_tombstones);
        partition.replace(&edit.remove_segments, self.segment_handles(edit.add_segments));
        self.retire_segments(partition, &edit.remove_segments);
        Ok(())
    }
}

/// The segments that a generation becomes.
struct Parts(Vec<Part>);

/// Rows of one signal and one hour, or of all older ones.
struct Part {
    signal: Signal,
    /// Hours since the Unix epoch, both inside.
    hours: (i64, i64),
}

impl Parts {
    fn of(generation: &Generation) -> Self {
        let mut hours: BTreeMap<Signal, Vec<i64>> = BTreeMap::new();
        for (stream, counts) in generation.streams.all().iter().zip(generation.streams.counts()) {
            let own = hours.entry(stream.signal).or_default();
            own.extend(counts.hours.iter().map(|h| h.hour));
        }
        let mut parts = Vec::new();
        for (signal, mut hours) in hours {
            hours.sort_unstable();
            hours.dedup();
            let late = hours.len().saturating_sub(HOURS_MAX - 1);
            let (older, own) = hours.split_at(if late > 1 { late } else { 0 });
            let older = older.first().zip(older.last()).map(|(first, last)| (*first, *last));
            let all = older.into_iter().chain(own.iter().map(|hour| (*hour, *hour)));
            parts.extend(all.map(|hours| Part { signal, hours }));
        }
        Self(parts)
    }
}

impl Part {
    fn write(&self, generation: &Generation) -> Result<Written, Error> {
        let is_inside =
            |at_ns: i64| (self.hours.0..=self.hours.1).contains(&at_ns.div_euclid(HOUR_NS));
        let streams = generation.streams.all();
        // Places of the streams that have rows, in their order.
        let mut own: Vec<u32> = (0..streams.len() as u32)
            .filter(|s| {
                let hours = &generation.streams.counts()[*s as usize].hours;
                streams[*s as usize].signal == self.signal
                    && hours.iter().any(|h| (self.hours.0..=self.hours.1).contains(&h.hour))
            })
            .collect();
        own.sort_by(|a, b| streams[*a as usize].order(&streams[*b as usize]));
        let mut rank = vec![u32::MAX; streams.len()];
        own.iter().zip(0..).for_each(|(stream, at)| rank[*stream as usize] = at);
        let mut rows: Vec<Place> = Vec::new();
        for (page, at) in generation.closed().iter().zip(0..) {
            let columns = page.streams().iter().zip(page.instants()).zip(0..);
            for ((stream, at_ns), row) in columns {
                let rank = rank[*stream as usize];
                if rank != u32::MAX && is_inside(*at_ns) {
                    rows.push(Place { rank, at_ns: *at_ns, page: at, row });
                }
            }
        }
        rows.sort_unstable();
        let row_at = |place: &Place| Row {
            stream: place.rank,
            ..generation.closed()[place.page as usize].row(place.row as usize)
        };
        let kept = without_repeated(&rows, row_at);
        let table: Vec<Arc<Stream>> =
            own.iter().map(|s| Arc::clone(&streams[*s as usize])).collect();
        segment::write(self.signal, &table, kept.iter().map(|p| row_at(p)), Style::Young)
    }
}

/// Where a row lies, in the order of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    rank: u32,
    at_ns: i64,
    page: u32,
    row: u32,
}

/// Leaves out rows that repeat one before: equal in stream, instant, line, fields and level, with a
/// time of their own.
fn without_repeated<'p>(rows: &'p [Place], row_at: impl Fn(&Place) -> Row<'p>) -> Vec<&'p Place> {
    let mut kept: Vec<&Place> = Vec::with_capacity(rows.len());
    for run in rows.chunk_by(|a, b| (a.rank, a.at_ns) == (b.rank, b.at_ns)) {
        if run.len() == 1 {
            kept.extend(run);
            continue;
        }
        let mut seen = hashbrown::HashSet::new();
        for place in run {
            let row = row_at(place);
            if !row.mark.has_own_time() || seen.insert((row.line, row.fields, row.mark.0)) {
                kept.push(place);
            }
        }
    }
    kept
}
