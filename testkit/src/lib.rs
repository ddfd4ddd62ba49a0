//! What tests stand on: time set by hand, randomness by seed, a disk and an object store that
//! fail on demand, golden files. The architecture rules of the workspace are this crate's tests.
//!
//! Never here: anything a shipped binary links.

mod clock;
mod disk;
mod random;

pub use clock::ManualClock;
pub use disk::{Fault, FaultyDisk};
pub use random::SeededRandom;
