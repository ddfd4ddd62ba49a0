//! Values of columns: pieces of one pool of texts, in which numbers are written when they are read.

use super::build::{Piece, Template};
use super::column::{WORDS_NEW, WORDS_PLACE, WORDS_RECENT};
use super::number::DIGITS_MAX;
use super::sections::{Bytes, Section, Unpacked, WRONG};
use super::word::{FAR, NEW, RECENT_MAX};
use super::{BYTES_MAX, Damaged};

/// Digits of the largest number of 64 bits.
const WRITTEN_MAX: usize = 20;

/// What values are read from, and where they lie.
pub(super) struct Values<'a> {
    codes: Bytes<'a>,
    far: Bytes<'a>,
    lengths: Bytes<'a>,
    shared: Bytes<'a>,
    /// All texts, and behind them the numbers.
    pool: Vec<u8>,
    /// The next text, and where the last one ends.
    text: usize,
    texts_end: usize,
    /// Bytes that numbers may still take: what lines are of is in them.
    numbers_left: usize,
    /// Words of all columns so far.
    known: Vec<Piece>,
    /// Words of the column.
    own: Vec<Piece>,
}

impl<'a> Values<'a> {
    pub(super) fn new(unpacked: &'a Unpacked, texts: Vec<u8>) -> Self {
        Self {
            codes: unpacked.section(Section::Codes),
            far: unpacked.section(Section::Far),
            lengths: unpacked.section(Section::Lengths),
            shared: unpacked.section(Section::Shared),
            text: 0,
            texts_end: texts.len(),
            pool: texts,
            numbers_left: unpacked.text_bytes,
            known: Vec::new(),
            own: Vec::new(),
        }
    }

    /// The pool, once everything was read.
    pub(super) fn into_pool(self) -> Result<Vec<u8>, Damaged> {
        for section in [self.codes, self.far, self.lengths, self.shared] {
            section.end()?;
        }
        if self.text == self.texts_end { Ok(self.pool) } else { Err(WRONG) }
    }

    /// The next text, of so many bytes.
    fn next(&mut self, bytes: usize) -> Result<Piece, Damaged> {
        if bytes > self.texts_end - self.text {
            return Err(WRONG);
        }
        let start = self.text;
        self.text += bytes;
        Ok(Piece::between(start, self.text))
    }

    /// Appends the next text, whose length is among the heads.
    pub(super) fn text(&mut self, heads: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), Damaged> {
        let bytes = heads.count(self.texts_end)?;
        let start = self.text;
        self.next(bytes)?;
        out.extend_from_slice(&self.pool[start..self.text]);
        Ok(())
    }

    /// Lines that are kept as they are.
    pub(super) fn plain(&mut self, rows: usize) -> Result<Template, Damaged> {
        let mut template = Template { rows, ..Template::default() };
        template.literals = vec![Piece::default(); 2];
        for _ in 0..rows {
            let bytes = self.lengths.count(self.texts_end)?;
            template.values.push(self.next(bytes)?);
        }
        Ok(template)
    }

    /// Writes numbers, with zeros before them up to so many digits.
    pub(super) fn numbers(
        &mut self,
        numbers: &[u64],
        digits: usize,
        out: &mut Vec<Piece>,
    ) -> Result<(), Damaged> {
        let start = self.pool.len();
        let mut at = start;
        if digits > DIGITS_MAX {
            return Err(WRONG);
        }
        self.pool.resize(start + numbers.len() * WRITTEN_MAX, 0);
        out.extend(numbers.iter().map(|number| {
            // What follows the number is overwritten by the next one.
            let mut text = [b'0'; 2 * WRITTEN_MAX];
            let bytes = write_decimal(*number, &mut text).max(digits);
            let from = &text[WRITTEN_MAX - bytes..][..WRITTEN_MAX];
            self.pool[at..at + WRITTEN_MAX].copy_from_slice(from);
            at += bytes;
            Piece::between(at - bytes, at)
        }));
        self.pool.truncate(at);
        self.numbers_left = self.numbers_left.checked_sub(at - start).ok_or(WRONG)?;
        Ok(())
    }

    /// Reads the words of a column.
    pub(super) fn gather(
        &mut self,
        heads: &mut Bytes<'_>,
        words: usize,
        has_shared: bool,
    ) -> Result<(), Damaged> {
        let length = heads.count(BYTES_MAX)?;
        self.own.clear();
        for _ in 0..words {
            let place = if has_shared { self.shared.count(self.known.len())? } else { 0 };
            if let Some(known) = place.checked_sub(1) {
                self.own.push(self.known[known]);
                continue;
            }
            let bytes = match length.checked_sub(1) {
                None => self.lengths.count(self.texts_end)?,
                Some(bytes) => bytes,
            };
            let word = self.next(bytes)?;
            self.known.push(word);
            self.own.push(word);
        }
        Ok(())
    }

    /// Reads which of its words each row of a column has.
    pub(super) fn words(
        &mut self,
        kind: u8,
        rows: usize,
        out: &mut Vec<Piece>,
    ) -> Result<(), Damaged> {
        match kind {
            WORDS_NEW if rows == self.own.len() => out.extend_from_slice(&self.own),
            WORDS_PLACE => {
                // Bytes beyond the column's words stand for the empty one here, and are refused.
                let mut words = [Piece::default(); 256];
                let known = self.own.len().min(words.len());
                words[..known].copy_from_slice(&self.own[..known]);
                let codes = self.codes.take(rows)?;
                if codes.iter().any(|code| usize::from(*code) >= known) {
                    return Err(WRONG);
                }
                out.extend(codes.iter().map(|code| words[usize::from(*code)]));
            }
            WORDS_RECENT => self.recent(rows, out)?,
            _ => return Err(WRONG),
        }
        Ok(())
    }

    fn recent(&mut self, rows: usize, out: &mut Vec<Piece>) -> Result<(), Damaged> {
        let codes = self.codes.take(rows)?;
        let far_rows = memchr::memchr_iter(FAR, codes).count();
        let mut far = self.far.take(far_rows)?.iter().zip(self.far.take(far_rows)?);
        let mut new = self.own.iter();
        let mut recent = [Piece::default(); RECENT_MAX];
        let mut count = 0;
        for code in codes {
            let (word, rank) = match *code {
                NEW => (*new.next().ok_or(WRONG)?, count),
                FAR => {
                    let (low, high) = far.next().ok_or(WRONG)?;
                    let place = u16::from_le_bytes([*low, *high]);
                    (*self.own.get(usize::from(place)).ok_or(WRONG)?, count)
                }
                rank if usize::from(rank) < count => (recent[usize::from(rank)], usize::from(rank)),
                _ => return Err(WRONG),
            };
            // What was in front of it goes back by one; a full list loses its last.
            let rank = rank.min(RECENT_MAX - 1);
            recent.copy_within(..rank, 1);
            recent[0] = word;
            count = count.max(rank + 1);
            out.push(word);
        }
        Ok(())
    }
}

/// All numbers of two digits.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut i = 0;
    while i < 100 {
        pairs[i] = [b'0' + (i / 10) as u8, b'0' + (i % 10) as u8];
        i += 1;
    }
    pairs
};

/// Writes a number so that it ends in the middle of `text`; says how many digits it has.
fn write_decimal(mut number: u64, text: &mut [u8; 2 * WRITTEN_MAX]) -> usize {
    let mut at = WRITTEN_MAX;
    while number >= 10 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number > 0 || at == WRITTEN_MAX {
        at -= 1;
        text[at] = b'0' + number as u8;
    }
    WRITTEN_MAX - at
}
