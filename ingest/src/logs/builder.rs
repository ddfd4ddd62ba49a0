//! Entries of a request as a door finds them: where line and fields lie, which stream they are of.
//!
//! What lies in the body stays there; what had to be unescaped or put together goes beside it.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Level, Signal, SourceKind};
use storage::entries::{Entry, EntryOutcome, EntryReason, EntryRows, Field, StreamRows};
use tenancy::Limits;

use super::cache::TenantLabels;
use super::json::{Text, unescape};
use super::labels::{Around, Pairs, Refused, StreamLabels, is_name};
use super::level;
use crate::caps::{WalkError, room};

/// How much one request may hold. All are far above what senders put into one, and keep a hostile
/// request's rows to a few times its body.
#[derive(Debug, Clone)]
pub(crate) struct EntryCaps {
    /// Entries. 40 bytes each.
    pub(crate) entries_max: usize,
    /// Fields of all entries. 16 bytes each.
    pub(crate) fields_max: usize,
    /// Streams, of which one may come several times. 20 bytes each.
    pub(crate) streams_max: usize,
    /// Bytes that are put together beside the body.
    pub(crate) spill_bytes_max: usize,
}

impl Default for EntryCaps {
    fn default() -> Self {
        Self {
            entries_max: 512 << 10,
            fields_max: 2 << 20,
            streams_max: 256 << 10,
            spill_bytes_max: 64 << 20,
        }
    }
}

/// What a door needs to know to take a body apart.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) limits: Arc<Limits>,
    /// Label `cluster` of streams that have none; empty for none.
    pub(crate) cluster: Arc<str>,
    /// When the request came, nanoseconds since the Unix epoch.
    pub(crate) now_ns: i64,
    pub(crate) caps: EntryCaps,
    /// Labels that are known.
    pub(crate) known: Arc<TenantLabels>,
}

/// Which stream entries are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) signal: Signal,
    pub(crate) kind: SourceKind,
    pub(crate) labels: Range<u32>,
    /// What its labels say of how bad its entries are.
    pub(crate) level: Option<Level>,
}

/// An entry but for its fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    /// When it happened; `None`: when it came.
    pub(crate) at_ns: Option<i64>,
    /// Where its bytes lie.
    pub(crate) place: Range<u32>,
    /// What its fields say of how bad it is; `None`: the stream's labels or the line say it.
    pub(crate) level: Option<Level>,
}

/// Fills the rows of one request.
pub(crate) struct Entries<'w, 'a> {
    pub(crate) rows: &'w mut EntryRows<'a>,
    pub(crate) context: &'w Context,
    /// What was refused so far.
    pub(crate) refused: EntryOutcome,
    /// Audit records in which secrets were masked.
    pub(crate) masked: u64,
    /// Encodings that lie beside the body already.
    encodings: HashMap<Box<[u8]>, Range<u32>>,
    /// Names that lie beside the body already.
    names: HashMap<Box<[u8]>, Range<u32>>,
    /// Where the entries begin that belong to no stream yet.
    entries_from: usize,
    /// Where the fields begin that belong to no entry yet.
    fields_from: usize,
}

impl<'w, 'a> Entries<'w, 'a> {
    pub(crate) fn new(rows: &'w mut EntryRows<'a>, context: &'w Context) -> Self {
        Self {
            rows,
            context,
            refused: EntryOutcome::default(),
            masked: 0,
            encodings: HashMap::new(),
            names: HashMap::new(),
            entries_from: 0,
            fields_from: 0,
        }
    }

    /// Where bytes lie: in the body if they are part of it, else they are put beside it.
    #[inline]
    pub(crate) fn place(&mut self, bytes: &[u8]) -> Result<Range<u32>, WalkError> {
        let body = self.rows.body.as_ptr() as usize;
        let start = (bytes.as_ptr() as usize).wrapping_sub(body);
        // Places of an empty slice may be anywhere.
        if start < self.rows.body.len() && bytes.len() <= self.rows.body.len() - start {
            return Ok(start as u32..(start + bytes.len()) as u32);
        }
        self.put(bytes)
    }

    /// Puts bytes beside the body.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<Range<u32>, WalkError> {
        let limit = self.context.caps.spill_bytes_max;
        let full = WalkError::TooMany { what: "bytes that are put together", limit };
        if self.rows.spill.len() + bytes.len() > limit {
            return Err(full);
        }
        self.rows.put(bytes).ok_or(full)
    }

    /// Where what a JSON text means lies.
    pub(crate) fn text(&mut self, text: Text<'_>) -> Result<Range<u32>, WalkError> {
        if !text.is_escaped {
            return self.place(text.raw);
        }
        // What it means is no longer than how it is written.
        let limit = self.context.caps.spill_bytes_max;
        let start = self.rows.body.len() + self.rows.spill.len();
        let end = start + text.raw.len();
        if self.rows.spill.len() + text.raw.len() > limit || u32::try_from(end).is_err() {
            return Err(WalkError::TooMany { what: "bytes that are put together", limit });
        }
        unescape(text.raw, &mut self.rows.spill);
        Ok(start as u32..(self.rows.body.len() + self.rows.spill.len()) as u32)
    }

    /// The same, as UTF-8.
    pub(crate) fn utf8_text(&mut self, text: Text<'_>) -> Result<Range<u32>, WalkError> {
        // Escapes mean characters: what is UTF-8 with them is UTF-8 without.
        match std::str::from_utf8(text.raw) {
            Ok(_) => self.text(text),
            Err(_) => self.put(text.str().as_bytes()),
        }
    }

    /// Where bytes lie as UTF-8: what is not is replaced.
    pub(crate) fn utf8(&mut self, bytes: &[u8]) -> Result<Range<u32>, WalkError> {
        match std::str::from_utf8(bytes) {
            Ok(_) => self.place(bytes),
            Err(_) => self.put(String::from_utf8_lossy(bytes).as_bytes()),
        }
    }

    /// Where a field's name lies: letters, digits and underscores, as queries name it.
    pub(crate) fn name(&mut self, name: &[u8]) -> Result<Range<u32>, WalkError> {
        let is_good = std::str::from_utf8(name).is_ok_and(is_name);
        if is_good && !name.is_empty() {
            let body = self.rows.body.as_ptr_range();
            if body.contains(&name.as_ptr()) {
                return self.place(name);
            }
        }
        if let Some(known) = self.names.get(name) {
            return Ok(known.clone());
        }
        let place = match is_good {
            true => self.put(name)?,
            false => self.put(sanitised(name).as_bytes())?,
        };
        self.names.insert(name.into(), place.clone());
        Ok(place)
    }

    /// Adds a field to the entry that comes next.
    #[inline]
    pub(crate) fn field(&mut self, name: Range<u32>, value: Range<u32>) -> Result<(), WalkError> {
        room(self.rows.fields.len(), self.context.caps.fields_max, "fields")?;
        self.rows.fields.push(Field { name, value });
        Ok(())
    }

    /// Adds a field by its bytes.
    pub(crate) fn field_of(&mut self, name: &[u8], value: &[u8]) -> Result<(), WalkError> {
        if value.is_empty() {
            return Ok(());
        }
        let (name, value) = (self.name(name)?, self.utf8(value)?);
        self.field(name, value)
    }

    /// Adds an entry with the fields since the one before; it belongs to the stream that is
    /// [named](Self::of_stream) next. Its number.
    #[inline]
    pub(crate) fn entry(&mut self, line: Line) -> Result<u32, WalkError> {
        room(self.rows.entries.len(), self.context.caps.entries_max, "entries")?;
        let number = self.rows.entries.len() as u32;
        let fields = self.fields_from as u32..self.rows.fields.len() as u32;
        self.fields_from = self.rows.fields.len();
        self.rows.entries.push(Entry {
            at_ns: line.at_ns.unwrap_or(self.context.now_ns),
            has_own_time: line.at_ns.is_some(),
            line: line.place,
            fields,
            level: line.level.unwrap_or_default(),
            is_truncated: false,
        });
        Ok(number)
    }

    /// Lets go the fields since the last entry.
    pub(crate) fn forget_fields(&mut self) {
        self.rows.fields.truncate(self.fields_from);
    }

    /// Counts one entry as refused and lets go its fields.
    pub(crate) fn refuse(&mut self, reason: EntryReason, example: impl FnOnce() -> String) {
        self.forget_fields();
        self.refused.reject(reason, 1, example);
    }

    /// Says of which stream the entries are that came since the last one that was named.
    pub(crate) fn of_stream(&mut self, stream: &Stream) -> Result<(), WalkError> {
        let entries = self.entries_from as u32..self.rows.entries.len() as u32;
        if entries.is_empty() {
            return Ok(());
        }
        self.entries_from = self.rows.entries.len();
        for number in entries.start as usize..entries.end as usize {
            let entry = &self.rows.entries[number];
            if entry.level == Level::Unknown {
                let of_line = || level::of_line(self.rows.bytes(&entry.line));
                self.rows.entries[number].level = stream.level.unwrap_or_else(of_line);
            }
        }
        match self.rows.streams.last_mut() {
            Some(last) if last.labels == stream.labels && last.signal == stream.signal => {
                last.entries.end = entries.end;
            }
            _ => {
                room(self.rows.streams.len(), self.context.caps.streams_max, "streams")?;
                let Stream { signal, kind, labels, .. } = stream.clone();
                self.rows.streams.push(StreamRows { signal, kind, labels, entries });
            }
        }
        Ok(())
    }

    /// Counts the entries that belong to no stream yet as refused, and lets them go.
    pub(crate) fn refuse_open(&mut self, (reason, text): Refused) {
        let count = (self.rows.entries.len() - self.entries_from) as u64;
        if count > 0 {
            self.refused.reject(reason, count, || text);
        }
        if let Some(first) = self.rows.entries.get(self.entries_from) {
            self.rows.fields.truncate(first.fields.start as usize);
        }
        self.rows.entries.truncate(self.entries_from);
        self.fields_from = self.rows.fields.len();
    }

    /// The stream of labels that were read, or why there is none; the outer error is of the request.
    pub(crate) fn stream(
        &mut self,
        labels: &StreamLabels,
        signal: Signal,
    ) -> Result<Result<Stream, Refused>, WalkError> {
        if let Err(refused) = labels.check(&self.context.limits) {
            return Ok(Err(refused));
        }
        let place = match self.encodings.get(&labels.encoded) {
            Some(place) => place.clone(),
            None => {
                let place = self.put(&labels.encoded)?;
                self.encodings.insert(labels.encoded.clone(), place.clone());
                place
            }
        };
        Ok(Ok(Stream { signal, kind: labels.kind, labels: place, level: labels.level }))
    }

    /// The stream of pairs.
    pub(crate) fn stream_of(
        &mut self,
        pairs: &mut Pairs<'_>,
        signal: Signal,
        kind: SourceKind,
    ) -> Result<Result<Stream, Refused>, WalkError> {
        let cluster = Arc::clone(&self.context.cluster);
        match StreamLabels::of(pairs, Around { signal, kind, cluster: &cluster }) {
            Ok(labels) => self.stream(&labels, signal),
            Err(refused) => Ok(Err(refused)),
        }
    }
}

/// A name as queries can write it: what is neither letter, digit nor underscore becomes an underscore.
pub(crate) fn sanitised(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    for c in String::from_utf8_lossy(name).chars() {
        if out.is_empty() && c.is_ascii_digit() {
            out.push('_');
        }
        out.push(if c.is_ascii_alphanumeric() { c } else { '_' });
    }
    if out.is_empty() {
        out.push('_');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_such_as_queries_can_write() {
        for (name, good) in [
            ("a", "a"),
            ("k8s.pod.name", "k8s_pod_name"),
            ("1st", "_1st"),
            ("é", "_"),
            ("", "_"),
            ("a-b/c", "a_b_c"),
        ] {
            assert_eq!(sanitised(name.as_bytes()), good);
        }
        assert_eq!(sanitised(b"a\xff"), "a_");
    }
}
