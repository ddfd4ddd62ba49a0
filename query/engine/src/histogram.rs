//! Arithmetic on native histograms. Each operation has a fast path for operands whose buckets lie
//! at the same places, which those of one metric mostly do; the others are aligned first: equal
//! zero buckets, the coarser schema, the bounds that both have.
//!
//! Nothing here knows series, steps or plans.

mod align;
mod arithmetic;
mod buckets;
mod quantile;
mod read;
mod reset;
mod text;
mod trim;
mod variance;

pub(crate) use arithmetic::{Added, Incompatible, Mean, Sum, Term, compact, divide, scale};
pub(crate) use quantile::{Quantile, fraction, quantile};
pub(crate) use read::{Shows, read};
pub(crate) use reset::{fell, same};
pub(crate) use text::{go_g, text};
pub(crate) use trim::{Kept, trim};
pub(crate) use variance::variance;

#[cfg(test)]
pub(crate) mod testing;
