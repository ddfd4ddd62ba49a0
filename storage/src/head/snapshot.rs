//! Snapshots of a head's identities (docs/formats/head-snapshot.md): a restart needs no log from
//! before the last flush. Samples are not in them; they are in blocks and the log.

use std::collections::BTreeMap;

use model::{SeriesId, varint};
use tenancy::TenantId;

use super::Head;
use super::payload::{Mark, put_metadata, put_symbols_and_shapes};
use super::replay::{counted, is_all, take_metadata, take_number, take_text, take_u64, take_u128};
use super::series::{Flags, Series};
use crate::Error;

const MAGIC: &[u8; 8] = b"TFRLHEAD";
const VERSION: u16 = 1;
/// Features a reader must know: none yet.
const FEATURES: u32 = 0;
const HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;

impl Head {
    /// All series, and all metadata.
    pub fn snapshot_full(&self) -> Vec<u8> {
        self.snapshot_from(Mark { symbols: 0, shapes: 0, series: 0 })
    }

    /// The series numbered `from_series` and up, and all metadata. To be restored on top of a
    /// snapshot of all series before; there must have been no renumbering in between.
    pub fn snapshot_delta(&self, from_series: u32) -> Vec<u8> {
        let from_series = from_series.min(self.series.len());
        // Texts and shapes come with the first series that has them, so what the series before
        // use is a prefix.
        let before = &self.labels.at[..from_series as usize];
        let values_end = match self.labels.at.get(from_series as usize) {
            Some(first) => first.start as usize,
            None => self.labels.values.len(),
        };
        let shapes = before.iter().map(|at| at.shape + 1).max().unwrap_or(0);
        let names = (0..shapes).flat_map(|shape| self.labels.shapes.names(shape)).max();
        let symbols =
            self.labels.values[..values_end].iter().max().max(names).map_or(0, |&s| s + 1);
        self.snapshot_from(Mark { symbols, shapes, series: from_series })
    }

    fn snapshot_from(&self, mark: Mark) -> Vec<u8> {
        let series = &self.series.all[mark.series as usize..];
        let mut out = Vec::with_capacity(series.len() * 64 + 4096);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&FEATURES.to_le_bytes());
        varint::put(&mut out, self.epoch);
        put_symbols_and_shapes(&mut out, mark, &self.labels);
        varint::put(&mut out, u64::from(mark.series));
        varint::put(&mut out, series.len() as u64);
        for run in series.chunk_by(|a, b| a.tenant == b.tenant) {
            varint::put(&mut out, u64::from(run[0].tenant.0));
            varint::put(&mut out, run.len() as u64);
        }
        series.iter().for_each(|s| out.extend_from_slice(&s.id.0.to_le_bytes()));
        for number in mark.series..self.series.len() {
            varint::put(&mut out, u64::from(self.labels.at[number as usize].shape));
            self.labels
                .pairs(number)
                .for_each(|(_, value)| varint::put(&mut out, u64::from(value)));
        }
        let newest_ms = series.iter().map(|s| s.last_ms).max().unwrap_or(i64::MIN);
        out.extend_from_slice(&newest_ms.to_le_bytes());
        for s in series {
            // One more than how long ago; 0 is "not known".
            let ago = newest_ms.checked_sub(s.last_ms).filter(|_| s.last_ms != i64::MIN);
            varint::put(&mut out, ago.map_or(0, |ago| ago as u64 + 1));
        }
        varint::put(&mut out, self.metadata.values().map(|m| m.len() as u64).sum());
        for (tenant, families) in &self.metadata {
            for (family, metadata) in families.iter() {
                varint::put(&mut out, u64::from(tenant.0));
                put_metadata(&mut out, family, metadata);
            }
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Takes in a snapshot: a full one on an empty head, then deltas in order. After an error the
    /// head is to be thrown away.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), Error> {
        let corrupt = |reason: String| Error::Corrupt { what: "head snapshot".to_owned(), reason };
        let body = checked_body(snapshot)?;
        self.restore_body(body).map_err(corrupt)
    }

    fn restore_body(&mut self, mut body: &[u8]) -> Result<(), String> {
        let from = &mut body;
        let epoch = take_u64(from)?;
        self.take_symbols(from)?;
        self.take_shapes(from)?;
        let first = take_number(from)?;
        if first > 0 && epoch != self.epoch {
            return Err(format!("epoch {epoch} does not follow on epoch {}", self.epoch));
        }
        self.epoch = epoch;
        if first != self.series.len() || self.labels.at.len() != first as usize {
            return Err(format!("starts at series {first}, {} are there", self.series.len()));
        }
        let count = counted(first, from)?.len();
        self.series.reserve(count);
        self.labels.at.reserve_exact(count);
        let tenants = take_tenants(from, count)?;
        for (tenant, run) in tenants {
            for _ in 0..run {
                let id = SeriesId(take_u128(from)?);
                if self.series.find(tenant, id).is_some() {
                    return Err(format!("series {} is there already", self.series.len()));
                }
                self.series.push(Series::new(tenant, id));
            }
        }
        for _ in 0..count {
            self.take_labels(from, true)?;
        }
        self.take_last(first, from)?;
        for _ in counted(0, from)? {
            let tenant = TenantId(take_number(from)?);
            let (family, metadata) = take_metadata(from)?;
            self.metadata.entry(tenant).or_default().insert(family, metadata);
        }
        is_all(from)?;
        self.restore_index(first);
        Ok(())
    }

    fn take_last(&mut self, first: u32, from: &mut &[u8]) -> Result<(), String> {
        let (newest_ms, rest) = from.split_first_chunk::<8>().ok_or("is cut short")?;
        *from = rest;
        let newest_ms = i64::from_le_bytes(*newest_ms);
        for series in &mut self.series.all[first as usize..] {
            if let Some(ago) = take_u64(from)?.checked_sub(1) {
                series.last_ms = newest_ms.saturating_sub_unsigned(ago);
                series.flags.set(Flags::LAST_UNKNOWN);
            }
        }
        Ok(())
    }

    /// Postings are cheaper to make anew, all at once, than to read.
    fn restore_index(&mut self, first: u32) {
        let added = self.series.len() - first;
        if added > first / 8 {
            self.index.rebuild(self.series.all.iter().map(|s| s.tenant), &self.labels);
        } else {
            for number in first..self.series.len() {
                self.index.add(self.tenant(number), number, &self.labels);
            }
        }
    }
}

/// What a snapshot says of itself; the rest is read on top of those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotFacts {
    pub(crate) version: u16,
    pub(crate) features: u32,
    pub(crate) checksum: u32,
    pub(crate) epoch: u64,
    pub(crate) symbols: u64,
    pub(crate) shapes: u64,
    pub(crate) first_series: u32,
    pub(crate) series: u64,
    /// Series of each tenant, by tenant.
    pub(crate) tenants: BTreeMap<TenantId, u64>,
}

/// Reads what a snapshot says, `name` being that of its object.
pub(crate) fn facts(snapshot: &[u8], name: &str) -> Result<SnapshotFacts, Error> {
    let named = |error| match error {
        Error::Corrupt { reason, .. } => {
            Error::Corrupt { what: format!("snapshot {name}"), reason }
        }
        Error::Unsupported { feature, .. } => {
            Error::Unsupported { what: format!("snapshot {name}"), feature }
        }
        other => other,
    };
    let body = checked_body(snapshot).map_err(named)?;
    let read = body_facts(body);
    let (epoch, symbols, shapes, first_series, series, tenants) =
        read.map_err(|reason| Error::Corrupt { what: format!("snapshot {name}"), reason })?;
    let checksum = checksum(snapshot).unwrap_or_default();
    let (version, features) = (VERSION, FEATURES);
    let facts = SnapshotFacts {
        version,
        features,
        checksum,
        epoch,
        symbols,
        shapes,
        first_series,
        series,
        tenants,
    };
    Ok(facts)
}

type BodyFacts = (u64, u64, u64, u32, u64, BTreeMap<TenantId, u64>);

fn body_facts(mut body: &[u8]) -> Result<BodyFacts, String> {
    let from = &mut body;
    let epoch = take_u64(from)?;
    let symbols = counted(take_number(from)?, from)?;
    for _ in symbols.clone() {
        take_text(from)?;
    }
    let shapes = counted(take_number(from)?, from)?;
    for _ in shapes.clone() {
        for _ in 0..take_u64(from)? {
            take_number(from)?;
        }
    }
    let first = take_number(from)?;
    let series = counted(first, from)?.len();
    let mut tenants = BTreeMap::new();
    for (tenant, run) in take_tenants(from, series)? {
        *tenants.entry(tenant).or_insert(0) += run as u64;
    }
    Ok((epoch, symbols.len() as u64, shapes.len() as u64, first, series as u64, tenants))
}

/// The checksum that a snapshot ends with.
pub(crate) fn checksum(snapshot: &[u8]) -> Option<u32> {
    snapshot.last_chunk::<CHECKSUM_BYTES>().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Tenants of `count` series, as runs.
fn take_tenants(from: &mut &[u8], count: usize) -> Result<Vec<(TenantId, usize)>, String> {
    let mut runs = Vec::new();
    let mut left = count;
    while left > 0 {
        let tenant = TenantId(take_number(from)?);
        let run = usize::try_from(take_u64(from)?).unwrap_or(usize::MAX);
        left = left.checked_sub(run).filter(|_| run > 0).ok_or("tenants do not add up")?;
        runs.push((tenant, run));
    }
    Ok(runs)
}

/// What lies between header and checksum, once both are right.
fn checked_body(snapshot: &[u8]) -> Result<&[u8], Error> {
    let corrupt = |reason: &str| Error::Corrupt {
        what: "head snapshot".to_owned(),
        reason: reason.to_owned(),
    };
    let unsupported = |feature| Error::Unsupported { what: "head snapshot".to_owned(), feature };
    let body_end = snapshot.len().checked_sub(CHECKSUM_BYTES).filter(|end| *end >= HEADER_BYTES);
    let body_end = body_end.ok_or_else(|| corrupt("is cut short"))?;
    let (header, _) = snapshot.split_at(HEADER_BYTES);
    if &header[..8] != MAGIC {
        return Err(corrupt("does not start with the magic bytes"));
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != VERSION {
        return Err(unsupported(format!("version {version}")));
    }
    let features = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    if features & !FEATURES != 0 {
        return Err(unsupported(format!("features {features:#x}")));
    }
    let stored = &snapshot[body_end..];
    if crc32c::crc32c(&snapshot[..body_end]).to_le_bytes() != stored {
        return Err(corrupt("checksum does not match"));
    }
    Ok(&snapshot[HEADER_BYTES..body_end])
}
