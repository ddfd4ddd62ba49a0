//! Builds `index.bin` while series arrive in order.

use std::io;

use hashbrown::{HashMap, HashTable};
use model::{Labels, Resolution, TimeRange, varint};
use roaring::RoaringBitmap;
use tenancy::TenantId;
use xxhash_rust::xxh3::xxh3_64;

use super::container::{self, Section};
use super::{
    GROUP_ROWS, Meta, RUN_LENGTH_BITS, SEPARATOR, TAG_BITMAP, TAG_ROW, TAG_RUN, TAG_SHIFT,
};
use crate::Error;

/// The index of a block being written.
pub(in crate::block) struct IndexBuilder {
    pub(in crate::block) symbols: Symbols,
    labels: Vec<u8>,
    group_bytes: Vec<u8>,
    group_start: usize,
    rows: u32,
    previous: Vec<(u32, u32)>,
    current: Vec<(u32, u32)>,
    odd_ids: Vec<u8>,
    tenants: Vec<u8>,
    tenant: Option<OpenTenant>,
    tenant_count: u64,
    chunk_counts: Vec<u8>,
    chunk_run: (u64, u64),
    chunks: u64,
    fst: fst::MapBuilder<Vec<u8>>,
    postings: Vec<u8>,
}

/// The tenant whose series arrive now.
struct OpenTenant {
    id: TenantId,
    first_row: u32,
    first_chunk: u64,
    range: Option<TimeRange>,
    /// Rows by (name, value); value [`PRESENT`] stands for any.
    rows: HashMap<(u32, u32), Rows>,
    /// Since which row each label of the last row has its value: neighbours share most, so only
    /// changes touch `rows`.
    since: Vec<u32>,
    /// Since which row the names are the same.
    names_since: u32,
}

impl OpenTenant {
    /// Takes in the next row, given the pairs of the row before.
    fn push(&mut self, row: u32, before: &[(u32, u32)], now: &[(u32, u32)]) {
        let same_names =
            self.since.len() == now.len() && before.iter().zip(now).all(|(b, n)| b.0 == n.0);
        if !same_names {
            self.close_runs(row, before);
            self.since.clear();
            self.since.resize(now.len(), row);
            self.names_since = row;
            return;
        }
        for i in 0..now.len() {
            if before[i].1 != now[i].1 {
                self.add_run(before[i], self.since[i], row);
                self.since[i] = row;
            }
        }
    }

    /// Ends all runs before `row`.
    fn close_runs(&mut self, row: u32, before: &[(u32, u32)]) {
        for (pair, first) in before.iter().zip(std::mem::take(&mut self.since)) {
            self.add_run(*pair, first, row);
            self.add_run((pair.0, PRESENT), self.names_since, row);
        }
    }

    fn add_run(&mut self, pair: (u32, u32), first: u32, end: u32) {
        let last = end - 1;
        self.rows
            .entry(pair)
            .and_modify(|r| r.push(first, last))
            .or_insert(Rows::Run { first, last });
    }
}

const PRESENT: u32 = u32::MAX;

/// Rows in ascending order.
enum Rows {
    Run { first: u32, last: u32 },
    Many(RoaringBitmap),
}

impl Rows {
    /// Adds `from..=to`, which lie after all others.
    fn push(&mut self, from: u32, to: u32) {
        match self {
            Self::Run { last, .. } if *last + 1 == from => *last = to,
            Self::Run { first, last } => {
                let mut many = RoaringBitmap::new();
                many.insert_range(*first..=*last);
                many.insert_range(from..=to);
                *self = Self::Many(many);
            }
            Self::Many(rows) => {
                rows.insert_range(from..=to);
            }
        }
    }
}

/// Strings and their numbers, in the order they were first seen.
#[derive(Default)]
pub(in crate::block) struct Symbols {
    text: String,
    ends: Vec<u32>,
    numbers: HashTable<u32>,
    lengths: Vec<u8>,
}

impl Symbols {
    pub(in crate::block) fn get(&self, number: u32) -> &str {
        let end = |n: usize| self.ends.get(n).map_or(0, |e| *e as usize);
        let start = if number == 0 { 0 } else { end(number as usize - 1) };
        self.text.get(start..end(number as usize)).unwrap_or("")
    }

    fn number(&mut self, text: &str) -> Result<u32, Error> {
        let hash = xxh3_64(text.as_bytes());
        if let Some(number) = self.numbers.find(hash, |n| self.get(*n) == text) {
            return Ok(*number);
        }
        let end = u32::try_from(self.text.len() + text.len());
        let end =
            end.map_err(|_| Error::Limit("the labels of one block exceed 4 GiB".to_owned()))?;
        let number = self.ends.len() as u32;
        self.text.push_str(text);
        self.ends.push(end);
        varint::put(&mut self.lengths, text.len() as u64);
        let (all_text, ends) = (&self.text, &self.ends);
        let hash_of = |n: &u32| {
            let start = if *n == 0 { 0 } else { ends[*n as usize - 1] as usize };
            xxh3_64(&all_text.as_bytes()[start..ends[*n as usize] as usize])
        };
        self.numbers.insert_unique(hash, number, hash_of);
        Ok(number)
    }
}

impl IndexBuilder {
    pub(in crate::block) fn new() -> Self {
        Self {
            symbols: Symbols::default(),
            labels: Vec::new(),
            group_bytes: Vec::new(),
            group_start: 0,
            rows: 0,
            previous: Vec::new(),
            current: Vec::new(),
            odd_ids: Vec::new(),
            tenants: Vec::new(),
            tenant: None,
            tenant_count: 0,
            chunk_counts: Vec::new(),
            chunk_run: (0, 0),
            chunks: 0,
            fst: fst::MapBuilder::memory(),
            postings: Vec::new(),
        }
    }

    /// Adds the next series; the caller has checked the order. `odd_id` is its id where that is
    /// not the one of its labels.
    pub(in crate::block) fn add(
        &mut self,
        tenant: TenantId,
        odd_id: Option<u128>,
        labels: &Labels,
        chunks: u64,
        range: Option<TimeRange>,
    ) -> Result<u32, Error> {
        if self.tenant.as_ref().is_none_or(|t| t.id != tenant) {
            self.close_tenant()?;
            self.tenant = Some(OpenTenant {
                id: tenant,
                first_row: self.rows,
                first_chunk: self.chunks,
                range: None,
                rows: HashMap::new(),
                since: Vec::new(),
                names_since: self.rows,
            });
        }
        let row = self.rows;
        self.put_labels(labels)?;
        if let Some(id) = odd_id {
            self.odd_ids.extend_from_slice(&row.to_le_bytes());
            self.odd_ids.extend_from_slice(&id.to_le_bytes());
        }
        if let Some(open) = &mut self.tenant {
            open.range = join(open.range, range);
            open.push(row, &self.previous, &self.current);
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.put_chunk_count(chunks);
        self.rows = row
            .checked_add(1)
            .ok_or_else(|| Error::Limit("more than 2^32 series in a block".to_owned()))?;
        Ok(row)
    }

    /// Relative to the row before where both have the same names; every 16th row stands alone.
    fn put_labels(&mut self, labels: &Labels) -> Result<(), Error> {
        self.current.clear();
        for (i, (name, value)) in labels.iter().enumerate() {
            // Most texts are those of the row before: comparing is cheaper than looking up.
            let before = self.previous.get(i).copied();
            let known =
                |number: Option<u32>, text: &str| number.filter(|n| self.symbols.get(*n) == text);
            let (known_name, known_value) =
                (known(before.map(|b| b.0), name), known(before.map(|b| b.1), value));
            let name = known_name.map_or_else(|| self.symbols.number(name), Ok)?;
            let value = known_value.map_or_else(|| self.symbols.number(value), Ok)?;
            self.current.push((name, value));
        }
        let starts_group = (self.rows as usize).is_multiple_of(GROUP_ROWS);
        if starts_group && self.rows > 0 {
            self.close_group();
        }
        let (now, before) = (&self.current, &self.previous);
        let same_names =
            now.len() == before.len() && now.iter().zip(before).all(|(a, b)| a.0 == b.0);
        if starts_group || !same_names || now.len() > 63 {
            self.labels.push(0);
            varint::put(&mut self.labels, now.len() as u64);
            for (name, value) in now {
                varint::put(&mut self.labels, u64::from(*name));
                varint::put(&mut self.labels, u64::from(*value));
            }
        } else {
            let changed = || now.iter().zip(before).enumerate().filter(|(_, (a, b))| a.1 != b.1);
            let mask = changed().fold(0u64, |mask, (i, _)| mask | 1 << i);
            self.labels.push(1);
            varint::put(&mut self.labels, mask);
            for (_, (pair, _)) in changed() {
                varint::put(&mut self.labels, u64::from(pair.1));
            }
        }
        Ok(())
    }

    fn close_group(&mut self) {
        varint::put(&mut self.group_bytes, (self.labels.len() - self.group_start) as u64);
        self.group_start = self.labels.len();
    }

    fn put_chunk_count(&mut self, chunks: u64) {
        self.chunks += chunks;
        let (count, repeats) = &mut self.chunk_run;
        if *repeats > 0 && *count == chunks {
            *repeats += 1;
            return;
        }
        self.close_chunk_run();
        self.chunk_run = (chunks, 1);
    }

    fn close_chunk_run(&mut self) {
        let (count, repeats) = self.chunk_run;
        if repeats > 0 {
            varint::put(&mut self.chunk_counts, count);
            varint::put(&mut self.chunk_counts, repeats);
        }
    }

    fn close_tenant(&mut self) -> Result<(), Error> {
        let Some(mut tenant) = self.tenant.take() else { return Ok(()) };
        tenant.close_runs(self.rows, &self.previous);
        self.tenant_count += 1;
        varint::put(&mut self.tenants, u64::from(tenant.id.0));
        varint::put(&mut self.tenants, u64::from(self.rows - tenant.first_row));
        varint::put(&mut self.tenants, self.chunks - tenant.first_chunk);
        let range = tenant.range.unwrap_or(TimeRange { start_ms: 0, end_ms: -1 });
        varint::put_signed(&mut self.tenants, range.start_ms);
        varint::put_signed(&mut self.tenants, range.end_ms.wrapping_sub(range.start_ms));
        let mut keys: Vec<(Vec<u8>, Rows)> = Vec::with_capacity(tenant.rows.len());
        for ((name, value), rows) in tenant.rows {
            let (name, value) = (
                self.symbols.get(name),
                if value == PRESENT { "" } else { self.symbols.get(value) },
            );
            let mut key = Vec::with_capacity(5 + name.len() + value.len());
            key.extend_from_slice(&tenant.id.0.to_be_bytes());
            key.extend_from_slice(name.as_bytes());
            key.push(SEPARATOR);
            key.extend_from_slice(value.as_bytes());
            keys.push((key, rows));
        }
        keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (key, rows) in keys {
            let postings = self.put_postings(rows).map_err(in_memory)?;
            self.fst.insert(&key, postings).map_err(|e| in_memory(io::Error::other(e)))?;
        }
        Ok(())
    }

    fn put_postings(&mut self, rows: Rows) -> io::Result<u64> {
        match rows {
            Rows::Run { first, last } if first == last => {
                Ok(TAG_ROW << TAG_SHIFT | u64::from(first))
            }
            Rows::Run { first, last } if u64::from(last - first) < (1 << RUN_LENGTH_BITS) - 1 => {
                let length = u64::from(last - first) + 1;
                Ok(TAG_RUN << TAG_SHIFT | u64::from(first) << RUN_LENGTH_BITS | length)
            }
            Rows::Run { first, last } => {
                let mut rows = RoaringBitmap::new();
                rows.insert_range(first..=last);
                self.put_bitmap(rows)
            }
            Rows::Many(rows) => self.put_bitmap(rows),
        }
    }

    fn put_bitmap(&mut self, mut rows: RoaringBitmap) -> io::Result<u64> {
        rows.optimize();
        let offset = self.postings.len() as u64;
        varint::put(&mut self.postings, rows.serialized_size() as u64);
        rows.serialize_into(&mut self.postings)?;
        Ok(TAG_BITMAP << TAG_SHIFT | offset)
    }

    /// The row that the next series gets.
    pub(in crate::block) fn rows(&self) -> u32 {
        self.rows
    }

    /// Symbols of the label names of the series added last.
    pub(in crate::block) fn last_names(&self) -> impl Iterator<Item = u32> {
        self.previous.iter().map(|(name, _)| *name)
    }

    /// Tenants so far.
    pub(in crate::block) fn tenants(&self) -> u64 {
        self.tenant_count + u64::from(self.tenant.is_some())
    }

    /// The labels written so far, for the table of series.
    pub(in crate::block) fn label_rows(&self) -> super::read::LabelRows<'_> {
        super::read::LabelRows::new(&self.labels, self.rows)
    }

    /// The bytes of `index.bin`.
    pub(in crate::block) fn finish(mut self, meta: &Meta, features: u64) -> Result<Vec<u8>, Error> {
        self.close_tenant()?;
        self.close_chunk_run();
        if self.rows > 0 {
            self.close_group();
        }
        let mut meta_bytes = Vec::new();
        meta.put(&mut meta_bytes);
        let mut tenants = Vec::with_capacity(self.tenants.len() + 10);
        varint::put(&mut tenants, self.tenant_count);
        tenants.extend_from_slice(&self.tenants);
        let mut symbols =
            Vec::with_capacity(self.symbols.text.len() + self.symbols.lengths.len() + 10);
        varint::put(&mut symbols, self.symbols.ends.len() as u64);
        symbols.extend_from_slice(&self.symbols.lengths);
        symbols.extend_from_slice(self.symbols.text.as_bytes());
        let fst = self.fst.into_inner().map_err(|e| in_memory(io::Error::other(e)))?;
        let mut sections = vec![
            (Section::Meta, meta_bytes),
            (Section::Tenants, tenants),
            (Section::Symbols, symbols),
            (Section::Labels, self.labels),
            (Section::LabelGroups, self.group_bytes),
            (Section::ChunkCounts, self.chunk_counts),
            (Section::Fst, fst),
            (Section::Postings, self.postings),
            (Section::OddIds, self.odd_ids),
        ];
        if meta.resolution != Resolution::Raw {
            sections.push((Section::Resolution, meta.resolution.as_str().into()));
        }
        container::write(features, &sections)
    }
}

fn in_memory(source: io::Error) -> Error {
    Error::Disk { doing: "build index.bin in memory".to_owned(), source }
}

pub(in crate::block) fn join(a: Option<TimeRange>, b: Option<TimeRange>) -> Option<TimeRange> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.union(b)),
        (one, other) => one.or(other),
    }
}
