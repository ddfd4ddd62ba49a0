//! Buckets of one classic histogram on their way into a cold block: held back until all of them
//! are there, so that those over the same instants can share a payload.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use model::{BUCKET_LABEL, Labels};

use super::chunks::{begin_payload, even_cuts, starts_of_chunk};
use super::{BlockWriter, SeriesInput};
use crate::block::stats::ChunkStats;
use crate::codec::{Codec, family};
use crate::{Error, Starts};

/// Samples held back at most, 16 MiB of them: a histogram with more is cut in two.
const SAMPLES_MAX: usize = 1 << 20;

/// A bucket that is held back.
#[derive(Debug)]
pub(super) struct Held {
    series: u32,
    bound: f64,
    timestamps: Vec<i64>,
    values: Vec<f64>,
    starts: Starts,
}

/// A chunk of a bucket.
struct Cut {
    member: usize,
    range: Range<usize>,
    ts_row: u32,
    starts: Vec<i64>,
}

/// What a chunk of a bucket has for a payload, if not one of its own; and the bit that says whether
/// that has start timestamps.
enum Shared {
    Holds(Vec<u8>, u8),
    Behind(u32, u8),
}

/// Whether a series may share its payloads with its neighbours.
pub(super) fn is_bucket(input: &SeriesInput<'_>) -> bool {
    input.histograms.is_empty()
        && input.values.len() <= SAMPLES_MAX
        && input.labels.get(BUCKET_LABEL).is_some()
}

/// The upper bound of a bucket; what is no number comes last.
fn bound_of(labels: &Labels) -> f64 {
    labels.get(BUCKET_LABEL).and_then(|le| le.parse().ok()).unwrap_or(f64::NAN)
}

impl BlockWriter {
    /// Takes in the next bucket of the histogram at hand; says how many chunks it will have.
    pub(super) fn hold(&mut self, input: &SeriesInput<'_>, series: u32) -> Result<u64, Error> {
        let held: usize = self.family.iter().map(|held| held.values.len()).sum();
        if held + input.values.len() > SAMPLES_MAX || self.family.len() == family::MEMBERS_MAX {
            self.end_family()?;
        }
        self.family.push(Held {
            series,
            bound: bound_of(&input.labels),
            timestamps: input.timestamps.to_vec(),
            values: input.values.to_vec(),
            starts: input.starts.clone(),
        });
        Ok(even_cuts(input.values.len()).count() as u64)
    }

    /// Writes the chunks of the buckets held back.
    pub(super) fn end_family(&mut self) -> Result<(), Error> {
        let held = std::mem::take(&mut self.family);
        if held.is_empty() {
            return Ok(());
        }
        let mut cuts = Vec::new();
        for (member, one) in held.iter().enumerate() {
            for range in even_cuts(one.values.len()) {
                let instants = &one.timestamps[range.clone()];
                let starts = starts_of_chunk(instants, &one.starts);
                cuts.push(Cut { member, ts_row: self.vectors.row(instants)?, range, starts });
            }
        }
        let mut shared = self.share(&held, &cuts);
        for (at, cut) in cuts.iter().enumerate() {
            let one = &held[cut.member];
            let (instants, values) =
                (&one.timestamps[cut.range.clone()], &one.values[cut.range.clone()]);
            let (payload_back, starts_bit) = match shared.remove(&at) {
                None => {
                    self.add_floats(one.series, instants, values, &one.starts)?;
                    continue;
                }
                Some(Shared::Holds(payload, starts_bit)) => {
                    self.payload = payload;
                    (0, starts_bit)
                }
                Some(Shared::Behind(back, starts_bit)) => {
                    self.payload.clear();
                    (back, starts_bit)
                }
            };
            let stats = ChunkStats::of_values(values, None);
            let codec = Codec::Family as u8 | starts_bit;
            self.push_chunk(one.series, instants, codec, payload_back, stats)?;
        }
        self.flush_if_full()
    }

    /// Puts those over the same instants, and with the same start timestamps, into one payload;
    /// constant ones need none.
    fn share(&mut self, held: &[Held], cuts: &[Cut]) -> HashMap<usize, Shared> {
        let values_of = |at: usize| &held[cuts[at].member].values[cuts[at].range.clone()];
        let mut by_instants: BTreeMap<(u32, &[i64]), Vec<usize>> = BTreeMap::new();
        for (at, cut) in cuts.iter().enumerate() {
            let values = values_of(at);
            if values.iter().any(|v| v.to_bits() != values[0].to_bits()) {
                by_instants.entry((cut.ts_row, &cut.starts)).or_default().push(at);
            }
        }
        let mut shared = HashMap::new();
        for ((_, starts), mut together) in by_instants.into_iter().filter(|(_, of)| of.len() > 1) {
            let first = together[0];
            let bound = |at: &usize| held[cuts[*at].member].bound;
            together.sort_by(|a, b| bound(a).total_cmp(&bound(b)));
            let members: Vec<(u32, &[f64])> =
                together.iter().map(|at| ((at - first) as u32, values_of(*at))).collect();
            let mut payload = Vec::new();
            let bit = begin_payload(starts, &mut self.encoder, &mut payload);
            family::encode(&members, &mut self.encoder, &mut payload);
            let behind = |at: &usize| (*at, Shared::Behind((at - first) as u32, bit));
            shared.extend(together.iter().map(behind));
            shared.insert(first, Shared::Holds(payload, bit));
        }
        shared
    }
}
