//! So many series that they are found by postings, and rows of patterns in blocks are kept: what is
//! found is what comparing one by one finds, the second time as well, and with what came meanwhile.

use std::collections::BTreeSet;
use std::ops::Range;

use model::{Labels, MatchOp, Matcher, TimeRange};
use storage::{Config, Storage};
use tenancy::ReadScope;

use crate::store::{Ground, NOW_MS, config, labels_of, write};

/// Series of two tenants; some have the same labels.
const SERIES: [Range<u32>; 2] = [0..5_000, 2_500..7_000];

/// A series that comes later.
const LATER: u32 = 17_177;

fn selectors() -> Vec<Vec<Matcher>> {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let terms: &[&[(MatchOp, &str, &str)]] = &[
        &[(Regex, "pod", "pod-1.*")],
        &[(NotRegex, "pod", "pod-1.*")],
        &[(Regex, "pod", "pod-[0-9]*7")],
        &[(NotRegex, "pod", "pod-[0-9]*7")],
        &[(Regex, "pod", ".*-[0-9]*7")],
        &[(Regex, "pod", "pod-3|pod-77|pod-4444|gone|")],
        &[(Regex, "zone", "a|"), (Regex, "pod", ".+7")],
        &[(Regex, "zone", "(?i)A"), (NotRegex, "pod", "pod-[1-4].*")],
        &[(Regex, "zone", "pod-1.*")],
        &[(Regex, "missing", "|x"), (Equal, "zone", "b"), (Regex, "pod", "pod-(1|2)[0-9]7.*")],
        &[(NotRegex, "missing", "|x")],
        &[(NotRegex, "pod", ""), (NotEqual, "zone", "a"), (Regex, "pod", ".*99.*")],
        &[(Equal, "__name__", "metric_2"), (Regex, "pod", "pod-[0-9]*7"), (Regex, "zone", ".+")],
    ];
    let matcher = |(op, name, value): &(MatchOp, &str, &str)| {
        Matcher::new(*op, *name, *value).expect("a valid matcher")
    };
    terms.iter().map(|all| all.iter().map(matcher).collect()).collect()
}

async fn check(storage: &Storage, has_later: bool, place: &str) {
    let range = TimeRange { start_ms: NOW_MS - 60_000, end_ms: NOW_MS };
    for matchers in selectors() {
        for (tenant, series) in (1..).zip(SERIES) {
            let scope = ReadScope::for_test(&[(tenant, "team")]);
            let selectors = std::slice::from_ref(&matchers);
            let holds = |labels: &Labels| {
                matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
            };
            let later = (has_later && tenant == 1).then_some(LATER);
            let expected: BTreeSet<Labels> =
                series.chain(later).map(labels_of).filter(holds).collect();
            let values = |name: &str| -> BTreeSet<String> {
                expected.iter().filter_map(|labels| labels.get(name)).map(str::to_owned).collect()
            };
            let what = format!("{matchers:?} of {tenant} in {place}");
            let found = storage.series(&scope, selectors, range).await.expect("series");
            assert!(found == expected, "{what}: {} and not {}", found.len(), expected.len());
            for name in ["pod", "zone", "missing"] {
                let found = storage.label_values(&scope, name, selectors, range).await;
                assert_eq!(found.expect("values"), values(name), "{name} of {what}");
            }
            let names: BTreeSet<String> =
                expected.iter().flat_map(|l| l.iter().map(|(name, _)| name.to_owned())).collect();
            let found = storage.label_names(&scope, selectors, range).await.expect("names");
            assert_eq!(found, names, "names of {what}");
        }
    }
}

#[tokio::test]
async fn what_is_found_is_what_comparing_one_by_one_finds() {
    let ground = Ground::default();
    let one = Config { partitions: 1, log_segment_bytes: 1 << 24, ..config() };
    let storage = ground.open_with(one).await.expect("a new store");
    for (tenant, series) in (1..).zip(SERIES) {
        let rows: Vec<_> = series.map(|number| (number, NOW_MS - 1_000, 1.0)).collect();
        write(&storage, tenant, &rows).await.expect("room");
    }
    for time in ["the head", "the head again"] {
        check(&storage, false, time).await;
    }
    storage.flush_all().await.expect("flushed");
    for time in ["a block", "a block again"] {
        check(&storage, false, time).await;
    }
    write(&storage, 1, &[(LATER, NOW_MS, 1.0)]).await.expect("room");
    check(&storage, true, "a block and the head").await;
    storage.flush_all().await.expect("flushed");
    check(&storage, true, "two blocks").await;
}
