//! Timestamp vectors put together out of those of chunks. Series of one scrape target have chunks
//! over the same vectors, in one block after the other: what is made of the same pieces is made
//! once, and known by them without a look at the instants.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::Error;

/// A part of a timestamp vector of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Piece {
    /// The block's number in this process.
    pub(super) block: u64,
    pub(super) ts_row: u32,
    /// How many instants the whole vector must have.
    pub(super) count: u16,
    pub(super) start: u16,
    pub(super) end: u16,
}

impl Piece {
    fn is_whole(&self) -> bool {
        self.start == 0 && self.end == self.count
    }
}

/// Vectors by what they were made of.
#[derive(Debug, Default)]
pub(crate) struct Joined(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    vectors: HashMap<Box<[Piece]>, Arc<[i64]>>,
    instants: usize,
}

/// Instants that are kept, all vectors together: 64 MiB. Beyond it vectors are made anew.
const INSTANTS_MAX: usize = 8 << 20;

impl Joined {
    /// The vector of these pieces. `whole` gives that of a piece's chunk, `finish` what becomes of
    /// a new one, and `damaged` the error of what does not fit.
    pub(crate) fn vector(
        &self,
        pieces: &[Piece],
        mut whole: impl FnMut(&Piece) -> Result<Arc<[i64]>, Error>,
        finish: impl FnOnce(Vec<i64>) -> Arc<[i64]>,
        damaged: impl Fn(&'static str) -> Error,
    ) -> Result<Arc<[i64]>, Error> {
        if let Some(known) = self.0.lock().vectors.get(pieces) {
            return Ok(Arc::clone(known));
        }
        let mut whole = |piece: &Piece| {
            let instants = whole(piece)?;
            match instants.len() == usize::from(piece.count) {
                true => Ok(instants),
                false => Err(damaged("timestamps and values differ in number")),
            }
        };
        let vector = match pieces {
            [piece] if piece.is_whole() => whole(piece)?,
            _ => {
                let length = pieces.iter().map(|p| usize::from(p.end - p.start)).sum();
                let mut joined: Vec<i64> = Vec::with_capacity(length);
                for piece in pieces {
                    let part = &whole(piece)?[usize::from(piece.start)..usize::from(piece.end)];
                    if joined.last().zip(part.first()).is_some_and(|(before, next)| before >= next)
                    {
                        return Err(damaged("chunks of a series overlap"));
                    }
                    joined.extend_from_slice(part);
                }
                finish(joined)
            }
        };
        let mut known = self.0.lock();
        if known.instants + vector.len() > INSTANTS_MAX {
            return Ok(vector);
        }
        known.instants += vector.len();
        Ok(Arc::clone(known.vectors.entry(pieces.into()).or_insert(vector)))
    }
}
