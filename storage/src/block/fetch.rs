//! Samples of a block: plan (which chunks), load (their pages), decode (on any thread).

mod decode;
mod joined;
mod pages;
mod plan;

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;

use super::cache::{Key, Kind};
use super::facts::Footer;
use super::payload_checksum;
use super::read::Samples;
use crate::Error;
use crate::codec::{Damaged, timestamps};
pub(crate) use decode::{Run, Wanted, Work};
pub(crate) use joined::{Joined, Piece};
use pages::Pages;
use plan::PlannedChunk;
pub use plan::{ChunkInfo, Plan};

impl Samples {
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
            joined: Joined::default(),
        })
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
    /// Joined and trimmed vectors.
    joined: Joined,
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
        let bytes = self.chunk_pages.bytes() + self.timestamp_pages.bytes();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// What is known of the chunks.
    pub fn plan(&self) -> &Plan {
        &self.plan
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
        let block = &self.plan.block;
        let key = Key { block: block.number, kind: Kind::Instants, group: 0, page: ts_row };
        if let Some(known) = block.cache.get::<Arc<[i64]>>(key) {
            return Ok(vector.instants.get_or_init(|| Arc::clone(&known)));
        }
        let read = || -> Result<Vec<i64>, String> {
            let at = (vector.group, vector.page);
            let (page, first_row) =
                self.timestamp_pages.get(at, block, &self.timestamps, Kind::TimestampsPage)?;
            let payload = page.payload(vector.row - first_row).ok_or("a payload is missing")?;
            let (sum, body) = payload.split_first_chunk::<4>().ok_or("a payload is cut short")?;
            if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
                return Err("checksum of a timestamp vector does not match".to_owned());
            }
            timestamps::decode(body).map_err(|e: Damaged| e.to_string())
        };
        let instants: Arc<[i64]> = read().map_err(|e| object.damaged(e))?.into();
        let bytes = size_of_val(&*instants) + size_of::<Arc<[i64]>>();
        block.cache.put(key, Arc::new(Arc::clone(&instants)), bytes);
        Ok(vector.instants.get_or_init(|| instants))
    }

    fn block_number(&self) -> u64 {
        self.plan.block.number
    }

    /// When the block begins.
    pub(crate) fn begins_ms(&self) -> i64 {
        self.plan.block.range.map_or(i64::MAX, |range| range.start_ms)
    }

    /// Whether a piece is of this block.
    pub(crate) fn has(&self, piece: &Piece) -> bool {
        piece.block == self.block_number()
    }

    /// The whole vector that a piece is part of.
    pub(crate) fn vector_of(&self, piece: &Piece) -> Result<Arc<[i64]>, Error> {
        self.instants(piece.ts_row).map(Arc::clone)
    }

    /// One vector for these pieces, the same for all series that are made of them.
    fn join(&self, pieces: &[Piece]) -> Result<Arc<[i64]>, Error> {
        let whole = |piece: &Piece| self.vector_of(piece);
        self.joined.vector(pieces, whole, Into::into, |reason| self.damaged(reason))
    }

    pub(crate) fn damaged(&self, reason: impl ToString) -> Error {
        self.plan.block.chunks.object.damaged(reason)
    }
}
