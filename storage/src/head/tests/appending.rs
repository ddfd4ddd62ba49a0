//! What becomes of single rows, case by case.

use model::{Buckets, Exemplar, Histogram, Labels, Matcher, Metadata, MetricKind, ResetHint, Span};
use model::{Pace, TimeRange, stale_nan};
use tenancy::TenantId;

use super::*;

const UP: &[(&str, &str)] = &[("__name__", "up"), ("job", "node")];

/// Sends samples of one series one after the other; `outcome` is `reason count: text` or nothing,
/// `stored` what can be read afterwards, on the head and on one rebuilt from its log.
#[track_caller]
fn check(batches: &[&[(i64, f64)]], outcome: &str, stored: &[(i64, f64)]) {
    let mut rig = Rig::new();
    let mut last = AppendOutcome::default();
    for batch in batches {
        last = rig.send(1, &[sent(UP, batch)]);
    }
    let told: Vec<String> =
        last.rejected.iter().map(|r| format!("{} {}: {}", r.reason, r.count, r.example)).collect();
    assert_eq!(told.join("\n"), outcome);
    let refused: u64 = last.rejected.iter().map(|r| r.count).sum();
    let offered = batches.last().map_or(0, |b| b.len()) as u64;
    assert_eq!(last.samples + refused, offered, "every sample is accounted for");
    let stored: Vec<(i64, u64)> = stored.iter().map(|(ms, v)| (*ms, v.to_bits())).collect();
    if stored.is_empty() {
        assert_eq!(rig.head.series_count(), 0, "no series is created for nothing");
        return;
    }
    assert_eq!(read_all(&rig.head, 0), stored);
    assert_eq!(read_all(&rig.replayed(), 0), stored, "after replay");
}

#[test]
fn samples_are_ordered_and_judged() {
    let t = 15_000;
    check(&[&[(t, 1.0), (2 * t, 2.0)]], "", &[(t, 1.0), (2 * t, 2.0)]);
    check(&[&[(t, 1.0)], &[(t, 1.0)]], "", &[(t, 1.0)]);
    check(
        &[&[(t, 1.0)], &[(t, 2.0), (2 * t, 3.0)]],
        "duplicate_timestamp 1: series {__name__=\"up\", job=\"node\"} has 1 at timestamp 15000, 2 came later and \
         was not stored",
        &[(t, 1.0), (2 * t, 3.0)],
    );
    check(
        &[&[(3 * t, 3.0)], &[(t, 1.0), (2 * t, 2.0)]],
        "",
        &[(t, 1.0), (2 * t, 2.0), (3 * t, 3.0)],
    );
    check(&[&[(3 * t, 3.0)], &[(2 * t, 2.0)], &[(2 * t, 2.0)]], "", &[(2 * t, 2.0), (3 * t, 3.0)]);
    check(
        &[&[(t, 1.0), (2 * t, 2.0), (3 * t, 3.0)], &[(2 * t, -2.0), (t, 1.0)]],
        "duplicate_timestamp 1: series {__name__=\"up\", job=\"node\"} has 2 at timestamp 30000, -2 came later and \
         was not stored",
        &[(t, 1.0), (2 * t, 2.0), (3 * t, 3.0)],
    );
    check(
        &[&[(3 * t, 3.0)], &[(2 * t, 2.0)], &[(2 * t, 2.5)]],
        "duplicate_timestamp 1: series {__name__=\"up\", job=\"node\"} has 2 at timestamp 30000, 2.5 came later and \
         was not stored",
        &[(2 * t, 2.0), (3 * t, 3.0)],
    );
    check(
        &[&[(999, 1.0), (t, 2.0), (1_000_001, 3.0), (i64::MIN, 4.0)]],
        "too_old 2: series {__name__=\"up\", job=\"node\"} has 1 at timestamp 999, older than the oldest allowed, \
         1000\ntoo_far_in_future 1: series {__name__=\"up\", job=\"node\"} has 3 at timestamp 1000001, later than the \
         latest allowed, 1000000",
        &[(t, 2.0)],
    );
    check(
        &[&[(999, 1.0), (998, 1.0)]],
        "too_old 2: series {__name__=\"up\", job=\"node\"} has 1 at timestamp 999, older than the oldest allowed, 1000",
        &[],
    );
    check(&[&[(1_000, 1.0), (1_000_000, 2.0)]], "", &[(1_000, 1.0), (1_000_000, 2.0)]);
    // After a late sample the decoded stream is kept up to date with what follows it.
    check(
        &[
            &[(t, 1.0), (3 * t, 3.0)],
            &[(2 * t, 2.0), (4 * t, 4.0), (3 * t, 3.0), (5 * t, 5.0), (4 * t, 4.5)],
        ],
        "duplicate_timestamp 1: series {__name__=\"up\", job=\"node\"} has 4 at timestamp 60000, 4.5 came later and \
         was not stored",
        &[(t, 1.0), (2 * t, 2.0), (3 * t, 3.0), (4 * t, 4.0), (5 * t, 5.0)],
    );
}

#[test]
fn every_bit_of_a_value_stays() {
    let odd = f64::from_bits(0x7ff8_dead_beef_0001);
    let values = [
        stale_nan(),
        -0.0,
        0.0,
        odd,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        9_007_199_254_740_993.0,
    ];
    let stored: Vec<(i64, f64)> = values.iter().zip(1..).map(|(v, i)| (i * 15_000, *v)).collect();
    check(&[&stored], "", &stored);
    check(&[&stored, &stored], "", &stored);
    check(
        &[&[(15_000, 0.0)], &[(15_000, -0.0)]],
        "duplicate_timestamp 1: series {__name__=\"up\", job=\"node\"} has 0 at timestamp 15000, -0 came later and was \
         not stored",
        &[(15_000, 0.0)],
    );
}

#[track_caller]
fn check_labels(wire: Vec<u8>, told: &str) {
    let mut rig = Rig::new();
    rig.room = 1;
    let good = sent(UP, &[(15_000, 1.0)]);
    let outcome = rig.send(1, &[good.clone(), Sent { wire, ..good }]);
    assert_eq!(
        outcome.samples + outcome.rejected.iter().map(|r| r.count).sum::<u64>(),
        2,
        "the good part is kept"
    );
    let rejected: Vec<String> = outcome
        .rejected
        .iter()
        .map(|r| format!("{} {}: {}", r.reason, r.count, r.example))
        .collect();
    assert_eq!(rejected.join("\n"), told);
}

#[test]
fn labels_of_new_series_are_judged() {
    let value = "v".repeat(65);
    let many: Vec<(String, String)> =
        (0..12).map(|i| (format!("l{i:02}"), "x".to_owned())).collect();
    let many: Vec<(&str, &str)> =
        many.iter().map(|(n, v)| (n.as_str(), v.as_str())).chain([("__name__", "up")]).collect();
    check_labels(vec![0x0a, 9], "invalid_labels 1: malformed label");
    check_labels(
        canonical(&[("__name__", "up"), ("__tenant_id__", "other")]),
        "invalid_labels 1: label __tenant_id__ of series up is reserved: it names the tenant in answers",
    );
    check_labels(
        as_given(&[("a", "1"), ("a", "2")]),
        "invalid_labels 1: label name \"a\" occurs twice",
    );
    check_labels(
        canonical(&[("job", "x")]),
        "missing_metric_name 1: series {job=\"x\"} has no metric name",
    );
    check_labels(canonical(&many), "too_many_labels 1: series up has 13 labels, the limit is 12");
    check_labels(
        canonical(&[("__name__", "up"), ("job", &value)]),
        &format!(
            "label_value_too_long 1: value \"{value}\" of label \"job\" of series up has 65 bytes, the limit is 64"
        ),
    );
    check_labels(
        canonical(&[("__name__", "down")]),
        "active_series_limit 1: series {__name__=\"down\"} is new and the limit of 3000000 active series is reached",
    );
}

#[test]
fn unsorted_labels_are_the_same_series() {
    let mut rig = Rig::new();
    rig.send(1, &[sent(UP, &[(15_000, 1.0)])]);
    let wire = as_given(&[("job", "node"), ("empty", ""), ("__name__", "up")]);
    let outcome = rig
        .send(1, &[Sent { wire: wire.clone(), samples: vec![(30_000, 2.0)], ..Sent::default() }]);
    assert_eq!((outcome.samples, outcome.series_created, rig.head.series_count()), (1, 0, 1));
    assert_eq!(
        rig.head.find(TenantId(1), Labels::from_pairs(UP.iter().copied()).series_id()),
        Some(0)
    );
    // Another partition's series is handed back.
    let up = Labels::from_pairs(UP.iter().copied());
    let outcome = rig.send_owning(
        2,
        &[Sent { wire, samples: vec![(30_000, 2.0)], ..Sent::default() }],
        &|_| false,
    );
    assert_eq!((outcome.samples, rig.misplaced.as_slice()), (0, &[(up, 0)][..]));
    assert_eq!(rig.head.series_count(), 1);
}

#[test]
fn tenants_have_their_own_series() {
    let mut rig = Rig::new();
    rig.send(1, &[sent(UP, &[(15_000, 1.0)])]);
    rig.send(2, &[sent(UP, &[(15_000, 2.0)])]);
    assert_eq!(rig.head.series_count(), 2);
    let selected = |tenant| {
        rig.head
            .select(TenantId(tenant), &[Matcher::equal("job", "node")], &mut Pace::default())
            .expect("nobody stops it")
            .iter()
            .collect::<Vec<_>>()
    };
    assert_eq!((selected(1), selected(2), selected(3)), (vec![0], vec![1], vec![]));
    assert_eq!((rig.head.tenant_samples(TenantId(1)), rig.head.tenant_series(TenantId(3))), (1, 0));
}

pub(super) fn histogram(count: u64) -> Histogram {
    Histogram {
        reset_hint: ResetHint::Unknown,
        schema: 0,
        zero_threshold: 0.0,
        sum: count as f64,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        negative_spans: vec![],
        buckets: Buckets::Integer {
            count,
            zero_count: 0,
            positive_deltas: vec![count as i64],
            negative_deltas: vec![],
        },
        custom_values: vec![],
    }
}

#[test]
fn histograms_are_kept_in_order_and_apart_from_samples() {
    let mut rig = Rig::new();
    let series = |samples: &[(i64, f64)], histograms: &[(i64, u64)]| Sent {
        histograms: histograms.iter().map(|(ms, n)| (*ms, histogram(*n))).collect(),
        ..sent(UP, samples)
    };
    let outcome =
        rig.send(1, &[series(&[], &[(30_000, 3), (15_000, 1)]), series(&[(45_000, 1.0)], &[])]);
    assert_eq!((outcome.histograms, outcome.samples, outcome.rejected.len()), (2, 1, 0));
    let told = |outcome: AppendOutcome| {
        outcome.rejected.into_iter().map(|r| r.example).collect::<Vec<_>>().join("; ")
    };
    let name = "series {__name__=\"up\", job=\"node\"}";
    for (again, refused) in [
        (series(&[], &[(15_000, 1)]), String::new()),
        (
            series(&[], &[(15_000, 2)]),
            format!(
                "{name} has a histogram at timestamp 15000, another came later and was not stored"
            ),
        ),
        (
            series(&[(30_000, 1.5)], &[]),
            format!("{name} has a histogram at timestamp 30000, 1.5 came later and was not stored"),
        ),
        (
            series(&[], &[(45_000, 2)]),
            format!(
                "{name} has a sample at timestamp 45000, a histogram came later and was not stored"
            ),
        ),
    ] {
        assert_eq!(told(rig.send(1, &[again])), refused);
    }
    let bad = Sent {
        histograms: vec![(60_000, Histogram { schema: 20, ..histogram(1) })],
        ..sent(UP, &[])
    };
    assert_eq!(
        told(rig.send(1, &[bad])),
        format!(
            "histogram of {name} at timestamp 60000: schema 20 is not supported, only -53 and -4 to 8 are"
        )
    );
    rig.head.cut(60_000, 1_000_000);
    rig.send(1, &[series(&[], &[(60_000, 9)])]);
    for head in [&rig.head, &rig.replayed()] {
        let read = head.read(0, TimeRange::ALL, &mut SharedTimestamps::default());
        let histograms: Vec<(i64, Histogram)> =
            read.histograms.iter().map(|(ms, h)| (*ms, (**h).clone())).collect();
        let goes_on = Histogram { reset_hint: ResetHint::No, ..histogram(9) };
        assert_eq!(histograms, [(15_000, histogram(1)), (30_000, histogram(3)), (60_000, goes_on)]);
        assert_eq!(read.values, [1.0]);
    }
}

#[test]
fn the_head_sees_histograms_go_on_from_the_ones_before() {
    use ResetHint::{Gauge, No, Unknown, Yes};
    let mut rig = Rig::new();
    let send = |rig: &mut Rig, ms: i64, n: u64, reset_hint: ResetHint| {
        let sent_one = Histogram { reset_hint, ..histogram(n) };
        let sent = Sent { histograms: vec![(ms, sent_one)], ..sent(UP, &[]) };
        assert_eq!(rig.send(1, &[sent]).rejected, []);
    };
    let hints = |head: &Head| -> Vec<(i64, ResetHint)> {
        let read = head.read(0, TimeRange::ALL, &mut SharedTimestamps::default());
        read.histograms.iter().map(|(ms, h)| (*ms, h.reset_hint)).collect()
    };
    for (at, n, hint) in [(10, 5, Unknown), (20, 6, Unknown), (30, 2, Unknown), (40, 9, Yes)] {
        send(&mut rig, at * 1_000, n, hint);
    }
    // The same again, whatever is known of it by now; a late one says nothing.
    send(&mut rig, 20_000, 6, Unknown);
    send(&mut rig, 15_000, 5, Unknown);
    send(&mut rig, 50_000, 1, Gauge);
    let open = [(10, Unknown), (15, Unknown), (20, No), (30, Unknown), (40, Yes), (50, Gauge)];
    let open = open.map(|(at, hint)| (at * 1_000, hint));
    assert_eq!(hints(&rig.head), open);
    assert_eq!(hints(&rig.replayed()), open);
    // What is frozen, and then flushed, is still gone on from; not what was deleted.
    send(&mut rig, 60_000, 3, Unknown);
    rig.head.cut(60_000, 1_000_000);
    send(&mut rig, 70_000, 4, Unknown);
    rig.head.thaw();
    rig.head.cut(70_000, 1_000_000);
    rig.head.thaw();
    send(&mut rig, 80_000, 5, Unknown);
    let range = TimeRange { start_ms: 80_000, end_ms: 80_000 };
    assert_eq!(hints(&rig.head), [(80_000, No)]);
    rig.head.delete(TenantId(1), &[], range);
    send(&mut rig, 90_000, 5, Unknown);
    let range = TimeRange { start_ms: 60_000, end_ms: 90_000 };
    assert_eq!(hints(&rig.head), [(90_000, No)], "goes on from what was flushed");
    rig.head.delete(TenantId(1), &[], range);
    send(&mut rig, 95_000, 6, Unknown);
    assert_eq!(hints(&rig.head), [(95_000, Unknown)]);
}

#[test]
fn exemplars_outlive_cut_and_replay() {
    let mut rig = Rig::new();
    let exemplar = |at: i64, id: &str| Exemplar {
        labels: Labels::from_pairs([("trace_id", id)]),
        value: 0.5,
        timestamp_ms: at,
    };
    let with = |exemplars: Vec<Exemplar>| Sent { exemplars, ..sent(UP, &[(15_000, 1.0)]) };
    rig.send(1, &[with(vec![exemplar(16_000, "b"), exemplar(15_000, "a")])]);
    let frozen = rig.head.cut(15_000, 1_000_000).frozen.expect("something to flush");
    assert_eq!(frozen.exemplars(0), [exemplar(15_000, "a"), exemplar(16_000, "b")]);
    let long = "x".repeat(130);
    let outcome = rig.send(
        1,
        &[with(vec![
            exemplar(17_000, "c"),
            exemplar(17_000, "c"),
            exemplar(1, "old"),
            exemplar(18_000, &long),
        ])],
    );
    assert_eq!((outcome.exemplars, outcome.rejected.len()), (2, 2));
    let orphan =
        Sent { exemplars: vec![exemplar(17_000, "c")], ..sent(&[("__name__", "other")], &[]) };
    assert_eq!(rig.send(1, &[orphan]).rejected[0].reason, Reason::InvalidExemplar);
    let expected = [exemplar(15_000, "a"), exemplar(16_000, "b"), exemplar(17_000, "c")];
    for head in [&rig.head, &rig.replayed()] {
        assert_eq!(head.exemplars(0, TimeRange::ALL), expected);
        assert_eq!(
            head.exemplars(0, TimeRange { start_ms: 16_000, end_ms: 16_999 }),
            expected[1..2]
        );
    }
}

#[test]
fn the_last_metadata_of_a_family_counts() {
    let mut rig = Rig::new();
    let family = |name: &str, help: &str| {
        (
            name.to_owned(),
            Metadata { kind: MetricKind::Counter, help: help.to_owned(), unit: String::new() },
        )
    };
    let (mut payloads, mut outcome) = (Payloads::default(), AppendOutcome::default());
    let long = "x".repeat(5_000);
    let sent =
        [family("up", "old"), family("up", "new"), family("", "no name"), family("long", &long)];
    rig.head.append_metadata(TenantId(1), &sent, &mut payloads, &mut outcome);
    rig.log.extend(payloads.records().map(|(kind, p)| (kind, TenantId(1), p.to_vec())));
    assert_eq!(
        (outcome.rejected[0].reason, outcome.rejected[0].count),
        (Reason::InvalidMetadata, 2)
    );
    rig.head.append_metadata(TenantId(1), &sent[1..2], &mut payloads, &mut outcome);
    assert!(payloads.is_empty(), "nothing changed");
    for head in [&rig.head, &rig.replayed()] {
        assert_eq!(
            head.metadata(TenantId(1)).map(|(f, m)| (f, m.help.as_str())).collect::<Vec<_>>(),
            [("up", "new")]
        );
        assert_eq!(head.metadata(TenantId(2)).count(), 0);
    }
}
