//! What was written and what can be read, as sets of lines: for tests in which things go wrong.
//!
//! A **fact** is one sample, histogram, exemplar or metadata entry as text, with its start timestamp
//! where it has one. Whatever fails, what
//! is read must be among what was tried, and what was acknowledged must be among what is read.

use std::collections::BTreeSet;

use ::model::{Buckets, Exemplar, Histogram, Labels, Metadata, MetricKind, ResetHint, Sample};
use ::model::{Cancel, Span, TimeRange};
pub(crate) use storage::error_text as text_of;
use storage::{Config, MetricRows, Select, SeriesRows, Storage};
use tenancy::ReadScope;

use crate::store::{Ground, NOW_MS, Row, config, labels_of, start_ms, write_scope};

/// A request of one tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) tenant: u32,
    pub(crate) rows: Vec<Row>,
    /// Series and instants of native histograms.
    pub(crate) histograms: Vec<(u32, i64)>,
    /// Series and instants of exemplars; the series has a row as well.
    pub(crate) exemplars: Vec<(u32, i64)>,
    /// Metric families with metadata.
    pub(crate) metadata: Vec<String>,
}

/// What a test did and what it was promised.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    pub(crate) tried: BTreeSet<String>,
    pub(crate) acknowledged: BTreeSet<String>,
}

/// One step of a workload.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write(Request),
    Flush,
    Read,
    /// Seconds that pass.
    Wait(u64),
}

/// Two partitions and files so small that every border is crossed.
pub(crate) fn tight() -> Config {
    Config { partitions: 2, log_segment_bytes: 4096, idle_seconds: 60, ..config() }
}

pub(crate) fn samples(tenant: u32, rows: &[Row]) -> Request {
    Request { tenant, rows: rows.to_vec(), ..Request::default() }
}

fn histogram_at(ms: i64) -> Histogram {
    Histogram {
        reset_hint: ResetHint::Unknown,
        schema: 3,
        zero_threshold: 0.001,
        sum: ms as f64,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        negative_spans: Vec::new(),
        buckets: Buckets::Integer {
            count: 5,
            zero_count: 1,
            positive_deltas: vec![1, 2],
            negative_deltas: Vec::new(),
        },
        custom_values: Vec::new(),
    }
}

fn exemplar_at(ms: i64) -> Exemplar {
    let trace = format!("trace-{ms}");
    Exemplar {
        labels: Labels::from_pairs([("trace_id", trace.as_str())]),
        value: ms as f64,
        timestamp_ms: ms,
    }
}

fn metadata_of(family: &str) -> Metadata {
    Metadata { kind: MetricKind::Gauge, help: format!("Help of {family}."), unit: "s".to_owned() }
}

fn sample_fact(tenant: u32, labels: &Labels, (ms, start_ms): (i64, i64), bits: u64) -> String {
    format!("{tenant} {labels} {ms} {bits:016x}{}", since(start_ms))
}

fn histogram_fact(
    tenant: u32,
    labels: &Labels,
    (ms, start_ms): (i64, i64),
    histogram: &Histogram,
) -> String {
    // What the head says of resets depends on what came before.
    let told = Histogram { reset_hint: ResetHint::Unknown, ..histogram.clone() };
    format!("{tenant} {labels} {ms} {told:?}{}", since(start_ms))
}

fn since(start_ms: i64) -> String {
    if start_ms == 0 { String::new() } else { format!(" since {start_ms}") }
}

impl Request {
    pub(crate) fn facts(&self) -> BTreeSet<String> {
        let tenant = self.tenant;
        let rows = self.rows.iter();
        let rows = rows.map(|&(series, ms, value)| {
            let times = (ms, start_ms(series, ms));
            sample_fact(tenant, &labels_of(series), times, value.to_bits())
        });
        let histograms = self.histograms.iter().map(|&(series, ms)| {
            let times = (ms, start_ms(series, ms));
            histogram_fact(tenant, &labels_of(series), times, &histogram_at(ms))
        });
        let exemplars = self
            .exemplars
            .iter()
            .map(|&(series, ms)| format!("{tenant} {} {:?}", labels_of(series), exemplar_at(ms)));
        let metadata = self.metadata.iter().map(|f| format!("{tenant} {f} {:?}", metadata_of(f)));
        rows.chain(histograms).chain(exemplars).chain(metadata).collect()
    }

    /// Sends it and waits until it is durable. Everything in it must be accepted.
    pub(crate) async fn send(&self, storage: &Storage) -> Result<(), storage::Error> {
        let mut body = Vec::new();
        let mut request = MetricRows::default();
        let mut series_of = |series: u32, request: &mut MetricRows<'_>, rows: SeriesRows| {
            let start = body.len() as u32;
            labels_of(series).encode(&mut body);
            request.series.push(SeriesRows { labels: start..body.len() as u32, ..rows });
        };
        for &(series, timestamp_ms, value) in &self.rows {
            let at = request.samples.len() as u32;
            let sample = Sample { timestamp_ms, value };
            request.push_sample(sample, start_ms(series, timestamp_ms));
            let exemplars = request.exemplars.len() as u32;
            let own = self.exemplars.iter().filter(|e| e.0 == series);
            request.exemplars.extend(own.map(|&(_, ms)| exemplar_at(ms)));
            let exemplars = exemplars..request.exemplars.len() as u32;
            let rows = SeriesRows { samples: at..at + 1, exemplars, ..SeriesRows::default() };
            series_of(series, &mut request, rows);
        }
        for &(series, ms) in &self.histograms {
            let at = request.histograms.len() as u32;
            request.push_histogram(ms, histogram_at(ms), start_ms(series, ms));
            let rows = SeriesRows { histograms: at..at + 1, ..SeriesRows::default() };
            series_of(series, &mut request, rows);
        }
        request.metadata = self.metadata.iter().map(|f| (f.clone(), metadata_of(f))).collect();
        let rows = MetricRows { body: &body, ..request };
        let appended = storage.append(&write_scope(self.tenant), &rows)?;
        assert!(appended.outcome.rejected.is_empty(), "{:?}", appended.outcome);
        match appended.position {
            Some(position) => storage.durable(position).await,
            None => Ok(()),
        }
    }
}

impl Journal {
    /// Sends a request and notes what became of it.
    pub(crate) async fn send(
        &mut self,
        storage: &Storage,
        request: &Request,
    ) -> Result<(), storage::Error> {
        let facts = request.facts();
        self.tried.extend(facts.iter().cloned());
        let sent = request.send(storage).await;
        if sent.is_ok() {
            self.acknowledged.extend(facts);
        }
        sent
    }

    /// Does all steps, whatever fails. Fails if an answer is wrong; that there is none is fine.
    pub(crate) async fn live(
        &mut self,
        ground: &Ground,
        storage: &Storage,
        steps: &[Step],
    ) -> Result<(), String> {
        for step in steps {
            match step {
                Step::Write(request) => drop(self.send(storage, request).await),
                Step::Flush => drop(storage.flush_all().await),
                Step::Wait(seconds) => {
                    ground.clock.advance(std::time::Duration::from_secs(*seconds));
                }
                Step::Read => {
                    if let Ok(found) = everything(storage).await {
                        self.check_of(storage, &found)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Everything must be readable now, and right.
    pub(crate) async fn check_all(&self, storage: &Storage) -> Result<(), String> {
        let found = everything(storage).await;
        self.check(&found.map_err(|e| format!("reading a sound disk: {}", text_of(&e)))?)
    }

    /// Checks what was found; rows may be absent only if the store says so.
    pub(crate) fn check_of(
        &self,
        storage: &Storage,
        found: &BTreeSet<String>,
    ) -> Result<(), String> {
        if storage.incomplete().is_empty() {
            return self.check(found);
        }
        match found.difference(&self.tried).next() {
            Some(phantom) => Err(format!("never written: {phantom}")),
            None => Ok(()),
        }
    }

    fn check(&self, found: &BTreeSet<String>) -> Result<(), String> {
        if let Some(phantom) = found.difference(&self.tried).next() {
            return Err(format!("never written: {phantom}"));
        }
        let lost: Vec<_> = self.acknowledged.difference(found).take(5).collect();
        if lost.is_empty() { Ok(()) } else { Err(format!("lost: {lost:#?}")) }
    }
}

/// All facts of tenants 1 and 2 that can be read.
pub(crate) async fn everything(storage: &Storage) -> Result<BTreeSet<String>, storage::Error> {
    let mut facts = BTreeSet::new();
    for tenant in [1, 2] {
        let scope = ReadScope::for_test(&[(tenant, &format!("team-{tenant}"))]);
        let request = Select { matchers: Vec::new(), range: TimeRange::ALL };
        let selection = storage.select(&scope, &request).await?;
        let decoded = selection.fetch(0..selection.len()).await?.decode()?;
        for (i, samples) in decoded.iter().enumerate() {
            let labels = selection.labels(i);
            assert!(samples.timestamps.is_sorted_by(|a, b| a < b), "{labels}: each instant once");
            for (&ms, value) in samples.timestamps.iter().zip(&samples.values) {
                let times = (ms, samples.starts.at(ms));
                facts.insert(sample_fact(tenant, labels, times, value.to_bits()));
            }
            for (ms, histogram) in &samples.histograms {
                let times = (*ms, samples.starts.at(*ms));
                facts.insert(histogram_fact(tenant, labels, times, histogram));
            }
        }
        for (labels, exemplars) in
            storage.exemplars(&scope, &[], TimeRange::ALL, &Cancel::default()).await?
        {
            facts.extend(exemplars.iter().map(|e| format!("{tenant} {labels} {e:?}")));
        }
        for (family, all) in storage.metadata(&scope, None, &Cancel::default())? {
            facts.extend(all.iter().map(|m| format!("{tenant} {family} {m:?}")));
        }
    }
    Ok(facts)
}

/// The fixed workload of a first life: two tenants, new series, late samples, duplicates,
/// metadata, exemplars, native histograms, flushes, idle series that are dropped.
pub(crate) fn first_life() -> Vec<Step> {
    let at = |s: i64| NOW_MS + s * 1000;
    let full = |tenant: u32, second: i64| Request {
        tenant,
        rows: (0..6).map(|n| (n, at(second), f64::from(n) + second as f64 / 3.0)).collect(),
        histograms: vec![(20, at(second))],
        exemplars: vec![(1, at(second))],
        metadata: vec![format!("family_{tenant}_{second}")],
    };
    let late =
        |tenant: u32| samples(tenant, &[(0, at(-90), 0.5), (7, at(-5), 7.0), (7, at(-9), 1.0)]);
    vec![
        Step::Write(full(1, 0)),
        Step::Write(full(2, 0)),
        Step::Write(full(1, 0)),
        Step::Write(late(1)),
        Step::Read,
        Step::Flush,
        Step::Write(full(1, 15)),
        Step::Write(late(1)),
        Step::Write(samples(2, &[(8, at(1), 8.0), (9, at(1), 9.0), (9, at(16), 9.5)])),
        Step::Read,
        Step::Flush,
        Step::Write(late(2)),
        // All but series 30 and 31 have gone quiet: they are numbered anew.
        Step::Wait(200),
        Step::Write(samples(1, &[(30, at(190), 30.0), (31, at(190), 31.0)])),
        Step::Flush,
        Step::Write(samples(1, &[(30, at(199), 30.5), (2, at(199), -2.0)])),
        Step::Read,
    ]
}

/// What comes after a restart: series `base` and up, some of them new.
pub(crate) fn later_life(base: u32) -> Vec<Step> {
    let at = |s: u32| NOW_MS + 250_000 + i64::from(base) * 2500 + i64::from(s) * 1000;
    let rows = [(base, at(0), 1.5), (base + 1, at(0), 2.5), (1, at(0), 3.5), (31, at(1), 4.5)];
    vec![
        Step::Write(samples(1, &rows)),
        Step::Write(samples(2, &rows[..3])),
        Step::Read,
        Step::Flush,
        Step::Write(Request {
            exemplars: vec![(base, at(2))],
            histograms: vec![(20, at(2))],
            metadata: vec![format!("family_{base}")],
            ..samples(1, &[(base, at(2), 5.5), (base + 2, at(2), 6.5)])
        }),
        Step::Read,
    ]
}

/// A life in which nothing fails any more: every write must be taken.
pub(crate) async fn sound_life(
    journal: &mut Journal,
    ground: &Ground,
    base: u32,
) -> Result<(), String> {
    let storage = ground.open_with(tight()).await.map_err(|e| format!("open: {}", text_of(&e)))?;
    if !storage.damage().is_empty() || storage.left_out() > 0 {
        return Err(format!("damage: {:?}, left out: {}", storage.damage(), storage.left_out()));
    }
    journal.check_all(&storage).await?;
    for step in later_life(base) {
        match step {
            Step::Write(request) => {
                let sent = journal.send(&storage, &request).await;
                sent.map_err(|e| format!("write: {}", text_of(&e)))?;
            }
            Step::Flush => {
                storage.flush_all().await.map_err(|e| format!("flush: {}", text_of(&e)))?;
            }
            _ => journal.check_all(&storage).await?,
        }
    }
    Ok(())
}

/// A number from the environment: cases to run, or the seed to replay.
pub(crate) fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}
