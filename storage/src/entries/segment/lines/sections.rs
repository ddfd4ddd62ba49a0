//! The parts of a blob: bytes of one kind side by side, each compressed as one.

use std::io;

use model::varint;

use super::{BYTES_MAX, Damaged, ROWS_MAX, VERSION};

/// What a section holds, in the order in which they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Texts of the templates.
    Templates,
    /// Lengths of templates, and how each column is stored.
    Heads,
    /// Which template each row is of.
    Ids,
    /// Which word each row has.
    Codes,
    /// Which word, where it is one from farther back.
    Far,
    /// Numbers, a byte of each side by side.
    Numbers,
    /// Lengths of words, and of lines that are kept as they are.
    Lengths,
    /// Which words of a column are words of columns before.
    Shared,
    /// Words, what all words of a column begin and end with, and lines that are kept as they are.
    Texts,
}

const SECTIONS: usize = 9;

/// More than zstd ever makes of a byte: 128 KiB of one byte take four.
const EXPANSION_MAX: usize = 1 << 16;

/// Bytes of all sections for one of a line. A variable is a byte or more, and has eight bytes of a
/// number at most, or a code and a place.
const SECTION_BYTES_MAX: usize = 16;

const CUT: Damaged = Damaged("lines are cut short");
pub(super) const WRONG: Damaged = Damaged("lines are not as they are written");

/// Sections in the making.
#[derive(Debug, Default)]
pub(super) struct Sections([Vec<u8>; SECTIONS]);

impl Sections {
    pub(super) fn of(&mut self, section: Section) -> &mut Vec<u8> {
        &mut self.0[section as usize]
    }

    /// Puts a number where heads of columns are.
    pub(super) fn put_head(&mut self, number: usize) {
        varint::put(self.of(Section::Heads), number as u64);
    }

    /// The blob: all sections, compressed where that is smaller.
    pub(super) fn pack(&self, rows: usize, text_bytes: usize, level: i32) -> io::Result<Vec<u8>> {
        let mut out = vec![VERSION];
        varint::put(&mut out, rows as u64);
        varint::put(&mut out, text_bytes as u64);
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        for raw in &self.0 {
            let packed = compressor.compress(raw)?;
            let stored = if packed.len() < raw.len() { &packed } else { raw };
            varint::put(&mut out, raw.len() as u64);
            varint::put(&mut out, stored.len() as u64);
            out.extend_from_slice(stored);
        }
        Ok(out)
    }
}

/// What a blob says of itself, and its sections.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) rows: usize,
    pub(super) text_bytes: usize,
    sections: [Vec<u8>; SECTIONS],
}

impl Unpacked {
    pub(super) fn of(blob: &[u8]) -> Result<Self, Damaged> {
        let mut bytes = Bytes(blob);
        if bytes.byte()? != VERSION {
            return Err(Damaged("lines are of a version that this build does not know"));
        }
        let rows = bytes.count(ROWS_MAX)?;
        let text_bytes = bytes.count(BYTES_MAX)?;
        let mut bytes_left = SECTION_BYTES_MAX * (text_bytes + rows + 1);
        let mut decompressor = zstd::bulk::Decompressor::new().map_err(|_| WRONG)?;
        let mut sections = [const { Vec::new() }; SECTIONS];
        for section in &mut sections {
            let raw_bytes = bytes.count(bytes_left)?;
            bytes_left -= raw_bytes;
            let stored_bytes = bytes.count(raw_bytes)?;
            let stored = bytes.take(stored_bytes)?;
            *section = if stored_bytes == raw_bytes {
                stored.to_vec()
            } else if raw_bytes <= stored_bytes.saturating_mul(EXPANSION_MAX) {
                decompressor.decompress(stored, raw_bytes).map_err(|_| WRONG)?
            } else {
                return Err(WRONG);
            };
            if section.len() != raw_bytes {
                return Err(WRONG);
            }
        }
        bytes.end()?;
        Ok(Self { rows, text_bytes, sections })
    }

    pub(super) fn section(&self, section: Section) -> Bytes<'_> {
        Bytes(&self.sections[section as usize])
    }

    /// The texts, not to be had a second time.
    pub(super) fn take_texts(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sections[Section::Texts as usize])
    }
}

/// Bytes that are taken from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Damaged> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn number(&mut self) -> Result<u64, Damaged> {
        varint::take(&mut self.0).ok_or(CUT)
    }

    /// A number that is at most `max`.
    pub(super) fn count(&mut self, max: usize) -> Result<usize, Damaged> {
        let count = usize::try_from(self.number()?).map_err(|_| WRONG)?;
        if count <= max { Ok(count) } else { Err(WRONG) }
    }

    /// Nothing is to be left.
    pub(super) fn end(self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(WRONG) }
    }
}
