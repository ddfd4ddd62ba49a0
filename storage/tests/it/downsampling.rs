//! Windows of five minutes and of an hour: they say what the rows say, whenever these came, were
//! deleted or merged; and they stay when the rows are kept no longer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::model::{Clock, MatchOp, Matcher, Resolution, TimeRange, is_stale, stale_nan};
use storage::retention::Rule;
use storage::{Config, Delete, DownsamplingConfig, Error, Extent, SelectWindows, Storage};
use tenancy::{DeleteScope, Limits, ReadScope, Retention, TenantId};
use testkit::SeededRandom;

use crate::facts::{number_from_env, tight};
use crate::store::{Ground, NOW_MS, Row, Rules, labels_of, start_ms, write};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A midnight, so that days of the test are days.
const MIDNIGHT_MS: i64 = NOW_MS - NOW_MS % DAY_MS;

const WINDOWED: [Resolution; 2] = [Resolution::Minutes5, Resolution::Hour1];

/// Samples by tenant, series and instant.
type Facts = BTreeMap<(u32, u32, i64), f64>;

/// Windows of one tenant as text: labels, start, figures.
pub(crate) type Lines = BTreeSet<String>;

/// What windows of these samples are, worked out plainly.
fn expected(facts: &Facts, tenant: u32, resolution: Resolution, range: TimeRange) -> Lines {
    let mut windows: BTreeMap<(u32, i64), Vec<(i64, f64)>> = BTreeMap::new();
    for ((of, series, ms), value) in facts {
        let start = resolution.window_of(*ms).start_ms;
        if *of == tenant && range.contains(start) {
            windows.entry((*series, start)).or_default().push((*ms, *value));
        }
    }
    let mut lines = Lines::new();
    for ((series, start), all) in windows {
        let kept: Vec<(i64, f64)> = all.iter().copied().filter(|(_, v)| !is_stale(*v)).collect();
        let values: Vec<f64> = kept.iter().map(|(_, value)| *value).collect();
        let (Some(first), Some(last)) = (values.first(), values.last()) else { continue };
        // Values of the test are small integers: sums of them are exact in any order.
        let sum: f64 = values.iter().sum();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let known_start =
            |ms| Some(start_ms(series, ms)).filter(|start| *start != 0 && *start < ms);
        let grown = |pair: &[(i64, f64)]| {
            let [(before_ms, before), (now_ms, now)] = [pair[0], pair[1]];
            let restarted = known_start(now_ms).is_some_and(|start| {
                start > before_ms || start == before_ms && known_start(before_ms).is_some()
            });
            if now < before || restarted { now } else { now - before }
        };
        let increase: f64 = kept.windows(2).map(grown).fold(0.0, |all, one| all + one);
        let ended = all.last().is_some_and(|(_, v)| is_stale(*v));
        let figures = [values.len() as f64, min, max, sum, *first, *last, increase];
        lines.insert(line(&labels_of(series).to_string(), start, &figures, ended));
    }
    lines
}

fn line(labels: &str, start_ms: i64, figures: &[f64; 7], ended: bool) -> String {
    format!("{labels} {} {figures:?} {ended}", (start_ms - MIDNIGHT_MS) / 1000)
}

async fn stored(storage: &Storage, tenant: u32, resolution: Resolution, range: TimeRange) -> Lines {
    let scope = ReadScope::for_test(&[(tenant, "team")]);
    stored_in(storage, &scope, resolution, range).await.expect("readable")
}

pub(crate) async fn stored_in(
    storage: &Storage,
    scope: &ReadScope,
    resolution: Resolution,
    range: TimeRange,
) -> Result<Lines, Error> {
    let request = SelectWindows { matchers: vec![], range, resolution };
    let selection = storage.select_windows(scope, &request).await?;
    let mut lines = Lines::new();
    for from in (0..selection.len()).step_by(4) {
        let some = from..(from + 4).min(selection.len());
        let fetched = selection.fetch(some.clone()).await?;
        for (i, w) in some.zip(fetched.decode()?) {
            for at in 0..w.starts.len() {
                let figures = [
                    w.count[at],
                    w.min[at],
                    w.max[at],
                    w.sum[at],
                    w.first[at],
                    w.last[at],
                    w.increase[at],
                ];
                let labels = selection.labels(i).to_string();
                assert!(lines.insert(line(&labels, w.starts[at], &figures, w.ended[at])), "twice");
            }
        }
    }
    Ok(lines)
}

#[track_caller]
fn assert_same(found: &Lines, wanted: &Lines, what: &str) {
    let missing: Vec<_> = wanted.difference(found).take(5).collect();
    let wrong: Vec<_> = found.difference(wanted).take(5).collect();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "{what}: missing {missing:#?}, wrong {wrong:#?}"
    );
}

fn quick() -> Config {
    Config { idle_seconds: 7_200, ..tight() }
}

async fn send(storage: &Storage, facts: &mut Facts, tenant: u32, rows: &[Row]) {
    let outcome = write(storage, tenant, rows).await.expect("a good write").outcome;
    assert!(outcome.rejected.is_empty(), "{outcome:?}");
    facts.extend(rows.iter().map(|(series, ms, value)| ((tenant, *series, *ms), *value)));
}

/// Some hours of three series of two tenants, a day at a time, each merged when it is over.
async fn some_days(ground: &Ground, config: Config, days: i64) -> (Arc<Storage>, Facts) {
    let storage = ground.open_with(config).await.expect("a new store");
    let mut facts = Facts::new();
    for day in 0..days {
        for step in 0..40i64 {
            let at = MIDNIGHT_MS + day * DAY_MS + step * 140_000;
            for tenant in [1, 2] {
                let value = |n: u32| match step % 17 {
                    9 => stale_nan(),
                    s => (s * i64::from(n + 1)) as f64,
                };
                let rows: Vec<Row> = (0..3).map(|n| (n, at + i64::from(n), value(n))).collect();
                send(&storage, &mut facts, tenant, &rows).await;
            }
        }
        storage.flush_all().await.expect("a good flush");
        ground.clock.advance(DAY);
        storage.compact(Extent::Due).await.expect("good merges");
    }
    (storage, facts)
}

fn resolutions(storage: &Storage) -> BTreeSet<&'static str> {
    storage.blocks().iter().map(|(_, b)| b.resolution.as_str()).collect()
}

async fn check_all(storage: &Storage, facts: &Facts, what: &str) {
    for resolution in WINDOWED {
        for tenant in [1, 2] {
            let range = TimeRange::ALL;
            let wanted = expected(facts, tenant, resolution, range);
            let found = stored(storage, tenant, resolution, range).await;
            assert_same(&found, &wanted, &format!("{what}, {resolution}, tenant {tenant}"));
        }
    }
}

fn days_kept(raw: u64, m5: u64, h1: u64) -> Rule {
    let seconds = |days: u64| days * 86_400;
    Rule::Keep(Retention {
        raw_seconds: seconds(raw),
        m5_seconds: seconds(m5),
        h1_seconds: seconds(h1),
        ..Retention::default()
    })
}

fn set_rules(storage: &Storage, rules: &[(u32, Rule)]) {
    storage.set_tenant_rules(Arc::new(Rules(rules.iter().copied().collect())));
}

async fn raw_instants(storage: &Storage, tenant: u32) -> usize {
    let scope = ReadScope::for_test(&[(tenant, "team")]);
    let found = crate::store::read(storage, &scope, &[], TimeRange::ALL).await.expect("readable");
    found.iter().map(|(_, points)| points.len()).sum()
}

async fn delete(
    storage: &Arc<Storage>,
    facts: &mut Facts,
    tenant: u32,
    pod: &str,
    range: TimeRange,
) {
    let scope = DeleteScope::for_test(tenant, "team", Limits::default());
    let matcher = Matcher::new(MatchOp::Regex, "pod", pod).expect("a valid pattern");
    let selectors = vec![vec![matcher.clone()]];
    storage.delete(&scope, Delete { selectors, range }).await.expect("deleted");
    let is_meant = |series: u32| matcher.matches(labels_of(series).get("pod").unwrap_or(""));
    facts.retain(|(of, series, ms), _| *of != tenant || !range.contains(*ms) || !is_meant(*series));
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_say_what_the_rows_say() {
    let ground = Ground::default();
    let (storage, mut facts) = some_days(&ground, quick(), 3).await;
    assert_eq!(resolutions(&storage), BTreeSet::from(["1h", "5m", "raw"]));
    check_all(&storage, &facts, "merged").await;
    let before = storage.blocks().len();
    storage.compact(Extent::Due).await.expect("nothing to do");
    assert_eq!(storage.blocks().len(), before, "windows are made once");
    // Parts of it.
    let from = MIDNIGHT_MS + DAY_MS + 1_000_000;
    for range in [
        TimeRange { start_ms: from, end_ms: from + 5 * HOUR_MS },
        TimeRange { start_ms: MIDNIGHT_MS, end_ms: MIDNIGHT_MS },
        TimeRange { start_ms: MIDNIGHT_MS + 1, end_ms: MIDNIGHT_MS + 299_999 },
        TimeRange { start_ms: from, end_ms: from - 1 },
    ] {
        for resolution in WINDOWED {
            let wanted = expected(&facts, 1, resolution, range);
            assert_same(&stored(&storage, 1, resolution, range).await, &wanted, "a part");
        }
    }
    // Late rows count at once, and are merged into windows made anew.
    let late: Vec<Row> = (0..3).map(|n| (n, MIDNIGHT_MS + 7_000 + i64::from(n), 1000.0)).collect();
    send(&storage, &mut facts, 2, &late).await;
    check_all(&storage, &facts, "late rows in the head").await;
    storage.flush_all().await.expect("a good flush");
    check_all(&storage, &facts, "late rows in a block").await;
    storage.compact(Extent::Everything).await.expect("good merges");
    check_all(&storage, &facts, "late rows merged").await;
    drop(storage);
    let storage = ground.open_with(quick()).await.expect("the same store");
    check_all(&storage, &facts, "after a restart").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_stay_when_rows_go() {
    let ground = Ground::default();
    let (storage, mut facts) = some_days(&ground, quick(), 6).await;
    set_rules(&storage, &[(1, days_kept(2, 4, 0))]);
    storage.retain().await.expect("a good look");
    assert!(raw_instants(&storage, 1).await * 2 < raw_instants(&storage, 2).await);
    let all = TimeRange::ALL;
    let h1 = expected(&facts, 1, Resolution::Hour1, all);
    assert_same(&stored(&storage, 1, Resolution::Hour1, all).await, &h1, "an hour, for ever");
    // Those of five minutes go after four days; one that begins before goes whole.
    let kept = TimeRange { start_ms: MIDNIGHT_MS + 2 * DAY_MS, end_ms: i64::MAX };
    let m5 = expected(&facts, 1, Resolution::Minutes5, kept);
    assert!(m5.len() > 60);
    assert_same(&stored(&storage, 1, Resolution::Minutes5, all).await, &m5, "five minutes");
    // The other tenant's rows are still there: its late ones have windows made anew, from blocks
    // in which this one's rows are gone.
    let late: Vec<Row> = (0..3).map(|n| (n, MIDNIGHT_MS + DAY_MS + 9_000, 77.0)).collect();
    send(&storage, &mut facts, 2, &late).await;
    storage.flush_all().await.expect("a good flush");
    storage.compact(Extent::Everything).await.expect("good merges");
    assert_same(&stored(&storage, 1, Resolution::Hour1, all).await, &h1, "beside late rows");
    check_of(&storage, &facts, 2, "with late rows").await;
    ground.clock.advance(DAY);
    storage.retain().await.expect("a good look");
    storage.compact(Extent::Due).await.expect("good merges");
    assert_same(&stored(&storage, 1, Resolution::Hour1, all).await, &h1, "a day later");
    // A tenant that is deleted leaves nothing.
    set_rules(&storage, &[(1, Rule::Gone)]);
    storage.retain().await.expect("a good look");
    assert!(stored(&storage, 1, Resolution::Hour1, all).await.is_empty());
    check_of(&storage, &facts, 2, "alone").await;
}

async fn check_of(storage: &Storage, facts: &Facts, tenant: u32, what: &str) {
    for resolution in WINDOWED {
        let wanted = expected(facts, tenant, resolution, TimeRange::ALL);
        let found = stored(storage, tenant, resolution, TimeRange::ALL).await;
        assert_same(&found, &wanted, &format!("{what}, {resolution}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_in_no_window() {
    let ground = Ground::default();
    let (storage, mut facts) = some_days(&ground, quick(), 4).await;
    // The rows are there: what is left of a window is worked out from them.
    let range = TimeRange { start_ms: MIDNIGHT_MS + 400_000, end_ms: MIDNIGHT_MS + 2_000_000 };
    delete(&storage, &mut facts, 1, "pod-[01]", range).await;
    check_all(&storage, &facts, "hidden").await;
    storage.flush_all().await.expect("a good flush");
    ground.clock.advance(DAY);
    storage.compact(Extent::Due).await.expect("good merges");
    storage.clean_tombstones().await.expect("a good look");
    check_all(&storage, &facts, "gone").await;
    let scope = DeleteScope::for_test(1, "team", Limits::default());
    assert_eq!(storage.deletes_pending(scope.tenant()), 0, "carried out");
    // They are not: a window that is touched is not shown.
    set_rules(&storage, &[(1, days_kept(1, 0, 0)), (2, days_kept(1, 0, 0))]);
    storage.retain().await.expect("a good look");
    storage.compact(Extent::Due).await.expect("good merges");
    assert_eq!(raw_instants(&storage, 1).await, 0);
    check_all(&storage, &facts, "without rows").await;
    let mut rest = facts.clone();
    let range = TimeRange { start_ms: MIDNIGHT_MS + DAY_MS, end_ms: MIDNIGHT_MS + DAY_MS + 10_000 };
    delete(&storage, &mut rest, 2, "pod-2", range).await;
    let touched = |resolution: Resolution, of: &Facts| {
        let mut kept = of.clone();
        kept.retain(|(tenant, series, ms), _| {
            *tenant != 2 || *series != 2 || !range.overlaps(resolution.window_of(*ms))
        });
        expected(&kept, 2, resolution, TimeRange::ALL)
    };
    for round in ["hidden", "gone"] {
        for resolution in WINDOWED {
            let wanted = touched(resolution, &facts);
            assert!(wanted.len() < expected(&facts, 2, resolution, TimeRange::ALL).len());
            let found = stored(&storage, 2, resolution, TimeRange::ALL).await;
            assert_same(&found, &wanted, &format!("touched, {round}, {resolution}"));
        }
        check_of(&storage, &facts, 1, "another tenant").await;
        storage.flush_all().await.expect("a good flush");
        ground.clock.advance(DAY);
        storage.compact(Extent::Due).await.expect("good merges");
        storage.clean_tombstones().await.expect("a good look");
    }
    assert_eq!(storage.deletes_pending(TenantId(2)), 0, "carried out");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_made_where_they_are_wanted() {
    let off = Config { downsampling: DownsamplingConfig { enabled: false }, ..quick() };
    let ground = Ground::default();
    let (storage, facts) = some_days(&ground, off, 2).await;
    assert_eq!(resolutions(&storage), BTreeSet::from(["raw"]));
    check_all(&storage, &facts, "from rows").await;
    drop(storage);
    // Switched on later, for one tenant.
    let storage = ground.open_with(quick()).await.expect("the same store");
    let raw_only = Retention { raw_only: true, ..Retention::default() };
    set_rules(&storage, &[(2, Rule::Keep(raw_only))]);
    storage.compact(Extent::Due).await.expect("good merges");
    assert_eq!(resolutions(&storage), BTreeSet::from(["1h", "5m", "raw"]));
    check_of(&storage, &facts, 1, "wanted").await;
    set_rules(&storage, &[(1, days_kept(1, 0, 0)), (2, Rule::Keep(raw_only))]);
    ground.clock.advance(DAY);
    storage.retain().await.expect("a good look");
    check_of(&storage, &facts, 1, "wanted, without rows").await;
    // The other tenant's are worked out.
    let scope = ReadScope::for_test(&[(2, "team")]).retained_for_test(raw_only);
    for resolution in WINDOWED {
        let wanted = expected(&facts, 2, resolution, TimeRange::ALL);
        let found = stored_in(&storage, &scope, resolution, TimeRange::ALL).await;
        assert_same(&found.expect("readable"), &wanted, "raw");
    }
    let blocks = storage.blocks().len();
    storage.compact(Extent::Due).await.expect("nothing to do");
    assert_eq!(storage.blocks().len(), blocks, "a day without windows is looked at once");
}

/// Random writes, late ones, deletions, flushes, merges and restarts; windows are what the rows
/// that should be there make. `TAFFRAIL_CASES` and `TAFFRAIL_SEED` as for the model of rows.
#[tokio::test(flavor = "multi_thread")]
async fn windows_follow_the_rows_whatever_happens() {
    let first = number_from_env("TAFFRAIL_SEED").unwrap_or(1);
    let cases = number_from_env("TAFFRAIL_CASES").unwrap_or(6);
    let mut made = 0;
    for seed in first..first + cases {
        made += random_case(seed).await;
    }
    assert!(made > 0, "no case had windows in blocks");
}

async fn random_case(seed: u64) -> usize {
    let random = SeededRandom::new(seed);
    let ground = Ground::default();
    let mut storage = ground.open_with(quick()).await.expect("a new store");
    let (mut facts, mut made) = (Facts::new(), 0);
    for step in 0..60 {
        let now = ground.clock.now_ms();
        match random.below(10) {
            0..5 => {
                for tenant in [1, 2] {
                    let series = random.below(4) as u32;
                    let late =
                        if random.below(4) == 0 { random.below(3 * DAY_MS as u64) } else { 0 };
                    let start = now - late as i64 - 3 * HOUR_MS;
                    let row = |i: i64| {
                        let value = match random.below(12) {
                            0 => stale_nan(),
                            n => n as f64 + i as f64,
                        };
                        (series, start + i * 97_000 + random.below(50_000) as i64, value)
                    };
                    let rows: Vec<Row> = (0..60).map(row).collect();
                    let known = |r: &Row| facts.contains_key(&(tenant, r.0, r.1));
                    let rows: Vec<Row> = rows.iter().copied().filter(|r| !known(r)).collect();
                    send(&storage, &mut facts, tenant, &rows).await;
                }
            }
            5 => storage.flush_all().await.expect("a good flush"),
            6 => {
                let from = now - random.below(3 * DAY_MS as u64) as i64;
                let range = TimeRange { start_ms: from, end_ms: from + 3 * HOUR_MS };
                delete(&storage, &mut facts, 1 + random.below(2) as u32, "pod-[0-2]", range).await;
            }
            7 => ground.clock.advance(Duration::from_secs(random.below(90_000))),
            8 => {
                let extent = [Extent::Due, Extent::Everything][random.below(2) as usize];
                storage.compact(extent).await.expect("good merges");
            }
            _ => {
                drop(storage);
                storage = ground.open_with(quick()).await.expect("the same store");
            }
        }
        if step % 3 == 2 {
            check_all(&storage, &facts, &format!("seed {seed}, step {step}")).await;
            made += storage.blocks().iter().filter(|b| b.1.resolution != Resolution::Raw).count();
        }
    }
    made
}
