//! Pages of terms in order, and the directory that says where they lie.

use std::io::{self, Write};

use model::varint;

use super::{
    PAGE_POSTING_BYTES, PAGE_RAW_BYTES_MAX, PAGE_TERMS_BYTES_MAX, PAGE_TEXT_BYTES, TERM_BYTES_MAX,
};
use crate::Error;
use crate::block::object::{Sink, Sum};

const ZSTD_LEVEL: i32 = 6;

/// What follows each term in a page that was read: never part of a token.
const BETWEEN: u8 = b'\n';

/// Where a page lies, and what it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first: Vec<u8>,
    pub(super) terms: u32,
    pub(super) at: u64,
    /// Bytes of the terms as stored, and as they are.
    pub(super) text: (u64, u64),
    /// The same of where they are.
    pub(super) postings: (u64, u64),
}

/// Pages being written.
#[derive(Default)]
pub(super) struct Pages {
    sink: Sink,
    written: u64,
    directory: Vec<Place>,
    open: OpenPage,
}

#[derive(Default)]
struct OpenPage {
    first: Vec<u8>,
    last: Vec<u8>,
    terms: u32,
    shared: Vec<u8>,
    lengths: Vec<u8>,
    suffixes: Vec<u8>,
    postings: Vec<u8>,
}

impl Pages {
    /// Adds the next term with what [`super::put_blocks`] says of it.
    pub(super) fn add(&mut self, term: &[u8], posting: &[u8]) -> Result<(), Error> {
        let page = &mut self.open;
        let same = page.last.iter().zip(term).take_while(|(a, b)| a == b).count();
        let shared = if page.terms == 0 { 0 } else { same };
        if page.terms == 0 {
            page.first = term.to_vec();
        }
        varint::put(&mut page.shared, shared as u64);
        varint::put(&mut page.lengths, (term.len() - shared) as u64);
        page.suffixes.extend_from_slice(&term[shared..]);
        page.postings.extend_from_slice(posting);
        page.last.clear();
        page.last.extend_from_slice(term);
        page.terms += 1;
        let is_full = page.suffixes.len() + 2 * page.terms as usize >= PAGE_TEXT_BYTES
            || page.postings.len() >= PAGE_POSTING_BYTES;
        if is_full { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> Result<(), Error> {
        let page = std::mem::take(&mut self.open);
        let error = |source| Error::Disk { doing: "write terms in memory".to_owned(), source };
        let text = [page.shared, page.lengths, page.suffixes].concat();
        let mut put = |raw: &[u8]| {
            let stored = packed(raw)?;
            self.sink.write_all(&stored)?;
            Ok((stored.len() as u64, raw.len() as u64))
        };
        let (of_text, of_postings) =
            (put(&text).map_err(error)?, put(&page.postings).map_err(error)?);
        let (first, terms, at) = (page.first, page.terms, self.written);
        self.written += of_text.0 + of_postings.0;
        self.directory.push(Place { first, terms, at, text: of_text, postings: of_postings });
        Ok(())
    }

    /// The object, the directory last.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Sum), Error> {
        if self.open.terms > 0 {
            self.end_page()?;
        }
        let mut tail = Vec::new();
        varint::put(&mut tail, self.directory.len() as u64);
        for place in &self.directory {
            varint::put(&mut tail, u64::from(place.terms));
            for bytes in [place.text.0, place.text.1, place.postings.0, place.postings.1] {
                varint::put(&mut tail, bytes);
            }
            varint::put(&mut tail, place.first.len() as u64);
            tail.extend_from_slice(&place.first);
        }
        let error = |source| Error::Disk { doing: "write terms in memory".to_owned(), source };
        self.sink.write_all(&tail).map_err(error)?;
        Ok(self.sink.into_whole(self.written))
    }
}

/// Reads a directory.
pub(super) fn directory(mut tail: &[u8], size: u64) -> Option<Vec<Place>> {
    let from = &mut tail;
    let (mut all, mut at) = (Vec::new(), 0u64);
    for _ in 0..varint::take(from)? {
        let terms = u32::try_from(varint::take(from)?).ok()?;
        let text = (varint::take(from)?, varint::take(from)?);
        let postings = (varint::take(from)?, varint::take(from)?);
        let length = usize::try_from(varint::take(from)?).ok()?;
        let (first, rest) = from.split_at_checked(length)?;
        *from = rest;
        all.push(Place { first: first.to_vec(), terms, at, text, postings });
        at = at.checked_add(text.0)?.checked_add(postings.0).filter(|at| *at <= size)?;
    }
    from.is_empty().then_some(all)
}

/// The terms of a page, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// Each with [`BETWEEN`] behind it.
    pub(super) text: Vec<u8>,
    /// Where each ends, what follows it not inside.
    pub(super) ends: Vec<u32>,
    /// Those that may have been cut.
    pub(super) cut: Vec<u32>,
}

impl Terms {
    pub(super) fn term(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize + 1 };
        &self.text[start..self.ends[at] as usize]
    }

    /// The term that a byte of the text is in.
    pub(super) fn at(&self, byte: usize) -> usize {
        self.ends.partition_point(|end| (*end as usize) < byte)
    }

    /// How many are smaller.
    pub(super) fn before(&self, term: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.term(middle) < term { low = middle + 1 } else { high = middle }
        }
        low
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4
    }

    /// Reads the terms of a page from its stored bytes.
    pub(super) fn decode(place: &Place, stored: &[u8]) -> Option<Self> {
        let raw = unpacked(stored, place.text.1)?;
        let count = place.terms as usize;
        if count > raw.len() {
            return None;
        }
        let mut shared: &[u8] = &raw;
        let mut lengths = shared;
        for _ in 0..count {
            varint::take(&mut lengths)?;
        }
        let mut suffixes = lengths;
        for _ in 0..count {
            varint::take(&mut suffixes)?;
        }
        let text = Vec::with_capacity(2 * raw.len());
        let mut all = Self { text, ends: Vec::with_capacity(count), cut: Vec::new() };
        let mut last = 0;
        for _ in 0..count {
            let same = usize::try_from(varint::take(&mut shared)?).ok()?;
            let length = usize::try_from(varint::take(&mut lengths)?).ok()?;
            let (suffix, rest) = suffixes.split_at_checked(length)?;
            suffixes = rest;
            let start = all.text.len();
            let known = start.saturating_sub(last + 1);
            let is_too_long = start + same + length > PAGE_TERMS_BYTES_MAX;
            if same > known || same + length > TERM_BYTES_MAX || is_too_long {
                return None;
            }
            if same + length == TERM_BYTES_MAX {
                all.cut.push(all.ends.len() as u32);
            }
            all.text.extend_from_within(last..last + same);
            all.text.extend_from_slice(suffix);
            all.ends.push(all.text.len() as u32);
            all.text.push(BETWEEN);
            last = start;
        }
        suffixes.is_empty().then_some(all)
    }
}

/// All terms of an object, one after the other.
pub(super) struct Stored<'a> {
    object: &'a [u8],
    /// The pages that are left.
    places: std::vec::IntoIter<Place>,
    terms: Terms,
    postings: Vec<u8>,
    /// The next term, and where its blocks begin.
    at: (usize, usize),
}

impl<'a> Stored<'a> {
    pub(super) fn new(object: &'a [u8], tail_start: u64) -> Self {
        let tail = usize::try_from(tail_start).ok().and_then(|at| object.get(at..));
        let places = tail.and_then(|tail| directory(tail, tail_start)).unwrap_or_default();
        let (terms, postings) = (Terms::default(), Vec::new());
        Self { object, places: places.into_iter(), terms, postings, at: (0, 0) }
    }

    /// Whether the next term is this, with these blocks; `None`: there is no next one.
    pub(super) fn next_is(&mut self, term: &[u8], posting: &[u8]) -> Option<bool> {
        if self.at.0 == self.terms.ends.len() {
            let place = self.places.next()?;
            let start = place.at as usize;
            let middle = start + place.text.0 as usize;
            self.terms = Terms::decode(&place, self.object.get(start..middle)?)?;
            let stored = self.object.get(middle..middle + place.postings.0 as usize)?;
            self.postings = unpacked(stored, place.postings.1)?;
            self.at = (0, 0);
        }
        let (at, from) = self.at;
        self.at = (at + 1, from + posting.len());
        let is_same = self.terms.ends.len() > at && self.terms.term(at) == term;
        Some(is_same && self.postings.get(from..)?.starts_with(posting))
    }

    pub(super) fn has_more(&self) -> bool {
        self.at.0 < self.terms.ends.len() || self.places.len() > 0
    }
}

/// Compresses a part of a page.
pub(super) fn packed(raw: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(raw, ZSTD_LEVEL)
}

/// Decompresses what says how large it is.
pub(super) fn unpacked(stored: &[u8], raw_bytes: u64) -> Option<Vec<u8>> {
    let capacity = usize::try_from(raw_bytes).ok().filter(|_| raw_bytes <= PAGE_RAW_BYTES_MAX)?;
    let raw = zstd::bulk::decompress(stored, capacity).ok()?;
    (raw.len() == capacity).then_some(raw)
}
