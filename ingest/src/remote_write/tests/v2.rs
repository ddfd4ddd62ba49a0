//! Remote write 2.0 is read as the same content in 1.0 is, and refuses what it must.

use model::{Buckets, Histogram, Labels, Metadata, MetricKind, ResetHint, Span};
use proptest::collection::vec;
use proptest::prelude::*;
use storage::{AppendOutcome, MetricRows, Reason};
use tenancy::{Limits, TenantId};
use testkit::remote_write::{self as v1, Series};
use testkit::remote_write_v2::{self as v2, Request};
use testkit::{ManualClock, labels};

use super::super::{News, walk, walk_v2};
use crate::{Caps, KnownFamilies, WalkError};

fn limits() -> Limits {
    Limits { labels_max: 8, label_value_bytes_max: 400, ..Limits::default() }
}

/// Rows as text, floats by their bits.
fn shown(rows: &MetricRows<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for series in &rows.series {
        let labels = Labels::from_wire(rows.labels_of(series))
            .map_or_else(|e| e.to_string(), |l| l.to_string());
        let since = |starts: &[i64], i: usize| match starts.get(i) {
            Some(start) if *start != 0 => format!(" since {start}"),
            _ => String::new(),
        };
        let samples = &rows.samples[series.samples.start as usize..series.samples.end as usize];
        for (i, s) in samples.iter().enumerate() {
            let since = since(rows.sample_starts_of(series), i);
            lines.push(format!("{labels} {:x} @{}{since}", s.value.to_bits(), s.timestamp_ms));
        }
        let histograms = series.histograms.start as usize..series.histograms.end as usize;
        for (i, (at, h)) in rows.histograms[histograms].iter().enumerate() {
            let since = since(rows.histogram_starts_of(series), i);
            lines.push(format!("{labels} {h:?} @{at}{since}"));
        }
        for e in &rows.exemplars[series.exemplars.start as usize..series.exemplars.end as usize] {
            lines.push(format!("{labels} exemplar {e:?}"));
        }
    }
    lines
}

fn read(body: &[u8]) -> Result<(Vec<String>, AppendOutcome), WalkError> {
    let mut rows = MetricRows::default();
    let outcome = walk_v2(body, &limits(), &Caps::default(), None, &mut rows)?;
    Ok((shown(&rows), outcome))
}

fn histogram(sum: f64, schema: i32, counts: Vec<f64>, custom_values: Vec<f64>) -> Histogram {
    Histogram {
        reset_hint: ResetHint::Gauge,
        schema,
        zero_threshold: 0.001,
        sum,
        positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
        negative_spans: vec![],
        buckets: Buckets::Float { count: 1.0, zero_count: 0.0, positive: counts, negative: vec![] },
        custom_values,
    }
}

prop_compose! {
    fn any_series()(
        labels in vec(("[a-z_]{1,6}", "\\PC{0,300}|[a-c]{1,2}"), 0..8),
        samples in vec((any::<i64>(), any::<u64>()), 1..4),
        exemplars in vec(("[a-z]{1,3}", "\\PC{1,9}", any::<i64>()), 0..3),
        histograms in vec((any::<i64>(), any::<f64>(), -4..12, vec(any::<f64>(), 0..4)), 0..3),
    ) -> Series {
        let exemplars = exemplars.into_iter().map(|(name, value, timestamp_ms)| model::Exemplar {
            labels: Labels::from_pairs([(name, value)]), value: 0.5, timestamp_ms,
        });
        let histograms = histograms.into_iter()
            .map(|(at, sum, schema, counts)| (at, histogram(sum, schema, counts, vec![]))).collect::<Vec<_>>();
        // One or the other, as the protocol says.
        let samples = if histograms.is_empty() {
            samples.into_iter().map(|(at, bits)| (at, f64::from_bits(bits))).collect()
        } else {
            vec![]
        };
        Series { labels, samples, exemplars: exemplars.collect(), histograms }
    }
}

proptest! {
    #[test]
    fn content_is_read_as_in_1_0(series in vec(any_series(), 0..6)) {
        let (first, second) = (v1::body(&series, &[]), v2::body(&series, &[]));
        let mut rows = MetricRows::default();
        let outcome = walk(&first, &limits(), &Caps::default(), &mut rows).expect("a valid request");
        prop_assert_eq!(read(&second), Ok((shown(&rows), outcome)));
        crate::fuzz::remote_write_v2(&second);
    }

    #[test]
    fn canonical_labels_stay_canonical(pairs in vec(("[a-z_]{1,200}", "\\PC{1,200}"), 1..8)) {
        let labels = Labels::from_pairs(pairs);
        let body = v2::body(&[Series::new(&labels, &[(1, 1.0)])], &[]);
        let mut rows = MetricRows::default();
        walk_v2(&body, &limits(), &Caps::default(), None, &mut rows).expect("a valid request");
        let mut canonical = Vec::new();
        labels.encode(&mut canonical);
        prop_assert_eq!(rows.labels_of(&rows.series[0]), &canonical[..]);
    }

    #[test]
    fn changed_bytes_and_noise_are_survived(
        series in vec(any_series(), 0..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        noise in vec(any::<u8>(), 0..200),
    ) {
        let mut body = v2::body(&series, &[]);
        for (at, byte) in changes {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        crate::fuzz::remote_write_v2(&body);
        crate::fuzz::remote_write_v2(&noise);
        crate::fuzz::remote_write_v2(&body[..body.len() / 2]);
    }
}

/// A request with one good series before and after the one that `make` builds.
fn around(make: impl FnOnce(&mut Request) -> v2::Series) -> Vec<u8> {
    let mut request = Request::default();
    let good = |request: &mut Request, value: &str| {
        let refs = ["__name__", "good", "i", value].map(|text| request.symbol(text));
        v2::Series { labels_refs: refs.to_vec(), samples: vec![sample()], ..Default::default() }
    };
    let first = good(&mut request, "1");
    let middle = make(&mut request);
    let last = good(&mut request, "2");
    request.series = vec![first, middle, last];
    request.body()
}

fn sample() -> v2::Sample {
    v2::Sample { value: 1.0, timestamp_ms: 1, start_timestamp_ms: 1 }
}

fn up(request: &mut Request) -> Vec<u32> {
    ["__name__", "up"].map(|text| request.symbol(text)).to_vec()
}

#[track_caller]
fn check(make: impl FnOnce(&mut Request) -> v2::Series, reason: Reason, text: &str) {
    let (rows, outcome) = read(&around(make)).expect("the request itself is fine");
    assert_eq!(rows.len(), 2, "the others are stored: {rows:?}");
    let rejected: Vec<_> =
        outcome.rejected.iter().map(|r| (r.reason, r.example.as_str())).collect();
    assert_eq!(rejected, [(reason, text)]);
}

/// Samples and histograms of one series as (instant, start), the start that early senders give the
/// series itself, and what each counts since.
#[track_caller]
fn check_starts(
    samples: &[(i64, i64)],
    histograms: &[(i64, i64)],
    created_timestamp_ms: i64,
    since: &[i64],
) {
    let mut request = Request::default();
    let sample = |&(timestamp_ms, start_timestamp_ms): &(i64, i64)| v2::Sample {
        value: 1.0,
        timestamp_ms,
        start_timestamp_ms,
    };
    let native = |&(at, start): &(i64, i64)| (at, start, histogram(1.0, 1, vec![1.0], vec![]));
    let series = v2::Series {
        labels_refs: up(&mut request),
        samples: samples.iter().map(sample).collect(),
        histograms: histograms.iter().map(native).collect(),
        created_timestamp_ms,
        ..Default::default()
    };
    // A refused series and one without starts before and after it.
    let other = |request: &mut Request, name: &str| v2::Series {
        labels_refs: ["__name__", name].map(|text| request.symbol(text)).to_vec(),
        samples: vec![v2::Sample { value: 1.0, timestamp_ms: 1, start_timestamp_ms: 0 }],
        ..Default::default()
    };
    let refused = v2::Series { labels_refs: vec![77], ..series.clone() };
    let (first, last) = (other(&mut request, "first"), other(&mut request, "last"));
    request.series = vec![refused, first, series, last];
    let (lines, outcome) = read(&request.body()).expect("a right request");
    assert_eq!(outcome.rejected.len(), 1, "{outcome:?}");
    let told = |line: &String| match line.rsplit_once(" since ") {
        Some((_, since)) => since.parse().expect("a number"),
        None => 0,
    };
    let found: Vec<i64> = lines.iter().map(told).collect();
    assert_eq!(found, [&[0], since, &[0]].concat(), "{lines:?}");
}

#[test]
fn samples_say_since_when_they_count() {
    check_starts(&[(10, 5)], &[], 0, &[5]);
    check_starts(&[(10, 0)], &[], 0, &[0]);
    check_starts(&[(10, 0), (20, 5), (30, 0), (40, 35)], &[], 0, &[0, 5, 0, 35]);
    check_starts(&[], &[(10, 5), (20, 0)], 0, &[5, 0]);
    // As in drafts of the protocol.
    check_starts(&[(10, 0), (20, 0)], &[], 7, &[7, 7]);
    check_starts(&[(10, 0), (20, 5)], &[], 7, &[7, 5]);
    check_starts(&[], &[(10, 0), (20, 5)], 7, &[7, 5]);
}

#[test]
fn a_wrong_series_is_told_and_the_others_stored() {
    let samples = || vec![sample()];
    check(
        |r| v2::Series {
            labels_refs: [up(r), vec![0]].concat(),
            samples: samples(),
            ..Default::default()
        },
        Reason::InvalidLabels,
        "series up has 3 label references, which must come in pairs",
    );
    check(
        |r| v2::Series {
            labels_refs: [up(r), vec![1, 99]].concat(),
            samples: samples(),
            ..Default::default()
        },
        Reason::InvalidLabels,
        "series up has label reference 99, there are 7 symbols",
    );
    check(
        |r| v2::Series {
            labels_refs: [vec![u32::MAX, 1], up(r)].concat(),
            samples: samples(),
            ..Default::default()
        },
        Reason::InvalidLabels,
        "series up has label reference 4294967295, there are 7 symbols",
    );
    check(
        |r| v2::Series { labels_refs: up(r), ..Default::default() },
        Reason::EmptySeries,
        "series up has neither samples nor histograms",
    );
    check(
        |r| {
            let histograms = vec![(1, 0, histogram(1.0, 0, vec![], vec![]))];
            v2::Series { labels_refs: up(r), samples: samples(), histograms, ..Default::default() }
        },
        Reason::EmptySeries,
        "series up has both samples and histograms",
    );
    check(
        |r| v2::Series { labels_refs: up(r).repeat(9), samples: samples(), ..Default::default() },
        Reason::TooManyLabels,
        "series up has more labels than 8 (labels_max)",
    );
    check(
        |r| {
            let long = "x".repeat(401);
            let refs = ["__name__", "up", "l", &long].map(|text| r.symbol(text)).to_vec();
            v2::Series { labels_refs: refs.repeat(5), samples: samples(), ..Default::default() }
        },
        Reason::TooManyLabels,
        "series up has more labels than 8 (labels_max)",
    );
}

#[test]
fn requests_that_make_no_sense_are_refused_whole() {
    let mut request = Request { symbols: vec!["a".to_owned()], ..Request::default() };
    let wrong = "the first symbol must be empty, it is \"a\"";
    assert_eq!(read(&request.body()), Err(WalkError::Wrong(wrong.to_owned())));
    request.symbols.insert(0, String::new());
    assert_eq!(read(&request.body()), Ok((vec![], AppendOutcome::default())));
    // 1.0 under the wrong name: field 1 is unknown here and so there is nothing in it.
    let series = Series::new(&labels! { __name__ = "up" }, &[(1, 1.0)]);
    assert_eq!(read(&v1::body(&[series], &[])), Ok((vec![], AppendOutcome::default())));
    let caps = Caps { symbols_max: 1, ..Caps::default() };
    let many = walk_v2(&request.body(), &limits(), &caps, None, &mut MetricRows::default());
    assert_eq!(many, Err(WalkError::TooMany { what: "symbols", limit: 1 }));
    // One long label that a thousand series ask for.
    let mut bomb = Request::default();
    let refs = ["__name__", &"x".repeat(400)].map(|text| bomb.symbol(text)).to_vec();
    bomb.series =
        vec![
            v2::Series { labels_refs: refs, samples: vec![sample()], ..Default::default() };
            1_000
        ];
    let caps = Caps { label_bytes_max: 100_000, ..Caps::default() };
    let told = walk_v2(&bomb.body(), &limits(), &caps, None, &mut MetricRows::default());
    assert_eq!(told, Err(WalkError::TooMany { what: "bytes of labels", limit: 100_000 }));
}

#[test]
fn symbols_may_come_last_and_references_unpacked() {
    let mut request = Request::default();
    let refs = up(&mut request);
    request.series.push(v2::Series {
        labels_refs: refs,
        samples: vec![v2::Sample { start_timestamp_ms: 0, ..sample() }],
        ..Default::default()
    });
    let body = request.body();
    let symbols = 2 + 2 + "__name__".len() + 2 + "up".len();
    let expected = read(&body);
    assert_eq!(read(&[&body[symbols..], &body[..symbols]].concat()), expected);
    let series =
        [&[0x08, 1, 0x08, 2, 0x12, 0x0b, 0x09][..], &1f64.to_le_bytes(), &[0x10, 1]].concat();
    let unpacked = [&body[..symbols], &[0x2a, series.len() as u8], &series].concat();
    assert_eq!(read(&unpacked), expected);
    // The series' own start, as early drafts have it.
    let early = [&series[..], &[0x30, 9]].concat();
    let early = [&body[..symbols], &[0x2a, early.len() as u8], &early].concat();
    let since = expected.map(|(lines, outcome)| (vec![format!("{} since 9", lines[0])], outcome));
    assert_eq!(read(&early), since);
}

#[test]
fn exemplars_that_are_wrong_cost_nobody_anything() {
    let exemplar = |refs: Vec<u32>| {
        let mut request = Request::default();
        let labels_refs = up(&mut request);
        request.symbol(&"v".repeat(200));
        let (samples, exemplars) = (vec![sample()], vec![(refs, 1.0, 1)]);
        request.series = vec![v2::Series { labels_refs, samples, exemplars, ..Default::default() }];
        let (rows, outcome) = read(&request.body()).expect("the request itself is fine");
        let told = outcome.rejected.first().map_or("", |r| r.example.as_str()).to_owned();
        (rows.len(), told)
    };
    assert_eq!(exemplar(vec![1, 2]), (2, String::new()));
    assert_eq!(exemplar(vec![]), (2, String::new()));
    for (refs, told) in [
        (vec![1], "exemplar has 1 label references, which must come in pairs"),
        (vec![1, 9], "exemplar has a label reference that is out of range or not UTF-8"),
        (vec![0, 1], "exemplar: label with an empty name"),
        (vec![1, 2, 1, 2], "exemplar: label name \"__name__\" occurs twice"),
        (vec![1, 3], "exemplar labels have more than 128 characters"),
        (vec![1; 200], "exemplar labels have more than 128 characters"),
    ] {
        assert_eq!(exemplar(refs), (1, told.to_owned()));
    }
}

#[test]
fn metadata_is_told_once_for_each_family() {
    let series = |name: &str, i: i32| {
        Series::new(&Labels::from_pairs([("__name__", name), ("i", &i.to_string())]), &[(1, 1.0)])
    };
    let all = [
        series("up", 1),
        series("up", 2),
        series("h_bucket", 1),
        series("h_sum", 1),
        series("h_count", 1),
        series("plain", 1),
    ];
    let metadata =
        |kind, help: &str| Metadata { kind, help: help.to_owned(), unit: "s".to_owned() };
    let told = [
        ("up", metadata(MetricKind::Gauge, "is up")),
        ("h", metadata(MetricKind::Histogram, "how long")),
    ];
    let body = v2::body(&all, &told);
    let known = std::sync::Arc::new(KnownFamilies::new(std::sync::Arc::new(ManualClock::new(0))));
    let families = |tenant: u32| {
        let mut rows = MetricRows::default();
        let news = News { tenant: TenantId(tenant), known: std::sync::Arc::clone(&known) };
        walk_v2(&body, &limits(), &Caps::default(), Some(&news), &mut rows)
            .expect("a valid request");
        rows.metadata
    };
    let expected = told.map(|(family, metadata)| (family.to_owned(), metadata));
    assert_eq!(families(1), expected);
    assert_eq!(families(1), [], "known by now");
    assert_eq!(families(2), expected);
}
