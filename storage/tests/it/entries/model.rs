//! Entries against a list: random writes (late, repeated, of many streams), deletions, flushes of
//! which some fail, restarts of all kinds, and random questions with all there is to ask.
//!
//! `TAFFRAIL_CASES` says how many cases are run, `TAFFRAIL_SEED` which one is first.

mod counting;

use std::sync::Arc;
use std::time::Duration;

use ::model::{Cancel, Clock, Labels, Level, MatchOp, Matcher, Signal};
use regex_automata::meta::Regex;
use storage::entries::{
    DeleteEntries, Direction, EntryFilter, LineCondition, LineTest, SelectEntries,
};
use storage::{Config, Extent, Storage};
use tenancy::{DeleteScope, Limits, ReadScope};
use testkit::{Fault, SeededRandom};

use super::{Line, append_as, scope};
use crate::facts::number_from_env;
use crate::store::{Ground, config, write_scope};

const HOUR_NS: u64 = 3_600_000_000_000;

/// Words that lines are made of: some are parts of others, some differ in case alone.
const WORDS: [&str; 14] = [
    "error",
    "Error",
    "errors",
    "GET",
    "get",
    "/api/v1",
    "timeout",
    "time",
    "out",
    "größe",
    "Größe",
    "kilo",
    "\u{212a}ilo",
    "x=1",
];

/// A row as it was acknowledged: in the order of arrival.
struct Row {
    tenant: u32,
    line: Line,
}

struct World {
    random: SeededRandom,
    ground: Ground,
    storage: Arc<Storage>,
    rows: Vec<Row>,
    seen: Seen,
}

/// What the cases came across: a test that never saw it proves nothing about it.
#[derive(Debug, Default)]
struct Seen {
    flushes: u64,
    failed_flushes: u64,
    restarts: u64,
    answers: u64,
    segments: u64,
    repeated: u64,
    deleted: u64,
    /// By level of their results.
    merges: [u64; 3],
    failed_merges: u64,
    /// Entries that tables of streams told, and rows that were read beside.
    told: u64,
    counted: u64,
}

fn tight() -> Config {
    let mut config = Config { partitions: 2, log_segment_bytes: 1 << 14, ..config() };
    config.entries.partitions = 2;
    config.compaction.fresh_blocks_max = 2;
    config
}

impl World {
    async fn new(seed: u64) -> Self {
        let ground = Ground::default();
        let storage = ground.open_with(tight()).await.expect("a new store");
        let (rows, seen) = (Vec::new(), Seen::default());
        Self { random: SeededRandom::new(seed), ground, storage, rows, seen }
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    async fn step(&mut self) {
        match self.below(100) {
            0..50 => self.write().await,
            50..58 => self.flush().await,
            58..64 => self.flush_with_a_fault().await,
            64..69 => self.restart().await,
            69..74 => self.merge().await,
            74..77 => self.delete().await,
            77..85 => self.count().await,
            _ => self.ask().await,
        }
    }

    fn text(&self, words: u64) -> String {
        let glue = [" ", "", "-", "\n", ": "];
        let mut text = String::new();
        for _ in 0..self.below(words + 1) {
            text.push_str(WORDS[self.below(WORDS.len() as u64) as usize]);
            text.push_str(glue[self.below(glue.len() as u64) as usize]);
        }
        text
    }

    fn line(&self) -> Line {
        let now = self.ground.clock.now_ms() * 1_000_000;
        let back = match self.below(10) {
            0 => self.below(60 * HOUR_NS),
            1..4 => self.below(2 * HOUR_NS),
            _ => self.below(20) * 1_000,
        };
        let app = format!("app-{}", self.below(9));
        let mut labels = vec![("app".to_owned(), app)];
        if self.below(3) == 0 {
            labels.push(("zone".to_owned(), ["a", "b"][self.below(2) as usize].to_owned()));
        }
        let mut line = self.text(6).into_bytes();
        if self.below(20) == 0 {
            line.push(0xff);
        }
        let fields = match self.below(4) {
            0 => vec![("trace".to_owned(), self.below(5).to_string())],
            1 => vec![("a".to_owned(), String::new()), ("b".to_owned(), self.text(2))],
            _ => Vec::new(),
        };
        Line {
            signal: Signal::ALL[self.below(6).min(2) as usize],
            labels,
            at_ns: now - back as i64,
            has_own_time: self.below(3) > 0,
            line,
            fields,
            level: Level::ALL[self.below(8) as usize],
        }
    }

    async fn write(&mut self) {
        self.ground.clock.advance(Duration::from_millis(self.below(400_000)));
        let tenant = 1 + self.below(2) as u32;
        let mut lines: Vec<Line> = (0..1 + self.below(30)).map(|_| self.line()).collect();
        // Some come a second time, now or from before.
        if self.below(3) == 0 && !self.rows.is_empty() {
            let known = &self.rows[self.below(self.rows.len() as u64) as usize];
            lines.push(known.line.clone());
        }
        let appended = append_as(&self.storage, &write_scope(tenant), &lines, None);
        let appended = appended.expect("writes are taken");
        assert_eq!(appended.outcome.rejected, []);
        if let Some(position) = appended.position {
            self.storage.durable(position).await.expect("a sound disk");
        }
        self.rows.extend(lines.into_iter().map(|line| Row { tenant, line }));
    }

    /// What it deletes is what a question like it finds.
    async fn delete(&mut self) {
        let SelectEntries { signals, mut selectors, start_ns, end_ns, mut filter, .. } =
            self.request();
        // With all there is to ask at once, hardly anything would ever go.
        if self.below(4) > 0 {
            let lines = LineCondition { any: vec![self.test()], ..LineCondition::default() };
            filter = EntryFilter { lines: vec![lines], ..EntryFilter::default() };
        }
        if selectors.is_empty() {
            selectors.push(Vec::new());
        }
        let tenant = 1 + self.below(2) as u32;
        let scope = DeleteScope::for_test(tenant, &format!("team-{tenant}"), Limits::default());
        let (before, picked) = (self.rows.len(), selectors.clone());
        let text = "some of them".to_owned();
        let delete = DeleteEntries { text, signals, selectors, filter, start_ns, end_ns };
        let is_meant = |row: &Row| {
            let labels = Labels::from_pairs(row.line.labels.iter().map(|(n, v)| (n, v)));
            let holds = |m: &Matcher| m.matches(labels.get(m.name()).unwrap_or(""));
            row.tenant == tenant
                && delete.signals.contains(&row.line.signal)
                && (delete.start_ns..delete.end_ns).contains(&row.line.at_ns)
                && picked.iter().any(|all| all.iter().all(holds))
                && passes(&delete.filter, &row.line)
        };
        self.rows.retain(|row| !is_meant(row));
        self.seen.deleted += (before - self.rows.len()) as u64;
        self.storage.delete_entries(&scope, delete).await.expect("a sound disk");
        if self.below(3) == 0 {
            self.storage.clean_tombstones().await.expect("a sound disk");
            assert_eq!(self.storage.entry_deletions(::tenancy::TenantId(tenant)), []);
        }
    }

    async fn flush(&mut self) {
        self.storage.flush_all().await.expect("a sound disk");
        self.seen.flushes += 1;
        assert_eq!(self.storage.entry_totals().head_entries, 0);
    }

    async fn flush_with_a_fault(&mut self) {
        let disk = &self.ground.disk;
        disk.fail_at(disk.operations() + 1 + self.below(40), Fault::Eio);
        let failed = self.storage.flush_all().await.is_err();
        disk.heal();
        self.seen.failed_flushes += u64::from(failed);
        // A partition may be read-only now, until it is opened again.
        self.restart().await;
    }

    /// Merges what is due or everything, at times with a fault, or with a loss of power behind it.
    async fn merge(&mut self) {
        let extent = if self.below(3) == 0 { Extent::Everything } else { Extent::Due };
        let before = self.storage.compaction();
        let disk = self.ground.disk.clone();
        if self.below(3) == 0 {
            disk.fail_at(disk.operations() + 1 + self.below(60), Fault::Eio);
        }
        let failed = self.storage.compact(extent).await.is_err();
        disk.heal();
        let after = self.storage.compaction();
        for (seen, level) in self.seen.merges.iter_mut().zip(0..) {
            *seen += after.entry_merges[level] - before.entry_merges[level];
        }
        let has_failed = failed || after.failures > before.failures;
        self.seen.failed_merges += u64::from(has_failed);
        if self.below(2) == 0 {
            self.storage.remove_merged().await;
        }
        if has_failed || self.below(4) == 0 {
            self.restart().await;
        }
    }

    async fn restart(&mut self) {
        let disk = match self.below(3) {
            0 => self.ground.disk.after_crash(self.below(1_000)),
            1 => self.ground.disk.after_kill(),
            _ => {
                let closed = Arc::clone(&self.storage).close().await;
                closed.expect("a sound disk");
                self.ground.disk.after_kill()
            }
        };
        self.ground.disk = disk;
        self.storage = self.ground.open_with(tight()).await.expect("it opens again");
        assert_eq!(self.storage.incomplete(), []);
        self.seen.restarts += 1;
    }

    fn test(&self) -> LineTest {
        let word = || WORDS[self.below(WORDS.len() as u64) as usize];
        match self.below(8) {
            0 => LineTest::Contains(self.text(2)),
            1 | 2 => LineTest::Contains(word().to_owned()),
            3 => LineTest::Words(self.text(2)),
            4 | 5 => LineTest::Words(word().to_owned()),
            6 => LineTest::Regex(format!("{}.?[a-z]", regex_escape(word()))),
            _ => {
                let patterns =
                    ["^error", "out$", r"\bget\b", "(?s)get.*out", r"\d", "[^e]rror", "time|kilo"];
                LineTest::Regex(patterns[self.below(7) as usize].to_owned())
            }
        }
    }

    fn filter(&self) -> EntryFilter {
        let lines = (0..self.below(3)).map(|_| LineCondition {
            any: (0..1 + self.below(2)).map(|_| self.test()).collect(),
            is_negative: self.below(4) == 0,
            ignores_case: self.below(2) == 0,
        });
        let fields = match self.below(5) {
            0 => vec![Matcher::equal("trace", "3")],
            1 => vec![Matcher::new(MatchOp::Regex, "b", ".*time.*").expect("a matcher")],
            _ => Vec::new(),
        };
        let level_min = (self.below(5) == 0).then(|| Level::ALL[self.below(8) as usize]);
        let named = match self.below(8) {
            0 => vec![Matcher::equal("app", "app-3")],
            1 => vec![Matcher::equal("trace", "3")],
            2 => vec![Matcher::new(MatchOp::NotRegex, "level", "warn|in.*").expect("a matcher")],
            3 => vec![Matcher::new(MatchOp::NotEqual, "b", "").expect("a matcher")],
            _ => Vec::new(),
        };
        let level_name = Some("level".to_owned());
        EntryFilter { lines: lines.collect(), fields, named, level_name, level_min }
    }

    fn request(&self) -> SelectEntries {
        let now = self.ground.clock.now_ms() * 1_000_000;
        let any = |op, value: &str| Matcher::new(op, "app", value).expect("a matcher");
        let selectors = match self.below(5) {
            0 => vec![vec![Matcher::equal("app", "app-3")]],
            1 => vec![vec![any(MatchOp::Regex, "app-[1-4]"), Matcher::equal("zone", "a")]],
            2 => vec![vec![any(MatchOp::NotEqual, "app-1")], vec![Matcher::equal("zone", "b")]],
            _ => Vec::new(),
        };
        let (start_ns, end_ns) = match self.below(3) {
            0 => (now - self.below(3 * HOUR_NS) as i64, now - self.below(HOUR_NS) as i64),
            1 => (now - self.below(60 * HOUR_NS) as i64, i64::MAX),
            _ => (i64::MIN, i64::MAX),
        };
        SelectEntries {
            signals: Signal::ALL[..1 + self.below(3) as usize].to_vec(),
            selectors,
            start_ns,
            end_ns,
            filter: self.filter(),
            direction: [Direction::Forward, Direction::Backward][self.below(2) as usize],
            limit: [3, 20, usize::MAX][self.below(3) as usize],
            after: None,
            only: None,
        }
    }

    /// Who asks, what tenants that is about, and whether only of zone a.
    fn reader(&self) -> (ReadScope, Vec<u32>, bool) {
        match self.below(4) {
            0 => (
                ReadScope::for_test(&[(1, "team-1"), (2, "team-2")]).unlabelled(),
                vec![1, 2],
                false,
            ),
            1 => (scope(2).restricted_for_test(vec![super::equal("zone", "a")]), vec![2], true),
            _ => (scope(1), vec![1], false),
        }
    }

    async fn ask(&mut self) {
        let request = self.request();
        let (scope, tenants, zone) = self.reader();
        let found = self.storage.select_entries(&scope, &request, &Cancel::default()).await;
        let found: Vec<(i64, String, Vec<u8>)> = found
            .expect("an answer")
            .into_iter()
            .map(|f| {
                (
                    f.at_ns,
                    format!("{} {} {}", f.stream.tenant, f.stream.signal, f.stream.labels),
                    f.line,
                )
            })
            .collect();
        let expected = self.expected(&request, &tenants, zone);
        assert_eq!(found, expected, "{request:?}");
        self.seen.answers += u64::from(!found.is_empty());
        self.seen.segments = self.seen.segments.max(self.storage.entry_totals().segments);
    }

    fn expected(
        &mut self,
        request: &SelectEntries,
        tenants: &[u32],
        zone: bool,
    ) -> Vec<(i64, String, Vec<u8>)> {
        let mut all: Vec<(i64, u128, u32, Signal, usize)> = Vec::new();
        let mut known = std::collections::BTreeSet::new();
        for (at, Row { tenant, line }) in self.rows.iter().enumerate() {
            let labels = Labels::from_pairs(line.labels.iter().map(|(n, v)| (n, v)));
            let holds = |m: &Matcher| m.matches(labels.get(m.name()).unwrap_or(""));
            let is_asked = tenants.contains(tenant)
                && request.signals.contains(&line.signal)
                && (request.start_ns..request.end_ns).contains(&line.at_ns)
                && (request.selectors.is_empty()
                    || request.selectors.iter().any(|all| all.iter().all(holds)))
                && (!zone || labels.get("zone") == Some("a"))
                && passes(&request.filter, line);
            if !is_asked {
                continue;
            }
            let place = (tenant, line.signal, &line.labels, line.at_ns);
            let content = (place, &line.line, &line.fields, line.level);
            if line.has_own_time && !known.insert(content) {
                self.seen.repeated += 1;
                continue;
            }
            all.push((line.at_ns, labels.series_id().0, *tenant, line.signal, at));
        }
        all.sort_unstable();
        if request.direction == Direction::Backward {
            all.reverse();
        }
        all.truncate(request.limit);
        let told = |(at_ns, _, tenant, signal, at): &(i64, u128, u32, Signal, usize)| {
            let line = &self.rows[*at].line;
            let labels = Labels::from_pairs(line.labels.iter().map(|(n, v)| (n, v)));
            (*at_ns, format!("{tenant} {signal} {labels}"), line.line.clone())
        };
        all.iter().map(told).collect()
    }
}

fn regex_escape(text: &str) -> String {
    text.replace('/', "\\/").replace('=', "\\=")
}

/// What a filter says of an entry, in the plainest way.
fn passes(filter: &EntryFilter, line: &Line) -> bool {
    let field = |m: &Matcher| {
        let found = line.fields.iter().find(|(name, _)| name == m.name());
        m.matches(found.map_or("", |(_, value)| value))
    };
    let named = |m: &Matcher| {
        let is_named = |(name, _): &&(String, String)| name == m.name();
        let found = line.labels.iter().find(is_named).or(line.fields.iter().find(is_named));
        let is_level = filter.level_name.as_deref() == Some(m.name());
        let level = if is_level { line.level.as_str() } else { "" };
        m.matches(found.map_or(level, |(_, value)| value))
    };
    filter.level_min.is_none_or(|min| line.level >= min)
        && filter.fields.iter().all(field)
        && filter.named.iter().all(named)
        && filter.lines.iter().all(|c| {
            c.any.iter().any(|test| holds(test, c.ignores_case, &line.line)) != c.is_negative
        })
}

fn holds(test: &LineTest, ignores_case: bool, line: &[u8]) -> bool {
    let finds = |pattern: &str, line: &[u8]| {
        let syntax =
            regex_automata::util::syntax::Config::new().utf8(false).case_insensitive(ignores_case);
        let config = Regex::config().utf8_empty(false);
        let regex = Regex::builder().syntax(syntax).configure(config).build(pattern);
        regex.expect("a pattern").find(line).map(|m| m.range())
    };
    let is_token = |byte: Option<&u8>| {
        byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80)
    };
    match test {
        LineTest::Regex(pattern) => finds(pattern, line).is_some(),
        LineTest::Contains(text) => finds(&regex_syntax::escape(text), line).is_some(),
        LineTest::Words(text) => {
            text.is_empty()
                || (0..line.len()).any(|from| {
                    let pattern = format!("\\A(?:{})", regex_syntax::escape(text));
                    let Some(found) = finds(&pattern, &line[from..]) else { return false };
                    let before = from.checked_sub(1).and_then(|i| line.get(i));
                    let needle = text.as_bytes();
                    let is_joined = is_token(before) && is_token(needle.first());
                    let goes_on = is_token(needle.last()) && is_token(line.get(from + found.end));
                    !is_joined && !goes_on
                })
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_does_not_depend_on_where_entries_lie() {
    let cases = number_from_env("TAFFRAIL_CASES").unwrap_or(3);
    let first = number_from_env("TAFFRAIL_SEED").unwrap_or(0);
    let mut all = Seen::default();
    for seed in first..first + cases {
        let mut world = World::new(seed).await;
        for _ in 0..150 {
            world.step().await;
        }
        let seen = world.seen;
        all.flushes += seen.flushes;
        all.failed_flushes += seen.failed_flushes;
        all.restarts += seen.restarts;
        all.answers += seen.answers;
        all.segments = all.segments.max(seen.segments);
        all.repeated += seen.repeated;
        all.deleted += seen.deleted;
        all.failed_merges += seen.failed_merges;
        all.told += seen.told;
        all.counted += seen.counted;
        all.merges.iter_mut().zip(seen.merges).for_each(|(all, seen)| *all += seen);
    }
    assert!(
        all.flushes > 10
            && all.failed_flushes > 5
            && all.restarts > 15
            && all.answers > 20
            && all.segments > 10
            && all.told > 100
            && all.counted > 100
            && all.repeated > 1
            && all.merges.iter().all(|merges| *merges > 0)
            && all.failed_merges > 0
            && all.deleted > 20,
        "{all:?}"
    );
}
