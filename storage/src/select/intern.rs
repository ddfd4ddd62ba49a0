//! Timestamp vectors shared by many series: series of one scrape target are asked for together and
//! have the same instants, so the engine computes window bounds once for all of them.

use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::block::Joined;

/// Gives equal vectors the same `Arc`.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    known: Mutex<HashTable<Arc<[i64]>>>,
    joined: Joined,
    followed: Mutex<HashMap<(usize, usize), Followed>>,
}

/// A vector, one that comes after it, and both in one. They are known by where they lie, so they
/// stay there.
#[derive(Debug)]
struct Followed {
    _first: Arc<[i64]>,
    _then: Arc<[i64]>,
    both: Arc<[i64]>,
}

/// More distinct vectors than this are not shared any more: then nothing is gained by looking.
const VECTORS_MAX: usize = 65_536;

impl Interner {
    /// The shared vector with these instants.
    pub(crate) fn intern(&self, timestamps: Vec<i64>) -> Arc<[i64]> {
        let hash = hash_of(&timestamps);
        let mut known = self.known.lock();
        if let Some(found) = known.find(hash, |v| **v == *timestamps) {
            return Arc::clone(found);
        }
        let shared: Arc<[i64]> = timestamps.into();
        if known.len() < VECTORS_MAX {
            known.insert_unique(hash, Arc::clone(&shared), |v| hash_of(v));
        }
        shared
    }

    /// The shared vector of a shared one and what comes after it.
    pub(crate) fn followed(&self, first: Arc<[i64]>, then: &Arc<[i64]>) -> Arc<[i64]> {
        if then.is_empty() {
            return first;
        }
        if first.is_empty() {
            return Arc::clone(then);
        }
        let key = (first.as_ptr() as usize, then.as_ptr() as usize);
        if let Some(known) = self.followed.lock().get(&key) {
            return Arc::clone(&known.both);
        }
        let both = self.intern([&*first, then].concat());
        let mut known = self.followed.lock();
        if known.len() < VECTORS_MAX {
            let new = Followed { _first: first, _then: Arc::clone(then), both: Arc::clone(&both) };
            known.insert(key, new);
        }
        both
    }

    /// Vectors by the chunks they are made of.
    pub(crate) fn joined(&self) -> &Joined {
        &self.joined
    }
}

/// By length, ends and a sample of the middle: enough to tell vectors of different targets apart
/// (equality is checked anyway) without reading megabytes twice.
fn hash_of(timestamps: &[i64]) -> u64 {
    let mut picked = [0u8; 8 * 34];
    let step = timestamps.len().div_ceil(32).max(1);
    let mut at = 0;
    let mut put = |value: i64| {
        picked[at..at + 8].copy_from_slice(&value.to_le_bytes());
        at += 8;
    };
    put(timestamps.len() as i64);
    timestamps.iter().step_by(step).for_each(|&t| put(t));
    put(timestamps.last().copied().unwrap_or(0));
    xxh3_64(&picked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_vectors_are_shared_and_others_are_not() {
        let interner = Interner::default();
        for length in [0usize, 1, 31, 32, 33, 64, 65, 1_000] {
            let vector: Vec<i64> = (0..length as i64).map(|i| i * 15_000).collect();
            let first = interner.intern(vector.clone());
            assert_eq!(*first, *vector);
            assert!(Arc::ptr_eq(&first, &interner.intern(vector.clone())));
            let mut other = vector;
            other.push(-1);
            assert!(!Arc::ptr_eq(&first, &interner.intern(other)));
        }
    }
}
