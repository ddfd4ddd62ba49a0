//! Downsampled rows: of each series and window of five minutes or an hour what matters of its
//! samples, made once a day is over and kept in blocks of their own.
//!
//! ```text
//! blocks of a day ─┐
//! windows so far  ─┴─► fold (plain function) ─► blocks of windows ─► ONE manifest edit
//! select_windows ─► days that have them: blocks of windows; other days: folded from raw rows
//! ```
//!
//! Invariants: a window is made from all rows that can be read, and made anew when more come; it
//! is never made from fewer than before, unless some were deleted: rows as they came may be kept
//! for a shorter time. What a deletion touches is never shown, even if only a part was meant and
//! the rows to make the window anew are gone.

mod config;
mod fold;
mod histograms;
mod select;
#[cfg(test)]
mod tests;
mod windows;

pub use config::Config;
pub(crate) use fold::fold;
pub use select::{FetchedWindows, SelectWindows, WindowSelection};
pub(crate) use windows::COLUMNS;
pub use windows::{HistogramWindow, Windows};
