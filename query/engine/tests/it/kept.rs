//! Answers that are kept: whatever is written, late or not, deleted, flushed or kept no longer, an
//! answer with kept parts is the one without, to the last bit.

use std::sync::Arc;
use std::time::Duration;

use engine::{Options, Pool, StorageExecutor};
use model::{Clock, Labels, Matcher, Sample, TimeRange};
use query::promql::{Features, parse_with};
use query::{Evaluation, Executor};
use storage::{Delete, MetricRows, Parts, SeriesRows, Storage};
use tenancy::{DeleteScope, Limits, ReadScope, Retention, WriteScope};
use testkit::{FaultyDisk, ManualClock, SeededRandom};

const NOW_MS: i64 = 1_800_000_000_000;
const MINUTE_MS: i64 = 60_000;

const QUESTIONS: &[&str] = &[
    "m",
    "sum by (job) (rate(m[5m]))",
    "rate(m[2m] offset 3m)",
    "avg(m offset -2m)",
    "max_over_time(sum(rate(m[1m]))[10m:30s])",
    "topk(2, m) / on (job, pod) m offset 1m",
    "absent(m{job=\"j1\"})",
    "time() - timestamp(m)",
    "m and on () vector(1)",
    "sum(m) or n",
    "m @ start()",
    "m - m @ 1800000000",
    "count({__name__=~\"m|n\"})",
    "histogram_quantile(0.9, m)",
];

struct Ground {
    clock: Arc<ManualClock>,
    storage: Arc<Storage>,
    with: StorageExecutor,
    without: StorageExecutor,
    state: u64,
}

impl Ground {
    async fn new(seed: u64, result_cache_bytes: usize) -> Self {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let parts = Parts {
            disk: Arc::new(FaultyDisk::default()),
            objects: None,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(SeededRandom::new(seed)),
        };
        let config =
            storage::Config { disk_reserve_bytes: 0, partitions: 2, ..storage::Config::default() };
        let storage = Storage::open(config, parts).await.unwrap();
        let executor = |result_cache_bytes| {
            let options = Options { result_cache_bytes, ..Options::default() };
            StorageExecutor::new(Arc::clone(&storage), Pool::new(1), options)
        };
        let (with, without) = (executor(result_cache_bytes), executor(0));
        Self { clock, storage, with, without, state: seed * 2 + 1 }
    }

    /// A number below another.
    fn dice(&mut self, below: i64) -> i64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as i64 % below
    }

    fn scope(tenant: u32) -> ReadScope {
        let retention = Retention { raw_seconds: 3_600, ..Retention::default() };
        let tenants = [(1, "one"), (2, "two")];
        match tenant {
            0 => ReadScope::for_test(&tenants),
            tenant => ReadScope::for_test(&tenants[tenant as usize - 1..tenant as usize]),
        }
        .retained_for_test(retention)
    }

    async fn write(&mut self, tenant: u32, age_ms: i64) {
        let (mut body, mut rows) = (Vec::new(), MetricRows::default());
        for series in 0..6 {
            if self.dice(5) == 0 {
                continue;
            }
            let start = body.len() as u32;
            let name = if series == 5 { "n" } else { "m" };
            let (job, pod) = (format!("j{}", series % 2), format!("p{series}"));
            let labels = [("__name__", name), ("job", &job), ("pod", &pod)];
            Labels::from_pairs(labels).encode(&mut body);
            let timestamp_ms = self.clock.now_ms() - age_ms - self.dice(900);
            let at = rows.samples.len() as u32;
            let value = match self.dice(12) {
                0 => model::stale_nan(),
                dice => (dice * 1_000_000 + timestamp_ms % 977_777) as f64 * 0.1,
            };
            rows.samples.push(Sample { timestamp_ms, value });
            let (labels, samples) = (start..body.len() as u32, at..at + 1);
            rows.series.push(SeriesRows { labels, samples, ..SeriesRows::default() });
        }
        let limits = Limits { age_seconds_max: 3_600, ..Limits::default() };
        let scope = WriteScope::for_test(tenant, "t", limits);
        self.storage.append(&scope, &MetricRows { body: &body, ..rows }).unwrap();
    }

    async fn delete(&mut self) {
        let limits = Limits { deletes_pending_max: usize::MAX, ..Limits::default() };
        let scope = DeleteScope::for_test(1, "one", limits);
        let pod = format!("p{}", self.dice(6));
        let start_ms = self.clock.now_ms() - self.dice(60 * MINUTE_MS);
        let range = TimeRange { start_ms, end_ms: start_ms + self.dice(5 * MINUTE_MS) };
        let selectors = vec![vec![Matcher::equal("pod", pod)]];
        self.storage.delete(&scope, Delete { selectors, range }).await.unwrap();
    }

    /// Asks with and without what is kept.
    async fn ask(&mut self, seed: u64) {
        // Some of them at a time, so that many are asked again.
        let question = QUESTIONS[(3 * seed as usize + self.dice(4) as usize) % QUESTIONS.len()];
        let tenant = self.dice(3) as u32;
        let step_ms = [15_000, MINUTE_MS][self.dice(2) as usize];
        let now_ms = self.clock.now_ms() / step_ms * step_ms;
        let end_ms = now_ms - self.dice(8) * step_ms + 2 * step_ms;
        let start_ms = end_ms - [5, 20, 70][self.dice(3) as usize] * MINUTE_MS;
        let expr = parse_with(question, Features::ALL).unwrap();
        let evaluation = Evaluation { end_ms, step_ms, ..engine::instant(expr, start_ms) };
        let scope = Self::scope(tenant);
        let text = |answer: Result<query::Answer, query::Error>| match answer {
            Ok(answer) => format!("{:?} {:?} {:?}", answer.value, answer.warnings, answer.infos),
            Err(error) => error.to_string(),
        };
        let with = text(self.with.evaluate(&scope, evaluation.clone()).await);
        let other = Evaluation { cancel: query::Cancel::default(), ..evaluation };
        let without = text(self.without.evaluate(&scope, other).await);
        assert!(
            with == without,
            "seed {seed}: {question} of {tenant} from {start_ms} to {end_ms} by {step_ms}:\n{with}\nbut without what is kept\n{without}"
        );
    }
}

async fn run(seed: u64, result_cache_bytes: usize) -> engine::ResultCacheUse {
    let mut ground = Ground::new(seed, result_cache_bytes).await;
    for _ in 0..700 {
        match ground.dice(24) {
            0..=5 => {
                ground.clock.advance(Duration::from_millis(15_000));
                ground.write(1, 0).await;
                ground.write(2, 0).await;
            }
            6 => {
                let (tenant, age_ms) = (1 + ground.dice(2) as u32, ground.dice(50 * MINUTE_MS));
                ground.write(tenant, age_ms).await;
            }
            7 => ground.delete().await,
            8 => ground.storage.flush_all().await.unwrap(),
            9 if ground.dice(10) == 0 => {
                ground.storage.compact(storage::Extent::Everything).await.unwrap();
                ground.storage.clean_tombstones().await.unwrap();
            }
            10 => ground.clock.advance(Duration::from_millis(3 * 60_000)),
            _ => ground.ask(seed).await,
        }
    }
    assert_eq!(ground.without.result_cache(), engine::ResultCacheUse::default());
    ground.with.result_cache()
}

#[tokio::test]
async fn answers_with_kept_parts_are_those_without() {
    let (mut hits, mut partial) = (0, 0);
    for seed in 0..6 {
        let usage = run(seed, 1 << 20).await;
        assert!(usage.bytes > 0 && usage.bytes <= 1 << 20, "{usage:?}");
        hits += usage.hits;
        partial += usage.partial;
    }
    assert!(hits > 20 && partial > 400, "little was kept: {hits} hits, {partial} in part");
    // So little that answers displace one another all the time.
    let usage = run(99, 16 << 10).await;
    assert!(usage.bytes <= 16 << 10, "{usage:?}");
}

#[tokio::test]
async fn a_request_may_do_without() {
    let mut ground = Ground::new(1, 1 << 20).await;
    ground.write(1, 0).await;
    let expr = parse_with("sum(m)", Features::ALL).unwrap();
    let at_ms = NOW_MS / MINUTE_MS * MINUTE_MS;
    let range = || Evaluation {
        end_ms: at_ms + MINUTE_MS,
        step_ms: MINUTE_MS,
        ..engine::instant(expr.clone(), at_ms)
    };
    let scope = Ground::scope(1);
    for (fresh, hits, misses) in [(true, 0, 0), (false, 0, 1), (false, 1, 1), (true, 1, 1)] {
        ground.with.evaluate(&scope, Evaluation { fresh, ..range() }).await.unwrap();
        let usage = ground.with.result_cache();
        assert_eq!((usage.hits, usage.misses), (hits, misses));
    }
    // Another tenant, a restriction, the tenants' names in the answer: each is a question of its own.
    let matchers = vec![vec![Matcher::equal("pod", "p1")]];
    for (scope, misses) in [
        (Ground::scope(2), 2),
        (Ground::scope(1).restricted_for_test(matchers), 3),
        (Ground::scope(0), 4),
        (Ground::scope(0).unlabelled(), 5),
    ] {
        ground.with.evaluate(&scope, range()).await.unwrap();
        assert_eq!(ground.with.result_cache().misses, misses);
    }
}
