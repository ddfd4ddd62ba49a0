//! Tests of remote write: the walk against a general decoder, and what senders are answered.

mod answers;
mod twin;
mod v2;
mod walks;
