//! What a tenant's limits make of entries: lines are cut, entries that can never be stored refused.

use storage::entries::{Entry, EntryOutcome, EntryReason, EntryRows, StreamRows};
use tenancy::{Limits, Retention};

use super::time;
use crate::remote_write::shortened;

/// Which entries were refused, and what is told of them.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Counted by reason.
    pub(crate) outcome: EntryOutcome,
    /// Their numbers, for doors that answer each.
    pub(crate) numbers: Vec<(u32, EntryReason)>,
}

/// Cuts lines and takes entries off the streams that are over the limits.
pub(crate) fn fit(
    rows: &mut EntryRows<'_>,
    streams: Vec<StreamRows>,
    limits: &Limits,
    now_ns: i64,
    refusals: &mut Refusals,
) -> Vec<StreamRows> {
    cut_lines(rows, &streams, limits.entry_line_bytes_max);
    let bounds = Bounds::of(limits, now_ns);
    let mut kept = Vec::with_capacity(streams.len());
    for stream in streams {
        let mut from = stream.entries.start;
        for number in stream.entries.clone() {
            let entry = &rows.entries[number as usize];
            let Some(wrong) = bounds.wrong_with(rows, &stream, entry) else { continue };
            let (reason, text) = wrong;
            refusals.outcome.reject(reason, 1, || {
                let labels = model::Labels::from_wire(rows.bytes(&stream.labels));
                let labels = labels.unwrap_or_default().to_string();
                text.told(&shortened(labels.as_bytes()))
            });
            refusals.numbers.push((number, reason));
            if from < number {
                kept.push(StreamRows { entries: from..number, ..stream.clone() });
            }
            from = number + 1;
        }
        match from == stream.entries.start {
            true => kept.push(stream),
            false if from < stream.entries.end => {
                kept.push(StreamRows { entries: from..stream.entries.end, ..stream });
            }
            false => {}
        }
    }
    kept
}

/// Cuts at the last whole character that fits.
fn cut_lines(rows: &mut EntryRows<'_>, streams: &[StreamRows], limit: usize) {
    for stream in streams {
        for number in stream.entries.clone() {
            let line = rows.entries[number as usize].line.clone();
            if line.len() <= limit {
                continue;
            }
            let cut = whole_characters(rows.bytes(&line), limit) as u32;
            let entry = &mut rows.entries[number as usize];
            entry.line.end = entry.line.start + cut;
            entry.is_truncated = true;
        }
    }
}

/// Where to cut so that no character is cut; bytes that are not UTF-8 are cut anywhere.
fn whole_characters(line: &[u8], limit: usize) -> usize {
    let is_start = |at: &usize| line.get(*at).is_none_or(|b| b & 0xc0 != 0x80);
    (limit.saturating_sub(3)..=limit).rev().find(is_start).unwrap_or(limit)
}

/// A tenant's limits of single entries.
struct Bounds<'l> {
    limits: &'l Limits,
    now_ns: i64,
    newest_ns: i64,
}

/// What is wrong with an entry.
enum Wrong {
    Old { at_ns: i64, oldest_ns: i64 },
    New { at_ns: i64 },
    Fields { count: usize, limit: usize },
    FieldBytes { bytes: usize, limit: usize },
}

impl Wrong {
    /// The beginnings are what Loki says, which operators know.
    fn told(&self, stream: &str) -> String {
        match *self {
            Self::Old { at_ns, oldest_ns } => format!(
                "entry for stream '{stream}' has timestamp too old: {}, oldest acceptable timestamp is: {}",
                time::shown(at_ns),
                time::shown(oldest_ns)
            ),
            Self::New { at_ns } => format!(
                "entry for stream '{stream}' has timestamp too new: {} (future_seconds_max)",
                time::shown(at_ns)
            ),
            Self::Fields { count, limit } => format!(
                "stream '{stream}' has too many structured metadata labels: '{count}', limit: '{limit}' \
                 (entry_fields_max)"
            ),
            Self::FieldBytes { bytes, limit } => format!(
                "stream '{stream}' has structured metadata too large: '{bytes}' bytes, limit: '{limit}' bytes \
                 (entry_fields_bytes_max)"
            ),
        }
    }
}

impl<'l> Bounds<'l> {
    fn of(limits: &'l Limits, now_ns: i64) -> Self {
        let future_ns = limits.future_seconds_max.saturating_mul(1_000_000_000);
        let future_ns = i64::try_from(future_ns).unwrap_or(i64::MAX);
        Self { limits, now_ns, newest_ns: now_ns.saturating_add(future_ns) }
    }

    fn wrong_with(
        &self,
        rows: &EntryRows<'_>,
        stream: &StreamRows,
        entry: &Entry,
    ) -> Option<(EntryReason, Wrong)> {
        let kept_seconds = self.limits.entries_retention_seconds(stream.signal);
        let oldest_ms = Retention::oldest_ms(kept_seconds, self.now_ns / 1_000_000);
        let (at_ns, oldest_ns) = (entry.at_ns, oldest_ms.saturating_mul(1_000_000));
        if at_ns < oldest_ns {
            return Some((EntryReason::TooOld, Wrong::Old { at_ns, oldest_ns }));
        }
        if at_ns > self.newest_ns {
            return Some((EntryReason::TooFarInFuture, Wrong::New { at_ns }));
        }
        let fields = &rows.fields[entry.fields.start as usize..entry.fields.end as usize];
        let (count, limit) = (fields.len(), self.limits.entry_fields_max);
        if count > limit {
            return Some((EntryReason::TooManyFields, Wrong::Fields { count, limit }));
        }
        let bytes = fields.iter().map(|field| field.name.len() + field.value.len()).sum();
        let limit = self.limits.entry_fields_bytes_max;
        (bytes > limit).then_some((EntryReason::FieldsTooLong, Wrong::FieldBytes { bytes, limit }))
    }
}

/// Entries and bytes that streams hold: what is admitted.
pub(crate) fn priced(rows: &EntryRows<'_>, streams: &[StreamRows]) -> [u64; 2] {
    let (mut entries, mut bytes) = (0, 0);
    for stream in streams {
        let of_stream = &rows.entries[stream.entries.start as usize..stream.entries.end as usize];
        entries += of_stream.len() as u64;
        let lines = of_stream.iter().map(|entry| entry.line.len());
        // Fields of neighbours are neighbours.
        let fields = match (of_stream.first(), of_stream.last()) {
            (Some(first), Some(last)) => first.fields.start as usize..last.fields.end as usize,
            _ => 0..0,
        };
        let fields = rows.fields.get(fields).unwrap_or_default();
        let fields = fields.iter().map(|field| field.name.len() + field.value.len());
        bytes += lines.chain(fields).sum::<usize>() as u64;
    }
    [entries, bytes]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_between_characters() {
        for (line, limit, kept) in [
            ("abcdef", 4, "abcd"),
            ("aé", 2, "a"),
            ("aé", 3, "aé"),
            ("😀😀", 7, "😀"),
            ("😀", 3, ""),
            ("abc", 9, "abc"),
        ] {
            let line_bytes = line.as_bytes();
            let cut = whole_characters(line_bytes, limit).min(line_bytes.len());
            assert_eq!(&line_bytes[..cut], kept.as_bytes(), "{line} at {limit}");
        }
        assert_eq!(whole_characters(&[0x80; 10], 5), 5, "no character to be found");
    }
}
