//! Pages: some rows side by side, their lines one after the other in one buffer that is searched as
//! a whole. The head keeps rows in them, and a group of a segment becomes one when it is read.

use std::ops::Range;

use model::{Level, varint};

use super::segment::lines::Lines;

/// What follows each line in the buffer, so that a search for something without it never finds
/// what begins in one line and ends in the next.
pub(crate) const BETWEEN: u8 = b'\n';

/// Level, and how an entry came, in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark(pub(crate) u8);

impl Mark {
    const LEVEL: u8 = 7;
    const OWN_TIME: u8 = 8;
    const TRUNCATED: u8 = 16;

    pub(crate) fn new(level: Level, has_own_time: bool, is_truncated: bool) -> Self {
        let bit = |set, bit| if set { bit } else { 0 };
        Self(level as u8 | bit(has_own_time, Self::OWN_TIME) | bit(is_truncated, Self::TRUNCATED))
    }

    /// From the stored byte; `None` if this build does not know it.
    pub(crate) fn from_stored(byte: u8) -> Option<Self> {
        (byte & !(Self::LEVEL | Self::OWN_TIME | Self::TRUNCATED) == 0).then_some(Self(byte))
    }

    /// Everything but the level.
    pub(crate) fn flags(self) -> u8 {
        self.0 >> 3
    }

    /// From a level and flags as they are stored apart.
    pub(crate) fn of_stored(level: u8, flags: u8) -> Option<Self> {
        let is_known = level <= Self::LEVEL && flags <= (Self::OWN_TIME | Self::TRUNCATED) >> 3;
        is_known.then_some(Self(level | flags << 3))
    }

    pub(crate) fn level(self) -> Level {
        Level::from_stored(self.0 & Self::LEVEL).unwrap_or_default()
    }

    /// Whether the instant is the sender's own: then two equal entries are one.
    pub(crate) fn has_own_time(self) -> bool {
        self.0 & Self::OWN_TIME != 0
    }

    pub(crate) fn is_truncated(self) -> bool {
        self.0 & Self::TRUNCATED != 0
    }
}

/// One row, borrowed from its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// The number of its stream, where the page belongs.
    pub(crate) stream: u32,
    pub(crate) at_ns: i64,
    pub(crate) mark: Mark,
    pub(crate) line: &'a [u8],
    /// Its fields in canonical encoding ([`put_field`]).
    pub(crate) fields: &'a [u8],
}

/// Rows in the order in which they were pushed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    /// All lines, each followed by [`BETWEEN`].
    text: Vec<u8>,
    /// Where each line ends in `text`, what follows it not inside.
    ends: Vec<u32>,
    streams: Vec<u32>,
    at_ns: Vec<i64>,
    marks: Vec<Mark>,
    fields: Vec<u8>,
    field_ends: Vec<u32>,
    /// First and last instant, if there are rows.
    range: Option<(i64, i64)>,
}

impl Page {
    pub(crate) fn with_capacity(rows: usize, text_bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(text_bytes),
            ends: Vec::with_capacity(rows),
            streams: Vec::with_capacity(rows),
            at_ns: Vec::with_capacity(rows),
            marks: Vec::with_capacity(rows),
            fields: Vec::new(),
            field_ends: Vec::with_capacity(rows),
            range: None,
        }
    }

    /// Rows of which nothing is known yet but their lines.
    pub(crate) fn of_lines(lines: Lines) -> Self {
        Self { text: lines.text, ends: lines.ends, ..Self::default() }
    }

    /// Adds a row. Places are of four bytes: pages are closed, and requests bounded, long before.
    pub(crate) fn push(&mut self, row: Row<'_>) {
        self.text.extend_from_slice(row.line);
        self.ends.push(self.text.len() as u32);
        self.text.push(BETWEEN);
        self.streams.push(row.stream);
        self.at_ns.push(row.at_ns);
        self.marks.push(row.mark);
        self.fields.extend_from_slice(row.fields);
        self.field_ends.push(self.fields.len() as u32);
        let (first, last) = self.range.unwrap_or((row.at_ns, row.at_ns));
        self.range = Some((first.min(row.at_ns), last.max(row.at_ns)));
    }

    /// Takes all rows away, and keeps the memory for others.
    pub(crate) fn clear(&mut self) {
        let Self { text, ends, streams, at_ns, marks, fields, field_ends, range } = self;
        text.clear();
        ends.clear();
        streams.clear();
        at_ns.clear();
        marks.clear();
        fields.clear();
        field_ends.clear();
        *range = None;
    }

    /// So many rows of which nothing is known yet but that their lines are empty.
    pub(crate) fn of_empty_lines(rows: u64) -> Self {
        let (text, ends) = (vec![BETWEEN; rows as usize], (0..rows as u32).collect());
        Self { text, ends, ..Self::default() }
    }

    /// Adds lines that lie one after the other in `bytes`, the first from the first offset to the
    /// second. The rest of their rows follows.
    pub(crate) fn push_lines(&mut self, bytes: &[u8], offsets: &[i32]) {
        self.text.reserve_exact(bytes.len() + offsets.len());
        self.ends.reserve_exact(offsets.len());
        for pair in offsets.windows(2) {
            self.text.extend_from_slice(&bytes[pair[0] as usize..pair[1] as usize]);
            self.ends.push(self.text.len() as u32);
            self.text.push(BETWEEN);
        }
    }

    /// Adds streams, instants and marks of rows whose lines are there.
    pub(crate) fn push_columns(&mut self, streams: &[u32], at_ns: &[i64], marks: &[Mark]) {
        self.streams.extend_from_slice(streams);
        self.at_ns.extend_from_slice(at_ns);
        self.marks.extend_from_slice(marks);
        let span = at_ns.iter().min().zip(at_ns.iter().max());
        if let Some((first, last)) = span {
            let known = self.range.unwrap_or((*first, *last));
            self.range = Some((known.0.min(*first), known.1.max(*last)));
        }
    }

    /// Adds the fields of the next row whose line is there.
    pub(crate) fn push_fields(&mut self, fields: &[u8]) {
        self.fields.extend_from_slice(fields);
        self.field_ends.push(self.fields.len() as u32);
    }

    /// The same for rows of which nobody wants to know.
    pub(crate) fn push_no_fields(&mut self, rows: usize) {
        let end = self.fields.len() as u32;
        self.field_ends.extend(std::iter::repeat_n(end, rows));
    }

    pub(crate) fn rows(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of lines and fields.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.text.len() - self.rows() + self.fields.len()
    }

    /// Memory taken.
    pub(crate) fn heap_bytes(&self) -> usize {
        let columns = self.ends.capacity() * 4
            + self.streams.capacity() * 4
            + self.at_ns.capacity() * 8
            + self.marks.capacity()
            + self.field_ends.capacity() * 4;
        self.text.capacity() + self.fields.capacity() + columns
    }

    /// First and last instant, if there are rows.
    pub(crate) fn range(&self) -> Option<(i64, i64)> {
        self.range
    }

    /// All lines, each with what follows it.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(crate) fn streams(&self) -> &[u32] {
        &self.streams
    }

    pub(crate) fn instants(&self) -> &[i64] {
        &self.at_ns
    }

    pub(crate) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Where a line lies in the text.
    #[inline]
    pub(crate) fn place(&self, row: usize) -> Range<usize> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize + 1 };
        start..self.ends[row] as usize
    }

    /// The row that a byte of the text is in; what follows a line counts as its own.
    pub(crate) fn row_at(&self, at: usize, from: usize) -> usize {
        from + self.ends[from..].partition_point(|end| (*end as usize) < at)
    }

    #[inline]
    pub(crate) fn line(&self, row: usize) -> &[u8] {
        &self.text[self.place(row)]
    }

    #[inline]
    pub(crate) fn fields(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.field_ends[row - 1] as usize };
        &self.fields[start..self.field_ends[row] as usize]
    }

    #[inline]
    pub(crate) fn row(&self, row: usize) -> Row<'_> {
        Row {
            stream: self.streams[row],
            at_ns: self.at_ns[row],
            mark: self.marks[row],
            line: self.line(row),
            fields: self.fields(row),
        }
    }
}

/// Appends a field as labels are encoded (`model::Labels::encode`), but with a value that may be
/// empty. Canonical: in order of names, each once.
pub(crate) fn put_field(out: &mut Vec<u8>, name: &str, value: &str) {
    let length_of = |n: usize| {
        let bits = usize::BITS - (n | 1).leading_zeros();
        bits.div_ceil(7) as usize
    };
    let inner = 2 + length_of(name.len()) + name.len() + length_of(value.len()) + value.len();
    out.push(0x0a);
    varint::put(out, inner as u64);
    for (tag, text) in [(0x0a, name), (0x12, value)] {
        out.push(tag);
        varint::put(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Names and values of fields in canonical encoding. Ends at the first thing that is none: what is
/// stored was checked by [`are_fields`].
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let mut field = take_tagged(&mut self.0, 0x0a)?;
        let name = take_tagged(&mut field, 0x0a)?;
        let value = take_tagged(&mut field, 0x12)?;
        Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
    }
}

/// Whether bytes are fields in canonical encoding, all of them.
pub(crate) fn are_fields(bytes: &[u8]) -> bool {
    let mut fields = Fields(bytes);
    let mut last: Option<&str> = None;
    let mut again = Vec::with_capacity(bytes.len());
    for (name, value) in &mut fields {
        if name.is_empty() || last.is_some_and(|last| last >= name) {
            return false;
        }
        last = Some(name);
        put_field(&mut again, name, value);
    }
    again == bytes
}

/// Takes a protobuf field of bytes with this tag.
fn take_tagged<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, mut rest) = from.split_first()?;
    if found != tag {
        return None;
    }
    let length = usize::try_from(varint::take(&mut rest)?).ok()?;
    let (bytes, rest) = rest.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_went_in() {
        let mut fields = Vec::new();
        put_field(&mut fields, "a", "");
        put_field(&mut fields, "trace_id", &"x".repeat(300));
        assert!(are_fields(&fields));
        let mark = Mark::new(Level::Fatal, true, false);
        let rows: Vec<Row<'_>> = [
            (b"".as_slice(), b"".as_slice(), 5),
            (b"one\ntwo\n", &fields, -7),
            (b"\xff\x00\n", b"", i64::MAX),
            (b"", &fields, 0),
        ]
        .into_iter()
        .map(|(line, fields, at_ns)| Row { stream: 3, at_ns, mark, line, fields })
        .collect();
        let mut page = Page::default();
        rows.iter().for_each(|row| page.push(*row));
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(page.row(i), *row);
            assert!((page.place(i).start..=page.place(i).end).all(|at| page.row_at(at, 0) == i));
        }
        assert_eq!(page.range(), Some((-7, i64::MAX)));
        assert_eq!(page.raw_bytes(), 11 + 2 * fields.len());
        let pairs: Vec<_> = Fields(&fields).map(|(n, v)| (n, v.len())).collect();
        assert_eq!(pairs, [("a", 0), ("trace_id", 300)]);
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], cut: usize, is_canonical: bool) {
        let mut bytes = Vec::new();
        pairs.iter().for_each(|(n, v)| put_field(&mut bytes, n, v));
        assert_eq!(are_fields(&bytes[..bytes.len() - cut]), is_canonical);
    }

    #[test]
    fn only_canonical_fields_are_fields() {
        check(&[], 0, true);
        check(&[("a", "1"), ("b", "")], 0, true);
        check(&[("b", "1"), ("a", "")], 0, false);
        check(&[("a", "1"), ("a", "2")], 0, false);
        check(&[("", "1")], 0, false);
        check(&[("a", "1")], 1, false);
        assert!(!are_fields(&[0x0a, 0x85, 0x00, 0x0a, 1, b'a', 0x12, 0]), "a longer length");
        assert!(!are_fields(&[0x0a, 5, 0x0a, 1, 0xff, 0x12, 0]), "not UTF-8");
    }

    #[test]
    fn marks_hold_level_and_origin() {
        for level in Level::ALL {
            let mark = Mark::new(level, false, true);
            assert_eq!(
                (mark.level(), mark.has_own_time(), mark.is_truncated()),
                (level, false, true)
            );
            assert_eq!(Mark::from_stored(mark.0), Some(mark));
            assert_eq!(Mark::of_stored(level as u8, mark.flags()), Some(mark));
        }
        assert_eq!(Mark::from_stored(32), None);
        assert_eq!((Mark::of_stored(8, 0), Mark::of_stored(0, 4)), (None, None));
    }
}
