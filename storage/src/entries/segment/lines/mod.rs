//! Lines of a group of rows as templates and columns: what many lines have in common is stored once,
//! and what varies side by side with what stands in the same place of other lines.
//!
//! ```text
//! lines ─► split ─► templates with the rows they have ─► columns, one per variable ─► sections, zstd
//!          table                                         column, number, word
//! sections ─► columns ─► places of values ─► lines, one behind the other, each with a newline
//!             read, values                   build
//! ```
//!
//! Plain functions of bytes. Invariants: lines come back as they were, whatever bytes they are of;
//! reading any bytes ends in lines or in [`Damaged`], never in a panic or in memory that
//! [`BYTES_MAX`] does not bound. Format: `docs/formats/lines.md`.

mod build;
mod column;
mod number;
mod read;
mod sections;
mod split;
mod table;
mod values;
mod word;
mod write;

pub use crate::codec::Damaged;
pub use build::Lines;
pub use read::decode;
pub use write::encode;

/// What a blob begins with.
const VERSION: u8 = 1;

/// Lines of a blob.
pub const ROWS_MAX: usize = 1 << 16;

/// Bytes of all lines of a blob: a group and a record of the log, which is what its last row has
/// at most.
pub const BYTES_MAX: usize = 96 << 20;

#[cfg(test)]
mod tests;
