//! Exposition formats: what targets answer a scrape with.

mod text;

#[cfg(test)]
mod tests;

pub use text::{Entry, TextError, TextParser};
