//! The head as its owner uses it.
