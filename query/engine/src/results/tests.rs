//! What may be kept, how far steps read, and what memory it takes.

use model::Labels;
use query::promql::{Features, parse_with};

use super::*;
use crate::plan::{Question, lower};

fn expr(text: &str) -> Expr {
    parse_with(text, Features::ALL).expect("a valid expression")
}

fn reach(text: &str) -> Option<(i64, i64)> {
    let question = Question {
        grid: Grid::new(0, 3_600_000, 60_000),
        end_ms: 3_600_000,
        lookback_ms: 300_000,
        subquery_step_ms: 60_000,
        steps_max: 1_000_000,
    };
    let reach = Reach::of(&lower(&expr(text), question).expect("a plan"))?;
    let all = TimeRange { start_ms: i64::MIN, end_ms: i64::MAX };
    let held = reach.holding(all, Some(1), 0);
    Some((held.start_ms, -held.end_ms))
}

#[test]
fn steps_read_so_far_around_them() {
    for (text, expected) in [
        ("m", Some((300_000, 0))),
        ("rate(m[5m] offset 1m)", Some((360_000, -60_000))),
        ("m + m offset -2m", Some((300_000, 120_000))),
        ("sum(rate(m[10m])) / m", Some((600_000, 0))),
        ("max_over_time(rate(m[1m])[10m:30s] offset 1m)", Some((720_000, -60_000))),
        ("topk(scalar(n offset 1h), m)", Some((3_900_000, 0))),
        ("rate(m[1m] smoothed)", Some((360_000, 300_000))),
        ("timestamp(m)", Some((300_000, 0))),
        ("time() + m", Some((300_000, 0))),
        ("m @ 100", None),
        ("sum_over_time(m[5m:1m] @ 100)", None),
        ("m + m @ 100", None),
        ("time()", None),
        ("vector(1)", None),
    ] {
        assert_eq!(reach(text), expected, "{text}");
    }
}

#[test]
fn what_depends_on_the_range_is_not_kept() {
    for (text, expected) in [
        ("sum(rate(m[5m]))", true),
        ("topk(3, m{a=\"b\"}) or on () n", true),
        ("rate({__name__=\"m\"}[5m])", true),
        ("m @ start()", false),
        ("m @ end()", false),
        ("m * step()", false),
        ("rate(m[range()])", false),
        ("rate({__name__=~\"m|n\"}[5m])", false),
        ("{a=\"b\"}", false),
        ("label_replace(m, \"a\", \"\", \"\", \"\")", false),
        ("info(m)", false),
    ] {
        assert_eq!(is_of_steps(&expr(text)), expected, "{text}");
    }
}

#[test]
fn stretches_are_cut_to_whole_steps() {
    let range = |start_ms, end_ms| TimeRange { start_ms, end_ms };
    for (asked, expected) in [
        (range(0, 100), Some(range(7, 67))),
        (range(7, 67), Some(range(7, 67))),
        (range(8, 66), Some(range(27, 47))),
        (range(28, 46), None),
        (range(68, 90), None),
        (range(50, 10), None),
        (range(i64::MIN, i64::MAX), Some(range(7, 67))),
    ] {
        assert_eq!(cut_to_steps(asked, range(7, 67), 20), expected, "{asked:?}");
    }
}

fn stretch(tenant: u32, expr: usize) -> Arc<Stretch> {
    let key = Key {
        tenants: [TenantId(tenant)].into(),
        is_labelled: false,
        scope: String::new(),
        expr: format!("m{expr}"),
        step_ms: 1,
        phase_ms: 0,
        lookback_ms: 1,
    };
    let range = TimeRange { start_ms: 0, end_ms: 0 };
    Arc::new(Stretch { key: Arc::new(key), range, generation: 0, series: Vec::new() })
}

#[test]
fn memory_is_bounded_in_all_and_for_each_scope() {
    let (mut kept, bytes_max) = (Kept::default(), 400);
    let mut put = |tenant: u32, expr: usize, bytes: u64| {
        let gone = kept.put(stretch(tenant, expr), bytes, bytes_max);
        let held: u64 = kept.scopes.values().map(Lru::bytes).sum();
        assert_eq!(held, kept.bytes);
        assert!(held <= bytes_max);
        let numbered: Vec<_> =
            gone.iter().map(|e| (e.key.tenants[0].0, e.key.expr.clone())).collect();
        let left = kept.numbers.len();
        (numbered, left)
    };
    let of = |tenant: u32, expr: usize| (tenant, format!("m{expr}"));
    assert_eq!(put(1, 1, 60), (vec![], 1));
    assert_eq!(put(1, 2, 60), (vec![of(1, 1)], 1), "a quarter for one");
    assert_eq!(put(1, 2, 90), (vec![of(1, 2)], 1), "in the place of what was there");
    for tenant in 2..5 {
        assert_eq!(put(tenant, 1, 100), (vec![], tenant as usize));
    }
    assert_eq!(put(5, 1, 10), (vec![], 5));
    assert_eq!(put(6, 1, 5).0.len(), 1, "one of those who have most gives");
}

#[test]
fn parts_are_joined_in_the_order_of_labels() {
    let one = |name: &str, instants: &[i64]| MatrixSeries {
        labels: Labels::from_pairs([("a", name)]),
        floats: instants.iter().map(|at_ms| (*at_ms, *at_ms as f64)).collect(),
        histograms: Vec::new(),
    };
    let whole = vec![one("x", &[1, 2, 3]), one("y", &[3, 4])];
    let cut_at = |start_ms, end_ms| (start_ms, cut(&whole, TimeRange { start_ms, end_ms }));
    assert_eq!(cut_at(1, 2).1, [one("x", &[1, 2])]);
    assert_eq!(join(vec![cut_at(1, 2), cut_at(3, 3), cut_at(4, 9)]), whole);
    assert!(is_in_order(&whole) && !is_in_order(&[one("x", &[]), one("x", &[])]));
    assert!(bytes_of(&whole) > 5 * 16);
}
