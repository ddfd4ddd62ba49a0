//! What the log's records of entries hold (docs/formats/log-records.md, kinds 8 and 9).
//!
//! The rows of a record name its own streams from 0 on, so that they are put together and
//! compressed before the head is locked; only what says which streams these are needs the head.

use model::{Labels, SeriesId, Signal, SourceKind, varint};

use super::page::{BETWEEN, Mark, Page, Row, are_fields};

const VERSION: u8 = 1;
const STORED: u8 = 0;
const ZSTD: u8 = 1;

/// Level of zstd for rows in the log: they are read once, at the next start, if at all.
const ZSTD_LEVEL: i32 = -1;

/// Rows of fewer bytes are not worth compressing.
const COMPRESSED_BYTES_MIN: usize = 512;

/// Rows of one record, without compression. Records are cut long before.
const RAW_BYTES_MAX: u64 = 256 << 20;

/// A batch of a sender, and when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenBatch {
    pub(crate) id: u128,
    pub(crate) at_ms: i64,
}

/// A stream of a record: its number in the generation, and what it is if it is new there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) number: u32,
    pub(crate) new: Option<NewStream>,
}

/// What a record says of a stream that none before it named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewStream {
    pub(crate) signal: Signal,
    pub(crate) kind: SourceKind,
    pub(crate) id: SeriesId,
    pub(crate) labels: Labels,
}

/// A record of entries, taken apart.
#[derive(Debug)]
pub(crate) struct Entries {
    /// Since when streams are numbered as they are: a position of the log.
    pub(crate) generation: u64,
    pub(crate) batch: Option<SeenBatch>,
    pub(crate) streams: Vec<Named>,
    /// Its rows; streams are places in `streams`.
    pub(crate) page: Page,
}

/// The rows of a record, ready to be put behind what names their streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    /// Puts rows together and compresses them if that pays.
    pub(crate) fn of(page: &Page) -> Self {
        let raw = raw_of(page);
        if raw.len() >= COMPRESSED_BYTES_MIN
            && let Ok(packed) = zstd::bulk::compress(&raw, ZSTD_LEVEL)
            && packed.len() + packed.len() / 8 < raw.len()
        {
            let mut body = vec![ZSTD];
            varint::put(&mut body, raw.len() as u64);
            body.extend_from_slice(&packed);
            return Self(body);
        }
        let mut body = vec![STORED];
        varint::put(&mut body, raw.len() as u64);
        body.extend_from_slice(&raw);
        Self(body)
    }
}

fn raw_of(page: &Page) -> Vec<u8> {
    let rows = page.rows();
    let mut columns: [Vec<u8>; 5] = Default::default();
    let [streams, times, marks, lengths, field_lengths] = &mut columns;
    let (mut last_stream, mut last_ns, mut fields) = (0i64, 0i64, 0);
    for i in 0..rows {
        let row = page.row(i);
        varint::put_signed(streams, i64::from(row.stream) - last_stream);
        varint::put_signed(times, row.at_ns.wrapping_sub(last_ns));
        (last_stream, last_ns) = (i64::from(row.stream), row.at_ns);
        marks.push(row.mark.0);
        varint::put(lengths, row.line.len() as u64);
        varint::put(field_lengths, row.fields.len() as u64);
        fields += row.fields.len();
    }
    let columns_bytes: usize = columns.iter().map(|c| c.len() + 5).sum();
    let mut raw = Vec::with_capacity(columns_bytes + fields + page.text().len() + 16);
    varint::put(&mut raw, rows as u64);
    for column in &columns {
        varint::put(&mut raw, column.len() as u64);
        raw.extend_from_slice(column);
    }
    for i in 0..rows {
        raw.extend_from_slice(page.fields(i));
    }
    raw.extend_from_slice(page.text());
    raw
}

/// The payload of a record of kind 8.
pub(crate) fn encode(
    generation: u64,
    batch: Option<SeenBatch>,
    streams: &[Named],
    body: &Body,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.0.len() + 64 + streams.len() * 16);
    out.push(VERSION);
    varint::put(&mut out, generation);
    out.push(u8::from(batch.is_some()));
    if let Some(batch) = batch {
        put_batch(&mut out, batch);
    }
    varint::put(&mut out, streams.len() as u64);
    let mut labels = Vec::new();
    for named in streams {
        varint::put(&mut out, u64::from(named.number));
        out.push(u8::from(named.new.is_some()));
        if let Some(new) = &named.new {
            out.extend_from_slice(&[new.signal as u8, new.kind as u8]);
            labels.clear();
            new.labels.encode(&mut labels);
            varint::put(&mut out, labels.len() as u64);
            out.extend_from_slice(&labels);
        }
    }
    out.extend_from_slice(&body.0);
    out
}

fn put_batch(out: &mut Vec<u8>, batch: SeenBatch) {
    out.extend_from_slice(&batch.id.to_le_bytes());
    varint::put_signed(out, batch.at_ms);
}

/// Reads a payload of kind 8, or says what is wrong with it.
pub(crate) fn decode(mut payload: &[u8]) -> Result<Entries, String> {
    let from = &mut payload;
    take_version(from)?;
    let generation = take(from)?;
    let batch = match take_byte(from)? {
        0 => None,
        1 => Some(take_batch(from)?),
        other => return Err(format!("a batch is marked by {other}")),
    };
    let count = take(from)?;
    let mut streams = Vec::new();
    for _ in 0..count {
        let number = u32::try_from(take(from)?).map_err(|_| "a stream's number is too large")?;
        let new = match take_byte(from)? {
            0 => None,
            1 => Some(take_stream(from)?),
            other => return Err(format!("a stream is marked by {other}")),
        };
        streams.push(Named { number, new });
    }
    let page = take_body(from, streams.len())?;
    Ok(Entries { generation, batch, streams, page })
}

fn take_stream(from: &mut &[u8]) -> Result<NewStream, String> {
    let signal = Signal::from_stored(take_byte(from)?).ok_or("a signal is unknown")?;
    let kind = SourceKind::from_stored(take_byte(from)?).ok_or("a kind of source is unknown")?;
    let encoded = take_bytes(from)?;
    let labels = Labels::from_wire(encoded).map_err(|e| e.to_string())?;
    Ok(NewStream { signal, kind, id: SeriesId::of_encoded(encoded), labels })
}

fn take_body(from: &mut &[u8], streams: usize) -> Result<Page, String> {
    let coding = take_byte(from)?;
    let raw_bytes = take(from)?;
    if raw_bytes > RAW_BYTES_MAX {
        return Err(format!("rows of {raw_bytes} bytes are longer than a record's may be"));
    }
    let unpacked;
    let raw = match coding {
        STORED => *from,
        ZSTD => {
            unpacked = zstd::bulk::decompress(from, raw_bytes as usize)
                .map_err(|_| "rows do not decompress")?;
            &unpacked
        }
        other => return Err(format!("rows have coding {other}, which is unknown")),
    };
    if raw.len() as u64 != raw_bytes {
        return Err("rows are not as long as they say".to_owned());
    }
    rows_of(raw, streams)
}

/// Takes rows apart, every one of them checked.
fn rows_of(mut raw: &[u8], streams: usize) -> Result<Page, String> {
    let from = &mut raw;
    let rows = take(from)?;
    let rows = usize::try_from(rows).ok().filter(|n| *n <= from.len());
    let rows = rows.ok_or("there are more rows than bytes")?;
    let mut columns: [&[u8]; 5] = [&[]; 5];
    for column in &mut columns {
        *column = take_bytes(from)?;
    }
    let [mut stream_column, mut times, marks, mut lengths, mut field_lengths] = columns;
    if marks.len() != rows {
        return Err("columns differ in length".to_owned());
    }
    let mut field_bytes = Vec::with_capacity(rows);
    for _ in 0..rows {
        field_bytes.push(usize::try_from(take(&mut field_lengths)?).unwrap_or(usize::MAX));
    }
    let all_fields = field_bytes.iter().try_fold(0usize, |sum, n| sum.checked_add(*n));
    let split = all_fields.and_then(|n| from.split_at_checked(n));
    let (mut fields, mut text) = split.ok_or("fields are cut short")?;
    let mut page = Page::with_capacity(rows, text.len());
    let (mut stream, mut at_ns) = (0i64, 0i64);
    for (i, bytes) in field_bytes.into_iter().enumerate() {
        stream = stream.checked_add(take_signed(&mut stream_column)?).ok_or("a stream is none")?;
        at_ns = at_ns.wrapping_add(take_signed(&mut times)?);
        let number = u32::try_from(stream).ok().filter(|n| (*n as usize) < streams);
        let length = usize::try_from(take(&mut lengths)?).unwrap_or(usize::MAX);
        let (line, rest) = text.split_at_checked(length).ok_or("lines are cut short")?;
        text = rest.strip_prefix(&[BETWEEN]).ok_or("a line does not end where it should")?;
        let own;
        (own, fields) = fields.split_at(bytes);
        if !are_fields(own) {
            return Err("fields are not in canonical encoding".to_owned());
        }
        page.push(Row {
            stream: number.ok_or("a row is of a stream that is not named")?,
            at_ns,
            mark: Mark::from_stored(marks[i]).ok_or("a row's mark is unknown")?,
            line,
            fields: own,
        });
    }
    let left = [stream_column, times, lengths, field_lengths, text];
    if left.iter().any(|rest| !rest.is_empty()) {
        return Err("something is left behind the rows".to_owned());
    }
    Ok(page)
}

/// The payload of a record of kind 9: batches of all tenants that are remembered.
pub(crate) fn encode_batches(batches: impl Iterator<Item = (u32, SeenBatch)>) -> Vec<u8> {
    let mut out = vec![VERSION];
    for (tenant, batch) in batches {
        varint::put(&mut out, u64::from(tenant));
        put_batch(&mut out, batch);
    }
    out
}

/// Reads a payload of kind 9.
pub(crate) fn decode_batches(mut payload: &[u8]) -> Result<Vec<(u32, SeenBatch)>, String> {
    let from = &mut payload;
    take_version(from)?;
    let mut batches = Vec::new();
    while !from.is_empty() {
        let tenant = u32::try_from(take(from)?).map_err(|_| "a tenant's number is too large")?;
        batches.push((tenant, take_batch(from)?));
    }
    Ok(batches)
}

fn take_batch(from: &mut &[u8]) -> Result<SeenBatch, String> {
    let (id, rest) = from.split_first_chunk::<16>().ok_or("it is cut short")?;
    *from = rest;
    Ok(SeenBatch { id: u128::from_le_bytes(*id), at_ms: take_signed(from)? })
}

fn take_version(from: &mut &[u8]) -> Result<(), String> {
    match take_byte(from)? {
        VERSION => Ok(()),
        other => Err(format!("its version is {other}, which this build does not know")),
    }
}

fn take(from: &mut &[u8]) -> Result<u64, String> {
    varint::take(from).ok_or_else(|| "it is cut short".to_owned())
}

fn take_signed(from: &mut &[u8]) -> Result<i64, String> {
    varint::take_signed(from).ok_or_else(|| "it is cut short".to_owned())
}

fn take_byte(from: &mut &[u8]) -> Result<u8, String> {
    let (&byte, rest) = from.split_first().ok_or("it is cut short")?;
    *from = rest;
    Ok(byte)
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = usize::try_from(take(from)?).unwrap_or(usize::MAX);
    let (bytes, rest) = from.split_at_checked(length).ok_or("it is cut short")?;
    *from = rest;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use model::Level;

    use super::*;
    use crate::entries::page::put_field;

    fn page(rows: usize, line_bytes: usize) -> Page {
        let mut page = Page::default();
        for i in 0..rows {
            let mut fields = Vec::new();
            if i % 3 == 0 {
                put_field(&mut fields, "n", &i.to_string());
            }
            let line = vec![b'a' + (i % 20) as u8; line_bytes];
            let mark = Mark::new(Level::ALL[i % 8], i % 2 == 0, i % 5 == 0);
            let at_ns = if i == 1 { i64::MIN } else { i as i64 * 1_000 };
            page.push(Row { stream: (i % 2) as u32, at_ns, mark, line: &line, fields: &fields });
        }
        page
    }

    fn streams() -> Vec<Named> {
        let labels = Labels::from_pairs([("app", "a")]);
        let id = labels.series_id();
        let new = NewStream { signal: Signal::Events, kind: SourceKind::Mesh, id, labels };
        vec![Named { number: 7, new: None }, Named { number: 8, new: Some(new) }]
    }

    #[track_caller]
    fn check(rows: usize, line_bytes: usize, batch: Option<SeenBatch>) {
        let page = page(rows, line_bytes);
        let payload = encode(99, batch, &streams(), &Body::of(&page));
        let read = decode(&payload).expect("what was written");
        assert_eq!((read.generation, read.batch, read.streams), (99, batch, streams()));
        assert_eq!(read.page.rows(), rows);
        for i in 0..rows {
            assert_eq!(read.page.row(i), page.row(i));
        }
    }

    #[test]
    fn rows_survive_the_log() {
        check(0, 0, None);
        check(1, 0, Some(SeenBatch { id: u128::MAX, at_ms: -1 }));
        check(17, 10, None);
        check(500, 100, Some(SeenBatch { id: 5, at_ms: 1_800_000_000_000 }));
        assert!(Body::of(&page(500, 100)).0.len() < 10_000, "repeated lines are compressed");
    }

    #[test]
    fn batches_survive_the_log() {
        let seen =
            [(1, SeenBatch { id: 1 << 100, at_ms: 5 }), (u32::MAX, SeenBatch { id: 0, at_ms: -5 })];
        assert_eq!(decode_batches(&encode_batches(seen.into_iter())), Ok(seen.to_vec()));
        assert!(decode_batches(&[VERSION, 1, 2, 3]).is_err());
    }

    #[test]
    fn damage_is_an_error_and_nothing_else() {
        for rows in [3, 300] {
            let payload = encode(9, None, &streams(), &Body::of(&page(rows, 20)));
            for end in 0..payload.len() {
                assert!(decode(&payload[..end]).is_err(), "{end}");
            }
            for at in 0..payload.len() {
                let mut changed = payload.clone();
                changed[at] ^= 0x81;
                // Some other rows, or an error; no panic, no allocation out of proportion.
                let _ = decode(&changed);
            }
        }
        let mut longer = encode(9, None, &streams(), &Body::of(&page(3, 2)));
        longer.push(0);
        assert!(decode(&longer).is_err());
        assert_eq!(
            decode(&[2]).map(drop),
            Err("its version is 2, which this build does not know".into())
        );
    }
}
