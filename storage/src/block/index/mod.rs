//! `index.bin`: everything but the samples. Which tenants, series and labels a block holds, where
//! their chunks lie, and what the other objects must look like.
//!
//! Kept in the bounded cache of all blocks and, whatever that holds, while somebody looks at it;
//! labels are read from here and never from Parquet. Layout in `docs/formats/block.md`.

mod build;
mod container;
mod read;
mod select;

pub(super) use build::IndexBuilder;
pub(crate) use container::SectionFacts;
pub(super) use container::{FEATURE_COLD, FEATURE_STARTS, FEATURE_WINDOWS, checksum_of};
pub use read::TenantRows;
pub(super) use read::{Index, RowCursor};
pub(super) use select::{Lists, Unlisted};

use model::{Resolution, TimeRange, varint};

use super::object::Sum;
use crate::Error;

/// Series rows whose labels are written relative to one another: reading one walks at most this
/// many.
const GROUP_ROWS: usize = 16;

/// Between name and value in keys of the FST. Never occurs in UTF-8.
const SEPARATOR: u8 = 0xff;

/// Postings that lie in the FST itself: a single row, or a run of rows.
const TAG_ROW: u64 = 0;
const TAG_RUN: u64 = 1;
const TAG_BITMAP: u64 = 2;
const TAG_SHIFT: u32 = 62;
const RUN_LENGTH_BITS: u32 = 30;

/// Reads an index of any sections and asks it what readers ask; for fuzzing.
pub(crate) fn decode_any(mut data: &[u8]) {
    let mut sections = Vec::new();
    for section in container::ALL {
        let [low, high, rest @ ..] = data else { break };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        sections.push((section, rest[..length].to_vec()));
        data = &rest[length..];
    }
    let Ok(whole) = container::write(0, &sections) else { return };
    let Ok(index) = Index::read("noise".to_owned(), &whole.into()) else { return };
    let matchers = [model::Matcher::equal("a", "b")];
    for rows in &index.tenants {
        // Damage that is found late is an error, too.
        let mut pace = model::Pace::default();
        let _ = index.select(rows.tenant, &matchers, &Unlisted, &mut pace);
        let _ = index.label_names(rows.tenant, None, &mut pace);
        let _ = index.label_values(rows.tenant, "a", None, &mut pace);
        for row in rows.series.clone().take(64) {
            let _ = index.labels(row, &mut RowCursor::default());
            index.chunks_of(row);
        }
    }
}

/// Counts and objects of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) series: u64,
    pub(super) chunks: u64,
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
    pub(super) range: Option<TimeRange>,
    pub(super) chunks_object: Sum,
    pub(super) series_object: Sum,
    pub(super) timestamps_object: Sum,
    pub(super) exemplars_object: Option<Sum>,
    /// What its rows are; has a section of its own.
    pub(super) resolution: Resolution,
}

impl Meta {
    fn put(&self, out: &mut Vec<u8>) {
        for count in [self.series, self.chunks, self.samples, self.histograms, self.exemplars] {
            varint::put(out, count);
        }
        out.push(u8::from(self.range.is_some()));
        if let Some(range) = self.range {
            varint::put_signed(out, range.start_ms);
            varint::put_signed(out, range.end_ms);
        }
        out.push(3 + u8::from(self.exemplars_object.is_some()));
        let fixed = [&self.chunks_object, &self.series_object, &self.timestamps_object];
        for sum in fixed.into_iter().chain(&self.exemplars_object) {
            varint::put(out, sum.size);
            varint::put(out, sum.tail_start);
            for stripe in sum.stripes.iter() {
                out.extend_from_slice(&stripe.to_le_bytes());
            }
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut counts = [0; 5];
        for count in &mut counts {
            *count = varint::take(bytes)?;
        }
        let [series, chunks, samples, histograms, exemplars] = counts;
        let range = match take_byte(bytes)? {
            0 => None,
            1 => Some(TimeRange {
                start_ms: varint::take_signed(bytes)?,
                end_ms: varint::take_signed(bytes)?,
            }),
            _ => return None,
        };
        let objects = take_byte(bytes)?;
        if !(3..=4).contains(&objects) {
            return None;
        }
        Some(Self {
            series,
            chunks,
            samples,
            histograms,
            exemplars,
            range,
            chunks_object: take_sum(bytes)?,
            series_object: take_sum(bytes)?,
            timestamps_object: take_sum(bytes)?,
            exemplars_object: if objects == 4 { Some(take_sum(bytes)?) } else { None },
            resolution: Resolution::Raw,
        })
    }
}

/// What a whole `index.bin` says of its block, for tools.
#[derive(Debug)]
pub(crate) struct IndexFacts {
    pub(crate) version: u16,
    pub(crate) features: u64,
    pub(crate) checksum: u32,
    pub(crate) sections: Vec<SectionFacts>,
    pub(crate) series: u64,
    pub(crate) chunks: u64,
    pub(crate) samples: u64,
    pub(crate) histograms: u64,
    pub(crate) exemplars: u64,
    pub(crate) range: Option<TimeRange>,
    /// Names and sizes of the other objects.
    pub(crate) objects: Vec<(&'static str, u64)>,
    pub(crate) tenants: Vec<TenantRows>,
}

impl IndexFacts {
    /// Reads and checks an index, `what` being the name of the object.
    pub(crate) fn read(what: &str, bytes: &bytes::Bytes) -> Result<Self, Error> {
        let (version, features, sections) = container::facts(what, bytes)?;
        let index = Index::read(what.to_owned(), bytes)?;
        let meta = &index.meta;
        let mut objects = vec![
            (super::CHUNKS, meta.chunks_object.size),
            (super::SERIES, meta.series_object.size),
            (super::TIMESTAMPS, meta.timestamps_object.size),
        ];
        objects.extend(meta.exemplars_object.as_ref().map(|sum| (super::EXEMPLARS, sum.size)));
        Ok(Self {
            version,
            features,
            checksum: checksum_of(bytes).unwrap_or_default(),
            sections,
            series: meta.series,
            chunks: meta.chunks,
            samples: meta.samples,
            histograms: meta.histograms,
            exemplars: meta.exemplars,
            range: meta.range,
            objects,
            tenants: index.tenants,
        })
    }
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn take_sum(bytes: &mut &[u8]) -> Option<Sum> {
    let size = varint::take(bytes)?;
    let tail_start = varint::take(bytes)?;
    let stripes = usize::try_from(size.div_ceil(super::object::STRIPE_BYTES)).ok()?;
    let (raw, rest) = bytes.split_at_checked(stripes.checked_mul(4)?)?;
    *bytes = rest;
    let stripes =
        raw.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    (tail_start < size).then_some(Sum { size, tail_start, stripes })
}
