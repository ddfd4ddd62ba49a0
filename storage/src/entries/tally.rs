//! How many entries there are, by stream and bucket of time, as far as tables of streams tell it
//! exactly; the rest is for rows.
//!
//! ```text
//! tables of all places ─► what each has of a stream's hours ─► told: counted, no row is read
//!                                                          └─► rest: stretches to be searched
//! ```
//!
//! What a place has of an hour is told if it lies in one bucket and inside the question, nothing of
//! it may be deleted or over, no other place has entries of that stream between the same instants
//! (two of them could be one), and none of its own repeats another. Segments hold nothing twice;
//! of a head that is known of streams whose entries came in order of time.

use std::sync::Arc;

use hashbrown::HashMap;
use model::{Cancel, Labels, Pace, Signal};
use tenancy::{ReadScope, TenantId};

use super::deletion::Hiding;
use super::matching::StreamMatcher;
use super::search::{EntryStream, Seen};
use super::statistics::SelectStreams;
use super::streams::{HOUR_NS, HourCount, Stream, StreamCounts};
use crate::{Error, Storage};

/// What is to be counted.
#[derive(Debug, Clone, Default)]
pub struct TallyEntries {
    /// The streams, and from when to when.
    pub streams: SelectStreams,
    /// Width of the buckets, which begin with the question. Nanoseconds.
    pub width_ns: i64,
    /// Only streams with all of these labels are told; the others are rest.
    pub names: Vec<String>,
}

/// What is known without reading rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryTally {
    /// In no order; a stream may be there several times.
    pub counts: Vec<StreamTally>,
    /// Everything else.
    pub rest: StreamSpans,
}

/// Entries of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTally {
    /// The stream.
    pub stream: Arc<EntryStream>,
    /// By number of the bucket, in order. What buckets a question has, it knows itself.
    pub buckets: Vec<(u64, u64)>,
}

/// Stretches of time of streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamSpans(HashMap<(TenantId, Signal), HashMap<Labels, Spans>>);

/// Stretches of time in order, both ends inside, that do not touch each other.
type Spans = Arc<[(i64, i64)]>;

impl StreamSpans {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of a stream.
    pub(super) fn of(&self, stream: &Stream) -> Option<&Spans> {
        self.0.get(&(stream.tenant, stream.signal))?.get(&stream.labels)
    }
}

/// Whether one of the stretches has something of another.
pub(super) fn meets(spans: &[(i64, i64)], (first, last): (i64, i64)) -> bool {
    let at = spans.partition_point(|span| span.1 < first);
    spans.get(at).is_some_and(|span| span.0 <= last)
}

impl Storage {
    /// Counts entries as far as that takes no rows. `None` if there are more streams than a
    /// question may touch: these are not held at once.
    pub async fn tally_entries(
        &self,
        scope: &ReadScope,
        request: &TallyEntries,
        cancel: &Cancel,
    ) -> Result<Option<EntryTally>, Error> {
        let SelectStreams { signals, selectors, start_ns, end_ns } = &request.streams;
        let (range, now_ms) = ((*start_ns, *end_ns), self.retention_now_ms());
        let matcher = StreamMatcher::new(scope, signals, selectors);
        let seen = Seen { scope, matcher: &matcher, now_ms, only: None };
        let mut adding = Adding { seen, range, pace: Pace::new(cancel), all: HashMap::new() };
        for partition in &self.entries.partitions {
            partition.check_segments(signals, range)?;
            let (of_head, segments, deletions) = {
                let head = partition.head.read();
                let all = head.generations().flat_map(|g| g.streams.rows());
                let own = all.map(|(s, counts, repeats)| (Arc::clone(s), counts.clone(), repeats));
                (own.collect::<Vec<_>>(), partition.segments(), partition.deletions())
            };
            for (stream, counts, may_repeat) in &of_head {
                adding.add(stream, counts, |_| !may_repeat)?;
            }
            for segment in segments.iter() {
                let (first_ns, last_ns) = segment.meta.range_ns;
                let is_asked = signals.contains(&segment.meta.signal)
                    && first_ns < range.1
                    && last_ns >= range.0;
                if is_asked {
                    let open = segment.open().await?;
                    let streams = &open.index.streams;
                    let own = streams.iter().map(|s| s.stream.as_ref());
                    let deletions = deletions.of_segment(&segment.meta);
                    let hiding = Hiding::of(&deletions, own, &mut adding.pace)?;
                    for (at, one) in streams.iter().enumerate() {
                        adding.add(&one.stream, &one.counts, |span| !hiding.may_hide(at, span))?;
                    }
                }
            }
            if adding.all.len() > scope.limits().query_series_max {
                return Ok(None);
            }
        }
        adding.finish(request).map(Some)
    }
}

/// Streams being put together.
struct Adding<'a> {
    seen: Seen<'a>,
    /// The second is not inside.
    range: (i64, i64),
    pace: Pace,
    all: HashMap<(TenantId, Signal, Labels), Found>,
}

/// What there is of a stream.
struct Found {
    stream: EntryStream,
    /// What is older is not kept.
    oldest_ns: i64,
    pieces: Vec<Piece>,
}

/// What one place has of a stream's hour.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Its instants lie between these, which are inside.
    span: (i64, i64),
    rows: u64,
    /// Whether that is how many there are, as far as this place knows.
    is_exact: bool,
}

impl Adding<'_> {
    /// Adds what one place has of a stream.
    fn add(
        &mut self,
        stream: &Stream,
        counts: &StreamCounts,
        is_exact: impl Fn((i64, i64)) -> bool,
    ) -> Result<(), Error> {
        self.pace.work(4 + counts.hours.len())?;
        let (start_ns, end_ns) = self.range;
        let is_there =
            !counts.hours.is_empty() && counts.first_ns < end_ns && counts.last_ns >= start_ns;
        if !is_there {
            return Ok(());
        }
        let Some((out, oldest_ns)) = self.seen.one(stream, &mut self.pace)? else { return Ok(()) };
        let key = (stream.tenant, stream.signal, stream.labels.clone());
        let found = self.all.entry(key).or_insert_with(|| {
            let (stream, pieces) = (out, Vec::new());
            Found { stream, oldest_ns, pieces }
        });
        for hour in &counts.hours {
            let span = span_of(hour, counts);
            let is_asked = span.0 < end_ns && span.1 >= start_ns.max(oldest_ns);
            if is_asked && hour.rows > 0 {
                found.pieces.push(Piece { span, rows: hour.rows, is_exact: is_exact(span) });
            }
        }
        Ok(())
    }

    fn finish(self, request: &TallyEntries) -> Result<EntryTally, Error> {
        let Self { range: (start_ns, end_ns), mut pace, all, .. } = self;
        let width_ns = i128::from(request.width_ns.max(1));
        let bucket = |at_ns: i64| ((i128::from(at_ns) - i128::from(start_ns)) / width_ns) as u64;
        let mut tally = EntryTally::default();
        for ((tenant, signal, labels), Found { stream, oldest_ns, mut pieces }) in all {
            pace.work(1 + pieces.len())?;
            let is_named = request.names.iter().all(|name| stream.labels.get(name).is_some());
            pieces.sort_unstable_by_key(|piece| piece.span);
            let mut buckets: Vec<(u64, u64)> = Vec::new();
            let mut rest: Vec<(i64, i64)> = Vec::new();
            // The last instant of those before.
            let mut reached = None;
            for (at, Piece { span, rows, is_exact }) in pieces.iter().copied().enumerate() {
                let is_alone = reached.is_none_or(|reached| reached < span.0)
                    && pieces.get(at + 1).is_none_or(|next| next.span.0 > span.1);
                reached = reached.max(Some(span.1));
                let is_inside = span.0 >= start_ns.max(oldest_ns) && span.1 < end_ns;
                let is_told = is_named && is_exact && is_alone && is_inside;
                if is_told && bucket(span.0) == bucket(span.1) {
                    match buckets.last_mut().filter(|last| last.0 == bucket(span.0)) {
                        Some(last) => last.1 += rows,
                        None => buckets.push((bucket(span.0), rows)),
                    }
                    continue;
                }
                match rest.last_mut().filter(|last| last.1 >= span.0) {
                    Some(last) => last.1 = last.1.max(span.1),
                    None => rest.push(span),
                }
            }
            if !rest.is_empty() {
                let streams = tally.rest.0.entry((tenant, signal)).or_default();
                streams.insert(labels, rest.into());
            }
            if !buckets.is_empty() {
                tally.counts.push(StreamTally { stream: Arc::new(stream), buckets });
            }
        }
        Ok(tally)
    }
}

/// Between which instants a stream's entries of an hour lie. Wider than they do at most.
fn span_of(hour: &HourCount, counts: &StreamCounts) -> (i64, i64) {
    let begins = hour.hour.saturating_mul(HOUR_NS);
    let ends = begins.saturating_add(HOUR_NS - 1);
    (begins.max(counts.first_ns), ends.min(counts.last_ns))
}
