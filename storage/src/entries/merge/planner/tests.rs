//! What is merged when.

use super::*;

const DAY_MS: i64 = DAY_NS / NS_PER_MS;
const HOUR_MS: i64 = HOUR_NS / NS_PER_MS;

/// A segment `name/level@hour[..hour]:position`, of 10 bytes, or of a million raw bytes for each `+`
/// behind it, written when its last hour ended.
fn segment(text: &str) -> SegmentMeta {
    let (text, large) = (text.trim_end_matches('+'), text.matches('+').count() as u64);
    let (name, rest) = text.split_once('/').expect("a level");
    let (level, rest) = rest.split_once('@').expect("an hour");
    let (hours, position) = rest.split_once(':').expect("a position");
    let (first, last) = hours.split_once("..").unwrap_or((hours, hours));
    let number = |text: &str| text.parse::<i64>().expect("a number");
    let range_ns = (number(first) * HOUR_NS + 5, number(last) * HOUR_NS + 7);
    let (from, to) = position.split_once('-').unwrap_or((position, ""));
    let from = number(from) as u64;
    let to = if to.is_empty() { from + 10 } else { number(to) as u64 };
    SegmentMeta {
        name: name.to_owned(),
        signal: Signal::Logs,
        level: level.parse().expect("a level"),
        range_ns,
        positions: (Position(from), Position(to)),
        streams: 1,
        rows: 1,
        raw_bytes: 10 + large * (1 << 30),
        bytes: 10,
        created_ms: (number(last) + 1) * HOUR_MS,
        deleted_to: None,
        index_checksum: 0,
    }
}

/// What is planned `hours` after the epoch, as `inputs > level`, `!` behind those that split.
/// Segments whose names begin with `lost` cannot be read, in those with `cut` something is deleted.
#[track_caller]
fn check_at(hours: f64, extent: Extent, segments: &str, expected: &[&str]) {
    let segments: Vec<SegmentMeta> = segments.split_whitespace().map(segment).collect();
    let (lost, readable): (Vec<_>, Vec<_>) =
        segments.into_iter().partition(|s| s.name.starts_with("lost"));
    let now_ms = (hours * HOUR_MS as f64) as i64;
    let names = readable.iter().map(|s| s.name.clone());
    let stripped: Vec<String> = names.filter(|name| name.starts_with("cut")).collect();
    let jobs = plan(&readable, &lost, &stripped, When { now_ms, extent, fresh_max: 3 });
    let shown: Vec<String> = jobs
        .iter()
        .map(|j| format!("{} > {}{}", j.inputs.join(" "), j.level, if j.splits { "!" } else { "" }))
        .collect();
    assert_eq!(shown, expected);
}

#[track_caller]
fn check(hours: f64, segments: &str, expected: &[&str]) {
    check_at(hours, Extent::Due, segments, expected);
}

#[test]
fn segments_are_written_anew_without_what_is_deleted() {
    check(0.5, "cut/0@0:0", &["cut > 0"]);
    check(0.5, "cut/0@0:0 b/0@0:10 c/0@0:20", &["cut b c > 1"]);
    check(99.5, "cut/3@0..23:0-10 b/3@24..47:10-20", &["cut > 3!"]);
    check(99.5, "cut/3@0..23:0-10 lost/0@0:20", &["cut > 3!"]);
}

#[test]
fn fresh_segments_of_an_hour_are_merged_in_rows() {
    check(0.5, "", &[]);
    check(0.5, "a/0@0:0 b/0@0:10", &[]);
    check(0.5, "c/0@0:20 a/0@0:0 b/0@0:10", &["a b c > 1"]);
    check(0.5, "r/1@0:0-30 a/0@0:30 b/0@0:40", &[]);
    check(0.5, "r/1@0:0-30 a/0@0:30 b/0@0:40 c/0@0:50", &["a b c > 1"]);
    // Never across one that stays.
    check(0.5, "a/0@0:0 b/0@0:10 r/1@0:20 c/0@0:30", &[]);
    check(0.5, "a/0@0:0 b/0@0:10 lost/0@0:20 c/0@0:30", &[]);
}

#[test]
fn hours_are_merged_when_they_are_over() {
    check(1.2, "a/0@0:0 b/0@0:10", &[]);
    check(1.3, "a/0@0:0 b/0@0:10", &["a b > 2"]);
    check(1.3, "a/0@0:0", &[]);
    check(1.3, "r/1@0:0 s/1@0:10 a/0@1:20 b/0@1:30", &["r s > 2"]);
    // Late ones: a tenth of it, or four of them, or a day of waiting.
    check(2.0, "h/2@0:0 a/0@0:10", &["h a > 2"]);
    check(2.0, "h/2@0:0", &[]);
    check(2.0, "h/2@0:0 s/2@0:0", &[]);
}

#[test]
fn days_are_merged_when_they_are_over() {
    check(24.9, "h/2@0:0 i/2@1:10", &[]);
    check(25.0, "h/2@0:0 i/2@1:10", &["h i > 3!"]);
    check(25.0, "a/0@7:0", &["a > 3!"]);
    check(26.0, "d/3@0..20:0 e/3@0..20:0", &[]);
    let many: String = (0..11).map(|n| format!("d{n}/3@0..20:0-10 ")).collect();
    check(26.0, &format!("{many} l/0@3:10"), &[]);
    let late = format!("{many} l/0@3:10 m/0@3:20 n/0@3:30 o/0@4:40");
    let all: String = "d0 d1 d10 d2 d3 d4 d5 d6 d7 d8 d9 l m n o > 3!".to_owned();
    check(26.0, &late, &[&all]);
    check(28.1, &format!("{many} l/0@3:10"), &["d0 d1 d10 d2 d3 d4 d5 d6 d7 d8 d9 l > 3!"]);
}

#[test]
fn what_is_large_stays_in_hours_and_rows() {
    check(25.0, "h/0@0:0+++ i/0@1:10++", &["h > 2!", "i > 2!"]);
    check(25.0, "h/2@0:0+++ i/2@1:10++", &[]);
    check(25.0, "h/0@0:0+++ i/0@0:10++", &[]);
    check(25.0, "r/1@0:0++++ h/0@0:10 i/0@0:20", &["h i > 1"]);
}

#[test]
fn what_reaches_beyond_a_day_is_dealt_out_first() {
    check(0.5, "w/0@-30..1:0", &["w > 1"]);
    // The others of its days wait for it.
    check(25.0, "a/0@3:0 w/0@-30..10:10 b/0@4:20", &["w > 1"]);
    check(25.0, "a/0@3:0 w/1@5..10:10 b/0@4:20", &["a w b > 3!"]);
}

#[test]
fn everything_means_days() {
    let all = "a/0@0:0 b/0@1:10 w/0@-30..1:20";
    check_at(0.1, Extent::Everything, all, &["w > 1", "a b > 3!"]);
    check_at(0.1, Extent::Everything, "a/0@0:0 b/0@1:10 c/3@-1:0", &["a b > 3!"]);
    check_at(0.1, Extent::Everything, "d/3@0:0 b/0@1:10", &["d b > 3!"]);
    check_at(0.1, Extent::Everything, "d/3@0:0", &[]);
}

#[test]
fn many_segments_are_merged_in_steps() {
    let fresh: String = (0..200).map(|n| format!("s{n}/0@3:{} ", n * 10)).collect();
    let segments: Vec<SegmentMeta> = fresh.split_whitespace().map(segment).collect();
    let when = When { now_ms: 2 * DAY_MS, extent: Extent::Due, fresh_max: 8 };
    let jobs = plan(&segments, &[], &[], when);
    let [job] = jobs.as_slice() else { panic!("{jobs:?}") };
    assert_eq!((job.inputs.len(), job.level, job.splits), (INPUTS_MAX, ROW, false));
    assert_eq!(job.positions, (Position(0), Position(640)));
}
