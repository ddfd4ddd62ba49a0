//! The store against a sorted map: random writes (in order, late, repeated, conflicting),
//! deletions, flushes and merges of which some fail, restarts of all kinds, series that go quiet,
//! and random questions.
//!
//! `TAFFRAIL_CASES` says how many cases are run, `TAFFRAIL_SEED` which one is first;
//! `TAFFRAIL_SOAK_SECONDS=3600` runs cases for an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::model::{Clock, Labels, MatchOp, Matcher, TENANT_LABEL, TimeRange};
use storage::{Config, Delete, Extent, Storage};
use tenancy::{DeleteScope, Limits, ReadScope};
use testkit::{Fault, SeededRandom};

use crate::facts::{number_from_env, text_of};
use crate::store::{Ground, Row, append, config, labels_of, read};

mod live;

/// Series of each tenant.
const SERIES: u32 = 60;

/// Seconds without samples after which a series is idle.
const IDLE_SECONDS: u64 = 300;

/// How late a sample may be: the window of metering, 72 h. Milliseconds.
const LATE_MS: u64 = 72 * 3_600_000;

type Key = (u32, u32, i64);

/// A store, what it must hold, and what happened to it.
struct World {
    random: SeededRandom,
    ground: Ground,
    storage: Arc<Storage>,
    /// What each instant has: the first value that was acknowledged.
    expected: BTreeMap<Key, u64>,
    /// Instants that a head certainly knows: a conflicting sample must be refused.
    in_heads: BTreeSet<Key>,
    /// Writes go to about a dozen series from here on; the others go quiet.
    base: u32,
    /// Whether a flush was the last thing that happened: then the newest manifests may be lost.
    is_flushed: bool,
    seen: Seen,
}

/// What the cases came across: a test that never saw it proves nothing about it.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    conflicts: u64,
    flushes: u64,
    failed_flushes: u64,
    renumberings: u64,
    renumberings_replayed: u64,
    restarts: u64,
    merges: u64,
    answers: u64,
    deleted_rows: u64,
    dropped_tombstones: u64,
    late_by_hours: u64,
    spoiled_manifests: u64,
    counted_series: u64,
}

fn tight() -> Config {
    Config { partitions: 2, log_segment_bytes: 1 << 14, idle_seconds: IDLE_SECONDS, ..config() }
}

fn scope_of(tenants: &[u32]) -> ReadScope {
    let names: Vec<String> = tenants.iter().map(|t| format!("team-{t}")).collect();
    let pairs: Vec<(u32, &str)> =
        tenants.iter().zip(&names).map(|(t, n)| (*t, n.as_str())).collect();
    ReadScope::for_test(&pairs)
}

impl World {
    async fn new(seed: u64) -> Self {
        let ground = Ground::default();
        let storage = ground.open_with(tight()).await.expect("a new store");
        Self {
            random: SeededRandom::new(seed),
            ground,
            storage,
            expected: BTreeMap::new(),
            in_heads: BTreeSet::new(),
            base: 0,
            is_flushed: false,
            seen: Seen::default(),
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    async fn step(&mut self) {
        let step = self.below(100);
        let changes_nothing = step >= 55 && !(65..72).contains(&step);
        self.is_flushed &= changes_nothing;
        match step {
            0..50 => {
                self.write().await;
                self.count_live();
            }
            50..55 => self.delete().await,
            55..62 => self.flush().await,
            62..65 => self.compact().await,
            65..72 => self.flush_with_a_fault().await,
            72..77 => self.restart().await,
            77..81 => self.go_quiet(),
            81..83 => self.hours_pass(),
            _ => self.ask().await,
        }
    }

    fn value(&self) -> f64 {
        match self.below(8) {
            0 => -0.0,
            1 => f64::from_bits(0x7ff8_0000_0000_0000 | self.below(1 << 20)),
            2 => ::model::stale_nan(),
            3 => self.below(1 << 60) as f64 / 7.0,
            n => (self.below(5) + n) as f64,
        }
    }

    /// A row: mostly the next one of its series, else late, known, or known with another value.
    fn row(&self, tenant: u32) -> Row {
        let now = self.ground.clock.now_ms();
        let series = (self.base + self.below(12) as u32) % SERIES;
        let fresh = (series, now - 1000 + self.below(2000) as i64, self.value());
        let known = |at: i64| {
            let of_series = (tenant, series, at)..(tenant, series, i64::MAX);
            self.expected.range(of_series).next().map(|(key, bits)| (key.2, f64::from_bits(*bits)))
        };
        let earlier = now - self.below(400_000) as i64;
        match self.below(10) {
            0 if self.random.chance(40) => (series, now - self.below(LATE_MS) as i64, self.value()),
            0 => (series, earlier, self.value()),
            1 => known(earlier).map_or(fresh, |(ms, value)| (series, ms, value)),
            2 => known(earlier).map_or(fresh, |(ms, _)| (series, ms, self.value())),
            _ => fresh,
        }
    }

    async fn write(&mut self) {
        self.ground.clock.advance(Duration::from_millis(self.below(20_000)));
        let tenant = 1 + self.below(2) as u32;
        let rows: Vec<Row> = (0..1 + self.below(20)).map(|_| self.row(tenant)).collect();
        let appended = append(&self.storage, tenant, &rows).expect("writes are taken");
        if let Some(position) = appended.position {
            self.storage.durable(position).await.expect("a sound disk");
        }
        let now = self.ground.clock.now_ms();
        let by_hours = |row: &&Row| now - row.1 > 2 * 3_600_000;
        self.seen.late_by_hours += rows.iter().filter(by_hours).count() as u64;
        let (mut must_refuse, mut may_refuse) = (0, 0);
        for &(series, ms, value) in &rows {
            let (key, bits) = ((tenant, series, ms), value.to_bits());
            match self.expected.get(&key) {
                None => {
                    self.expected.insert(key, bits);
                    self.in_heads.insert(key);
                }
                Some(_) if !self.in_heads.contains(&key) => may_refuse += 1,
                Some(known) => must_refuse += u64::from(*known != bits),
            }
        }
        let refused: u64 = appended.outcome.rejected.iter().map(|r| r.count).sum();
        self.seen.conflicts += must_refuse;
        assert!(
            (must_refuse..=must_refuse + may_refuse).contains(&refused),
            "{refused} refused, {must_refuse} to {may_refuse} more expected: {:?} of {rows:?}",
            appended.outcome
        );
        assert_eq!(appended.outcome.samples + refused, rows.len() as u64);
    }

    /// Of one tenant, some series and a stretch of time; sometimes everything.
    async fn delete(&mut self) {
        let tenant = 1 + self.below(2) as u32;
        let now = self.ground.clock.now_ms();
        let start_ms = now - self.below(900_000) as i64;
        let some = TimeRange { start_ms, end_ms: start_ms + self.below(300_000) as i64 };
        let range = if self.random.chance(15) { TimeRange::ALL } else { some };
        let selectors = vec![self.matchers(), vec![Matcher::equal("pod", "pod-3")]];
        let scope = DeleteScope::for_test(tenant, &format!("team-{tenant}"), Limits::default());
        let goes = |key: &Key| {
            let labels = labels_of(key.1);
            key.0 == tenant
                && range.contains(key.2)
                && selectors.iter().any(|matchers| {
                    matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
                })
        };
        let before = self.expected.len();
        self.expected.retain(|key, _| !goes(key));
        self.in_heads.retain(|key| !goes(key));
        let gone = (before - self.expected.len()) as u64;
        let delete = Delete { selectors: selectors.clone(), range };
        let preview = self.storage.preview_delete(&scope, &delete).await.expect("a preview");
        assert_eq!(preview.samples, gone, "{selectors:?} {range:?}");
        self.storage.delete(&scope, delete).await.expect("a deletion");
        self.seen.deleted_rows += gone;
        if self.random.chance(30) {
            let before = self.storage.deletes_pending(scope.tenant());
            self.storage.clean_tombstones().await.expect("a sound disk");
            // It flushes first.
            self.in_heads.clear();
            let after = self.storage.deletes_pending(scope.tenant());
            self.seen.dropped_tombstones += (before - after) as u64;
        }
    }

    async fn flush(&mut self) {
        let series = self.storage.totals().active_series;
        // What an earlier flush failed to store goes first, then what came since.
        for _ in 0..2 {
            self.storage.flush_all().await.expect("a good flush");
        }
        let totals = self.storage.totals();
        assert_eq!(totals.head_samples, 0);
        self.is_flushed = true;
        self.seen.flushes += 1;
        self.seen.renumberings += u64::from(totals.active_series < series);
        self.in_heads.clear();
    }

    /// Merges blocks: what is due, or everything; now and then with a call that fails.
    async fn compact(&mut self) {
        let extent = [Extent::Due, Extent::Everything][self.below(2) as usize];
        let fails = self.random.chance(30);
        if fails {
            let n = self.ground.disk.operations() + 1 + self.below(60);
            self.ground.disk.fail_at(n, Fault::Enospc);
        }
        let merges = self.storage.compaction().merges;
        let merged = self.storage.compact(extent).await;
        self.seen.merges += u64::from(self.storage.compaction().merges != merges);
        self.ground.disk.heal();
        if fails {
            // The manifest may or may not name the new blocks: then it takes a restart.
            if !self.storage.read_only().is_empty() {
                self.restart().await;
            }
            return;
        }
        merged.expect("a sound disk");
        if self.random.chance(20) {
            self.storage.remove_merged().await;
        }
    }

    /// One call on the disk fails, as often as not after series were numbered anew.
    async fn flush_with_a_fault(&mut self) {
        let n = self.ground.disk.operations() + 1 + self.below(30);
        let fault = [Fault::Eio, Fault::Enospc, Fault::ShortWrite][self.below(3) as usize];
        self.ground.disk.fail_at(n, fault);
        let (series, samples) = self.in_storage();
        let flushed = self.storage.flush_all().await;
        let renumbered = self.storage.totals().active_series < series;
        self.seen.failed_flushes += u64::from(flushed.is_err());
        if flushed.is_ok() {
            self.in_heads.clear();
        } else {
            // Some partitions may have been flushed.
            if self.in_storage().1 != samples {
                self.in_heads.clear();
            }
        }
        // The commit thread may meet the fault a moment later.
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.ground.disk.heal();
        let is_sound = self.storage.ready().is_ok() && self.storage.read_only().is_empty();
        if !is_sound || (renumbered && self.random.chance(50)) {
            self.seen.renumberings_replayed += u64::from(renumbered && flushed.is_err());
            self.restart().await;
        }
    }

    /// Series and samples in heads; of these there may be more than is noted here.
    fn in_storage(&self) -> (u64, u64) {
        let totals = self.storage.totals();
        (totals.active_series, totals.head_samples)
    }

    async fn restart(&mut self) {
        let (_, samples) = self.in_storage();
        let disk = match self.below(3) {
            0 => {
                drop(Arc::clone(&self.storage).close().await);
                self.ground.disk.after_kill()
            }
            1 => self.ground.disk.after_kill(),
            _ => self.ground.disk.after_crash(self.below(1 << 32)),
        };
        self.ground.disk = disk;
        if self.random.chance(25) {
            self.spoil_a_manifest();
        }
        let opened = self.ground.open_with(tight()).await;
        self.storage = opened.unwrap_or_else(|e| panic!("reopen: {}", text_of(&e)));
        assert_eq!((self.storage.damage(), self.storage.read_only()), (&[][..], vec![]));
        self.seen.restarts += 1;
        // Blocks may know more than the head now.
        if self.in_storage().1 != samples {
            self.in_heads.clear();
        }
    }

    /// One of them: that costs nothing. The newest only after a flush: of a flush that failed the log
    /// may have a renumbering, which does not fit the rows of the one before.
    fn spoil_a_manifest(&mut self) {
        let is_manifest = |path: &std::path::PathBuf| path.starts_with("objects/manifest");
        let all: Vec<_> = self.ground.disk.files().into_iter().filter(is_manifest).collect();
        let Some(path) = all.get(self.below(all.len().max(1) as u64) as usize) else { return };
        let is_newest = !all.iter().any(|other| other > path && other.parent() == path.parent());
        if is_newest && !self.is_flushed {
            return;
        }
        let at = self.below(10_000) as usize;
        let flip = |bytes: &mut Vec<u8>| {
            let at = at % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
        };
        self.ground.disk.tamper(path, flip).expect("an existing file");
        self.seen.spoiled_manifests += 1;
    }

    /// Windows and days end: what lies in them is merged as they do.
    fn hours_pass(&mut self) {
        self.ground.clock.advance(Duration::from_secs(3_600 * (1 + self.below(20))));
    }

    /// Long enough for everything to be idle; writes go on with other series.
    fn go_quiet(&mut self) {
        self.ground.clock.advance(Duration::from_secs(IDLE_SECONDS + self.below(300)));
        self.base = self.below(u64::from(SERIES)) as u32;
    }

    fn matchers(&self) -> Vec<Matcher> {
        let patterns = [
            ("zone", "a"),
            ("pod", "pod-1.*"),
            ("pod", "pod-7|pod-8|pod-40"),
            ("__name__", "metric_[1-3]"),
            ("__name__", "metric_2"),
            ("pod", ".+"),
            ("absent", ""),
            ("absent", ".*"),
        ];
        let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        (0..self.below(3))
            .map(|_| {
                let (name, value) = patterns[self.below(patterns.len() as u64) as usize];
                Matcher::new(ops[self.below(4) as usize], name, value).expect("a valid matcher")
            })
            .collect()
    }

    async fn ask(&mut self) {
        let tenants: &[u32] = [&[1][..], &[2], &[1, 2]][self.below(3) as usize];
        let (mut scope, mut alternatives) = (scope_of(tenants), Vec::new());
        if self.random.chance(30) {
            alternatives = vec![self.matchers(), self.matchers()];
            scope = scope.restricted_for_test(alternatives.clone());
        }
        let matchers = self.matchers();
        let now = self.ground.clock.now_ms();
        let back = if self.random.chance(30) { LATE_MS } else { 900_000 };
        let start_ms = now - self.below(back) as i64;
        let end_ms = start_ms + self.below(back) as i64;
        let ranges = [TimeRange::ALL, TimeRange { start_ms, end_ms }];
        let range = ranges[self.below(2) as usize];
        let found = read(&self.storage, &scope, &matchers, range).await;
        let found = found.unwrap_or_else(|e| panic!("read: {}", text_of(&e)));
        let expected = self.answer(tenants, &alternatives, &matchers, range);
        let found: BTreeMap<String, Vec<(i64, u64)>> = found.into_iter().collect();
        assert_eq!(found, expected, "{tenants:?} {alternatives:?} {matchers:?} {range:?}");
        self.seen.answers += 1;
        self.check_liveness(&scope, &matchers, range).await;
        if range == TimeRange::ALL {
            let listed = self.storage.series(&scope, std::slice::from_ref(&matchers), range).await;
            let listed = listed.unwrap_or_else(|e| panic!("list: {}", text_of(&e)));
            let listed: BTreeSet<String> = listed.iter().map(ToString::to_string).collect();
            let known: BTreeSet<String> = expected.into_keys().collect();
            assert_eq!(listed, known, "{tenants:?} {alternatives:?} {matchers:?}");
        }
    }

    fn answer(
        &self,
        tenants: &[u32],
        alternatives: &[Vec<Matcher>],
        matchers: &[Matcher],
        range: TimeRange,
    ) -> BTreeMap<String, Vec<(i64, u64)>> {
        let all_match = |labels: &Labels, matchers: &[Matcher]| {
            matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
        };
        let mut answer: BTreeMap<String, Vec<(i64, u64)>> = BTreeMap::new();
        for (&(tenant, series, ms), &bits) in &self.expected {
            let labels = labels_of(series);
            let is_allowed =
                alternatives.is_empty() || alternatives.iter().any(|a| all_match(&labels, a));
            if !tenants.contains(&tenant)
                || !is_allowed
                || !all_match(&labels, matchers)
                || !range.contains(ms)
            {
                continue;
            }
            let shown = match tenants.len() {
                1 => labels,
                _ => labels.to_builder().set(TENANT_LABEL, &format!("team-{tenant}")).build(),
            };
            answer.entry(shown.to_string()).or_default().push((ms, bits));
        }
        answer
    }
}

/// Prints which seed to replay when a case panics.
struct Case(u64);

impl Drop for Case {
    #[expect(clippy::print_stderr, reason = "the seed of a failed case")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with TAFFRAIL_SEED={} TAFFRAIL_CASES=1", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_answers_like_a_map() {
    let cases = number_from_env("TAFFRAIL_CASES").unwrap_or(60);
    let first_seed = number_from_env("TAFFRAIL_SEED").unwrap_or(1);
    let soak = number_from_env("TAFFRAIL_SOAK_SECONDS").map(Duration::from_secs);
    let (mut all, started) = (Seen::default(), Instant::now());
    let cases = if soak.is_some() { u64::MAX - first_seed } else { cases };
    for seed in first_seed..first_seed + cases {
        if soak.is_some_and(|soak| started.elapsed() > soak) {
            break;
        }
        let _case = Case(seed);
        let mut world = World::new(seed).await;
        for _ in 0..80 {
            world.step().await;
        }
        world.ask().await;
        let seen = world.seen;
        all.conflicts += seen.conflicts;
        all.flushes += seen.flushes;
        all.failed_flushes += seen.failed_flushes;
        all.renumberings += seen.renumberings;
        all.renumberings_replayed += seen.renumberings_replayed;
        all.restarts += seen.restarts;
        all.merges += seen.merges;
        all.answers += seen.answers;
        all.deleted_rows += seen.deleted_rows;
        all.dropped_tombstones += seen.dropped_tombstones;
        all.late_by_hours += seen.late_by_hours;
        all.spoiled_manifests += seen.spoiled_manifests;
        all.counted_series += seen.counted_series;
    }
    if cases >= 60 {
        let rare =
            [all.conflicts, all.flushes, all.failed_flushes, all.restarts, all.merges, all.answers];
        assert!(rare.iter().all(|n| *n > 50), "{all:?}");
        assert!(all.deleted_rows > 1_000 && all.dropped_tombstones > 10, "{all:?}");
        assert!(all.renumberings > 20 && all.renumberings_replayed > 0, "{all:?}");
        assert!(all.late_by_hours > 100 && all.spoiled_manifests > 20, "{all:?}");
        assert!(all.counted_series > 1_000, "{all:?}");
    }
}
