//! Which streams there are, and how much each has by hour: from tables of streams alone, no row is
//! read.
//!
//! Counts are of stored rows and whole hours: an hour of which a range holds a part counts in full,
//! and an entry that was sent twice, or of which a part of a stream was deleted, may count until its
//! segments are merged. A stream that is deleted whole is not there.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use model::{Cancel, Labels, Matcher, Pace, Signal, SourceKind};
use tenancy::{ReadScope, TenantId, TenantName};

use super::deletion::Hiding;
use super::matching::StreamMatcher;
use super::search::{EntryStream, Seen};
use super::streams::{HOUR_NS, Stream, StreamCounts};
use crate::{Error, Storage};

/// The label by which clusters are told apart among sources.
const CLUSTER: &str = "cluster";

/// Which streams are asked for.
#[derive(Debug, Clone, Default)]
pub struct SelectStreams {
    /// Of these signals.
    pub signals: Vec<Signal>,
    /// Streams that match all of one of these lists; all streams if there is none.
    pub selectors: Vec<Vec<Matcher>>,
    /// With entries from this instant on, nanoseconds.
    pub start_ns: i64,
    /// Up to this instant, which is not inside.
    pub end_ns: i64,
}

/// A stream and how much it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamVolume {
    /// The stream.
    pub stream: EntryStream,
    /// Its first instant, wherever it lies. Nanoseconds.
    pub first_ns: i64,
    /// Its last instant.
    pub last_ns: i64,
    /// By hour, in order, those that the range touches.
    pub hours: Vec<HourVolume>,
}

/// What there is of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HourVolume {
    /// When it begins, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Entries.
    pub entries: u64,
    /// Bytes of their lines and fields.
    pub bytes: u64,
}

/// Something that speaks, or has spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrySource {
    /// Whose it is.
    pub tenant: TenantId,
    /// The same, by name.
    pub tenant_name: TenantName,
    /// What it sends.
    pub signal: Signal,
    /// The value of its label `cluster`, empty without one.
    pub cluster: String,
    /// What it is.
    pub kind: SourceKind,
    /// Its streams.
    pub streams: u64,
    /// Its first instant. Nanoseconds.
    pub first_ns: i64,
    /// Its last instant.
    pub last_ns: i64,
    /// Entries in the hours of the range.
    pub entries: u64,
    /// Bytes of their lines and fields.
    pub bytes: u64,
}

impl StreamVolume {
    /// Entries in these hours.
    pub fn entries(&self) -> u64 {
        self.hours.iter().map(|hour| hour.entries).sum()
    }

    /// Bytes of lines and fields in these hours.
    pub fn bytes(&self) -> u64 {
        self.hours.iter().map(|hour| hour.bytes).sum()
    }
}

impl Storage {
    /// The streams a question picks, in order of tenant, signal and labels, with what each has.
    pub async fn entry_streams(
        &self,
        scope: &ReadScope,
        request: &SelectStreams,
        cancel: &Cancel,
    ) -> Result<Vec<StreamVolume>, Error> {
        let matcher = StreamMatcher::new(scope, &request.signals, &request.selectors);
        let seen = Seen { scope, matcher: &matcher, now_ms: self.retention_now_ms(), only: None };
        let mut adding =
            Adding { seen: &seen, request, pace: Pace::new(cancel), all: HashMap::new() };
        let range = (request.start_ns, request.end_ns);
        for partition in &self.entries.partitions {
            partition.check_segments(&request.signals, range)?;
            let (of_head, segments, deletions) = {
                let head = partition.head.read();
                let generations = head.generations();
                let pairs = generations.flat_map(|g| {
                    g.streams.all().iter().cloned().zip(g.streams.counts().iter().cloned())
                });
                (pairs.collect::<Vec<_>>(), partition.segments(), partition.deletions())
            };
            for (stream, counts) in &of_head {
                adding.add(stream, counts)?;
            }
            for segment in segments.iter() {
                let (first_ns, last_ns) = segment.meta.range_ns;
                let is_asked = request.signals.contains(&segment.meta.signal)
                    && first_ns < range.1
                    && last_ns >= range.0;
                if is_asked {
                    let open = segment.open().await?;
                    let streams = &open.index.streams;
                    let own = streams.iter().map(|s| s.stream.as_ref());
                    let deletions = deletions.of_segment(&segment.meta);
                    let hiding = Hiding::of(&deletions, own, &mut adding.pace)?;
                    for (at, one) in streams.iter().enumerate() {
                        if !hiding.hides_all(at, &one.counts) {
                            adding.add(&one.stream, &one.counts)?;
                        }
                    }
                }
            }
        }
        Ok(adding.finish())
    }

    /// Names of the labels that streams have, in order.
    pub async fn entry_label_names(
        &self,
        scope: &ReadScope,
        request: &SelectStreams,
        cancel: &Cancel,
    ) -> Result<Vec<String>, Error> {
        let streams = self.entry_streams(scope, request, cancel).await?;
        let names = streams.iter().flat_map(|s| s.stream.labels.iter().map(|(name, _)| name));
        let names: BTreeSet<&str> = names.collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// Values that a label of streams has, in order.
    pub async fn entry_label_values(
        &self,
        scope: &ReadScope,
        name: &str,
        request: &SelectStreams,
        cancel: &Cancel,
    ) -> Result<Vec<String>, Error> {
        let streams = self.entry_streams(scope, request, cancel).await?;
        let values: BTreeSet<&str> =
            streams.iter().filter_map(|s| s.stream.labels.get(name)).collect();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    /// What has spoken, by tenant, signal, cluster and kind.
    pub async fn entry_sources(
        &self,
        scope: &ReadScope,
        request: &SelectStreams,
        cancel: &Cancel,
    ) -> Result<Vec<EntrySource>, Error> {
        let mut all: BTreeMap<(TenantId, Signal, String, SourceKind), EntrySource> =
            BTreeMap::new();
        for volume in self.entry_streams(scope, request, cancel).await? {
            let (entries, bytes) = (volume.entries(), volume.bytes());
            let StreamVolume { stream, first_ns, last_ns, .. } = volume;
            let cluster = stream.labels.get(CLUSTER).unwrap_or("").to_owned();
            let EntryStream { tenant, tenant_name, signal, kind, .. } = stream;
            let key = (tenant, signal, cluster.clone(), kind);
            let source = all.entry(key).or_insert_with(|| EntrySource {
                tenant,
                tenant_name,
                signal,
                cluster,
                kind,
                streams: 0,
                first_ns,
                last_ns,
                entries: 0,
                bytes: 0,
            });
            source.streams += 1;
            source.first_ns = source.first_ns.min(first_ns);
            source.last_ns = source.last_ns.max(last_ns);
            source.entries += entries;
            source.bytes += bytes;
        }
        Ok(all.into_values().collect())
    }
}

/// What tells streams apart in an answer.
type Key = (TenantId, Signal, Labels);

/// Streams being put together.
struct Adding<'a> {
    seen: &'a Seen<'a>,
    request: &'a SelectStreams,
    pace: Pace,
    all: HashMap<Key, Volume>,
}

struct Volume {
    stream: EntryStream,
    first_ns: i64,
    last_ns: i64,
    hours: BTreeMap<i64, (u64, u64)>,
}

impl Adding<'_> {
    /// Adds what one place has of a stream.
    fn add(&mut self, stream: &Stream, counts: &StreamCounts) -> Result<(), Error> {
        self.pace.work(4)?;
        let (start_ns, end_ns) = (self.request.start_ns, self.request.end_ns);
        let is_there =
            !counts.hours.is_empty() && counts.first_ns < end_ns && counts.last_ns >= start_ns;
        if !is_there {
            return Ok(());
        }
        let Some((out, oldest_ns)) = self.seen.one(stream, &mut self.pace)? else { return Ok(()) };
        let start_ns = start_ns.max(oldest_ns);
        if counts.last_ns < start_ns {
            return Ok(());
        }
        let limit = self.seen.scope.limits().query_series_max;
        let key = (stream.tenant, stream.signal, stream.labels.clone());
        if self.all.len() >= limit && !self.all.contains_key(&key) {
            return Err(Error::Limit(format!(
                "the question is about more than {limit} streams, which is the limit; ask for fewer"
            )));
        }
        let volume = self.all.entry(key).or_insert_with(|| Volume {
            stream: out,
            first_ns: counts.first_ns,
            last_ns: counts.last_ns,
            hours: BTreeMap::new(),
        });
        volume.first_ns = volume.first_ns.min(counts.first_ns);
        volume.last_ns = volume.last_ns.max(counts.last_ns);
        for hour in &counts.hours {
            let begins = hour.hour.saturating_mul(HOUR_NS);
            if begins < end_ns && begins.saturating_add(HOUR_NS) > start_ns {
                let of_hour = volume.hours.entry(begins).or_default();
                *of_hour = (of_hour.0 + hour.rows, of_hour.1 + hour.bytes);
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<StreamVolume> {
        let mut all: Vec<(Key, Volume)> = self.all.into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let hour = |(start_ns, (entries, bytes))| HourVolume { start_ns, entries, bytes };
        let volume = |(_, v): (Key, Volume)| StreamVolume {
            stream: v.stream,
            first_ns: v.first_ns,
            last_ns: v.last_ns,
            hours: v.hours.into_iter().map(hour).collect(),
        };
        all.into_iter().map(volume).collect()
    }
}
