//! Deletions: what is not floats, and what a series is without rows.

use model::{MatchOp, Matcher, Metadata, MetricKind, Pace};

use super::*;
use crate::head::Removed;

const A: &[(&str, &str)] = &[("__name__", "a"), ("job", "x")];
const B: &[(&str, &str)] = &[("__name__", "b"), ("job", "x")];

fn exemplar(timestamp_ms: i64) -> Exemplar {
    Exemplar { labels: Labels::from_pairs([("trace_id", "t")]), value: 1.0, timestamp_ms }
}

fn histograms(rig: &Rig, number: u32) -> Vec<i64> {
    let read = rig.head.read(number, TimeRange::ALL, &mut SharedTimestamps::default());
    read.histograms.iter().map(|(ms, _)| *ms).collect()
}

fn exemplars(rig: &Rig, number: u32) -> Vec<i64> {
    rig.head.exemplars(number, TimeRange::ALL).iter().map(|e| e.timestamp_ms).collect()
}

fn rig() -> Rig {
    let mut rig = Rig::new();
    let histogram = super::appending::histogram(3);
    rig.send(
        1,
        &[
            Sent {
                histograms: vec![(2_000, histogram.clone()), (3_000, histogram)],
                exemplars: vec![exemplar(2_000), exemplar(3_000)],
                ..sent(A, &[(2_500, 1.0), (3_500, 2.0)])
            },
            sent(B, &[(2_500, 1.0)]),
        ],
    );
    rig
}

fn delete(rig: &mut Rig, name: &str, range: (i64, i64)) -> Removed {
    let matchers = [Matcher::new(MatchOp::Regex, "__name__", name).expect("a pattern")];
    rig.head.delete(TenantId(1), &matchers, TimeRange { start_ms: range.0, end_ms: range.1 })
}

#[test]
fn histograms_and_exemplars_go_like_samples_open_or_frozen() {
    for frozen in [false, true] {
        let mut rig = rig();
        if frozen {
            rig.head.cut(0, i64::MAX);
        }
        let removed = delete(&mut rig, "a", (2_900, 9_000));
        assert_eq!(removed, Removed { series: 1, samples: 1, histograms: 1 });
        assert_eq!(read_all(&rig.head, 0), [(2_500, 1f64.to_bits())]);
        assert_eq!((histograms(&rig, 0), exemplars(&rig, 0)), (vec![2_000], vec![2_000]));
        assert_eq!(rig.head.last_ms(0), Some(2_500));
        assert_eq!(read_all(&rig.head, 1).len(), 1, "another series");
        // The same instants again, with other values: nobody remembers the old ones.
        let again = rig.send(1, &[sent(A, &[(3_000, 7.0), (3_500, 8.0)])]);
        assert_eq!((again.samples, again.rejected.len()), (2, 0), "{again:?}");
    }
}

#[test]
fn a_series_without_rows_is_gone_until_it_gets_one() {
    for frozen in [false, true] {
        let mut rig = rig();
        if frozen {
            rig.head.cut(0, i64::MAX);
        }
        assert_eq!(delete(&mut rig, "a|zzz", (0, 9_000)).series, 1);
        assert_eq!(delete(&mut rig, "a", (0, 9_000)), Removed::default(), "nothing is left");
        let head = &rig.head;
        assert_eq!(head.all(TenantId(1)).iter().collect::<Vec<_>>(), [1]);
        assert_eq!(head.tenant_series(TenantId(1)), 1);
        let names = head
            .label_values(TenantId(1), "__name__", None, &mut Pace::default())
            .expect("nobody stops it");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["b"]);
        let created = rig.send(1, &[sent(A, &[(2_100, 7.0)])]).series_created;
        assert_eq!((created, rig.head.tenant_series(TenantId(1))), (0, 2));
    }
}

#[test]
fn metadata_is_forgotten_and_stays_so() {
    let mut rig = rig();
    let gauge = Metadata { kind: MetricKind::Gauge, help: "h".to_owned(), unit: String::new() };
    let families = [("a".to_owned(), gauge.clone()), ("b".to_owned(), gauge)];
    let (mut payloads, mut outcome) = (Payloads::default(), AppendOutcome::default());
    rig.head.append_metadata(TenantId(1), &families, &mut payloads, &mut outcome);
    rig.log.extend(payloads.records().map(|(kind, p)| (kind, TenantId(1), p.to_vec())));
    assert_eq!(rig.head.forget_metadata(TenantId(1), ["c"].into_iter()), None);
    let payload = rig.head.forget_metadata(TenantId(1), ["a", "c"].into_iter()).expect("a goes");
    rig.log.push((RecordKind::Forgotten, TenantId(1), payload));
    for head in [&rig.head, &rig.replayed()] {
        let left: Vec<&str> = head.metadata(TenantId(1)).map(|(family, _)| family).collect();
        assert_eq!(left, ["b"]);
    }
}
