//! The walk: takes `PushRequest` apart where it lies.
//!
//! ```text
//! PushRequest { streams = 1 { labels = 1, hash = 3
//!   entries = 2 { timestamp = 1 { seconds = 1, nanos = 2 }, line = 2
//!                 structured_metadata = 3 { name = 1, value = 2 }, parsed = 4 } } }
//! ```

use std::ops::Range;

use storage::entries::EntryReason;

use super::close_stream;
use crate::caps::WalkError;
use crate::logs::builder::{Entries, Line};
use crate::logs::level;
use crate::wire::{Reader, WireError};

/// Takes a decompressed body apart.
pub(super) fn walk<'a>(body: &'a [u8], out: &mut Entries<'_, 'a>) -> Result<(), WalkError> {
    let mut request = Reader::new(body);
    while !request.is_at_end() {
        match request.varint()? {
            0x0a => stream(request.message()?, out)?,
            tag => request.skip(tag, &[1])?,
        }
    }
    Ok(())
}

fn stream<'a>(mut message: Reader<'a>, out: &mut Entries<'_, 'a>) -> Result<(), WalkError> {
    let mut labels = &b""[..];
    while !message.is_at_end() {
        match message.varint()? {
            0x12 => entry(message.message()?, out)?,
            0x0a => labels = message.slice()?,
            0x18 => {
                message.varint()?;
            }
            tag => message.skip(tag, &[1, 2, 3])?,
        }
    }
    close_stream(labels, out)
}

#[inline]
fn entry<'a>(mut message: Reader<'a>, out: &mut Entries<'_, 'a>) -> Result<(), WalkError> {
    let mut at = Ok(None);
    let mut line = Line::default();
    while !message.is_at_end() {
        match message.varint()? {
            0x0a => at = timestamp(message.message()?)?,
            0x12 => line.place = place(message.range()?),
            0x1a => metadata(message.message()?, out, &mut line)?,
            // What the sender took out of the line can be taken out again.
            0x22 => {
                message.range()?;
            }
            tag => message.skip(tag, &[1, 2, 3, 4])?,
        }
    }
    match at {
        // Without a time it is of 1970: too old, as in Loki.
        Ok(at_ns) => line.at_ns = Some(at_ns.unwrap_or(0)),
        Err((seconds, nanos)) => {
            out.refuse(EntryReason::InvalidTimestamp, || {
                format!("timestamp of {seconds} s and {nanos} ns is out of range")
            });
            return Ok(());
        }
    }
    out.entry(line)?;
    Ok(())
}

/// Bodies have less than 4 GiB.
fn place(range: Range<usize>) -> Range<u32> {
    range.start as u32..range.end as u32
}

/// Nanoseconds since the epoch, or what is out of range.
fn timestamp(mut message: Reader<'_>) -> Result<Result<Option<i64>, (i64, i64)>, WireError> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    while !message.is_at_end() {
        match message.varint()? {
            0x08 => seconds = message.varint()? as i64,
            0x10 => nanos = message.varint()? as i64,
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    let at_ns = seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(nanos));
    Ok(at_ns.map(Some).ok_or((seconds, nanos)))
}

fn metadata<'a>(
    mut message: Reader<'a>,
    out: &mut Entries<'_, 'a>,
    line: &mut Line,
) -> Result<(), WalkError> {
    let (mut name, mut value) = (&b""[..], &b""[..]);
    while !message.is_at_end() {
        match message.varint()? {
            0x0a => name = message.slice()?,
            0x12 => value = message.slice()?,
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    if level::is_level_name(name) {
        line.level = line.level.or_else(|| level::of_word(value));
    }
    out.field_of(name, value)
}
