//! The same scripts with the rows in different places of a real store: every answer must be the one
//! over rows in memory, to the last bit.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use engine::{Options, Pool, StorageExecutor};
use model::{Clock, Labels, Resolution, Sample};
use query::promql::{Features, parse_with};
use query::{Answer, Error, Evaluation, Executor, FloatHistogram, MatrixSeries, PointValue, Value};
use storage::{Extent, FarObjects, MetricRows, Parts, SeriesRows, Storage};
use tenancy::{Limits, ReadScope, WriteScope};
use testkit::{FaultyDisk, FaultyObjects, ManualClock, SeededRandom};

use crate::compare::buckets;
use crate::run::{Rows, load};
use crate::script::{Command, Eval, Kind, parse};
use crate::{nhcb, run};

/// Where rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// In the head.
    Head,
    /// In one block.
    Block,
    /// In a block for every few rows.
    Blocks,
    /// In blocks that were merged.
    Compacted,
    /// In the head, replayed from the log.
    Replayed,
    /// In blocks and the log, opened again.
    Reopened,
    /// The same, with blocks in an object store that is far away, behind its cache.
    Far,
    /// In the head, spread over tenants and merged.
    Tenants,
    /// In blocks, spread over tenants and merged.
    TenantsInBlocks,
}

const ALL: [Placement; 9] = {
    use Placement::{
        Block, Blocks, Compacted, Far, Head, Reopened, Replayed, Tenants, TenantsInBlocks,
    };
    [Head, Block, Blocks, Compacted, Replayed, Reopened, Far, Tenants, TenantsInBlocks]
};

/// Tenants that rows are spread over.
const TENANTS: u32 = 8;

/// Flushes that the rows of one load are cut by, where there are many blocks.
const FLUSHES: usize = 4;

/// When rows are written: three years after the first sample of the scripts and long after the last.
const NOW_MS: i64 = 3 * 365 * 86_400_000;

/// How old rows may be. Seconds.
const AGE_SECONDS: u64 = 4 * 365 * 86_400;

/// A store and the rows that it was given.
struct Ground {
    placement: Placement,
    disk: FaultyDisk,
    objects: FaultyObjects,
    storage: Option<Arc<Storage>>,
    /// Blocks that are no more because they were merged.
    merged: usize,
    pool: Arc<Pool>,
    options: Options,
}

/// How many blocks hold samples; downsampled ones come beside them.
fn raw_blocks(storage: &Storage) -> usize {
    storage.blocks().iter().filter(|(_, block)| block.resolution == Resolution::Raw).count()
}

type Batch<'a> = Vec<(&'a Labels, Rows)>;

impl Ground {
    fn new(placement: Placement, pool: &Arc<Pool>, options: &Options) -> Self {
        let (pool, options) = (Arc::clone(pool), options.clone());
        let (disk, objects) = (FaultyDisk::default(), FaultyObjects::in_memory());
        Self { placement, disk, objects, storage: None, merged: 0, pool, options }
    }

    async fn open(&mut self) -> Arc<Storage> {
        if let Some(storage) = &self.storage {
            return Arc::clone(storage);
        }
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let far = || FarObjects {
            cache_bytes: 64 << 20,
            ..FarObjects::new(Arc::new(self.objects.clone()))
        };
        let parts = Parts {
            disk: Arc::new(self.disk.clone()),
            objects: (self.placement == Placement::Far).then(far),
            clock: clock as Arc<dyn Clock>,
            random: Arc::new(SeededRandom::new(7)),
        };
        let config = storage::Config {
            partitions: 2,
            disk_reserve_bytes: 0,
            log_segment_bytes: 1 << 18,
            downsampling: storage::DownsamplingConfig { enabled: true },
            ..storage::Config::default()
        };
        let storage = Storage::open(config, parts).await.unwrap();
        Arc::clone(self.storage.insert(storage))
    }

    fn scope(&self) -> ReadScope {
        let names: Vec<String> = (1..=TENANTS).map(|i| format!("team-{i}")).collect();
        let all: Vec<(u32, &str)> = (1..).zip(names.iter().map(String::as_str)).collect();
        match self.placement {
            Placement::Tenants | Placement::TenantsInBlocks => {
                ReadScope::for_test(&all).unlabelled()
            }
            _ => ReadScope::for_test(&all[..1]),
        }
    }

    /// Writes the rows of one load.
    async fn load(&mut self, rows: &BTreeMap<Labels, Rows>) -> Result<(), String> {
        use Placement::{Block, Blocks, Compacted, Far, Reopened, Replayed, TenantsInBlocks};
        let flushes = match self.placement {
            Blocks | Compacted | Reopened | Far | TenantsInBlocks => FLUSHES,
            _ => 1,
        };
        for (i, batch) in cut(rows, flushes).into_iter().enumerate() {
            let storage = self.open().await;
            self.write(&storage, &batch).await?;
            let last = i + 1 == flushes;
            match self.placement {
                Block | Blocks | TenantsInBlocks => storage.flush_all().await.unwrap(),
                Compacted => {
                    storage.flush_all().await.unwrap();
                    if last {
                        let before = raw_blocks(&storage);
                        storage.compact(Extent::Everything).await.unwrap();
                        storage.remove_merged().await;
                        self.merged += before.saturating_sub(raw_blocks(&storage));
                    }
                }
                // The last rows stay in the log.
                Reopened | Far if !last => storage.flush_all().await.unwrap(),
                _ => {}
            }
        }
        if matches!(self.placement, Replayed | Reopened | Far) {
            self.storage = None;
        }
        Ok(())
    }

    async fn write(&self, storage: &Storage, batch: &Batch<'_>) -> Result<(), String> {
        let spread = matches!(self.placement, Placement::Tenants | Placement::TenantsInBlocks);
        let tenant_of = |labels: &Labels| match spread {
            true => (labels.series_id().0 % u128::from(TENANTS)) as u32 + 1,
            false => 1,
        };
        for tenant in 1..=TENANTS {
            let of_tenant: Batch<'_> =
                batch.iter().filter(|(l, _)| tenant_of(l) == tenant).cloned().collect();
            if of_tenant.is_empty() {
                continue;
            }
            let limits = Limits { age_seconds_max: AGE_SECONDS, ..Limits::default() };
            let scope = WriteScope::for_test(tenant, &format!("team-{tenant}"), limits);
            let (body, request) = request(&of_tenant);
            let appended = storage.append(&scope, &MetricRows { body: &body, ..request });
            let appended = appended.map_err(|e| e.to_string())?;
            if let Some(refused) = appended.outcome.rejected.first() {
                return Err(format!("the store refuses {}", refused.example));
            }
            if let Some(position) = appended.position {
                storage.durable(position).await.map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    async fn ask(&mut self, eval: &Eval) -> Result<Answer, Error> {
        let storage = self.open().await;
        let executor = StorageExecutor::new(storage, Arc::clone(&self.pool), self.options.clone());
        executor.evaluate(&self.scope(), evaluation(eval)?).await
    }
}

fn evaluation(eval: &Eval) -> Result<Evaluation, Error> {
    let expr = parse_with(&eval.query, Features::ALL).map_err(|e| Error::BadData(e.to_string()))?;
    let Eval { start_ms, end_ms, step_ms, .. } = *eval;
    Ok(Evaluation { end_ms, step_ms, ..engine::instant(expr, start_ms) })
}

/// The rows cut into so many parts by time.
fn cut(rows: &BTreeMap<Labels, Rows>, parts: usize) -> Vec<Batch<'_>> {
    let ends = rows
        .values()
        .flat_map(|r| [r.floats.last().map(|(t, _)| *t), r.histograms.last().map(|(t, _)| *t)]);
    let end_ms = ends.flatten().max().unwrap_or(0) + 1;
    let part = |i: usize| {
        let (low, high) =
            (end_ms * i as i64 / parts as i64, end_ms * (i as i64 + 1) / parts as i64);
        let inside = |t: i64| (t >= low || i == 0) && t < high;
        let of = |rows: &Rows| Rows {
            floats: rows.floats.iter().filter(|(t, _)| inside(*t)).copied().collect(),
            histograms: rows.histograms.iter().filter(|(t, _)| inside(*t)).cloned().collect(),
            starts_ms: rows.starts_ms.clone(),
        };
        let batch = rows.iter().map(|(labels, rows)| (labels, of(rows)));
        batch.filter(|(_, r)| !(r.floats.is_empty() && r.histograms.is_empty())).collect()
    };
    (0..parts).map(part).collect()
}

fn request(batch: &Batch<'_>) -> (Vec<u8>, MetricRows<'static>) {
    let (mut body, mut request) = (Vec::new(), MetricRows::default());
    for (labels, rows) in batch {
        let start = (body.len() as u32, request.samples.len() as u32, request.histograms.len());
        labels.encode(&mut body);
        let start_ms = |at_ms: &i64| rows.starts_ms.get(at_ms).copied().unwrap_or(0);
        for (timestamp_ms, value) in &rows.floats {
            let sample = Sample { timestamp_ms: *timestamp_ms, value: *value };
            request.push_sample(sample, start_ms(timestamp_ms));
        }
        for (at_ms, histogram) in &rows.histograms {
            request.push_histogram(*at_ms, (**histogram).clone(), start_ms(at_ms));
        }
        request.series.push(SeriesRows {
            labels: start.0..body.len() as u32,
            samples: start.1..request.samples.len() as u32,
            histograms: start.2 as u32..request.histograms.len() as u32,
            ..SeriesRows::default()
        });
    }
    (body, request)
}

/// An answer as text: floats by their bits, NaNs alike, histograms without empty buckets.
fn text_of(answer: Result<Answer, Error>) -> String {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return format!("error: {error}"),
    };
    let mut text = String::new();
    match &answer.value {
        Value::Scalar { value, .. } => text += &float(*value),
        Value::String { value, .. } => text += value,
        Value::Vector(points) => points.iter().for_each(|p| {
            let value = match &p.value {
                PointValue::Float(value) => float(*value),
                PointValue::Histogram(h) => histogram(h),
            };
            writeln!(text, "{} {value}", p.labels).unwrap();
        }),
        Value::Matrix(series) => series.iter().for_each(|s| matrix_series(s, &mut text)),
    }
    writeln!(text, "{:?} {:?}", answer.warnings, answer.infos).unwrap();
    text
}

fn matrix_series(series: &MatrixSeries, text: &mut String) {
    write!(text, "{}", series.labels).unwrap();
    series.floats.iter().for_each(|(t, v)| write!(text, " {t}={}", float(*v)).unwrap());
    series.histograms.iter().for_each(|(t, h)| write!(text, " {t}={}", histogram(h)).unwrap());
    text.push('\n');
}

fn float(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { format!("{value:?}#{:x}", value.to_bits()) }
}

/// (Without what is known of resets: a store compares the samples that are read, a table all.)
fn histogram(h: &FloatHistogram) -> String {
    let numbers = [h.count, h.sum, h.zero_count, h.zero_threshold].map(float);
    let sides = [buckets(&h.positive_spans, &h.positive), buckets(&h.negative_spans, &h.negative)];
    format!("{{{} {numbers:?} {sides:?} {:?}}}", h.schema, h.custom_values)
}

/// What the evaluations of a script give in one place, by line; `Err` says why rows could not be
/// put there.
async fn answers(
    text: &str,
    placement: Placement,
    pool: &Arc<Pool>,
    options: &Options,
) -> Vec<(usize, Result<String, String>)> {
    let mut ground = Ground::new(placement, pool, options);
    let (mut loaded, mut answers, mut merged) = (Ok(()), Vec::new(), 0);
    for Command { line, kind } in parse(text) {
        match kind {
            Kind::Clear => {
                merged += ground.merged;
                (ground, loaded) = (Ground::new(placement, pool, options), Ok(()));
            }
            Kind::Load { step_ms, series, with_buckets } => {
                let mut rows = BTreeMap::new();
                let histograms = if with_buckets { nhcb::converted(&series) } else { Vec::new() };
                load(&mut rows, series, step_ms);
                load(&mut rows, histograms, step_ms);
                if loaded.is_ok() {
                    loaded = ground.load(&rows).await;
                }
            }
            Kind::Eval(eval) => {
                let answer = match &loaded {
                    Ok(()) => Ok(text_of(ground.ask(&eval).await)),
                    Err(why) => Err(why.clone()),
                };
                answers.push((line, answer));
            }
        }
    }
    let has_rows = text.contains("load ");
    let is_compacted = placement == Placement::Compacted && has_rows;
    assert!(!is_compacted || merged + ground.merged > 0, "nothing was merged");
    answers
}

/// The same over rows in memory.
async fn in_memory(text: &str, pool: &Arc<Pool>, options: &Options) -> Vec<(usize, String)> {
    let mut rows = BTreeMap::new();
    let mut answers = Vec::new();
    for Command { line, kind } in parse(text) {
        match kind {
            Kind::Clear => rows.clear(),
            Kind::Load { step_ms, series, with_buckets } => {
                let histograms = if with_buckets { nhcb::converted(&series) } else { Vec::new() };
                load(&mut rows, series, step_ms);
                load(&mut rows, histograms, step_ms);
            }
            Kind::Eval(eval) => {
                let engine = run::engine_over(&rows, options, pool);
                let scope = ReadScope::for_test(&[(1, "team-1")]);
                let answer = match evaluation(&eval) {
                    Ok(evaluation) => engine.evaluate(&scope, &evaluation).await,
                    Err(error) => Err(error),
                };
                answers.push((line, text_of(answer)));
            }
        }
    }
    answers
}

/// Every difference between places, as text; and how many evaluations were compared.
async fn differences(name: &str, text: &str, options: &Options) -> (Vec<String>, usize) {
    let pool = Pool::new(2);
    let expected = in_memory(text, &pool, options).await;
    let (mut differences, mut compared) = (Vec::new(), 0);
    for placement in ALL {
        let found = answers(text, placement, &pool, options).await;
        assert_eq!(found.len(), expected.len(), "{name}");
        for ((line, expected), (_, found)) in expected.iter().zip(found) {
            compared += 1;
            match found {
                Ok(found) if found == *expected => {}
                Ok(found) => differences.push(format!(
                    "{name}:{line} {placement:?}\n  there: {found}  in memory: {expected}"
                )),
                Err(why) => differences.push(format!("{name}:{line} {placement:?}: {why}")),
            }
        }
    }
    (differences, compared)
}

async fn all_equal(folder: &std::path::Path, options: impl Fn(&str) -> Options) -> usize {
    let (mut all, mut compared) = (Vec::new(), 0);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "test"));
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let options = options(&name);
        let text = std::fs::read_to_string(&path).unwrap();
        let (more, count) = differences(&name, &text, &options).await;
        all.extend(more);
        compared += count;
    }
    let shown: String =
        all.iter().take(20).map(|d| d.chars().take(1200).collect::<String>() + "\n").collect();
    assert!(all.is_empty(), "{} of {compared} differ\n{shown}", all.len());
    compared
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_scripts_give_the_same_wherever_rows_lie() {
    let folder = testkit::package_dir().join("tests/scripts");
    let options = |name: &str| Options {
        late_names: name.starts_with("late_"),
        start_timestamps: name.contains("starts"),
        ..Options::default()
    };
    assert!(all_equal(&folder, options).await > 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_scripts_give_the_same_wherever_rows_lie() {
    let Some(folder) = testkit::reference("promql") else { return };
    let options =
        |_: &str| Options { late_names: true, start_timestamps: true, ..Options::default() };
    assert!(all_equal(&folder, options).await > 5_000);
}
