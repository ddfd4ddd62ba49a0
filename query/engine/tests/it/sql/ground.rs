//! A store with known rows, and how statements are asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::{Options, Pool, StorageExecutor};
use model::{Clock, Labels, Sample};
use query::promql::Features;
use query::{Cancel, Error, Executor, PromqlRules, SqlFormat, SqlRequest};
use storage::{MetricRows, Parts, SeriesRows, Storage};
use tenancy::{Limits, ReadScope, WriteScope};
use testkit::{FaultyDisk, ManualClock, SeededRandom};

/// 2027-01-15T08:00:00Z.
pub(super) const NOW_MS: i64 = 1_800_000_000_000;

/// A series of a tenant: labels, and a value every 15 s up to and including now.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) tenant: u32,
    pub(super) labels: Labels,
    pub(super) values: Vec<f64>,
}

pub(super) fn given(tenant: u32, labels: &[(&str, &str)], values: Vec<f64>) -> Given {
    Given { tenant, labels: Labels::from_pairs(labels.iter().copied()), values }
}

/// The instant of the `i`th of so many values.
pub(super) fn at_ms(i: usize, count: usize) -> i64 {
    NOW_MS - 15_000 * (count - 1 - i) as i64
}

/// A store and an executor over it.
pub(super) struct Ground {
    pub(super) storage: Arc<Storage>,
    pub(super) executor: Arc<StorageExecutor>,
}

impl Ground {
    /// A store with these rows: the first half of each series in a block if so wanted, the rest in
    /// heads.
    pub(super) async fn new(rows: &[Given], with_blocks: bool) -> Self {
        let parts = Parts {
            disk: Arc::new(FaultyDisk::default()),
            objects: None,
            clock: Arc::new(ManualClock::new(NOW_MS)) as Arc<dyn Clock>,
            random: Arc::new(SeededRandom::new(7)),
        };
        let config =
            storage::Config { disk_reserve_bytes: 0, partitions: 2, ..storage::Config::default() };
        let storage = Storage::open(config, parts).await.unwrap();
        let middle = |one: &Given| one.values.len() / 2;
        write(&storage, rows, |one| 0..middle(one));
        if with_blocks {
            storage.flush_all().await.unwrap();
        }
        write(&storage, rows, |one| middle(one)..one.values.len());
        let pool = Pool::new(2);
        let executor = StorageExecutor::new(Arc::clone(&storage), pool, Options::default());
        Self { storage, executor: Arc::new(executor) }
    }

    /// The whole answer, or what is said instead.
    pub(super) async fn ask(
        &self,
        scope: &ReadScope,
        request: SqlRequest,
    ) -> Result<String, Error> {
        let mut pieces = self.executor.sql(scope, request).await?;
        let mut whole = Vec::new();
        while let Some(piece) = pieces.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(String::from_utf8(whole).unwrap())
    }

    /// The rows of an answer as lines with commas, in the order they came; errors as texts.
    pub(super) async fn rows(&self, scope: &ReadScope, text: &str) -> String {
        let request = SqlRequest { format: SqlFormat::Csv, ..request(text) };
        match self.ask(scope, request).await {
            Ok(csv) => csv.replace("\r\n", "\n").trim_end().to_owned(),
            Err(error) => match error {
                Error::Statement { text, place: Some(place) } => {
                    format!("{} at {}:{}", text, place.line, place.column)
                }
                error => format!("{} {error}", error.status()),
            },
        }
    }

    /// The same without the line of names.
    pub(super) async fn values(&self, scope: &ReadScope, text: &str) -> Vec<String> {
        let rows = self.rows(scope, text).await;
        rows.lines().skip(1).map(str::to_owned).collect()
    }
}

fn write(storage: &Storage, rows: &[Given], part: impl Fn(&Given) -> std::ops::Range<usize>) {
    for tenant in rows.iter().map(|one| one.tenant).collect::<std::collections::BTreeSet<_>>() {
        let (mut body, mut into) = (Vec::new(), MetricRows::default());
        for one in rows.iter().filter(|one| one.tenant == tenant) {
            let start = body.len() as u32;
            one.labels.encode(&mut body);
            let labels = start..body.len() as u32;
            let first = into.samples.len() as u32;
            for i in part(one) {
                let timestamp_ms = at_ms(i, one.values.len());
                into.samples.push(Sample { timestamp_ms, value: one.values[i] });
            }
            let samples = first..into.samples.len() as u32;
            into.series.push(SeriesRows { labels, samples, ..SeriesRows::default() });
        }
        let scope = WriteScope::for_test(tenant, &name_of(tenant), Limits::default());
        storage.append(&scope, &MetricRows { body: &body, ..into }).unwrap();
    }
}

pub(super) fn name_of(tenant: u32) -> String {
    format!("team-{tenant}")
}

pub(super) fn scope_of(tenants: &[u32]) -> ReadScope {
    let names: Vec<String> = tenants.iter().map(|tenant| name_of(*tenant)).collect();
    let pairs: Vec<(u32, &str)> =
        tenants.iter().copied().zip(names.iter().map(String::as_str)).collect();
    ReadScope::for_test(&pairs)
}

pub(super) fn request(text: &str) -> SqlRequest {
    SqlRequest {
        text: text.to_owned(),
        parameters: BTreeMap::new(),
        format: SqlFormat::Json,
        now_ms: NOW_MS,
        promql: PromqlRules {
            lookback_ms: 300_000,
            steps_max: 11_000,
            expression_bytes_max: 1 << 16,
            features: Features::ALL,
        },
        timeout: Duration::from_secs(60),
        cancel: Cancel::default(),
    }
}

/// Two metrics of team 1, and others of team 2.
pub(super) fn cluster() -> Vec<Given> {
    let count = 41;
    let line = |start: f64, step: f64| (0..count).map(|i| start + step * f64::from(i)).collect();
    let mut stale: Vec<f64> = line(7.0, 0.0);
    stale[40] = model::stale_nan();
    vec![
        given(
            1,
            &[("__name__", "cpu_seconds_total"), ("mode", "user"), ("host", "a")],
            line(0.0, 1.5),
        ),
        given(
            1,
            &[("__name__", "cpu_seconds_total"), ("mode", "idle"), ("host", "a")],
            line(5.0, 10.0),
        ),
        given(
            1,
            &[("__name__", "cpu_seconds_total"), ("mode", "user"), ("host", "b")],
            line(9.0, 3.0),
        ),
        given(1, &[("__name__", "cpu_seconds_total"), ("host", "c")], line(1.0, 0.25)),
        given(1, &[("__name__", "up"), ("host", "a")], line(1.0, 0.0)),
        given(1, &[("__name__", "up"), ("host", "b")], stale),
        given(1, &[("__name__", "odd.name"), ("time", "now"), ("Host", "A")], line(2.0, 0.0)),
        given(2, &[("__name__", "up"), ("host", "a"), ("secret", "s2")], line(3.0, 0.0)),
        given(2, &[("__name__", "only_of_team_2"), ("host", "z")], line(4.0, 1.0)),
    ]
}
