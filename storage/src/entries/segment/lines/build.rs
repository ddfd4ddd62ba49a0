//! Puts lines together from what their templates say and the values of their rows.

use super::Damaged;
use super::sections::WRONG;
use crate::entries::page::BETWEEN;

/// Bytes that are copied at once where a piece has no more: buffers go on for so many.
const STRIDE: usize = 16;

/// Lines, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// All of them, each followed by a newline.
    pub text: Vec<u8>,
    /// Where each ends, its newline not inside.
    pub ends: Vec<u32>,
}

/// Where a piece of text lies in its buffer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Piece {
    start: u32,
    bytes: u32,
}

impl Piece {
    /// Buffers have less than four gigabytes.
    pub(super) fn between(start: usize, end: usize) -> Self {
        Self { start: start as u32, bytes: (end - start) as u32 }
    }
}

/// A template with the values of its rows.
#[derive(Debug, Default)]
pub(super) struct Template {
    pub(super) rows: usize,
    /// What comes before each variable that has more than one value, and what comes last.
    pub(super) literals: Vec<Piece>,
    /// Values of all rows for the first variable, then for the next.
    pub(super) values: Vec<Piece>,
}

/// Puts lines together: `ids` says the template of each.
pub(super) fn build(
    ids: &[u16],
    templates: &[Template],
    mut literals: Vec<u8>,
    mut pool: Vec<u8>,
    text_bytes: usize,
) -> Result<Lines, Damaged> {
    literals.resize(literals.len() + STRIDE, 0);
    pool.resize(pool.len() + STRIDE, 0);
    let whole = text_bytes + ids.len();
    let mut text = vec![0; whole + STRIDE];
    let mut ends = Vec::with_capacity(ids.len());
    let mut next = vec![0; templates.len()];
    let mut at = 0;
    for id in ids {
        let id = usize::from(*id);
        let template = &templates[id];
        let Some((last, before)) = template.literals.split_last() else { return Err(WRONG) };
        let mut value = next[id];
        next[id] += 1;
        for literal in before {
            copy(*literal, &literals, &mut text, &mut at).ok_or(WRONG)?;
            copy(template.values[value], &pool, &mut text, &mut at).ok_or(WRONG)?;
            value += template.rows;
        }
        copy(*last, &literals, &mut text, &mut at).ok_or(WRONG)?;
        ends.push(at as u32);
        *text.get_mut(at).ok_or(WRONG)? = BETWEEN;
        at += 1;
    }
    if at != whole {
        return Err(WRONG);
    }
    text.truncate(whole);
    Ok(Lines { text, ends })
}

/// Copies a piece. Of a short one also what follows it, which the next one overwrites: a copy of
/// fixed length is a single instruction.
#[inline(always)]
fn copy(piece: Piece, from: &[u8], to: &mut [u8], at: &mut usize) -> Option<()> {
    let (start, bytes) = (piece.start as usize, piece.bytes as usize);
    if bytes <= STRIDE {
        to.get_mut(*at..*at + STRIDE)?.copy_from_slice(from.get(start..start + STRIDE)?);
    } else {
        to.get_mut(*at..*at + bytes)?.copy_from_slice(from.get(start..start + bytes)?);
    }
    *at += bytes;
    Some(())
}
