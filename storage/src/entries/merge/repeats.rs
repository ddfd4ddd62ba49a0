//! Rows that repeat one before: equal in stream, instant, line, fields and level, with a time of
//! their own. Of these the first stays, as at a flush and in an answer.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::entries::page::{Mark, Row};
use crate::entries::streams::Stream;

/// Bytes of the rows of one stream and instant that are remembered. What is repeated behind them
/// stays until it is asked for.
const BYTES_MAX: usize = 64 << 20;

/// The rows of one stream and instant so far.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    stream: Option<Arc<Stream>>,
    at_ns: Option<i64>,
    rows: Vec<(Mark, Range<usize>, Range<usize>)>,
    bytes: Vec<u8>,
    /// Places in `rows`, from the second row on.
    table: HashTable<u32>,
}

impl Repeats {
    /// What follows is of this stream.
    pub(super) fn turn_to(&mut self, stream: &Arc<Stream>) {
        let is_same = self.stream.as_ref().is_some_and(|known| known.order(stream).is_eq());
        if !is_same {
            (self.stream, self.at_ns) = (Some(Arc::clone(stream)), None);
        }
    }

    /// Whether a row repeats one before; rows come in order of instants.
    pub(super) fn has(&mut self, row: &Row<'_>) -> bool {
        if self.at_ns != Some(row.at_ns) {
            self.at_ns = Some(row.at_ns);
            self.rows.clear();
            self.bytes.clear();
            if !self.table.is_empty() {
                self.table.clear();
            }
        }
        if !row.mark.has_own_time() {
            return false;
        }
        if self.rows.len() == 1 && self.table.is_empty() {
            let first = self.hash_of(0);
            self.table.insert_unique(first, 0, |_| first);
        }
        let hash = hash(row.mark, row.line, row.fields);
        let (rows, bytes) = (&self.rows, &self.bytes);
        let is_same = |at: &u32| {
            let (mark, line, fields) = &rows[*at as usize];
            *mark == row.mark
                && bytes[line.clone()] == *row.line
                && bytes[fields.clone()] == *row.fields
        };
        if self.table.find(hash, is_same).is_some() {
            return true;
        }
        if self.bytes.len() < BYTES_MAX {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(row.line);
            let end = self.bytes.len();
            self.bytes.extend_from_slice(row.fields);
            let number = self.rows.len() as u32;
            self.rows.push((row.mark, start..end, end..self.bytes.len()));
            if number > 0 {
                let (rows, bytes) = (&self.rows, &self.bytes);
                let again = |at: &u32| {
                    let (mark, line, fields) = &rows[*at as usize];
                    self::hash(*mark, &bytes[line.clone()], &bytes[fields.clone()])
                };
                self.table.insert_unique(hash, number, again);
            }
        }
        false
    }

    fn hash_of(&self, at: usize) -> u64 {
        let (mark, line, fields) = &self.rows[at];
        hash(*mark, &self.bytes[line.clone()], &self.bytes[fields.clone()])
    }
}

fn hash(mark: Mark, line: &[u8], fields: &[u8]) -> u64 {
    xxh3_64(line) ^ xxh3_64(fields).rotate_left(1) ^ u64::from(mark.0)
}

#[cfg(test)]
mod tests {
    use model::{Labels, Level, Signal, SourceKind};
    use tenancy::TenantId;

    use super::*;

    #[test]
    fn equal_rows_of_an_instant_are_one_where_the_time_is_their_own() {
        let mut repeats = Repeats::default();
        let mut check = |at_ns, own, line: &str, fields: &str, expected| {
            let mark = Mark::new(Level::Info, own, false);
            let row =
                Row { stream: 0, at_ns, mark, line: line.as_bytes(), fields: fields.as_bytes() };
            assert_eq!(repeats.has(&row), expected, "{at_ns} {line} {fields}");
        };
        check(1, true, "a", "", false);
        check(1, true, "a", "", true);
        check(1, true, "b", "", false);
        check(1, true, "", "b", false);
        check(1, true, "b", "", true);
        check(1, false, "a", "", false);
        check(1, true, "a", "", true);
        check(2, true, "a", "", false);
        for i in 0..100 {
            check(2, true, &i.to_string(), "", false);
        }
        check(2, true, "57", "", true);
        check(3, true, "57", "", false);
        let stream = |app: &str| {
            let (labels, signal) = (Labels::from_pairs([("app", app)]), Signal::Logs);
            let (tenant, kind, id) = (TenantId(1), SourceKind::Other, labels.series_id());
            Arc::new(Stream { tenant, signal, kind, id, labels })
        };
        let mark = Mark::new(Level::Info, true, false);
        let row = Row { stream: 0, at_ns: 3, mark, line: b"57", fields: b"" };
        for (app, expected) in [("a", false), ("a", true), ("b", false), ("b", true), ("a", false)]
        {
            repeats.turn_to(&stream(app));
            assert_eq!(repeats.has(&row), expected, "{app}");
        }
    }
}
