//! The hot part of every series: one cache line each, found by (tenant, id).

use hashbrown::HashTable;
use model::SeriesId;
use tenancy::TenantId;

use super::buffer::{Blocks, Buffer, Point};

/// What every sample of a series touches, in one cache line: identity for the look-up, the last
/// sample, the state of the bit stream.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Series {
    pub(super) id: SeriesId,
    /// Of the newest sample; `i64::MIN` if none is known.
    pub(super) last_ms: i64,
    pub(super) last_bits: u64,
    pub(super) buffer: Buffer,
    pub(super) tenant: TenantId,
    pub(super) flags: Flags,
}

const _: () = assert!(size_of::<Series>() == 64);

/// What the fast path must not overlook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags(u32);

impl Flags {
    /// Nothing unusual.
    pub(super) const NONE: Self = Self(0);
    /// The value at `last_ms` is not known: it was flushed before the restart.
    pub(super) const LAST_UNKNOWN: Self = Self(1);
    /// There are native histograms: an instant may be theirs.
    pub(super) const HISTOGRAMS: Self = Self(2);
    /// All its rows were deleted: it shows again with the next one.
    pub(super) const HIDDEN: Self = Self(4);
    /// Samples since the last cut have start timestamps, which stand beside them.
    pub(super) const STARTS: Self = Self(8);

    pub(super) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(super) fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(super) fn clear(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }
}

impl Series {
    pub(super) fn new(tenant: TenantId, id: SeriesId) -> Self {
        Self {
            id,
            last_ms: i64::MIN,
            last_bits: 0,
            buffer: Buffer::EMPTY,
            tenant,
            flags: Flags::NONE,
        }
    }

    /// Adds a sample newer than all of this generation's; `base_ms` is the generation's.
    #[inline]
    pub(super) fn push(&mut self, blocks: &mut Blocks, base_ms: i64, to: Point) {
        let from = match self.buffer.is_empty() {
            true => Point { ms: base_ms, bits: 0 },
            false => Point { ms: self.last_ms, bits: self.last_bits },
        };
        self.buffer.push(blocks, from, to);
        (self.last_ms, self.last_bits) = (to.ms, to.bits);
        self.flags.clear(Flags::LAST_UNKNOWN);
    }

    /// The newest sample, if its value is known.
    pub(super) fn last(&self) -> Option<Point> {
        let known = self.last_ms != i64::MIN && !self.flags.has(Flags::LAST_UNKNOWN);
        known.then_some(Point { ms: self.last_ms, bits: self.last_bits })
    }
}

/// All series and how they are found.
#[derive(Debug)]
pub(super) struct SeriesTable {
    key: u64,
    pub(super) all: Vec<Series>,
    table: HashTable<u32>,
}

impl SeriesTable {
    pub(super) fn new(key: u64) -> Self {
        Self { key, all: Vec::new(), table: HashTable::new() }
    }

    pub(super) fn len(&self) -> u32 {
        self.all.len() as u32
    }

    /// The number of a series.
    #[inline]
    pub(super) fn find(&self, tenant: TenantId, id: SeriesId) -> Option<u32> {
        let same = |&s: &u32| {
            let known = &self.all[s as usize];
            known.id == id && known.tenant == tenant
        };
        self.table.find(hash_of(self.key, tenant, id), same).copied()
    }

    /// Adds a series that is not there yet.
    pub(super) fn push(&mut self, series: Series) -> u32 {
        let (key, number) = (self.key, self.len());
        let hash = hash_of(key, series.tenant, series.id);
        self.all.push(series);
        let all = &self.all;
        self.table.insert_unique(hash, number, |&s| {
            let known = &all[s as usize];
            hash_of(key, known.tenant, known.id)
        });
        number
    }

    /// Makes room for that many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.all.reserve_exact(more);
        let (key, all) = (self.key, &self.all);
        self.table.reserve(more, |&s| {
            let known = &all[s as usize];
            hash_of(key, known.tenant, known.id)
        });
    }

    /// Keeps the series that have a new number, which must be their rank among the kept.
    pub(super) fn renumber(&mut self, new_number: &[u32]) {
        let mut number = 0;
        self.all.retain(|_| {
            number += 1;
            new_number[number - 1] != GONE
        });
        self.table.retain(|s| {
            *s = new_number[*s as usize];
            *s != GONE
        });
        // A quarter at least is gone: the memory is worth the copy.
        self.all.shrink_to_fit();
    }

    /// Memory taken.
    pub(super) fn heap_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Series>() + self.table.allocation_size()
    }
}

/// In place of a new number: the series is dropped.
pub(super) const GONE: u32 = u32::MAX;

/// Where in the table. Ids are unkeyed hashes that a sender can choose; the key keeps the place
/// from being chosen with them.
#[inline]
fn hash_of(key: u64, tenant: TenantId, id: SeriesId) -> u64 {
    let (low, high) = (id.0 as u64, (id.0 >> 64) as u64);
    let a = low ^ key;
    let b = high ^ key.rotate_left(32) ^ u64::from(tenant.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let product = u128::from(a) * u128::from(b | 1 << 63);
    (product as u64) ^ (product >> 64) as u64
}
