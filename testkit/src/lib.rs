//! What tests stand on: time set by hand, randomness by seed, a disk and an object store that
//! fail on demand, golden files. The architecture rules of the workspace are this crate's tests.
//!
//! Never here: anything a shipped binary links.

mod clock;
mod disk;
pub mod golden;
pub mod http;
pub mod logs;
mod objects;
mod python;
mod random;
mod reference;
pub mod remote_write;
pub mod remote_write_v2;
mod s3;

pub use clock::ManualClock;
pub use disk::{Fault, FaultyDisk};
pub use objects::{FaultyObjects, ObjectFault, Request};
pub use python::python;
pub use random::SeededRandom;
pub use reference::{package_dir, reference, workspace_root};
pub use s3::{S3Fault, S3Plan, S3Server};

/// A label set: `labels! { __name__ = "up", job = "node" }`.
#[macro_export]
macro_rules! labels {
    ($($name:ident = $value:expr),* $(,)?) => {
        $crate::from_pairs(&[$((stringify!($name), ::core::convert::AsRef::<str>::as_ref(&$value))),*])
    };
}

/// What [`labels!`] stands on.
#[doc(hidden)]
pub fn from_pairs(pairs: &[(&str, &str)]) -> model::Labels {
    model::Labels::from_pairs(pairs.iter().copied())
}
