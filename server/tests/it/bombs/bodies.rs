//! Bombs in the bodies of writes: snappy, protobuf, and what they may say.

use model::{Buckets, Exemplar, Histogram, Labels, ResetHint, Span, varint};
use testkit::remote_write::{self, Series};

use super::{ANSWERED, Bomb, Framing, REFUSED, Range};

/// What one write may inflate to.
const INFLATED_BYTES_MAX: usize = 32 << 20;

/// A write of `body`, compressed.
pub(super) fn write(name: &str, body: &[u8]) -> Bomb {
    compressed(name, snap::raw::Encoder::new().compress_vec(body).expect("a body below 4 GiB"))
}

fn compressed(name: &str, body: Vec<u8>) -> Bomb {
    Bomb {
        name: name.to_owned(),
        method: "POST",
        path: "/api/v1/write".to_owned(),
        headers: b"Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n".to_vec(),
        body,
        framing: Framing::Length,
        expected: ANSWERED,
        stored_bytes: 0,
    }
}

fn refused(bomb: Bomb) -> Bomb {
    Bomb { expected: REFUSED, ..bomb }
}

fn stored(bomb: Bomb, stored_bytes: u64) -> Bomb {
    Bomb { expected: &[204], stored_bytes, ..bomb }
}

/// The densest snappy there is: `prefix`, then `unit` again and again up to `length` bytes.
fn repeated(prefix: &[u8], unit: &[u8], length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, length as u64);
    let start = [prefix, unit].concat();
    for literal in start.chunks(60) {
        out.push(((literal.len() - 1) << 2) as u8);
        out.extend_from_slice(literal);
    }
    let mut left = length - start.len();
    let offset = (unit.len() as u16).to_le_bytes();
    while left > 0 {
        let copied = left.min(64);
        out.push(((copied - 1) << 2 | 0b10) as u8);
        out.extend(offset);
        left -= copied;
    }
    out
}

/// One time series of the largest size, made of a label and copies of a field.
fn one_series(field: &[u8]) -> Vec<u8> {
    let label = b"\x0a\x0d\x0a\x08__name__\x12\x01b";
    let length = INFLATED_BYTES_MAX - 5;
    let units = (length - label.len()) / field.len();
    let mut prefix = vec![0x0a];
    varint::put(&mut prefix, (label.len() + units * field.len()) as u64);
    prefix.extend_from_slice(label);
    repeated(&prefix, field, prefix.len() + units * field.len())
}

#[test]
fn bodies_that_claim_or_grow() {
    let range = Range::open();
    let claim = |declared: u64, body: &[u8]| {
        let mut out = Vec::new();
        varint::put(&mut out, declared);
        out.extend_from_slice(body);
        out
    };
    let mut bombs = vec![
        refused(compressed("declares 4 GB", claim(u64::from(u32::MAX), b"\x00a"))),
        refused(compressed("declares 2^40", claim(1 << 40, b"\x00a"))),
        refused(compressed("declares 2^64", claim(u64::MAX, b"\x00a"))),
        refused(compressed("declares too many bytes by one", claim((32 << 20) + 1, &[0; 100]))),
        refused(compressed("a length without end", vec![0xff; 1 << 20])),
        refused(compressed("copies from before the start", claim(1 << 20, &[0xfe; 1 << 17]))),
    ];
    for fold in [1_000, 10_000, 100_000, 1_000_000] {
        for bytes in [10, 1_000] {
            let body = vec![0; bytes];
            bombs.push(refused(compressed(
                &format!("{bytes} bytes declare {fold} times as many"),
                claim((bytes * fold) as u64, &body),
            )));
        }
    }
    let units: [(&str, &[u8]); 12] = [
        ("unknown fields", b"x"),
        ("empty series", b"\x0a\x00"),
        ("empty metadata", b"\x1a\x00"),
        ("series with an empty label", b"\x0a\x02\x0a\x00"),
        ("series with an empty sample", b"\x0a\x02\x12\x00"),
        ("series with an empty histogram", b"\x0a\x02\x22\x00"),
        ("series with an empty exemplar", b"\x0a\x02\x1a\x00"),
        ("groups that begin", b"\x0b"),
        ("groups that end", b"\x0c"),
        ("groups in unknown fields", b"\x7b\x7c"),
        ("zeroes", b"\x00"),
        ("ones", b"\xff"),
    ];
    for (name, unit) in units {
        bombs.push(compressed(&format!("32 MiB of {name}"), repeated(b"", unit, 32 << 20)));
    }
    let fields: [(&str, &[u8]); 8] = [
        ("empty labels", b"\x0a\x00"),
        ("equal labels", b"\x0a\x06\x0a\x01a\x12\x01b"),
        ("empty samples", b"\x12\x00"),
        ("empty exemplars", b"\x1a\x00"),
        ("empty histograms", b"\x22\x00"),
        ("labels between samples", b"\x12\x00\x0a\x06\x0a\x01a\x12\x01b"),
        ("groups", b"\x0b"),
        ("unknown fields", b"\x7a\x00"),
    ];
    for (name, field) in fields {
        bombs.push(compressed(&format!("one series of 32 MiB of {name}"), one_series(field)));
    }
    range.survive(bombs);
}

#[test]
fn bodies_of_100_mb() {
    let range = Range::open();
    let large = |name: &str, framing| Bomb {
        framing,
        expected: &[413],
        ..compressed(name, vec![0; 100 << 20])
    };
    range.survive([
        large("100 MB", Framing::Length),
        large("100 MB in chunks", Framing::Chunked),
        large("100 MB announced", Framing::Announced(100 << 20)),
        large("2^62 bytes announced", Framing::Announced(1 << 62)),
    ]);
}

#[test]
fn messages_without_measure() {
    let range = Range::open();
    let now_ms = range.now_ms;
    let series = |labels: Vec<(String, String)>| Series {
        labels,
        samples: vec![(now_ms, 1.0)],
        ..Series::default()
    };
    let named = |more: Vec<(String, String)>| {
        series([vec![("__name__".to_owned(), "b".to_owned())], more].concat())
    };
    let labels = |count: usize| -> Vec<(String, String)> {
        (0..count).map(|i| (format!("l{i:07}"), "v".to_owned())).collect()
    };
    let body = |series: &[Series]| remote_write::body(series, &[]);
    let mut nested = Vec::new();
    for _ in 0..5_000 {
        let mut outer = vec![0x0a];
        varint::put(&mut outer, nested.len() as u64);
        outer.append(&mut nested);
        nested = outer;
    }
    let long =
        |name: usize, value: usize| body(&[named(vec![("n".repeat(name), "v".repeat(value))])]);
    let mut bombs = vec![
        refused(write("a million labels", &body(&[named(labels(1_000_000))]))),
        write("nested 5,000 deep", &nested),
        refused(write("a label name of 16 MB", &long(16 << 20, 1))),
        refused(write("a label value of 16 MB", &long(1, 16 << 20))),
        refused(write("100,000 exemplars", &body(&[exemplars(100_000, now_ms)]))),
    ];
    bombs.extend(histograms().into_iter().enumerate().map(|(i, histogram)| {
        let series = Series { histograms: vec![(now_ms, histogram)], ..named(Vec::new()) };
        let series = Series { samples: Vec::new(), ..series };
        refused(write(&format!("a histogram beyond measure, {i}"), &body(&[series])))
    }));
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for i in 0..200 {
        let bytes: Vec<u8> = (0..1_000)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Mostly the tags and small lengths that lead deep into the message.
                let choice = (noise >> 33) as u8;
                if choice & 1 == 0 { choice & 0x1f } else { choice }
            })
            .collect();
        bombs.push(write(&format!("noise {i}"), &bytes));
    }
    range.survive(bombs);
}

#[test]
fn many_series_at_once() {
    let range = Range::open();
    let now_ms = range.now_ms;
    let many = |name: &str, count: usize, labels: usize| -> Vec<u8> {
        let series: Vec<Series> = (0..count)
            .map(|i| {
                let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
                pairs.extend((1..labels).map(|l| (format!("l{l:02}"), format!("{i}"))));
                Series { labels: pairs, samples: vec![(now_ms, 1.0)], ..Series::default() }
            })
            .collect();
        remote_write::body(&series, &[])
    };
    range.survive([
        // 450 bytes a series, and 48 a pair of a label and a value nobody had.
        stored(write("100,000 series", &many("many", 100_000, 3)), 45_000_000),
        stored(write("a million labels over series", &many("wide", 16_000, 63)), 48_000_000),
    ]);
    for (name, count) in [("many", "100000"), ("wide", "16000")] {
        let answer = range.server.instant(&format!("count({name})"), now_ms, None);
        assert_eq!(answer["data"]["result"][0]["value"][1], count, "{answer}");
    }
}

fn exemplars(count: i64, now_ms: i64) -> Series {
    let exemplar = |i| Exemplar {
        labels: Labels::from_pairs([("t", "1")]),
        value: 1.0,
        timestamp_ms: now_ms + i,
    };
    Series {
        labels: vec![("__name__".to_owned(), "b".to_owned())],
        exemplars: (0..count).map(exemplar).collect(),
        ..Series::default()
    }
}

/// Histograms that speak of more buckets than they have, or than anybody should.
fn histograms() -> Vec<Histogram> {
    let with =
        |spans: Vec<Span>, deltas: Vec<i64>, schema: i32, custom_values: Vec<f64>| Histogram {
            reset_hint: ResetHint::Unknown,
            schema,
            zero_threshold: 0.0,
            sum: 1.0,
            positive_spans: spans,
            negative_spans: vec![],
            buckets: Buckets::Integer {
                count: 1,
                zero_count: 0,
                positive_deltas: deltas,
                negative_deltas: vec![],
            },
            custom_values,
        };
    let span = |offset, length| Span { offset, length };
    vec![
        with(vec![span(0, u32::MAX)], vec![1], 0, vec![]),
        with(vec![span(i32::MAX, 1), span(i32::MAX, 1)], vec![1, 1], 0, vec![]),
        with(vec![span(i32::MIN, u32::MAX); 1_000], vec![1], 0, vec![]),
        with(vec![span(0, 2)], vec![i64::MAX, i64::MAX], 0, vec![]),
        with(vec![span(0, 1)], vec![1], 127, vec![]),
        with(vec![span(0, 3_000_000)], vec![1; 3_000_000], 0, vec![]),
        with(vec![span(0, 1)], vec![1], -53, vec![1.0; 3_000_000]),
    ]
}
