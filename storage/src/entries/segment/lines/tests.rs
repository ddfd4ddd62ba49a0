//! Lines come back as they were, take less than what zstd alone makes of them, and bytes that nobody
//! wrote are refused.

use std::path::Path;

use model::varint;
use proptest::prelude::*;
use testkit::logs::{LogScale, LogSet};

use super::*;

/// The level of merged segments.
const LEVEL: i32 = 6;

/// Lines of a group of a segment.
const GROUP_ROWS: usize = 8_192;

/// Encodes and decodes; gives the bytes between.
#[track_caller]
fn check(lines: &[&[u8]]) -> Vec<u8> {
    let blob = encode(lines, LEVEL).expect("within bounds");
    let Lines { text, ends } = decode(&blob, lines.len()).expect("what was encoded");
    let mut start = 0;
    assert_eq!(ends.len(), lines.len());
    for (line, end) in lines.iter().zip(ends) {
        let end = end as usize;
        assert_eq!(&text[start..end], *line, "{}", String::from_utf8_lossy(line));
        assert_eq!(text[end], b'\n');
        start = end + 1;
    }
    assert_eq!(start, text.len());
    blob
}

#[track_caller]
fn check_texts(lines: impl Iterator<Item = String>) -> Vec<u8> {
    let lines: Vec<String> = lines.collect();
    check(&lines.iter().map(String::as_bytes).collect::<Vec<_>>())
}

/// Numbers that follow from a row, far from each other.
fn mixed(row: u64) -> u64 {
    (row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn lines_of_any_bytes_come_back() {
    check(&[]);
    check(&[b""]);
    check(&[b"", b"", b"", b"", b"\n", b"\r\n", b"\n\n"]);
    check(&[b"\x01", b"\x01\x01 1", b"a\x01b", b"\x01 x", b"\x01 y", b"\x01 z", b"\x01 0"]);
    check(&[b"\xff\xfe", b"\x00", b"caf\xe9 12", b"\xf0\x9f\x92", b"\x80 1 \x80"]);
    let bytes: Vec<[u8; 3]> = (0..=255).map(|byte| [byte, b'7', byte]).collect();
    check(&bytes.iter().map(<[u8; 3]>::as_slice).collect::<Vec<_>>());
    let (long, longer) = (vec![b'7'; 1 << 20], b"a 1 \n".repeat(200_000));
    check(&[&long, b"1", &longer, &long, &long, &long, &long]);
}

#[test]
fn every_kind_of_column_comes_back() {
    let rows = || 0..2_000u64;
    check_texts(rows().map(|_| "of one value 17".to_owned()));
    check_texts(rows().map(|i| format!("counts {}", 1_000_000 + 3 * i)));
    check_texts(rows().map(|i| format!("falls {}", u64::MAX - i * i)));
    check_texts(rows().map(|i| format!("any {}", mixed(i) >> (i % 64))));
    check_texts(rows().map(|i| format!("wide {:018} {:019} {:05}", i, i, mixed(i) % 100_000)));
    check_texts(rows().map(|i| format!("zeros {:0width$}", i, width = (i % 5) as usize)));
    check_texts(rows().map(|i| format!("largest {}", 999_999_999_999_999_999 - i)));
    check_texts(
        rows().map(|i| format!("of few {} {}", i % 3, ["a1", "", "b22"][(i % 3) as usize])),
    );
    check_texts(rows().map(|i| format!("id-{:016x} v{}.x86 0x{:x}", mixed(i), i % 7, i)));
    // 500 words, which come again after 20 and after 490 others: recent ones and ones from afar.
    check_texts(
        rows()
            .map(|i| format!("x{:x}z", mixed(if i.is_multiple_of(2) { i % 40 } else { i % 981 }))),
    );
    // The same words in two columns, some of them empty when what all end with is taken away.
    check_texts(
        rows().map(|i| format!("{0}a {0}a {1}a", mixed(i % 300) % 1_000, mixed(i) % 1_000)),
    );
    check_texts(rows().map(|i| format!("1a{}a", "0a".repeat((i % 3) as usize))));
}

#[test]
fn templates_are_as_many_as_pay() {
    // 300 templates: their numbers take two bytes.
    check_texts((0..4_000u64).map(|i| format!("{} {}", "w".repeat((i % 300) as usize), mixed(i))));
    // A template for each row: all are kept as they are.
    let alone = |i: u64| format!("{} 1", "w".repeat(i as usize));
    check_texts((0..1_000).map(alone));
    check_texts((0..6_000).map(|i| alone(i % 5_000)));
    // One of three rows is none, one of four is.
    check_texts((0..7).map(|i| format!("{} {i}", ["even", "odd"][i % 2])));
}

#[test]
fn lines_of_programs_take_half_of_what_zstd_makes_of_them() {
    let mut scale = LogScale::full(1_790_000_000_000_000_000);
    (scale.bytes, scale.streams) = (6_000_000, 4);
    let mut set = LogSet::own(scale);
    let mut of_streams = vec![Vec::new(); 4];
    while let Some(line) = set.next_line() {
        of_streams[line.stream].push(line.line.to_vec());
    }
    let (mut stored, mut packed) = (0, 0);
    for lines in of_streams.iter().flat_map(|lines| lines.chunks(GROUP_ROWS)) {
        stored += check(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>()).len();
        packed += zstd::bulk::compress(&lines.join(&b'\n'), LEVEL).expect("compresses").len();
    }
    let hundredths = stored * 100 / packed;
    assert!((20..=60).contains(&hundredths), "{hundredths} % of what zstd makes of them");
}

#[test]
fn lines_of_no_program_take_no_more_than_zstd_makes_of_them() {
    let random: Vec<Vec<u8>> = (0..4_000u64)
        .map(|i| (0..i % 90).map(|j| (mixed(i * 100 + j) >> 56) as u8).collect())
        .collect();
    let blob = check(&random.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let packed = zstd::bulk::compress(&random.join(&b'\n'), LEVEL).expect("compresses").len();
    assert!(blob.len() * 100 <= packed * 103, "{} bytes, zstd {packed}", blob.len());
}

fn files(dir: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of logs") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

#[test]
fn real_logs_come_back() {
    let Some(dir) = testkit::reference("logs") else { return };
    let mut all = Vec::new();
    files(&dir, &mut all);
    assert!(all.len() > 30, "{} files", all.len());
    for path in all {
        let bytes = std::fs::read(&path).expect("a file of logs");
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        lines.chunks(GROUP_ROWS).for_each(|lines| drop(check(lines)));
    }
}

/// Lines with something in common: few words, few ends, values of all kinds.
fn any_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let part = prop_oneof![
        "[ a-z]{0,6}".prop_map(String::into_bytes),
        (0..30u64).prop_map(|n| n.to_string().into_bytes()),
        any::<u64>().prop_map(|n| n.to_string().into_bytes()),
        (0..5_000u32).prop_map(|n| format!("{n:04}").into_bytes()),
        "[0-9a-f]{1,20}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..4),
        Just(b" = ".to_vec()),
    ];
    let line = proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat());
    let kinds = proptest::collection::vec(line, 1..8);
    (kinds, proptest::collection::vec((0..8usize, any::<u16>()), 0..200)).prop_map(
        |(kinds, rows)| {
            let line = |(kind, end): (usize, u16)| {
                let mut line = kinds[kind % kinds.len()].clone();
                line.extend_from_slice(format!(" {}", end % 400).as_bytes());
                line
            };
            rows.into_iter().map(line).collect()
        },
    )
}

proptest! {
    #[test]
    fn any_lines_come_back(lines in any_lines()) {
        check(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let blob = [&[VERSION, 4, 20][..], &bytes].concat();
        let rows = decode(&blob, 4).map_or(4, |lines| lines.ends.len());
        prop_assert_eq!(rows, 4);
    }
}

/// A blob with the same sections, none of them compressed: changes reach what lies in them.
fn bare(blob: &[u8]) -> Vec<u8> {
    let mut rest = &blob[1..];
    let take = |rest: &mut &[u8]| varint::take(rest).expect("a number");
    let mut out = vec![blob[0]];
    for _ in 0..2 {
        varint::put(&mut out, take(&mut rest));
    }
    while !rest.is_empty() {
        let (raw, stored) = (take(&mut rest), take(&mut rest));
        let (section, after) = rest.split_at(stored as usize);
        rest = after;
        varint::put(&mut out, raw);
        varint::put(&mut out, raw);
        if raw == stored {
            out.extend_from_slice(section);
        } else {
            out.extend(zstd::bulk::decompress(section, raw as usize).expect("a section"));
        }
    }
    out
}

#[test]
fn damage_is_refused_or_harmless() {
    const ROWS: usize = 600;
    let line = |i: u64| {
        let word = mixed(if i.is_multiple_of(2) { i % 8 } else { i % 581 });
        format!("{i} x{word:x}z {:05} {} of {}s", i * 7, i % 3, mixed(i))
    };
    let lines = (0..ROWS as u64).map(|i| if i == 9 { "alone".repeat(9) } else { line(i) });
    let packed = check_texts(lines);
    let mut refused = 0;
    for (blob, step) in [(bare(&packed), 13), (packed, 5)] {
        assert!(decode(&blob, ROWS).is_ok());
        for at in (0..blob.len()).step_by(step) {
            assert!(decode(&blob[..at], ROWS).is_err(), "cut at {at}");
            let mut blob = blob.clone();
            blob[at] ^= 1 << (at % 8);
            match decode(&blob, ROWS) {
                Ok(lines) => assert_eq!(lines.ends.len(), ROWS),
                Err(Damaged(_)) => refused += 1,
            }
        }
    }
    assert!(refused > 500, "{refused} were refused");
}

#[test]
fn bounds_are_kept() {
    let blob = encode(&[b"1 a", b"2 a", b"3 a", b"4 a"], LEVEL).expect("within bounds");
    assert!(decode(&blob, 3).is_err(), "another number of rows");
    let mut other = blob;
    other[0] += 1;
    assert!(decode(&other, 4).is_err(), "another version");
    assert!(encode(&vec![b"".as_slice(); ROWS_MAX], LEVEL).is_ok());
    assert!(encode(&vec![b"".as_slice(); ROWS_MAX + 1], LEVEL).is_err());
    // Small bytes that say they are large: of all text, of a section, of a section of zeros.
    let zeros = zstd::bulk::compress(&vec![0; 64 << 20], LEVEL).expect("compresses");
    for (text_bytes, raw, stored) in
        [(u64::MAX, 1, &[][..]), (BYTES_MAX as u64, 1 << 30, &[1; 40]), (1 << 22, 64 << 20, &zeros)]
    {
        let mut blob = vec![VERSION, 1];
        varint::put(&mut blob, text_bytes);
        varint::put(&mut blob, raw);
        varint::put(&mut blob, stored.len() as u64);
        blob.extend_from_slice(stored);
        assert!(decode(&blob, 1).is_err());
    }
}
