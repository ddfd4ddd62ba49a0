//! What becomes of changes that were not synced when the power failed, by a seed.

use crate::SeededRandom;

use super::image::{Change, Image, SECTOR_BYTES};

/// Decides what a crash keeps. Besides mixtures, the plain outcomes come up often, since most
/// mistakes show in one of them.
#[derive(Debug)]
pub(super) struct Fates {
    random: SeededRandom,
    manner: Manner,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// The kernel happened to write everything back.
    AllKept,
    /// Nothing was written back.
    AllDropped,
    /// Written back in order up to some point, where a write is torn.
    Prefix,
    /// Each change on its own, out of order.
    Mixed,
}

impl Fates {
    pub(super) fn new(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x7461_6666_7261_696c);
        let manner = match random.below(8) {
            0 => Manner::AllKept,
            1 => Manner::AllDropped,
            2 | 3 => Manner::Prefix,
            _ => Manner::Mixed,
        };
        Self { random, manner }
    }

    /// For each of `count` operations that happen whole or not at all: whether it did.
    pub(super) fn keep(&self, count: usize) -> Vec<bool> {
        let prefix = self.random.below(count as u64 + 1) as usize;
        let fate = |i| match self.manner {
            Manner::AllKept => true,
            Manner::AllDropped => false,
            Manner::Prefix => i < prefix,
            Manner::Mixed => self.random.chance(50),
        };
        (0..count).map(fate).collect()
    }

    /// Applies to `image` what the crash left of `changes`.
    pub(super) fn settle(&self, image: &mut Image, changes: &[Change]) {
        let prefix = self.random.below(changes.len() as u64 + 1) as usize;
        for (i, change) in changes.iter().enumerate() {
            let (kept, torn) = match self.manner {
                Manner::AllKept => (true, false),
                Manner::AllDropped => (false, false),
                Manner::Prefix => (i < prefix, i == prefix),
                Manner::Mixed => match self.random.below(10) {
                    0..=3 => (true, false),
                    4..=7 => (false, false),
                    _ => (false, true),
                },
            };
            if kept {
                image.apply(change);
            } else if torn {
                self.tear(image, change);
            }
        }
    }

    /// Some sectors of a write, not always the first ones; perhaps the new length without data.
    fn tear(&self, image: &mut Image, change: &Change) {
        let Change::Write { offset, data } = change else { return };
        let mut start = 0;
        while start < data.len() {
            let in_sector = SECTOR_BYTES - (offset + start as u64) % SECTOR_BYTES;
            let end = data.len().min(start + in_sector as usize);
            if self.random.chance(50) {
                image.write_at(&data[start..end], offset + start as u64);
            }
            start = end;
        }
        let end = offset + data.len() as u64;
        if end > image.bytes() && self.random.chance(30) {
            image.set_length(end);
        }
    }
}
