//! Blocks: immutable objects under one prefix with the samples of many tenants over some time.
//!
//! ```text
//! SeriesInput ─► BlockWriter ─► chunks.parquet   one row per chunk of up to 1,024 samples
//!                               ts.parquet       timestamp vectors, shared by series
//!                               series.parquet   labels, for other engines
//!                               exemplars.parquet, if there are any
//!                               index.bin        tenants, labels, postings, checksums of all above
//! BlockHandle ─► open: index.bin, from the cache or the store ─► Block ─► select ─► chunk rows
//! Samples ─► plan ─► load ─► Fetched::decode ─► SeriesSamples
//! ```
//!
//! Of a block that nobody looks at, only its handle stays in memory; everything else is in the
//! cache, which is bounded, or read again.
//!
//! Invariants: a block never changes; nobody reads one that no manifest names; every byte is
//! checked against `index.bin` before it is decoded. Formats: `docs/formats/block.md`.

pub(crate) mod cache;
mod facts;
mod fetch;
mod handle;
mod index;
pub(crate) mod object;
mod read;
mod stats;
mod tables;
mod verify;
mod whole;
mod writer;

#[cfg(test)]
mod tests;

pub use cache::{BlockCache, CacheUse};
pub use fetch::{ChunkInfo, Fetched, Plan};
pub(crate) use fetch::{Joined, Piece, Run, Wanted, Work};
pub use handle::BlockHandle;
pub use index::TenantRows;
pub(crate) use index::{IndexFacts, decode_any as decode_any_index};
pub use read::{Block, BlockExemplar, Samples};
pub use stats::ChunkStats;
pub(crate) use tables::{close_table, table_error};
pub use writer::{BlockOptions, BlockSummary, BlockWriter, SeriesInput, WindowsInput};

const CHUNKS: &str = "chunks.parquet";
const SERIES: &str = "series.parquet";
const TIMESTAMPS: &str = "ts.parquet";
const EXEMPLARS: &str = "exemplars.parquet";
const INDEX: &str = "index.bin";

/// Objects a block may have under its prefix, for whoever removes one.
pub const OBJECT_NAMES: [&str; 5] = [INDEX, CHUNKS, SERIES, TIMESTAMPS, EXEMPLARS];

/// Those that every block has.
pub(crate) const ALWAYS_THERE: [&str; 4] = [INDEX, CHUNKS, SERIES, TIMESTAMPS];

/// Set in the column `codec` where start timestamps stand before the values.
const STARTS_BIT: u8 = 0x80;

/// The checksum of a chunk: its payload and what else is needed to read it.
fn payload_checksum(body: &[u8], codec: u8, count: u16, ts_row: u32) -> u32 {
    let mut facts = [0; 7];
    facts[0] = codec;
    facts[1..3].copy_from_slice(&count.to_le_bytes());
    facts[3..].copy_from_slice(&ts_row.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(body), &facts)
}
