//! Which chunks hold what is asked for: facts of row groups, no samples yet.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use model::TimeRange;

use super::Fetched;
use crate::Error;
use crate::block::cache::{Key, Kind};
use crate::block::facts::{FACT_COLUMNS, Fact, Footer, facts_of};
use crate::block::read::{Block, Samples};
use crate::block::stats::ChunkStats;
use crate::codec::Codec;

/// The chunks that hold the samples of some rows within a range. Nothing is loaded yet.
#[derive(Debug)]
pub struct Plan {
    pub(super) block: Arc<Samples>,
    pub(super) footer: Arc<Footer>,
    pub(super) range: TimeRange,
    pub(super) chunks: Vec<PlannedChunk>,
    /// For each asked row, in the order asked: where its chunks end.
    pub(super) ends: Vec<usize>,
}

/// A chunk that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedChunk {
    pub(super) group: u32,
    pub(super) row: u32,
    pub(super) fact: Fact,
}

impl PlannedChunk {
    /// The row whose payload it is in.
    pub(super) fn payload_row(&self) -> u32 {
        self.row - self.fact.payload_back
    }

    /// The value of a constant chunk whose payload does not have it.
    pub(super) fn constant(&self) -> Option<f64> {
        (self.fact.codec == Codec::Constant && !self.fact.min.is_nan()).then_some(self.fact.min)
    }

    pub(super) fn has_payload(&self) -> bool {
        self.constant().is_none() || self.fact.has_starts
    }
}

/// What is known of a chunk before it is loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChunkInfo {
    /// First to last sample.
    pub range: TimeRange,
    /// Number of samples.
    pub samples: u16,
    /// Whether they are native histograms.
    pub is_histogram: bool,
    /// Whether some have start timestamps.
    pub has_starts: bool,
    /// The value if all samples have it.
    pub constant: Option<f64>,
    /// Statistics, where the chunk has them.
    pub stats: ChunkStats,
}

impl Plan {
    /// Samples and histograms in all chunks: at least as many as will be given out.
    pub fn samples(&self) -> u64 {
        self.chunks.iter().map(|c| u64::from(c.fact.count)).sum()
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// The chunks of the `i`th row asked for, in time order.
    pub fn chunks(&self, i: usize) -> impl Iterator<Item = ChunkInfo> {
        self.chunks_of(i).iter().map(|chunk| {
            let fact = &chunk.fact;
            let known = |v: f64| (!v.is_nan()).then_some(v);
            ChunkInfo {
                range: TimeRange { start_ms: fact.min_ms, end_ms: fact.max_ms },
                samples: fact.count,
                is_histogram: fact.codec == Codec::Histogram,
                has_starts: fact.has_starts,
                constant: chunk.constant(),
                stats: ChunkStats {
                    min: known(fact.min),
                    max: known(fact.max),
                    sum: known(fact.sum),
                    increase: known(fact.increase),
                },
            }
        })
    }

    pub(super) fn chunks_of(&self, i: usize) -> &[PlannedChunk] {
        let start = if i == 0 { 0 } else { self.ends.get(i - 1).copied().unwrap_or_default() };
        self.ends.get(i).and_then(|end| self.chunks.get(start..*end)).unwrap_or_default()
    }
}

impl Block {
    /// Finds the chunks of `rows` (in any order, each once) that overlap `range`.
    pub async fn plan(&self, rows: &[u32], range: TimeRange) -> Result<Plan, Error> {
        let chunks: Vec<Range<u32>> = rows.iter().map(|row| self.chunks_of(*row)).collect();
        self.samples.plan(&chunks, range).await
    }

    /// Plans and loads.
    pub async fn fetch(&self, rows: &[u32], range: TimeRange) -> Result<Fetched, Error> {
        let plan = self.plan(rows, range).await?;
        self.samples.load(plan).await
    }
}

impl Samples {
    /// Finds which chunks of some series, given by their chunk rows, overlap `range`.
    pub async fn plan(
        self: &Arc<Self>,
        series: &[Range<u32>],
        range: TimeRange,
    ) -> Result<Plan, Error> {
        // That of the timestamps is needed next: where reads are far away, they wait together.
        let (footer, _) = futures::try_join!(
            self.chunks.footer(&self.cache, self.number),
            self.timestamps.footer(&self.cache, self.number),
        )?;
        let overlaps = self.range.is_some_and(|r| r.overlaps(range));
        let chunk_rows = |chunks: &Range<u32>| if overlaps { chunks.clone() } else { 0..0 };
        let place = |chunk: u32| {
            footer
                .group_of(u64::from(chunk))
                .ok_or_else(|| self.chunks.object.damaged("a chunk row is missing"))
        };
        let mut facts: BTreeMap<usize, Option<Arc<Vec<Fact>>>> = BTreeMap::new();
        for chunks in series.iter().map(chunk_rows).filter(|c| !c.is_empty()) {
            for group in place(chunks.start)?.0..=place(chunks.end - 1)?.0 {
                facts.entry(group).or_default();
            }
        }
        self.load_facts(&footer, &mut facts).await?;
        let mut chunks = Vec::new();
        let mut ends = Vec::with_capacity(series.len());
        for rows in series {
            for chunk in chunk_rows(rows) {
                let (group, row) = place(chunk)?;
                let fact = facts.get(&group).and_then(|f| f.as_ref()?.get(row).copied());
                let fact =
                    fact.ok_or_else(|| self.chunks.object.damaged("a chunk row is missing"))?;
                if range.overlaps(TimeRange { start_ms: fact.min_ms, end_ms: fact.max_ms }) {
                    chunks.push(PlannedChunk { group: group as u32, row: row as u32, fact });
                }
            }
            ends.push(chunks.len());
        }
        Ok(Plan { block: Arc::clone(self), footer, range, chunks, ends })
    }

    /// Facts of row groups, from the cache or in one read.
    async fn load_facts(
        &self,
        footer: &Footer,
        facts: &mut BTreeMap<usize, Option<Arc<Vec<Fact>>>>,
    ) -> Result<(), Error> {
        let key = |group: usize| Key {
            block: self.number,
            kind: Kind::Facts,
            group: group as u32,
            page: 0,
        };
        for (group, known) in facts.iter_mut() {
            *known = self.cache.get(key(*group));
        }
        let missing: Vec<usize> =
            facts.iter().filter(|(_, f)| f.is_none()).map(|(g, _)| *g).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let stretches = self.chunks.read_groups(footer, &missing, FACT_COLUMNS).await?;
        for (group, stretch) in missing.into_iter().zip(stretches) {
            let batch = footer
                .decode_group(stretch, group, FACT_COLUMNS)
                .map_err(|e| self.chunks.object.damaged(e))?;
            let read = Arc::new(facts_of(&batch).map_err(|e| self.chunks.object.damaged(e))?);
            self.cache.put(key(group), Arc::clone(&read), read.len() * size_of::<Fact>());
            facts.insert(group, Some(read));
        }
        Ok(())
    }
}
