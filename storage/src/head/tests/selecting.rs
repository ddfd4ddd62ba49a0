//! Selection and listing against looking at every series' labels.

use std::collections::{BTreeMap, BTreeSet};

use model::{MatchOp, Matcher, Pace};
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::*;
use crate::head::{Cardinality, Verdicts};

const NAMES: [&str; 4] = ["__name__", "a", "b", "pod"];
const VALUES: [&str; 6] = ["", "x", "y", "xy", "zz", "x1"];

/// One series: which value each name has; pods have more.
fn label_set() -> impl Strategy<Value = [usize; 4]> {
    [1..VALUES.len(), 0..VALUES.len(), 0..VALUES.len(), 0..40usize]
}

fn pairs(set: &[usize; 4]) -> Vec<(&'static str, String)> {
    let pod = if set[3] == 0 { String::new() } else { format!("pod-{}", set[3]) };
    let values =
        [VALUES[set[0]].to_owned(), VALUES[set[1]].to_owned(), VALUES[set[2]].to_owned(), pod];
    NAMES.into_iter().zip(values).collect()
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let op = prop::sample::select(vec![
        MatchOp::Equal,
        MatchOp::NotEqual,
        MatchOp::Regex,
        MatchOp::NotRegex,
    ]);
    let name = prop::sample::select(vec!["__name__", "a", "b", "pod", "absent"]);
    let value = prop::sample::select(vec![
        "", "x", "y|zz", ".*", ".+", "x.*", "pod-1.*", "pod-7", "nothing", "|x", "[xy]",
    ]);
    (op, name, value)
        .prop_map(|(op, name, value)| Matcher::new(op, name, value).expect("valid patterns"))
}

fn head_of(sets: &[[usize; 4]]) -> (Rig, BTreeMap<u32, Labels>) {
    let mut rig = Rig::new();
    for set in sets {
        let pairs = pairs(set);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (*n, v.as_str())).collect();
        rig.send(1, &[sent(&pairs, &[(15_000, 1.0)])]);
        // Another tenant's series lie in between.
        rig.send(2, &[sent(&[("__name__", "x"), ("a", "other")], &[(15_000, 1.0)])]);
    }
    let own = (0..rig.head.series_count()).filter(|s| rig.head.tenant(*s) == TenantId(1));
    let labels = own.map(|s| (s, rig.head.labels(s))).collect();
    (rig, labels)
}

fn check_select(head: &Head, all: &BTreeMap<u32, Labels>, matchers: &[Matcher]) {
    let holds =
        |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")));
    let expected: RoaringBitmap = all.iter().filter(|(_, l)| holds(l)).map(|(s, _)| *s).collect();
    assert_eq!(
        head.select(TenantId(1), matchers, &mut Pace::default()).expect("nobody stops it"),
        expected,
        "{matchers:?}"
    );
    assert_eq!(select_in_turns(head, matchers), expected, "{matchers:?}");
}

/// Patterns compared between looks at the head instead of at once.
fn select_in_turns(head: &Head, matchers: &[Matcher]) -> RoaringBitmap {
    let (mut verdicts, mut pace) = (Verdicts::default(), Pace::default());
    loop {
        let found = head.select_known(TenantId(1), matchers, &mut verdicts, &mut pace);
        if verdicts.are_complete() {
            return found.expect("nobody stops it");
        }
        verdicts.compare(&mut pace).expect("nobody stops it");
    }
}

#[test]
fn what_is_written_between_looks_came_after_the_question() {
    let sets: Vec<[usize; 4]> = (0..400).map(|i| [1 + i % 5, i % 6, i / 7 % 6, i % 40]).collect();
    let (mut rig, all) = head_of(&sets);
    let matchers = [
        Matcher::new(MatchOp::NotRegex, "pod", "pod-.*[13579]").expect("valid"),
        Matcher::new(MatchOp::Regex, "b", "[xz]+|").expect("valid"),
    ];
    let before = rig.head.select(TenantId(1), &matchers, &mut Pace::default()).expect("not ended");
    assert!((1..all.len() as u64).contains(&before.len()), "some of them");
    let (mut verdicts, mut pace) = (Verdicts::default(), Pace::default());
    let mut looks = 0;
    let found = loop {
        looks += 1;
        let found = rig.head.select_known(TenantId(1), &matchers, &mut verdicts, &mut pace);
        if verdicts.are_complete() {
            break found.expect("nobody stops it");
        }
        let pod = format!("new-{looks}");
        rig.send(1, &[sent(&[("__name__", "x"), ("pod", &pod)], &[(15_000, 1.0)])]);
        verdicts.compare(&mut pace).expect("nobody stops it");
    };
    assert!((2..5).contains(&looks), "it comes to an end: {looks}");
    assert_eq!(found, before);
    // In another numbering nothing of it holds.
    rig.head.cut(15_000, 1_000_000);
    rig.head.thaw();
    rig.send(1, &[sent(&[("__name__", "x"), ("b", "x"), ("pod", "even-2")], &[(900_000, 2.0)])]);
    assert!(rig.head.cut(900_000, 10_000).renumbered.is_some());
    let after = rig.head.select_known(TenantId(1), &matchers, &mut verdicts, &mut pace);
    assert!(!verdicts.are_complete(), "{after:?}");
    assert_eq!(select_in_turns(&rig.head, &matchers), RoaringBitmap::from([0]));
}

fn check_lists(head: &Head, all: &BTreeMap<u32, Labels>, within: Option<&RoaringBitmap>) {
    let chosen = || {
        all.iter().filter(|(s, _)| within.is_none_or(|w| w.contains(**s))).map(|(_, labels)| labels)
    };
    let names: BTreeSet<&str> = chosen().flat_map(|l| l.iter().map(|(n, _)| n)).collect();
    assert_eq!(
        head.label_names(TenantId(1), within, &mut Pace::default()).expect("nobody stops it"),
        names
    );
    for name in ["a", "pod", "absent"] {
        let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
        chosen().filter_map(|l| l.get(name)).for_each(|v| *expected.entry(v).or_default() += 1);
        let mut counts = BTreeMap::new();
        head.for_each_value(TenantId(1), name, within, &mut Pace::default(), |value, count| {
            assert_eq!(counts.insert(value, count), None, "each value once");
        })
        .expect("nobody stops it");
        assert_eq!(counts, expected);
        assert!(
            head.label_values(TenantId(1), name, within, &mut Pace::default())
                .expect("nobody stops it")
                .into_iter()
                .eq(expected.into_keys())
        );
    }
    let column = head.label_column("pod");
    for (series, labels) in all {
        assert_eq!(column.symbol(*series).map(|s| head.symbol_text(s)), labels.get("pod"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn postings_agree_with_labels(
        // Around and far above the number from which on a tenant has postings.
        sets in prop_oneof![
            prop::collection::vec(label_set(), 0..90),
            prop::collection::vec(label_set(), 600..900),
        ],
        matchers in prop::collection::vec(prop::collection::vec(matcher(), 0..4), 12),
    ) {
        let (rig, all) = head_of(&sets);
        let mut restored = Head::new(3);
        restored.restore(&rig.head.snapshot_full()).expect("a snapshot of ours");
        for head in [&rig.head, &restored] {
            for matchers in &matchers {
                check_select(head, &all, matchers);
            }
            check_lists(head, &all, None);
            for matchers in &matchers[..4] {
                check_lists(head, &all, Some(&head.select(TenantId(1), matchers, &mut Pace::default()).expect("nobody stops it")));
            }
        }
    }
}

#[test]
fn postings_hold_after_a_renumbering() {
    let sets: Vec<[usize; 4]> = (0..400).map(|i| [1 + i % 5, i % 6, i / 7 % 6, i % 40]).collect();
    let (mut rig, all) = head_of(&sets);
    let before: Vec<Labels> = all.values().cloned().collect();
    rig.head.cut(15_000, 1_000_000);
    rig.head.thaw();
    // Only one kind stays in use.
    let kept: Vec<&Labels> = before.iter().filter(|l| l.get("a") == Some("xy")).collect();
    for labels in &kept {
        let pairs: Vec<(&str, &str)> = labels.iter().collect();
        rig.send(1, &[sent(&pairs, &[(900_000, 2.0)])]);
    }
    assert!(rig.head.cut(900_000, 10_000).renumbered.is_some());
    let all: BTreeMap<u32, Labels> =
        (0..rig.head.series_count()).map(|s| (s, rig.head.labels(s))).collect();
    assert!(all.values().eq(kept.iter().copied()), "survivors keep their order");
    check_lists(&rig.head, &all, None);
    for value in ["xy", "x"] {
        check_select(
            &rig.head,
            &all,
            &[
                Matcher::equal("a", value),
                Matcher::new(MatchOp::NotEqual, "pod", "").expect("valid"),
            ],
        );
    }
    assert_eq!(
        rig.head.select(TenantId(2), &[], &mut Pace::default()).expect("nobody stops it"),
        RoaringBitmap::new(),
        "all its series were idle"
    );
}

#[test]
fn cardinality_adds_up_over_partitions() {
    let sets: Vec<[usize; 4]> = (0..100).map(|i| [1 + i % 2, 1, 0, i % 40]).collect();
    let (rig, all) = head_of(&sets);
    let mut sum = Cardinality::default();
    rig.head.add_cardinality(TenantId(1), &mut sum, &mut Pace::default()).expect("nobody stops it");
    rig.head.add_cardinality(TenantId(1), &mut sum, &mut Pace::default()).expect("nobody stops it");
    let series = 2 * all.len() as u64;
    assert_eq!(
        (sum.series, sum.top_metrics(5)),
        (series, vec![("x", series / 2), ("y", series / 2)])
    );
    let held = TimeRange { start_ms: 15_000, end_ms: 15_000 };
    assert_eq!((sum.buffered, sum.range), (series, Some(held)));
    assert_eq!(sum.top_labels(2), [("pod", 39), ("__name__", 2)]);
    assert_eq!(sum.top_pairs(1), [("a=x".to_owned(), series)]);
    assert_eq!(sum.top_label_bytes(5).iter().find(|(n, _)| *n == "a"), Some(&("a", series)));
}
