//! Entry points for fuzzers: bytes in, no panic out. Checksums are made right first, so that what
//! lies behind them is reached.

use model::{RecordKind, TimeRange};
use tenancy::TenantId;

use crate::entries::{decode_any_terms, lines};
use crate::head::{Head, SharedTimestamps};
use crate::{block, manifest};

/// Records of the log, replayed one after another: a kind, a length and so many bytes each.
pub fn log_records(mut data: &[u8]) {
    let mut head = Head::new(1);
    while let [kind, length, rest @ ..] = data {
        let (payload, after) = rest.split_at(rest.len().min(usize::from(*length)));
        data = after;
        let Some(kind) = RecordKind::from_stored(kind % 6) else { continue };
        // A refused record leaves a head that can still be read.
        let _ = head.replay(kind, TenantId(1), payload);
    }
    read(&mut head);
}

/// A snapshot of a head, without its checksum.
pub fn snapshot(data: &[u8]) {
    let whole = [data, &crc32c::crc32c(data).to_le_bytes()].concat();
    let mut head = Head::new(1);
    if head.restore(&whole).is_ok() {
        read(&mut head);
    }
}

/// The JSON of a manifest.
pub fn manifest(data: &[u8]) {
    manifest::decode_any(data);
}

/// The sections of an `index.bin`: a length of two bytes and so many bytes each.
pub fn index(data: &[u8]) {
    block::decode_any_index(data);
}

/// Lines of a group: first as a blob of so many rows, then as text to be encoded.
pub fn lines(data: &[u8]) {
    let Some((rows, blob)) = data.split_first_chunk() else { return };
    let rows = usize::from(u16::from_le_bytes(*rows));
    if let Ok(lines) = lines::decode(blob, rows) {
        assert_eq!(lines.ends.len(), rows, "rows of a decoded blob");
    }
    let own: Vec<&[u8]> = blob.split(|byte| *byte == b'\n').collect();
    let Ok(blob) = lines::encode(&own, 1) else { return };
    let again = lines::decode(&blob, own.len()).expect("what was encoded can be decoded");
    assert_eq!(again.text, own.iter().flat_map(|l| [l, &b"\n"[..]].concat()).collect::<Vec<_>>());
}

/// Parts of a `terms.bin`, and rows to be indexed.
pub fn terms(data: &[u8]) {
    decode_any_terms(data);
}

fn read(head: &mut Head) {
    let mut shared = SharedTimestamps::default();
    for series in 0..head.series_count() {
        head.read(series, TimeRange::ALL, &mut shared);
        head.labels(series);
        head.exemplars(series, TimeRange::ALL);
    }
    head.snapshot_full();
}
