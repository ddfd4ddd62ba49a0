//! Reads `index.bin`: labels of rows, chunks of rows, tenants.

use std::ops::Range;

use bytes::Bytes;
use model::{Labels, Resolution, SeriesId, TimeRange, varint};
use tenancy::TenantId;

use super::container::{Section, Sections};
use super::{GROUP_ROWS, Meta, take_byte};
use crate::Error;

/// An index in memory.
pub(in crate::block) struct Index {
    pub(in crate::block) what: String,
    pub(in crate::block) meta: Meta,
    pub(in crate::block) tenants: Vec<TenantRows>,
    symbol_text: Bytes,
    symbol_ends: Vec<u32>,
    labels: Bytes,
    /// Where each group of rows starts in `labels`, and its end.
    group_starts: Vec<u32>,
    /// First chunk row of each series, and their number.
    chunk_starts: Vec<u32>,
    pub(super) fst: fst::Map<Bytes>,
    pub(super) postings: Bytes,
    /// Ids that are not those of their labels, by row.
    odd_ids: Vec<(u32, SeriesId)>,
}

/// Where the rows of one tenant lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRows {
    /// The tenant.
    pub tenant: TenantId,
    /// Its series rows.
    pub series: Range<u32>,
    /// Its chunk rows.
    pub chunks: Range<u32>,
    /// First to last sample; empty (start after end) if it has none.
    pub range: TimeRange,
}

impl Index {
    /// Checks and reads an index. `what` names the object in errors.
    pub(in crate::block) fn read(what: String, bytes: &Bytes) -> Result<Self, Error> {
        let sections = Sections::read(&what, bytes)?;
        let damaged =
            |reason: &str| Error::Corrupt { what: what.clone(), reason: reason.to_owned() };
        let mut meta = Meta::take(&mut sections.get(Section::Meta).as_ref())
            .ok_or_else(|| damaged("malformed counts"))?;
        meta.resolution = take_resolution(&sections.get(Section::Resolution))
            .ok_or_else(|| damaged("malformed resolution"))?;
        let rows = u32::try_from(meta.series).map_err(|_| damaged("more than 2^32 series"))?;
        let tenants = take_tenants(&sections.get(Section::Tenants), rows)
            .ok_or_else(|| damaged("malformed tenants"))?;
        let (symbol_text, symbol_ends) = take_symbols(&sections.get(Section::Symbols))
            .ok_or_else(|| damaged("malformed symbols"))?;
        let labels = sections.get(Section::Labels);
        let group_starts = take_groups(&sections.get(Section::LabelGroups), rows, labels.len())
            .ok_or_else(|| damaged("malformed label groups"))?;
        let chunk_starts =
            take_chunk_starts(&sections.get(Section::ChunkCounts), rows, meta.chunks)
                .ok_or_else(|| damaged("malformed chunk counts"))?;
        let tenants = with_chunks(tenants, &chunk_starts)
            .ok_or_else(|| damaged("tenants do not fit their chunks"))?;
        let fst = fst::Map::new(sections.get(Section::Fst))
            .map_err(|_| damaged("malformed value dictionary"))?;
        let odd_ids =
            take_odd_ids(&sections.get(Section::OddIds)).ok_or_else(|| damaged("malformed ids"))?;
        let postings = sections.get(Section::Postings);
        Ok(Self {
            what,
            meta,
            tenants,
            symbol_text,
            symbol_ends,
            labels,
            group_starts,
            chunk_starts,
            fst,
            postings,
            odd_ids,
        })
    }

    /// The tenants of an index that begins with `bytes`; `None` if they lie behind these.
    pub(in crate::block) fn read_tenants(
        what: &str,
        bytes: &Bytes,
    ) -> Result<Option<Vec<TenantRows>>, Error> {
        let damaged =
            |reason: &str| Error::Corrupt { what: what.to_owned(), reason: reason.to_owned() };
        let wanted = [Section::Meta, Section::Tenants];
        let Some(sections) = Sections::read_some(what, bytes, &wanted)? else { return Ok(None) };
        let meta = Meta::take(&mut sections.get(Section::Meta).as_ref())
            .ok_or_else(|| damaged("malformed counts"))?;
        let rows = u32::try_from(meta.series).map_err(|_| damaged("more than 2^32 series"))?;
        let tenants = take_tenants(&sections.get(Section::Tenants), rows);
        Ok(Some(tenants.ok_or_else(|| damaged("malformed tenants"))?))
    }

    pub(super) fn damaged(&self, reason: &str) -> Error {
        Error::Corrupt { what: self.what.clone(), reason: reason.to_owned() }
    }

    /// Bytes in memory.
    pub(in crate::block) fn resident_bytes(&self) -> usize {
        let numbers = [&self.symbol_ends, &self.group_starts, &self.chunk_starts];
        let meta = &self.meta;
        let sums = [&meta.chunks_object, &meta.series_object, &meta.timestamps_object];
        let stripes = sums.into_iter().chain(&meta.exemplars_object).map(|sum| sum.stripes.len());
        size_of::<Self>()
            + self.what.capacity()
            // The lengths of the symbols stand before their text and stay with it: a byte each or
            // two.
            + self.symbol_text.len()
            + 2 * self.symbol_ends.len()
            + self.labels.len()
            + self.fst.as_fst().as_bytes().len()
            + self.postings.len()
            + 4 * numbers.into_iter().map(Vec::capacity).sum::<usize>()
            + 4 * stripes.sum::<usize>()
            + self.tenants.capacity() * size_of::<TenantRows>()
            + self.odd_ids.capacity() * size_of::<(u32, SeriesId)>()
    }

    /// The rows of a tenant, empty if it is not in the block.
    pub(in crate::block) fn tenant(&self, tenant: TenantId) -> Option<&TenantRows> {
        let at = self.tenants.binary_search_by_key(&tenant, |t| t.tenant).ok()?;
        self.tenants.get(at)
    }

    /// The chunk rows of a series.
    pub(in crate::block) fn chunks_of(&self, row: u32) -> Range<u32> {
        let start = self.chunk_starts.get(row as usize).copied().unwrap_or_default();
        let end = self.chunk_starts.get(row as usize + 1).copied().unwrap_or(start);
        start..end
    }

    pub(super) fn symbol(&self, number: u32) -> Option<&str> {
        std::str::from_utf8(self.symbol_bytes(number)?).ok()
    }

    fn symbol_bytes(&self, number: u32) -> Option<&[u8]> {
        let end = *self.symbol_ends.get(number as usize)? as usize;
        let start = match number.checked_sub(1) {
            Some(before) => self.symbol_ends[before as usize] as usize,
            None => 0,
        };
        self.symbol_text.get(start..end)
    }

    /// The (name, value) symbols of a row. Rows in ascending order with one cursor cost a step each.
    pub(super) fn pairs<'c>(
        &self,
        row: u32,
        cursor: &'c mut RowCursor,
    ) -> Result<&'c [(u32, u32)], Error> {
        let group = row as usize / GROUP_ROWS;
        let continues = cursor.next_row > 0
            && cursor.next_row <= row
            && (cursor.next_row - 1) as usize / GROUP_ROWS == group;
        if cursor.next_row > 0 && cursor.next_row - 1 == row {
            return Ok(&cursor.pairs);
        }
        if !continues {
            let start =
                self.group_starts.get(group).ok_or_else(|| self.damaged("no such series row"))?;
            *cursor = RowCursor {
                next_row: (group * GROUP_ROWS) as u32,
                at: *start as usize,
                pairs: std::mem::take(&mut cursor.pairs),
            };
        }
        while cursor.next_row <= row {
            let rest = self.labels.get(cursor.at..).unwrap_or_default();
            let mut left = rest;
            take_pairs(&mut left, &mut cursor.pairs)
                .ok_or_else(|| self.damaged("malformed labels of a series"))?;
            cursor.at += rest.len() - left.len();
            cursor.next_row += 1;
        }
        Ok(&cursor.pairs)
    }

    /// The labels of a row.
    pub(in crate::block) fn labels(
        &self,
        row: u32,
        cursor: &mut RowCursor,
    ) -> Result<Labels, Error> {
        let mut encoded = Vec::new();
        self.encoded(row, cursor, &mut encoded)?;
        self.decoded(&encoded)
    }

    /// The labels of a row in canonical encoding, in the place of what `encoded` had.
    pub(in crate::block) fn encoded(
        &self,
        row: u32,
        cursor: &mut RowCursor,
        encoded: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if u64::from(row) >= self.meta.series {
            return Err(self.damaged("no such series row"));
        }
        encoded.clear();
        for (name, value) in self.pairs(row, cursor)? {
            let name = self.symbol_bytes(*name).ok_or_else(|| self.damaged("no such symbol"))?;
            let value = self.symbol_bytes(*value).ok_or_else(|| self.damaged("no such symbol"))?;
            put_wire_label(name, value, encoded);
        }
        Ok(())
    }

    /// The labels of an encoding.
    pub(in crate::block) fn decoded(&self, encoded: &[u8]) -> Result<Labels, Error> {
        Labels::from_wire(encoded).map_err(|e| self.damaged(&e.to_string()))
    }

    /// The id of a row.
    pub(in crate::block) fn id(&self, row: u32, labels: &Labels) -> SeriesId {
        match self.odd_ids.binary_search_by_key(&row, |(r, _)| *r) {
            Ok(at) => self.odd_ids[at].1,
            Err(_) => labels.series_id(),
        }
    }

    /// The id of a row whose labels are encoded.
    pub(in crate::block) fn id_of_encoded(&self, row: u32, encoded: &[u8]) -> SeriesId {
        match self.odd_ids.binary_search_by_key(&row, |(r, _)| *r) {
            Ok(at) => self.odd_ids[at].1,
            Err(_) => SeriesId::of_encoded(encoded),
        }
    }
}

/// Where reading label rows stands.
#[derive(Debug, Default)]
pub(in crate::block) struct RowCursor {
    /// One past the row that `pairs` holds; 0 before the first.
    next_row: u32,
    at: usize,
    pairs: Vec<(u32, u32)>,
}

/// All label rows in order, as the builder holds them.
pub(in crate::block) struct LabelRows<'a> {
    rest: &'a [u8],
    left: u32,
    pairs: Vec<(u32, u32)>,
}

impl<'a> LabelRows<'a> {
    pub(super) fn new(rest: &'a [u8], rows: u32) -> Self {
        Self { rest, left: rows, pairs: Vec::new() }
    }

    /// The symbols of the next row.
    pub(in crate::block) fn next(&mut self) -> Option<&[(u32, u32)]> {
        self.left = self.left.checked_sub(1)?;
        take_pairs(&mut self.rest, &mut self.pairs)?;
        Some(&self.pairs)
    }
}

/// Reads one row; `pairs` holds the row before.
fn take_pairs(bytes: &mut &[u8], pairs: &mut Vec<(u32, u32)>) -> Option<()> {
    match take_byte(bytes)? {
        0 => {
            let count = varint::take(bytes)?;
            if count > bytes.len() as u64 / 2 {
                return None;
            }
            pairs.clear();
            for _ in 0..count {
                let name = u32::try_from(varint::take(bytes)?).ok()?;
                pairs.push((name, u32::try_from(varint::take(bytes)?).ok()?));
            }
        }
        1 => {
            let mut mask = varint::take(bytes)?;
            while mask != 0 {
                let at = mask.trailing_zeros() as usize;
                pairs.get_mut(at)?.1 = u32::try_from(varint::take(bytes)?).ok()?;
                mask &= mask - 1;
            }
        }
        _ => return None,
    }
    Some(())
}

fn put_wire_label(name: &[u8], value: &[u8], wire: &mut Vec<u8>) {
    let length = |n: usize| (usize::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize;
    let inner = 2 + length(name.len()) + name.len() + length(value.len()) + value.len();
    wire.push(0x0a);
    varint::put(wire, inner as u64);
    for (tag, text) in [(0x0a, name), (0x12, value)] {
        wire.push(tag);
        varint::put(wire, text.len() as u64);
        wire.extend_from_slice(text);
    }
}

/// Rows as they came if the section is not there.
fn take_resolution(bytes: &[u8]) -> Option<Resolution> {
    if bytes.is_empty() {
        return Some(Resolution::Raw);
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn take_tenants(mut bytes: &[u8], rows: u32) -> Option<Vec<TenantRows>> {
    let bytes = &mut bytes;
    let count = varint::take(bytes)?;
    if count > bytes.len() as u64 / 5 {
        return None;
    }
    let mut tenants: Vec<TenantRows> = Vec::with_capacity(count as usize);
    let (mut series, mut chunks) = (0u32, 0u32);
    for _ in 0..count {
        let tenant = TenantId(u32::try_from(varint::take(bytes)?).ok()?);
        let series_end = series.checked_add(u32::try_from(varint::take(bytes)?).ok()?)?;
        let chunks_end = chunks.checked_add(u32::try_from(varint::take(bytes)?).ok()?)?;
        let start_ms = varint::take_signed(bytes)?;
        let range =
            TimeRange { start_ms, end_ms: start_ms.wrapping_add(varint::take_signed(bytes)?) };
        if tenants.last().is_some_and(|t| t.tenant >= tenant) {
            return None;
        }
        tenants.push(TenantRows {
            tenant,
            series: series..series_end,
            chunks: chunks..chunks_end,
            range,
        });
        (series, chunks) = (series_end, chunks_end);
    }
    (bytes.is_empty() && series == rows).then_some(tenants)
}

/// Checks that tenants' chunk rows are those of their series.
fn with_chunks(tenants: Vec<TenantRows>, chunk_starts: &[u32]) -> Option<Vec<TenantRows>> {
    let at = |row: u32| chunk_starts.get(row as usize).copied();
    let fits = |t: &TenantRows| {
        at(t.series.start) == Some(t.chunks.start) && at(t.series.end) == Some(t.chunks.end)
    };
    tenants.iter().all(fits).then_some(tenants)
}

fn take_symbols(section: &Bytes) -> Option<(Bytes, Vec<u32>)> {
    let mut bytes = section.as_ref();
    let count = varint::take(&mut bytes)?;
    if count > bytes.len() as u64 {
        return None;
    }
    let mut ends = Vec::with_capacity(count as usize);
    let mut end = 0u32;
    for _ in 0..count {
        end = end.checked_add(u32::try_from(varint::take(&mut bytes)?).ok()?)?;
        ends.push(end);
    }
    (end as usize == bytes.len()).then(|| (section.slice(section.len() - bytes.len()..), ends))
}

fn take_groups(mut bytes: &[u8], rows: u32, labels: usize) -> Option<Vec<u32>> {
    let mut starts = Vec::with_capacity(bytes.len() + 1);
    let mut at = 0u32;
    starts.push(at);
    while !bytes.is_empty() {
        at = at.checked_add(u32::try_from(varint::take(&mut bytes)?).ok()?)?;
        starts.push(at);
    }
    let groups = (rows as usize).div_ceil(GROUP_ROWS);
    (starts.len() == groups + 1 && at as usize == labels).then_some(starts)
}

fn take_chunk_starts(mut bytes: &[u8], rows: u32, chunks: u64) -> Option<Vec<u32>> {
    // Bounded by the labels, whose groups were counted before: a row takes at least two bytes.
    let mut starts = Vec::with_capacity(rows as usize + 1);
    let mut at = 0u32;
    starts.push(at);
    while !bytes.is_empty() {
        let count = u32::try_from(varint::take(&mut bytes)?).ok()?;
        let repeats = varint::take(&mut bytes)?;
        if repeats > u64::from(rows) + 1 - starts.len() as u64 {
            return None;
        }
        for _ in 0..repeats {
            at = at.checked_add(count)?;
            starts.push(at);
        }
    }
    (starts.len() == rows as usize + 1 && u64::from(at) == chunks).then_some(starts)
}

fn take_odd_ids(bytes: &[u8]) -> Option<Vec<(u32, SeriesId)>> {
    let ids: Vec<_> = bytes
        .chunks_exact(20)
        .map(|c| {
            let (mut row, mut id) = ([0; 4], [0; 16]);
            row.copy_from_slice(&c[..4]);
            id.copy_from_slice(&c[4..]);
            (u32::from_le_bytes(row), SeriesId(u128::from_le_bytes(id)))
        })
        .collect();
    (bytes.len().is_multiple_of(20) && ids.is_sorted_by(|a, b| a.0 < b.0)).then_some(ids)
}
