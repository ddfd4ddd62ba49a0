//! `terms.bin`: which blocks of rows have which terms, for segments that stay.
//!
//! ```text
//! rows ─► build: terms of a block ─► (runs, where they are many) ─► pages of terms in order
//! read: directory ─► page ─► places of terms ─► blocks
//! ```
//!
//! Terms are the tokens of lines and of fields' values, in small letters; of events and audit
//! records also `name=value` of each field. A block is some rows of a group, and the least that is
//! decoded. Layout: `docs/formats/segment.md`; why it is so: `docs/decisions/0012-terms.md`.

mod any;
mod build;
mod page;
mod read;
mod runs;

use model::{Signal, varint};

pub(crate) use any::decode_any;
pub(super) use build::Builder;
pub(crate) use read::blocks_with;

/// Rows of a block: of lines, which are short, and of records of some kilobytes.
const BLOCK_ROWS_LOGS: usize = 1_024;
const BLOCK_ROWS_RECORDS: usize = 128;

/// Longer terms are cut here.
pub(crate) const TERM_BYTES_MAX: usize = 256;

/// Where a page of terms ends. Bytes before compression.
const PAGE_TEXT_BYTES: usize = 64 << 10;
const PAGE_POSTING_BYTES: usize = 128 << 10;

/// What a page may say it has: what damage can make us allocate.
const PAGE_RAW_BYTES_MAX: u64 = 4 << 20;

/// What the terms of a page may have, written out: each adds some bytes to what ends a page.
const PAGE_TERMS_BYTES_MAX: usize = PAGE_TEXT_BYTES / 2 * (TERM_BYTES_MAX + 1);

pub(super) fn block_rows(signal: Signal) -> usize {
    match signal {
        Signal::Logs => BLOCK_ROWS_LOGS,
        Signal::Events | Signal::Audits => BLOCK_ROWS_RECORDS,
    }
}

/// The term for a field of one value, if it is short enough to be one.
pub(crate) fn field_term(name: &str, value: &str) -> Option<Vec<u8>> {
    let is_short = name.len() + 1 + value.len() < TERM_BYTES_MAX;
    is_short.then(|| [name.as_bytes(), b"=", value.as_bytes()].concat())
}

/// Appends where a term is: how many blocks, the first of them, and how many lie between each and
/// the one before. None: it is in more than half of all, which are not told apart.
fn put_blocks(out: &mut Vec<u8>, blocks: &[u32], all: u32) {
    if blocks.len() as u64 * 2 > u64::from(all) {
        varint::put(out, 0);
        return;
    }
    varint::put(out, blocks.len() as u64);
    let mut next = 0;
    for block in blocks {
        varint::put(out, u64::from(block - next));
        next = block + 1;
    }
}

/// Reads them, and gives each to `visit`; whether it is in more than half is the answer.
fn take_blocks(from: &mut &[u8], all: u32, mut visit: impl FnMut(u32)) -> Option<bool> {
    let count = varint::take(from)?;
    let mut next = 0u64;
    for _ in 0..count {
        let block = next.checked_add(varint::take(from)?)?;
        visit(u32::try_from(block).ok().filter(|block| *block < all)?);
        next = block + 1;
    }
    Some(count == 0)
}
