//! Sets of series: which ones have a label, in the form their number calls for.

use model::{Pace, Stopped};
use roaring::RoaringBitmap;

/// Series numbers in ascending order. Most label values of most tenants have one or a few series.
#[derive(Debug, Clone)]
pub(super) enum Refs {
    One(u32),
    Few(Vec<u32>),
    Many(Box<RoaringBitmap>),
}

/// The longest plain list.
const FEW_MAX: usize = 16;

impl Refs {
    /// From an ascending list that is not empty.
    pub(super) fn from_sorted(sorted: &[u32]) -> Self {
        match sorted {
            [one] => Self::One(*one),
            few if few.len() <= FEW_MAX => Self::Few(few.to_vec()),
            many => {
                let mut bitmap = RoaringBitmap::new();
                for run in many.chunk_by(|a, b| a + 1 == *b) {
                    if run.len() >= 8 {
                        bitmap.insert_range(run[0]..=run[run.len() - 1]);
                        continue;
                    }
                    for &series in run {
                        // Fails only on numbers that are not ascending: those are in already.
                        let _ = bitmap.try_push(series);
                    }
                }
                bitmap.optimize();
                Self::Many(Box::new(bitmap))
            }
        }
    }

    /// Adds a number above all others.
    pub(super) fn push(&mut self, series: u32) {
        match self {
            Self::One(one) => {
                let mut few = Vec::with_capacity(4);
                few.extend([*one, series]);
                *self = Self::Few(few);
            }
            Self::Few(few) if few.len() < FEW_MAX => few.push(series),
            Self::Few(few) => {
                few.push(series);
                let bitmap = few.iter().copied().collect();
                *self = Self::Many(Box::new(bitmap));
            }
            Self::Many(bitmap) => {
                let pushed = bitmap.try_push(series);
                debug_assert!(pushed.is_ok(), "series are numbered upwards");
                // Runs are found each time the set has doubled, so that the search costs nothing
                // on average.
                let len = bitmap.len();
                if len >= 64 && len.is_power_of_two() {
                    bitmap.optimize();
                }
            }
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Few(few) => few.len() as u64,
            Self::Many(bitmap) => bitmap.len(),
        }
    }

    pub(super) fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::One(one) => RoaringBitmap::from([*one]),
            Self::Few(few) => few.iter().copied().collect(),
            Self::Many(bitmap) => RoaringBitmap::clone(bitmap),
        }
    }

    pub(super) fn for_each(&self, mut each: impl FnMut(u32)) {
        match self {
            Self::One(one) => each(*one),
            Self::Few(few) => few.iter().copied().for_each(each),
            Self::Many(bitmap) => bitmap.iter().for_each(each),
        }
    }

    /// How many are also in `other`.
    pub(super) fn shared_with(&self, other: &RoaringBitmap) -> u64 {
        match self {
            Self::One(one) => u64::from(other.contains(*one)),
            Self::Few(few) => few.iter().filter(|s| other.contains(**s)).count() as u64,
            Self::Many(bitmap) => bitmap.intersection_len(other),
        }
    }

    /// Removes these from `set`.
    pub(super) fn take_from(&self, set: &mut RoaringBitmap) {
        match self {
            Self::Many(bitmap) => *set -= bitmap.as_ref(),
            few => few.for_each(|series| {
                set.remove(series);
            }),
        }
    }

    /// Keeps only these in `set`.
    pub(super) fn keep_in(&self, set: &mut RoaringBitmap) {
        match self {
            Self::Many(bitmap) => *set &= bitmap.as_ref(),
            few => *set &= few.to_bitmap(),
        }
    }

    /// Memory taken beyond the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Few(few) => few.capacity() * 4,
            Self::Many(bitmap) => {
                let s = bitmap.statistics();
                // A container's descriptor is 40 bytes.
                let bytes = s.n_bytes_array_containers
                    + s.n_bytes_run_containers
                    + s.n_bytes_bitset_containers;
                bytes as usize + s.n_containers as usize * 40 + 32
            }
        }
    }
}

/// The union of several sets.
pub(super) fn union(sets: &[&Refs], pace: &mut Pace) -> Result<RoaringBitmap, Stopped> {
    Ok(match sets {
        [] => RoaringBitmap::new(),
        [one] => one.to_bitmap(),
        few if few.len() <= 4 => {
            let mut all = few[0].to_bitmap();
            for more in &few[1..] {
                match more {
                    Refs::Many(bitmap) => all |= bitmap.as_ref(),
                    small => small.for_each(|series| {
                        all.insert(series);
                    }),
                }
            }
            all
        }
        many => {
            // Setting bits in a plain array is far cheaper than growing a compressed set.
            let mut bits: Vec<u8> = Vec::new();
            for set in many {
                pace.work(1 + set.len() as usize / 4)?;
                set.for_each(|series| {
                    let at = series as usize / 8;
                    if at >= bits.len() {
                        bits.resize((at + 1).next_power_of_two(), 0);
                    }
                    bits[at] |= 1 << (series % 8);
                });
            }
            RoaringBitmap::from_lsb0_bytes(0, &bits)
        }
    })
}
