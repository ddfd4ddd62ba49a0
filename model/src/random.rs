//! Randomness, as a part: tests seed it, production takes it from the operating system.

use std::fmt::Debug;

/// A source of random numbers, good enough for hash keys and secrets.
pub trait Random: Debug + Send + Sync {
    /// The next 64 bits.
    fn next_u64(&self) -> u64;
}

/// The operating system's random numbers.
#[derive(Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        getrandom::u64().expect("the operating system always has random numbers after boot")
    }
}
