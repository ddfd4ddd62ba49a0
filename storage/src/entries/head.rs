//! The head of a partition of entries: rows that are in the log and not yet in segments.
//!
//! ```text
//! append ─► open generation ─► cut ─► frozen generation ─► segments ─► thaw
//! ```

use std::sync::Arc;

use hashbrown::HashMap;
use model::{Position, RecordKind, SeriesId, Signal, SourceKind};
use tenancy::TenantId;

use super::batches::Batches;
use super::deletion::Deletion;
use super::generation::{Generation, View};
use super::page::Page;
use super::payload::{self, Body, Named, SeenBatch};
use super::streams::Stream;
use crate::Error;

/// Rows of one request for one partition, ready to be appended: one record.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Streams of its rows.
    pub(crate) streams: Vec<NewOrKnown>,
    /// The rows; streams are places in `streams`.
    pub(crate) page: Page,
    /// The same rows, as the log takes them.
    pub(crate) body: Body,
}

/// A stream of a request.
#[derive(Debug, Clone)]
pub(crate) struct NewOrKnown {
    pub(crate) signal: Signal,
    pub(crate) kind: SourceKind,
    pub(crate) id: SeriesId,
    /// Its labels in canonical encoding.
    pub(crate) encoded: Vec<u8>,
}

/// A share whose streams have numbers, with the record that has to be logged before it counts.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) payload: Vec<u8>,
    streams: Vec<u32>,
}

/// How much a head holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HeadSize {
    pub(crate) open_rows: u64,
    pub(crate) open_bytes: u64,
    pub(crate) frozen_rows: u64,
    pub(crate) frozen_bytes: u64,
}

/// The head.
#[derive(Debug)]
pub(crate) struct EntryHead {
    key: u64,
    open: Generation,
    frozen: Option<Arc<Generation>>,
    pub(crate) batches: Batches,
    replayed: Replayed,
    left_out: u64,
    has_gap: bool,
}

/// How records that are being replayed number streams.
#[derive(Debug, Default)]
struct Replayed {
    generation: u64,
    /// Streams of the open generation by their numbers in the log.
    numbers: Vec<u32>,
}

impl EntryHead {
    /// An empty one; `key` guards its tables.
    pub(crate) fn new(key: u64) -> Self {
        Self {
            key,
            open: Generation::new(0, key),
            frozen: None,
            batches: Batches::default(),
            replayed: Replayed::default(),
            left_out: 0,
            has_gap: false,
        }
    }

    /// Gives the streams of a share numbers. `Err` says which stream has labels that are none.
    pub(crate) fn admit(
        &mut self,
        tenant: TenantId,
        share: &Share,
        batch: Option<SeenBatch>,
    ) -> Result<Admitted, String> {
        let (mut scratch, mut streams) = (Vec::new(), Vec::with_capacity(share.streams.len()));
        for stream in &share.streams {
            let NewOrKnown { signal, kind, id, encoded } = stream;
            let known = self.open.streams.find(tenant, *signal, *id, encoded, &mut scratch);
            streams.push(match known {
                Some(number) => number,
                None => {
                    let labels = model::Labels::from_wire(encoded).map_err(|e| e.to_string())?;
                    let (signal, kind, id) = (*signal, *kind, *id);
                    self.open.add_stream(Arc::new(Stream { tenant, signal, kind, id, labels }))
                }
            });
        }
        let names: Vec<Named> = streams.iter().map(|s| self.open.name_of(*s)).collect();
        let payload = payload::encode(self.open.number, batch, &names, &share.body);
        Ok(Admitted { payload, streams })
    }

    /// What comes next is of the record at a position.
    pub(crate) fn note_record(&mut self, at: Position) {
        self.open.note_record(at);
    }

    /// A share as those who listen are told of it: its streams, by the numbers its rows have.
    pub(crate) fn streams_of(&self, admitted: &Admitted) -> Arc<[Arc<Stream>]> {
        let all = self.open.streams.all();
        admitted.streams.iter().map(|stream| Arc::clone(&all[*stream as usize])).collect()
    }

    /// Adds the rows of a share whose record is in the log.
    pub(crate) fn append(&mut self, share: &Share, admitted: &Admitted) {
        self.open.push(&share.page, &admitted.streams);
    }

    /// Applies a record of the log. `Err` says why it does not fit.
    pub(crate) fn replay(
        &mut self,
        kind: RecordKind,
        tenant: TenantId,
        payload: &[u8],
    ) -> Result<(), String> {
        match kind {
            RecordKind::Entries => self.replay_entries(tenant, payload),
            RecordKind::Batches => {
                for (tenant, batch) in payload::decode_batches(payload)? {
                    self.batches.note(TenantId(tenant), batch);
                }
                Ok(())
            }
            other => Err(format!("a record of kind {other:?} is not for a partition of entries")),
        }
    }

    fn replay_entries(&mut self, tenant: TenantId, payload: &[u8]) -> Result<(), String> {
        let read = payload::decode(payload)?;
        if read.generation != self.replayed.generation {
            self.replayed = Replayed { generation: read.generation, numbers: Vec::new() };
        }
        let mut scratch = Vec::new();
        let mut streams = Vec::with_capacity(read.streams.len());
        for Named { number, new } in read.streams {
            let known = self.replayed.numbers.get(number as usize).copied();
            let Some(new) = new else {
                streams.push(known);
                continue;
            };
            if number as usize != self.replayed.numbers.len() {
                // One before it is lost; what it says of streams behind that would not fit either.
                streams.push(None);
                continue;
            }
            let mut encoded = Vec::new();
            new.labels.encode(&mut encoded);
            let payload::NewStream { signal, kind, id, labels } = new;
            let at = self.open.streams.find(tenant, signal, id, &encoded, &mut scratch);
            let at = at.unwrap_or_else(|| {
                self.open.add_stream(Arc::new(Stream { tenant, signal, kind, id, labels }))
            });
            self.replayed.numbers.push(at);
            streams.push(Some(at));
        }
        let is_others = |stream: &u32| {
            self.open.streams.all().get(*stream as usize).is_none_or(|s| s.tenant != tenant)
        };
        if streams.iter().flatten().any(is_others) {
            return Err("it names a stream of another tenant".to_owned());
        }
        if let Some(batch) = read.batch {
            self.batches.note(tenant, batch);
        }
        match streams.iter().copied().collect::<Option<Vec<u32>>>() {
            Some(streams) => self.open.push(&read.page, &streams),
            None if self.has_gap => self.left_out += 1,
            None => return Err("it is of a stream that no record before it names".to_owned()),
        }
        Ok(())
    }

    /// Removes what a deletion means, and says how many rows that were. What is frozen goes into
    /// segments all the same, and is not read any more.
    pub(crate) fn delete(&mut self, deletion: &Arc<Deletion>) -> Result<u64, Error> {
        let mut removed = 0;
        if let Some(left) = self.open.without(deletion)? {
            removed += self.open.rows() - left.rows();
            self.open = left;
        }
        if let Some(frozen) = &self.frozen
            && let Some(mut left) = frozen.without(deletion)?
        {
            removed += frozen.rows() - left.rows();
            left.close();
            self.frozen = Some(Arc::new(left));
        }
        Ok(removed)
    }

    /// A record before those that follow may be lost.
    pub(crate) fn note_gap(&mut self) {
        self.has_gap = true;
    }

    /// Records that could not be applied because one before them is lost.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// All was replayed: from here on streams are named to the log anew.
    pub(crate) fn begin(&mut self, at: Position) {
        self.open.renumber(at.0);
        self.replayed = Replayed::default();
    }

    /// Freezes what is there for a flush, if there is something; what comes from now on is behind
    /// `until`. Nothing may be frozen already.
    pub(crate) fn cut(&mut self, until: Position) -> Option<Arc<Generation>> {
        debug_assert!(self.frozen.is_none(), "one flush at a time");
        let next = Generation::new(until.0, self.key);
        let mut cut = std::mem::replace(&mut self.open, next);
        if cut.is_empty() {
            return None;
        }
        cut.close();
        let cut = Arc::new(cut);
        self.frozen = Some(Arc::clone(&cut));
        Some(cut)
    }

    /// What was frozen is in segments that readers see.
    pub(crate) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// What a question sees, in the order in which it came.
    pub(crate) fn views(&self) -> Vec<View> {
        let generations = self.generations();
        generations.filter(|g| !g.is_empty()).map(Generation::view).collect()
    }

    /// The generations, the older one first.
    pub(crate) fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.frozen.as_deref().into_iter().chain([&self.open])
    }

    pub(crate) fn size(&self) -> HeadSize {
        let frozen = self.frozen.as_deref();
        HeadSize {
            open_rows: self.open.rows(),
            open_bytes: self.open.raw_bytes(),
            frozen_rows: frozen.map_or(0, Generation::rows),
            frozen_bytes: frozen.map_or(0, Generation::raw_bytes),
        }
    }

    /// Memory taken, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.generations().map(Generation::heap_bytes).sum()
    }

    /// Streams with rows that are not in segments, of each tenant.
    pub(crate) fn tenant_streams(&self) -> HashMap<TenantId, Vec<Arc<Stream>>> {
        let mut all: HashMap<TenantId, Vec<Arc<Stream>>> = HashMap::new();
        for stream in self.generations().flat_map(|g| g.streams.all()) {
            all.entry(stream.tenant).or_default().push(Arc::clone(stream));
        }
        all
    }
}
