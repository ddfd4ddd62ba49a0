//! What was fetched of several blocks, and what the heads had, become one sequence for each series.
//!
//! Mostly a series' blocks follow one another in time, and the head follows them: then values are
//! decoded to where they stay, and instants are those of all series with the same chunks. Where
//! they overlap, or something is hidden, each block is decoded by itself and merged in log order.

use std::sync::Arc;

use model::{TimeRange, is_stale};

use super::{Fetched, Part, merge};
use crate::block::{Joined, Piece, Run, Wanted, Work};
use crate::{Error, SeriesSamples};

/// When a series has samples, and which of them say that it has ended.
#[derive(Debug, Clone)]
pub enum Liveness {
    /// Floats alone.
    Floats {
        /// Their instants, milliseconds; shared as those of [`SeriesSamples`] are.
        timestamps: Arc<[i64]>,
        /// Which of these are stale markers.
        stale: Vec<u32>,
    },
    /// Native histograms among others: the samples.
    Samples(SeriesSamples),
}

impl From<SeriesSamples> for Liveness {
    fn from(samples: SeriesSamples) -> Self {
        if !samples.histograms.is_empty() {
            return Self::Samples(samples);
        }
        let stale = stale_places(&samples.values, 0).collect();
        Self::Floats { timestamps: samples.timestamps, stale }
    }
}

/// Places of stale markers, the first value being at `from`.
fn stale_places(values: &[f64], from: usize) -> impl Iterator<Item = u32> {
    let stale = values.iter().enumerate().filter(|(_, value)| is_stale(**value));
    stale.map(move |(at, _)| (from + at) as u32)
}

/// One series, decoded.
enum Gathered {
    /// Its blocks followed one another.
    Run(Run, Option<SeriesSamples>),
    Merged(SeriesSamples),
}

impl Fetched {
    /// The samples of the fetched series, in their order. CPU work.
    pub fn decode(self) -> Result<Vec<SeriesSamples>, Error> {
        let (series, places) = self.gather(Wanted::Values)?;
        let samples = |one| match one {
            Gathered::Merged(samples) => Ok(samples),
            Gathered::Run(mut run, head) => {
                let mut timestamps = places.instants(&run.pieces)?;
                let mut values = std::mem::take(&mut run.values);
                if let Some(head) = head {
                    timestamps = places.interner.followed(timestamps, &head.timestamps);
                    values.extend_from_slice(&head.values);
                }
                Ok(SeriesSamples { timestamps, values, ..SeriesSamples::default() })
            }
        };
        series.into_iter().map(samples).collect()
    }

    /// When the fetched series have samples, in their order. CPU work; of most samples it needs no
    /// more than the instants.
    pub fn decode_liveness(self) -> Result<Vec<Liveness>, Error> {
        let (series, places) = self.gather(Wanted::Markers)?;
        let liveness = |one| match one {
            Gathered::Merged(samples) => Ok(samples.into()),
            Gathered::Run(mut run, head) => {
                let mut timestamps = places.instants(&run.pieces)?;
                let mut stale = std::mem::take(&mut run.stale);
                if let Some(head) = head {
                    stale.extend(stale_places(&head.values, timestamps.len()));
                    timestamps = places.interner.followed(timestamps, &head.timestamps);
                }
                Ok(Liveness::Floats { timestamps, stale })
            }
        };
        series.into_iter().map(liveness).collect()
    }

    fn gather(mut self, wanted: Wanted) -> Result<(Vec<Gathered>, Places), Error> {
        self.parts.sort_by_key(|part| (part.fetched.begins_ms(), part.number));
        let mut runs = self.runs(wanted);
        let mut pieces: Vec<Vec<(u32, SeriesSamples)>> =
            self.heads.iter().map(|_| Vec::new()).collect();
        for Part { number, pieces: of_part, fetched } in &self.parts {
            let mut work = Work::default();
            for place in fetched.in_order(0..fetched.len()) {
                let piece = of_part[place];
                if let Some(run) = &mut runs[piece.series] {
                    fetched.gather(place, &mut work, run)?;
                    continue;
                }
                let mut samples = fetched.decode_series(place, &mut work)?;
                let hidden = &self.hidden[piece.hidden as usize];
                hidden.strip(&mut samples, |instants| self.interner.intern(instants));
                pieces[piece.series].push((*number, samples));
            }
        }
        let heads = std::mem::take(&mut self.heads);
        let mut series = Vec::with_capacity(heads.len());
        for ((run, mut pieces), head) in runs.into_iter().zip(pieces).zip(heads) {
            if let Some(run) = run {
                series.push(Gathered::Run(run, head));
                continue;
            }
            // The numbers of blocks are in the order of their log positions within a partition.
            pieces.sort_by_key(|(number, _)| *number);
            let parts = pieces.into_iter().map(|(_, samples)| samples).chain(head).collect();
            series.push(Gathered::Merged(merge::merge(parts, &self.interner)));
        }
        Ok((series, Places { parts: self.parts, interner: self.interner }))
    }

    /// A run for each series whose blocks, and then the head, follow one another, with nothing of
    /// it hidden and floats alone. Expects the parts in order of time.
    fn runs(&self, wanted: Wanted) -> Vec<Option<Run>> {
        /// What is known of a series so far.
        #[derive(Clone, Copy)]
        struct Known {
            follows: bool,
            last_ms: i64,
            samples: usize,
        }
        let new = Known { follows: true, last_ms: i64::MIN, samples: 0 };
        let mut all = vec![new; self.heads.len()];
        for part in &self.parts {
            for (place, piece) in part.pieces.iter().enumerate() {
                let Known { follows, last_ms, samples } = &mut all[piece.series];
                let Some((start_ms, end_ms, count)) = part.fetched.floats_of(place) else {
                    *follows = false;
                    continue;
                };
                if count == 0 {
                    continue;
                }
                let hidden = &self.hidden[piece.hidden as usize];
                let is_hidden = hidden.overlaps(TimeRange { start_ms, end_ms });
                *follows &= !is_hidden && (*samples == 0 || *last_ms < start_ms);
                (*last_ms, *samples) = (end_ms, *samples + count);
            }
        }
        let run = |(known, head): (Known, &Option<SeriesSamples>)| {
            let head_follows = head.as_ref().is_none_or(|head| {
                let floats = head.histograms.is_empty() && head.starts.is_empty();
                floats && head.timestamps.first().is_none_or(|first| *first > known.last_ms)
            });
            let room = known.samples + head.as_ref().map_or(0, |head| head.values.len());
            let is_run = known.follows && known.samples > 0 && head_follows;
            is_run.then(|| Run::new(wanted, room))
        };
        all.into_iter().zip(&self.heads).map(run).collect()
    }
}

/// Where instants come from.
struct Places {
    parts: Vec<Part>,
    interner: Arc<super::Interner>,
}

impl Places {
    /// The instants of these pieces.
    fn instants(&self, pieces: &[Piece]) -> Result<Arc<[i64]>, Error> {
        let part = |piece: &Piece| self.parts.iter().find(|part| part.fetched.has(piece));
        let lost = || Error::Internal("a block is gone while it is read".to_owned());
        let whole = |piece: &Piece| part(piece).ok_or_else(lost)?.fetched.vector_of(piece);
        let damaged = |reason| match pieces.first().and_then(part) {
            Some(part) => part.fetched.damaged(reason),
            None => lost(),
        };
        let joined: &Joined = self.interner.joined();
        joined.vector(pieces, whole, |instants| self.interner.intern(instants), damaged)
    }
}
