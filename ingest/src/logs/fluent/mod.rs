//! Fluent forward: what Fluentd and Fluent Bit send to one another, MessagePack over TCP.
//!
//! ```text
//! [tag, time, record, option?]                    one record
//! [tag, [[time, record], …], option?]             some
//! [tag, bytes of [time, record] …, option?]       packed; option {"compressed": "gzip"}
//! ```
//!
//! A message whose option names a `chunk` is acknowledged once it is on disk; one that comes again
//! under the same name is not stored again. A record is a document as others are.

mod msgpack;
mod serve;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::builder::Entries;
use super::document::{Documents, Naming};
use super::intake::TakeEntries;
use crate::caps::WalkError;
use crate::intake::{Encoding, Inflated, Refusal, inflate};
use msgpack::{Reader, Value, event_time_ns, to_json};
pub use serve::serve;

/// A listener for Fluent forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FluentConfig {
    /// Address, for instance `0.0.0.0:24224`; empty for none.
    pub listen: String,
    /// Name of the tenant that everything belongs to: senders cannot say one.
    pub tenant: String,
    /// Longest message in bytes. Fluent Bit's chunks have 2 MB.
    pub message_bytes_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
    /// Seconds without a byte after which a connection is closed.
    pub idle_seconds_max: u64,
}

impl Default for FluentConfig {
    fn default() -> Self {
        Self {
            listen: String::new(),
            tenant: "default".to_owned(),
            message_bytes_max: 16 << 20,
            connections_max: 1_000,
            idle_seconds_max: 600,
        }
    }
}

impl FluentConfig {
    /// What is wrong with the settings, by key.
    pub fn check(&self) -> Result<(), String> {
        if !(1 << 10..=32 << 20).contains(&self.message_bytes_max) {
            return Err("logs.fluent.message_bytes_max must be 1024 to 33554432".to_owned());
        }
        if self.connections_max == 0 || self.connections_max > 100_000 {
            return Err("logs.fluent.connections_max must be 1 to 100000".to_owned());
        }
        if self.idle_seconds_max == 0 {
            return Err("logs.fluent.idle_seconds_max must be at least 1".to_owned());
        }
        Ok(())
    }
}

/// What the third or fourth part of a message says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    chunk: Option<&'a [u8]>,
    compressed: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn read(mut reader: Reader<'a>) -> Option<Self> {
        let mut options = Self::default();
        let Value::Map(count) = reader.value()? else { return Some(options) };
        for _ in 0..count {
            let name = reader.value()?;
            let mut value = Reader { bytes: reader.skip()? };
            if let (Value::Bytes(name), Some(Value::Bytes(value))) = (name, value.value()) {
                match name {
                    b"chunk" => options.chunk = Some(value),
                    b"compressed" => options.compressed = Some(value),
                    _ => {}
                }
            }
        }
        Some(options)
    }
}

/// The name of a message's chunk, if it wants to be acknowledged.
fn chunk_of(message: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader { bytes: message };
    let Value::Array(parts) = reader.value()? else { return None };
    reader.skip()?;
    let mut second = Reader { bytes: reader.skip()? };
    if !matches!(second.value()?, Value::Array(_) | Value::Bytes(_)) {
        reader.skip()?;
    }
    if parts < 3 || reader.bytes.is_empty() { None } else { Options::read(reader)?.chunk }
}

/// One message.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// Documents are made of records here.
    json: Vec<u8>,
}

fn malformed() -> WalkError {
    WalkError::Wrong("the message is not of Fluent's forward protocol".to_owned())
}

impl TakeEntries for Message {
    fn take_entries<'a>(
        &mut self,
        body: &'a [u8],
        out: &mut Entries<'_, 'a>,
    ) -> Result<(), Refusal> {
        let mut reader = Reader { bytes: body };
        let Some(Value::Array(2..=4)) = reader.value() else { return Err(malformed().into()) };
        let Some(Value::Bytes(tag)) = reader.value() else { return Err(malformed().into()) };
        let tag = String::from_utf8_lossy(tag);
        out.rows.batch = chunk_of(body).map(xxh3_128);
        let mut ahead = reader;
        match ahead.value().ok_or_else(malformed)? {
            Value::Array(count) => self.pairs(&mut ahead, Some(count), &tag, out)?,
            Value::Bytes(packed) => {
                let options = match ahead.bytes {
                    [] => Options::default(),
                    _ => Options::read(ahead).ok_or_else(malformed)?,
                };
                let encoding = match options.compressed {
                    None | Some(b"text") => Encoding::Identity,
                    Some(b"gzip") => Encoding::Gzip,
                    Some(b"zstd") => Encoding::Zstd,
                    Some(_) => return Err(malformed().into()),
                };
                let limit = out.context.limits.body_decompressed_bytes_max;
                let mut inflated = Inflated::default();
                let bytes = inflate(encoding, packed, limit, &mut inflated)?;
                self.pairs(&mut Reader { bytes }, None, &tag, out)?;
            }
            _ => self.pair(&mut reader, &tag, out)?,
        }
        Ok(())
    }
}

impl Message {
    /// Pairs of time and record, so many or up to the end.
    fn pairs(
        &mut self,
        reader: &mut Reader<'_>,
        count: Option<u32>,
        tag: &str,
        out: &mut Entries<'_, '_>,
    ) -> Result<(), WalkError> {
        let mut left = count;
        while left != Some(0) && !(left.is_none() && reader.bytes.is_empty()) {
            let Some(Value::Array(2)) = reader.value() else { return Err(malformed()) };
            self.pair(reader, tag, out)?;
            left = left.map(|left| left - 1);
        }
        Ok(())
    }

    /// A time, or a list of a time and what is known of the event, and a record.
    fn pair(
        &mut self,
        reader: &mut Reader<'_>,
        tag: &str,
        out: &mut Entries<'_, '_>,
    ) -> Result<(), WalkError> {
        let mut time = Reader { bytes: reader.skip().ok_or_else(malformed)? };
        let at_ns = match time.value() {
            Some(Value::Array(2)) => time.value().and_then(at_ns),
            Some(value) => at_ns(value),
            None => None,
        };
        let mut record = *reader;
        let Some(Value::Map(_)) = record.value() else { return Err(malformed()) };
        self.json.clear();
        to_json(reader, &mut self.json, 0).ok_or_else(malformed)?;
        let naming = Naming::default();
        let documents = Documents { naming: &naming, otherwise: ("tag", tag), at_ns };
        let _ = documents.take(&self.json, out)?;
        Ok(())
    }
}

fn at_ns(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Extension(kind, bytes) => event_time_ns(kind, bytes),
        // Zero is what those write who know none.
        Value::Unsigned(0) => None,
        Value::Unsigned(seconds) => i64::try_from(seconds).ok()?.checked_mul(1_000_000_000),
        Value::Float(seconds) if seconds > 0.0 && seconds < 9e9 => Some((seconds * 1e9) as i64),
        _ => None,
    }
}
