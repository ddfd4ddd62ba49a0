//! The stream table of a generation of rows: which streams there are, and what each has.

use std::sync::Arc;

use hashbrown::HashTable;
use model::{Labels, SeriesId, Signal, SourceKind};
use tenancy::TenantId;

/// Nanoseconds of an hour: what counts are kept by.
pub(crate) const HOUR_NS: i64 = 3_600_000_000_000;

/// What tells a stream from all others, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) tenant: TenantId,
    pub(crate) signal: Signal,
    pub(crate) kind: SourceKind,
    pub(crate) id: SeriesId,
    pub(crate) labels: Labels,
}

impl Stream {
    /// The order of streams in a segment: like sources side by side.
    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        let key = |s: &Self| (s.tenant, s.signal);
        key(self).cmp(&key(other)).then_with(|| self.labels.cmp(&other.labels))
    }
}

/// What a stream has, in one place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StreamCounts {
    /// First and last instant; nothing of it counts while there are no rows.
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
    /// By hour, in order of hours.
    pub(crate) hours: Vec<HourCount>,
}

/// Rows of one stream and hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HourCount {
    /// Hours since the Unix epoch.
    pub(crate) hour: i64,
    pub(crate) rows: u64,
    /// Bytes of lines and fields.
    pub(crate) bytes: u64,
}

impl StreamCounts {
    pub(crate) fn add(&mut self, at_ns: i64, bytes: usize) {
        let is_first = self.hours.is_empty();
        self.first_ns = if is_first { at_ns } else { self.first_ns.min(at_ns) };
        self.last_ns = if is_first { at_ns } else { self.last_ns.max(at_ns) };
        let hour = at_ns.div_euclid(HOUR_NS);
        // Nearly always the last.
        let at = match self.hours.last() {
            Some(last) if last.hour == hour => Ok(self.hours.len() - 1),
            _ => self.hours.binary_search_by_key(&hour, |known| known.hour),
        };
        let at = at.unwrap_or_else(|at| {
            self.hours.insert(at, HourCount { hour, ..HourCount::default() });
            at
        });
        self.hours[at].rows += 1;
        self.hours[at].bytes += bytes as u64;
    }

    pub(crate) fn rows(&self) -> u64 {
        self.hours.iter().map(|h| h.rows).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.hours.iter().map(|h| h.bytes).sum()
    }
}

/// Streams by number, in the order in which they came.
#[derive(Debug)]
pub(crate) struct StreamTable {
    key: u64,
    all: Vec<Arc<Stream>>,
    counts: Vec<StreamCounts>,
    /// Of which streams two entries may be of one instant: they did not come in order of time.
    repeats: Vec<bool>,
    table: HashTable<u32>,
}

impl StreamTable {
    /// An empty one; `key` guards it against senders who choose what collides.
    pub(crate) fn new(key: u64) -> Self {
        let (all, counts, repeats) = Default::default();
        Self { key, all, counts, repeats, table: HashTable::new() }
    }

    /// The same streams under the same numbers, without rows.
    pub(crate) fn without_rows(&self) -> Self {
        let counts = vec![StreamCounts::default(); self.counts.len()];
        let (all, repeats) = (self.all.clone(), vec![false; self.counts.len()]);
        Self { key: self.key, all, counts, repeats, table: self.table.clone() }
    }

    pub(crate) fn len(&self) -> u32 {
        self.all.len() as u32
    }

    pub(crate) fn all(&self) -> &[Arc<Stream>] {
        &self.all
    }

    pub(crate) fn counts(&self) -> &[StreamCounts] {
        &self.counts
    }

    /// Streams that have rows, with what they have, and whether one may repeat another.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Arc<Stream>, &StreamCounts, bool)> {
        let all = self.all.iter().zip(&self.counts).zip(&self.repeats);
        all.map(|((stream, counts), repeats)| (stream, counts, *repeats))
            .filter(|(_, counts, _)| !counts.hours.is_empty())
    }

    pub(crate) fn count(&mut self, stream: u32, at_ns: i64, bytes: usize) {
        let counts = &mut self.counts[stream as usize];
        self.repeats[stream as usize] |= !counts.hours.is_empty() && at_ns <= counts.last_ns;
        counts.add(at_ns, bytes);
    }

    /// The number of a stream with these labels, in canonical encoding. Who sent others with the
    /// same id has another stream.
    pub(crate) fn find(
        &self,
        tenant: TenantId,
        signal: Signal,
        id: SeriesId,
        encoded: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Option<u32> {
        let is_same = |&number: &u32| {
            let known = &self.all[number as usize];
            if (known.tenant, known.signal, known.id) != (tenant, signal, id) {
                return false;
            }
            scratch.clear();
            known.labels.encode(scratch);
            scratch == encoded
        };
        self.table.find(hash_of(self.key, tenant, signal, id), is_same).copied()
    }

    /// Adds a stream that is not there, and gives its number.
    pub(crate) fn push(&mut self, stream: Arc<Stream>) -> u32 {
        let number = self.len();
        let (key, all) = (self.key, &mut self.all);
        let hash = hash_of(key, stream.tenant, stream.signal, stream.id);
        all.push(stream);
        self.counts.push(StreamCounts::default());
        self.repeats.push(false);
        let of = |number: &u32| {
            let known = &all[*number as usize];
            hash_of(key, known.tenant, known.signal, known.id)
        };
        self.table.insert_unique(hash, number, of);
        number
    }

    /// Memory taken, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let labels: usize = self.all.iter().map(|s| s.labels.heap_bytes()).sum();
        labels + self.all.len() * (size_of::<Stream>() + size_of::<StreamCounts>() + 64)
    }
}

fn hash_of(key: u64, tenant: TenantId, signal: Signal, id: SeriesId) -> u64 {
    let mut bytes = [0; 21];
    bytes[..16].copy_from_slice(&id.0.to_le_bytes());
    bytes[16..20].copy_from_slice(&tenant.0.to_le_bytes());
    bytes[20] = signal as u8;
    xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_by_hour() {
        let mut counts = StreamCounts::default();
        for (at_ns, bytes) in [(5, 1), (HOUR_NS, 10), (-1, 100), (HOUR_NS - 1, 1000), (HOUR_NS, 4)]
        {
            counts.add(at_ns, bytes);
        }
        let hours: Vec<_> = counts.hours.iter().map(|h| (h.hour, h.rows, h.bytes)).collect();
        assert_eq!(hours, [(-1, 1, 100), (0, 2, 1001), (1, 2, 14)]);
        assert_eq!((counts.first_ns, counts.last_ns), (-1, HOUR_NS));
        assert_eq!((counts.rows(), counts.bytes()), (5, 1115));
    }

    #[test]
    fn labels_tell_streams_with_one_id_apart() {
        let mut table = StreamTable::new(7);
        let (tenant, signal, id) = (TenantId(1), Signal::Logs, SeriesId(9));
        let encoded = |value: &str| {
            let labels = Labels::from_pairs([("app", value)]);
            let mut out = Vec::new();
            labels.encode(&mut out);
            (labels, out)
        };
        for (number, value) in (0..).zip(["a", "b"]) {
            let (labels, bytes) = encoded(value);
            assert_eq!(table.find(tenant, signal, id, &bytes, &mut Vec::new()), None);
            let kind = SourceKind::Other;
            assert_eq!(table.push(Arc::new(Stream { tenant, signal, kind, id, labels })), number);
            assert_eq!(table.find(tenant, signal, id, &bytes, &mut Vec::new()), Some(number));
            assert_eq!(table.find(TenantId(2), signal, id, &bytes, &mut Vec::new()), None);
            assert_eq!(table.find(tenant, Signal::Audits, id, &bytes, &mut Vec::new()), None);
        }
    }
}
