//! Samples of a block: plan (which chunks), load (their pages), decode (on any thread).

mod decode;
mod pages;
mod plan;

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::cache::Kind;
use super::facts::Footer;
use super::payload_checksum;
use super::read::Samples;
use crate::Error;
use crate::codec::{Damaged, timestamps};
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
            joined: Mutex::default(),
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
