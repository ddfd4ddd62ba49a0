//! Samples of a block: plan (which chunks), load (their pages), decode (on any thread).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{Histogram, TimeRange};
use parking_lot::Mutex;

use super::cache::{Key, Kind};
use super::facts::{FACT_COLUMNS, Fact, Footer, Page, PagePlace, Table, facts_of};
use super::payload_checksum;
use super::read::{Block, Samples};
use super::stats::ChunkStats;
use crate::codec::family::Family;
use crate::codec::{Codec, Damaged, Decoder, histogram, starts, timestamps, windows};
use crate::downsample::Windows;
use crate::{Error, SeriesSamples, Starts};

/// The chunks that hold the samples of some rows within a range. Nothing is loaded yet.
#[derive(Debug)]
pub struct Plan {
    block: Arc<Samples>,
    footer: Arc<Footer>,
    range: TimeRange,
    chunks: Vec<PlannedChunk>,
    /// For each asked row, in the order asked: where its chunks end.
    ends: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct PlannedChunk {
    group: u32,
    row: u32,
    fact: Fact,
}

impl PlannedChunk {
    /// The row whose payload it is in.
    fn payload_row(&self) -> u32 {
        self.row - self.fact.payload_back
    }

    /// The value of a constant chunk whose payload does not have it.
    fn constant(&self) -> Option<f64> {
        (self.fact.codec == Codec::Constant && !self.fact.min.is_nan()).then_some(self.fact.min)
    }

    fn has_payload(&self) -> bool {
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

    fn chunks_of(&self, i: usize) -> &[PlannedChunk] {
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

    /// Loads the pages a plan needs.
    pub async fn load(&self, plan: Plan) -> Result<Fetched, Error> {
        let mut chunk_pages = Pages::default();
        for chunk in plan.chunks.iter().filter(|c| c.has_payload()) {
            let place = plan.footer.page_of(chunk.group as usize, chunk.payload_row() as usize);
            chunk_pages.want(
                chunk.group,
                place.ok_or_else(|| self.chunks.object.damaged("a page is missing"))?,
            );
        }
        let timestamps = self.timestamps.footer(&self.cache, self.number).await?;
        let mut timestamp_pages = Pages::default();
        let mut vectors = HashMap::new();
        for ts_row in plan.chunks.iter().map(|c| c.fact.ts_row) {
            if vectors.contains_key(&ts_row) {
                continue;
            }
            let place = timestamps.group_of(u64::from(ts_row)).and_then(|(group, row)| {
                Some((group as u32, row, timestamps.page_of(group, row)?))
            });
            let (group, row, place) = place
                .ok_or_else(|| self.timestamps.object.damaged("a timestamp row is missing"))?;
            timestamp_pages.want(group, place);
            vectors
                .insert(ts_row, Vector { group, row, page: place.page, instants: OnceLock::new() });
        }
        futures::try_join!(
            chunk_pages.load(self, &self.chunks, Kind::ChunksPage),
            timestamp_pages.load(self, &self.timestamps, Kind::TimestampsPage),
        )?;
        Ok(Fetched {
            plan,
            timestamps,
            chunk_pages,
            timestamp_pages,
            vectors,
            joined: Mutex::default(),
        })
    }
}

/// Pages of one table.
#[derive(Debug, Default)]
struct Pages(HashMap<(u32, u32), LoadedPage>);

#[derive(Debug)]
struct LoadedPage {
    place: PagePlace,
    /// As read; empty if the page came from the cache.
    bytes: Bytes,
    page: OnceLock<Arc<Page>>,
}

impl Pages {
    fn want(&mut self, group: u32, place: PagePlace) {
        let new = || LoadedPage { place, bytes: Bytes::new(), page: OnceLock::new() };
        self.0.entry((group, place.page)).or_insert_with(new);
    }

    async fn load(&mut self, block: &Samples, table: &Table, kind: Kind) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut ranges = Vec::new();
        for ((group, number), page) in &self.0 {
            match block.cache.get(Key { block: block.number, kind, group: *group, page: *number }) {
                Some(cached) => drop(page.page.set(cached)),
                None => {
                    missing.push((*group, *number));
                    ranges.push(page.place.start..page.place.end);
                }
            }
        }
        if ranges.is_empty() {
            return Ok(());
        }
        for (key, bytes) in missing.into_iter().zip(table.object.read(&ranges).await?) {
            if let Some(page) = self.0.get_mut(&key) {
                page.bytes = bytes;
            }
        }
        Ok(())
    }

    /// A page, decompressed once.
    fn get(
        &self,
        at: (u32, u32),
        block: &Samples,
        footer: &Footer,
        kind: Kind,
    ) -> Result<(&Arc<Page>, usize), String> {
        let loaded = self.0.get(&at).ok_or("a page was not loaded")?;
        let first_row = loaded.place.first_row;
        if let Some(page) = loaded.page.get() {
            return Ok((page, first_row));
        }
        let page = footer
            .decode_page(loaded.bytes.clone(), at.0 as usize, &loaded.place)
            .map_err(|e| e.to_string())?;
        let page = loaded.page.get_or_init(|| Arc::new(page));
        let key = Key { block: block.number, kind, group: at.0, page: at.1 };
        block.cache.put(key, Arc::clone(page), page.heap_bytes());
        Ok((page, first_row))
    }
}

/// A timestamp vector that chunks refer to.
#[derive(Debug)]
struct Vector {
    group: u32,
    row: usize,
    page: u32,
    instants: OnceLock<Arc<[i64]>>,
}

/// Loaded chunks, to be decoded on any thread, all at once or in parts.
#[derive(Debug)]
pub struct Fetched {
    plan: Plan,
    timestamps: Arc<Footer>,
    chunk_pages: Pages,
    timestamp_pages: Pages,
    vectors: HashMap<u32, Vector>,
    /// Joined and trimmed vectors by what they were made of.
    joined: Mutex<Joined>,
}

type Joined = HashMap<Box<[Piece]>, Arc<[i64]>>;

/// A part of a timestamp vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Piece {
    ts_row: u32,
    start: u16,
    end: u16,
}

impl Fetched {
    /// Number of rows asked for.
    pub fn len(&self) -> usize {
        self.plan.ends.len()
    }

    /// Whether no rows were asked for.
    pub fn is_empty(&self) -> bool {
        self.plan.ends.is_empty()
    }

    /// Bytes of the pages, as they lie in the objects.
    pub fn bytes(&self) -> usize {
        let of = |pages: &Pages| -> u64 {
            pages.0.values().map(|page| page.place.end.saturating_sub(page.place.start)).sum()
        };
        usize::try_from(of(&self.chunk_pages) + of(&self.timestamp_pages)).unwrap_or(usize::MAX)
    }

    /// What is known of the chunks.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Samples of all rows, in the order they were asked for.
    pub fn decode(&self) -> Result<Vec<SeriesSamples>, Error> {
        self.decode_part(0..self.len())
    }

    /// Samples of the rows at these places of the list asked for. Series that share their
    /// timestamps get the same vector, across parts too.
    pub fn decode_part(&self, part: Range<usize>) -> Result<Vec<SeriesSamples>, Error> {
        let mut work = Work::default();
        let end = part.end.min(self.len());
        let start = part.start.min(end);
        // In the order of the block, so that buckets of one histogram are decoded together.
        let mut order: Vec<usize> = (start..end).collect();
        order.sort_by_key(|i| self.plan.chunks_of(*i).first().map(|c| (c.group, c.row)));
        let mut series = vec![SeriesSamples::default(); order.len()];
        for i in order {
            series[i - start] = self.decode_series(i, &mut work)?;
        }
        Ok(series)
    }

    /// Windows of all rows of a block that holds windows, in the order they were asked for.
    pub fn decode_windows(&self) -> Result<Vec<Windows>, Error> {
        let mut work = Work::default();
        (0..self.len()).map(|i| self.decode_windows_of(i, &mut work)).collect()
    }

    fn decode_windows_of(&self, i: usize, work: &mut Work<'_>) -> Result<Windows, Error> {
        let mut all = Windows::default();
        for chunk in self.plan.chunks_of(i) {
            let starts = self.instants(chunk.fact.ts_row)?;
            if starts.len() != usize::from(chunk.fact.count) {
                return Err(self.damaged("windows and their starts differ in number"));
            }
            if all.starts.last() >= starts.first()
                && chunk.fact.codec == Codec::Windows
                && !all.starts.is_empty()
            {
                return Err(self.damaged("chunks of a series overlap"));
            }
            let payload = self.payload(chunk).map_err(|e| self.damaged(e))?;
            let decoder = &mut work.decoder;
            let decoded = match chunk.fact.codec {
                Codec::Windows => windows::decode(payload, Arc::clone(starts), decoder),
                Codec::HistogramWindows => windows::decode_histograms(payload, starts, decoder)
                    .map(|histograms| Windows { histograms, ..Windows::default() }),
                _ => Err(Damaged("rows where windows were expected")),
            };
            all.append(decoded.map_err(|e| self.damaged(e))?);
        }
        all.clip(self.plan.range);
        Ok(all)
    }

    fn decode_series<'a>(&'a self, i: usize, work: &mut Work<'a>) -> Result<SeriesSamples, Error> {
        let chunks = self.plan.chunks_of(i);
        let mut series = SeriesSamples::default();
        work.pieces.clear();
        let family = chunks.iter().find(|chunk| chunk.fact.codec == Codec::Family);
        if !family.is_some_and(|c| work.families.contains_key(&(c.group, c.payload_row()))) {
            work.families.clear();
        }
        let mut told = Vec::new();
        let some_told = chunks.iter().any(|chunk| chunk.fact.has_starts);
        for chunk in chunks {
            let instants = self.instants(chunk.fact.ts_row)?;
            if instants.len() != usize::from(chunk.fact.count) {
                return Err(self.damaged("timestamps and values differ in number"));
            }
            let start = instants.partition_point(|at| *at < self.plan.range.start_ms);
            let end = instants.partition_point(|at| *at <= self.plan.range.end_ms);
            if start >= end {
                continue;
            }
            let kept = &instants[start..end];
            let mut decode = || {
                let is_read = !chunk.has_payload() || work.knows(chunk);
                let mut payload = if is_read { &[] } else { self.payload(chunk)? };
                if some_told {
                    let starts = take_starts(chunk, &mut payload, work)?;
                    told.extend(kept.iter().copied().zip(starts.into_iter().skip(start)));
                }
                if chunk.fact.codec == Codec::Histogram {
                    decode_histograms(chunk, payload, kept, start, &mut series, work)
                } else {
                    let piece = (start as u16, end as u16);
                    let ts_row = chunk.fact.ts_row;
                    work.pieces.push(Piece { ts_row, start: piece.0, end: piece.1 });
                    decode_floats(chunk, payload, start..end, &mut series.values, work)
                }
            };
            decode().map_err(|e: String| self.damaged(e))?;
        }
        series.timestamps = self.join(&work.pieces)?;
        series.starts = Starts::of_samples(told);
        Ok(series)
    }

    /// The payload of a chunk behind its checksum.
    fn payload(&self, chunk: &PlannedChunk) -> Result<&[u8], String> {
        let row = chunk.payload_row() as usize;
        let place =
            self.plan.footer.page_of(chunk.group as usize, row).ok_or("a page is missing")?;
        let (page, first_row) = self.chunk_pages.get(
            (chunk.group, place.page),
            &self.plan.block,
            &self.plan.footer,
            Kind::ChunksPage,
        )?;
        let payload = page.payload(row - first_row).ok_or("a payload is missing")?;
        let (sum, body) = payload.split_first_chunk::<4>().ok_or("a payload is cut short")?;
        let fact = &chunk.fact;
        if payload_checksum(body, fact.codec_number(), fact.count, fact.ts_row)
            != u32::from_le_bytes(*sum)
        {
            return Err("checksum of a chunk does not match".to_owned());
        }
        Ok(body)
    }

    fn instants(&self, ts_row: u32) -> Result<&Arc<[i64]>, Error> {
        let object = &self.plan.block.timestamps.object;
        let vector = self
            .vectors
            .get(&ts_row)
            .ok_or_else(|| object.damaged("a timestamp row is missing"))?;
        if let Some(instants) = vector.instants.get() {
            return Ok(instants);
        }
        let read = || -> Result<Vec<i64>, String> {
            let at = (vector.group, vector.page);
            let (page, first_row) = self.timestamp_pages.get(
                at,
                &self.plan.block,
                &self.timestamps,
                Kind::TimestampsPage,
            )?;
            let payload = page.payload(vector.row - first_row).ok_or("a payload is missing")?;
            let (sum, body) = payload.split_first_chunk::<4>().ok_or("a payload is cut short")?;
            if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
                return Err("checksum of a timestamp vector does not match".to_owned());
            }
            timestamps::decode(body).map_err(|e: Damaged| e.to_string())
        };
        let instants = read().map_err(|e| object.damaged(e))?;
        Ok(vector.instants.get_or_init(|| instants.into()))
    }

    /// One vector for these pieces, the same for all series that are made of them.
    fn join(&self, pieces: &[Piece]) -> Result<Arc<[i64]>, Error> {
        if let [piece] = pieces {
            let whole = self.instants(piece.ts_row)?;
            if piece.start == 0 && usize::from(piece.end) == whole.len() {
                return Ok(Arc::clone(whole));
            }
        }
        if let Some(known) = self.joined.lock().get(pieces) {
            return Ok(Arc::clone(known));
        }
        let mut joined = Vec::new();
        for piece in pieces {
            let part =
                &self.instants(piece.ts_row)?[usize::from(piece.start)..usize::from(piece.end)];
            if joined.last().zip(part.first()).is_some_and(|(before, first)| before >= first) {
                return Err(self.damaged("chunks of a series overlap"));
            }
            joined.extend_from_slice(part);
        }
        let mut known = self.joined.lock();
        Ok(Arc::clone(known.entry(pieces.into()).or_insert_with(|| joined.into())))
    }

    fn damaged(&self, reason: impl ToString) -> Error {
        self.plan.block.chunks.object.damaged(reason)
    }
}

/// Takes the start timestamps of a chunk's samples off its payload.
fn take_starts(
    chunk: &PlannedChunk,
    payload: &mut &[u8],
    work: &mut Work<'_>,
) -> Result<Vec<i64>, String> {
    let count = usize::from(chunk.fact.count);
    if !chunk.fact.has_starts {
        return Ok(vec![0; count]);
    }
    starts::decode(payload, count, &mut work.decoder).map_err(|e| e.to_string())
}

fn decode_floats<'a>(
    chunk: &PlannedChunk,
    mut payload: &'a [u8],
    kept: Range<usize>,
    out: &mut Vec<f64>,
    work: &mut Work<'a>,
) -> Result<(), String> {
    let (count, at) = (usize::from(chunk.fact.count), out.len());
    if let Some(constant) = chunk.constant() {
        out.resize(at + kept.len(), constant);
        return Ok(());
    }
    if chunk.fact.codec == Codec::Family {
        let family = match work.families.entry((chunk.group, chunk.payload_row())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(Family::read(payload, count).map_err(|e| e.to_string())?)
            }
        };
        let values = family.values(chunk.fact.payload_back, &mut work.decoder);
        let values = values.map_err(|e| e.to_string())?.get(kept);
        out.extend_from_slice(values.ok_or("buckets differ in number of samples")?);
        return Ok(());
    }
    let mut constant = 0.0;
    if chunk.fact.codec == Codec::Constant {
        let bits = payload.try_into().map_err(|_| "a constant has no value")?;
        constant = f64::from_bits(u64::from_le_bytes(bits));
        payload = &[];
    }
    out.resize(at + count, 0.0);
    work.decoder
        .decode(chunk.fact.codec, constant, payload, &mut out[at..])
        .map_err(|e| e.to_string())?;
    out.truncate(at + kept.end);
    out.drain(at..at + kept.start);
    Ok(())
}

fn decode_histograms(
    chunk: &PlannedChunk,
    payload: &[u8],
    instants: &[i64],
    skipped: usize,
    series: &mut SeriesSamples,
    work: &mut Work<'_>,
) -> Result<(), String> {
    let decoded: Vec<Histogram> =
        histogram::decode(payload, usize::from(chunk.fact.count), &mut work.decoder)
            .map_err(|e| e.to_string())?;
    let kept = decoded.into_iter().skip(skipped);
    series.histograms.extend(instants.iter().copied().zip(kept.map(Arc::new)));
    Ok(())
}

/// Memory that decoding reuses from series to series.
#[derive(Debug, Default)]
struct Work<'a> {
    decoder: Decoder,
    pieces: Vec<Piece>,
    /// Payloads of the histogram whose buckets are being decoded, by row group and row.
    families: HashMap<(u32, u32), Family<'a>>,
}

impl Work<'_> {
    /// Whether nothing of a chunk's payload is needed any more: its family was read already.
    fn knows(&self, chunk: &PlannedChunk) -> bool {
        chunk.fact.codec == Codec::Family
            && !chunk.fact.has_starts
            && self.families.contains_key(&(chunk.group, chunk.payload_row()))
    }
}
