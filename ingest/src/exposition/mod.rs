//! Exposition formats: what targets answer a scrape with.

mod text;

pub use text::{Entry, TextError, TextParser};
