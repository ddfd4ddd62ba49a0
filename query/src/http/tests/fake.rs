//! An executor that answers by the expression's text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::{Exemplar, Labels, Matcher, Metadata, MetricKind, ResetHint, Span, TimeRange};
use parking_lot::Mutex;
use tenancy::ReadScope;

use super::labels;
use crate::{
    Answer, Batches, Cancel, Error, Evaluation, Executor, FloatHistogram, Listing, MatrixSeries,
    PhaseTime, Pieces, Place, PointValue, RawSeries, ReadRequest, SeriesRequest, SqlRequest,
    Statistics, Stats, Value, VectorPoint,
};

#[derive(Debug, Default)]
pub(in crate::http) struct Fake {
    /// The flags of evaluations that were started.
    pub(in crate::http) cancels: Mutex<Vec<Cancel>>,
}

#[async_trait]
impl Executor for Fake {
    async fn evaluate(&self, scope: &ReadScope, evaluation: Evaluation) -> Result<Answer, Error> {
        self.cancels.lock().push(evaluation.cancel.clone());
        let at_ms = evaluation.start_ms;
        let text = evaluation.expr.to_string();
        if text == "slow" {
            std::future::pending::<()>().await;
        }
        let value = match text.as_str() {
            "1 + 1" => Value::Scalar { at_ms, value: 2.0 },
            "\"text\"" => Value::String { at_ms, value: "text".to_owned() },
            "fails" => {
                return Err(Error::Execution(
                    "vector cannot contain metrics with the same labelset".to_owned(),
                ));
            }
            "breaks" => {
                return Err(Error::internal("read block 7", std::io::Error::other("disk on fire")));
            }
            "noisy" => return Ok(noisy()),
            "nothing" if evaluation.is_instant() => Value::Vector(Vec::new()),
            "nothing" => Value::Matrix(Vec::new()),
            _ if evaluation.is_instant() && !text.contains('[') => {
                vector(&text, &evaluation, scope)
            }
            _ => matrix(&text, &evaluation, scope),
        };
        let stats = Stats {
            series: 2,
            samples_read: 3,
            samples_queryable: 4,
            samples_peak: 5,
            samples_per_step: if evaluation.per_step_stats { vec![(at_ms, 4)] } else { Vec::new() },
            phases: vec![PhaseTime { name: "plan", time: Duration::from_micros(250), times: 1 }],
            ..Stats::default()
        };
        Ok(Answer { stats, ..Answer::new(value) })
    }

    async fn series(
        &self,
        _scope: &ReadScope,
        request: SeriesRequest,
    ) -> Result<Listing<Labels>, Error> {
        self.cancels.lock().push(request.cancel.clone());
        let selectors = format!("{:?}", request.selectors);
        if selectors.contains("slow") {
            std::future::pending::<()>().await;
        }
        let asked = [("asked", selectors.as_str()), ("range", &shown(request.range))];
        let items = vec![labels(&[("__name__", "up"), ("job", "a\"\\\n\u{1}é")]), labels(&asked)];
        Ok(cut(items, request.limit))
    }

    async fn label_names(
        &self,
        _scope: &ReadScope,
        request: SeriesRequest,
    ) -> Result<Listing<String>, Error> {
        self.cancels.lock().push(request.cancel.clone());
        let selectors = format!("{:?}", request.selectors);
        if selectors.contains("slow") {
            std::future::pending::<()>().await;
        }
        let items = vec!["__name__".to_owned(), "job".to_owned(), selectors];
        Ok(cut(items, request.limit))
    }

    async fn label_values(
        &self,
        _scope: &ReadScope,
        name: &str,
        request: SeriesRequest,
    ) -> Result<Listing<String>, Error> {
        let asked = format!("{name} {}", shown(request.range));
        let known = if name == "__name__" { "up" } else { "z" };
        Ok(cut(vec![asked, known.to_owned()], request.limit))
    }

    async fn metadata(
        &self,
        _scope: &ReadScope,
        metric: Option<&str>,
        _cancel: &Cancel,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, Error> {
        let of = |kind, help: &str, unit: &str| Metadata {
            kind,
            help: help.to_owned(),
            unit: unit.to_owned(),
        };
        let all = BTreeMap::from([
            ("latency".to_owned(), vec![of(MetricKind::Histogram, "How long.", "seconds")]),
            (
                "up".to_owned(),
                vec![of(MetricKind::Gauge, "Is it?", ""), of(MetricKind::Unknown, "", "")],
            ),
        ]);
        Ok(all.into_iter().filter(|(name, _)| metric.is_none_or(|wanted| wanted == name)).collect())
    }

    async fn exemplars(
        &self,
        _scope: &ReadScope,
        selectors: Vec<Vec<Matcher>>,
        range: TimeRange,
        _cancel: &Cancel,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, Error> {
        if selectors == [[Matcher::equal("__name__", "test")]] {
            return Ok(Vec::new());
        }
        let asked = labels(&[("asked", &format!("{selectors:?}")), ("range", &shown(range))]);
        let exemplar = Exemplar {
            labels: labels(&[("trace_id", "x1")]),
            value: 0.25,
            timestamp_ms: 1_600_000_000_010,
        };
        Ok(vec![(asked, vec![exemplar.clone(), exemplar])])
    }

    async fn read(
        &self,
        _scope: &ReadScope,
        request: ReadRequest,
    ) -> Result<Box<dyn Batches>, Error> {
        self.cancels.lock().push(request.cancel.clone());
        let name = request.matchers.first().map_or("", Matcher::value).to_owned();
        match name.as_str() {
            "fails" => Err(Error::Execution("too many samples".to_owned())),
            "breaks" => Err(Error::internal("read block 7", std::io::Error::other("disk on fire"))),
            _ => Ok(Box::new(Stored { name, batch: 0, end_ms: request.range.end_ms })),
        }
    }

    async fn sql(&self, scope: &ReadScope, request: SqlRequest) -> Result<Box<dyn Pieces>, Error> {
        self.cancels.lock().push(request.cancel.clone());
        match request.text.as_str() {
            "wrong" => {
                let place = Some(Place { line: 2, column: 7 });
                return Err(Error::Statement { text: "no column \"x\"".to_owned(), place });
            }
            "slow" => std::future::pending::<()>().await,
            _ => {}
        }
        let SqlRequest { text, parameters, format, now_ms, .. } = request;
        let tenants: Vec<&str> = scope.tenants().iter().map(|t| t.name.as_str()).collect();
        let asked = format!("{text} {parameters:?} {format:?} {now_ms} {tenants:?}\n");
        let pieces = match text.as_str() {
            "breaks" => vec![Ok(Bytes::from(asked)), Err(Error::Execution("too much".to_owned()))],
            "long" => (0..40).map(|_| Ok(Bytes::from("long ".repeat(5_000)))).collect(),
            _ => vec![Ok(Bytes::from(asked)), Ok(Bytes::from("end"))],
        };
        Ok(Box::new(Told(pieces.into_iter())))
    }

    async fn blocks(&self, _: &ReadScope, _: &Cancel) -> Result<Vec<crate::BlockFacts>, Error> {
        let range = TimeRange { start_ms: 1_000, end_ms: 7_199_999 };
        let (series, chunks, samples) = (2, 3, 480);
        let id = 1_469_918_176_385 << 80 | 31;
        Ok(vec![crate::BlockFacts { id, level: 1, range, series, chunks, samples }])
    }

    async fn statistics(
        &self,
        _scope: &ReadScope,
        limit: usize,
        _cancel: &Cancel,
    ) -> Result<Statistics, Error> {
        let counts = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), 7)).collect();
        if limit == 1 {
            return Ok(Statistics::default());
        }
        Ok(Statistics {
            series: 508,
            label_pairs: 1234,
            chunks: 937,
            range: Some(TimeRange { start_ms: 1_591_516_800_000, end_ms: 1_598_896_800_143 }),
            series_by_metric: counts(&["up", "latency"]),
            values_by_label: counts(&["job"]),
            bytes_by_label: counts(&["job"]),
            series_by_pair: counts(&["job=a"]),
        })
    }
}

/// Stored samples of one name.
struct Stored {
    name: String,
    batch: usize,
    end_ms: i64,
}

#[async_trait]
impl Batches for Stored {
    async fn next(&mut self) -> Result<Option<Vec<RawSeries>>, Error> {
        self.batch += 1;
        let series = |job: &str, timestamps: &[i64], values: &[f64]| RawSeries {
            labels: labels(&[("__name__", &self.name), ("job", job)]),
            timestamps: timestamps.into(),
            values: values.to_vec(),
            histograms: Vec::new(),
        };
        let many: Vec<i64> = (0..300_000).collect();
        let noise = |at: &i64| f64::from_bits((*at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let noisy = || series("a", &many, &many.iter().map(noise).collect::<Vec<f64>>());
        Ok(match (self.name.as_str(), self.batch) {
            ("nothing", _) => None,
            ("endless", _) | ("large", 1) => Some(vec![noisy()]),
            ("large", _) => None,
            ("newest", 1) => Some(self.newest()),
            ("newest", _) => None,
            (_, 1) => Some(vec![series("a", &[1000, 2000], &[1.0, 2.0])]),
            (_, 2) => Some(vec![series("b", &[1000, 2000], &[0.0, -3.5])]),
            _ => None,
        })
    }
}

impl Stored {
    /// What `/federate` has to tell apart: ended series, histograms, names outside the alphabet.
    fn newest(&self) -> Vec<RawSeries> {
        let at = self.end_ms;
        let float = |pairs: &[(&str, &str)], value: f64| RawSeries {
            labels: labels(pairs),
            timestamps: [at - 60_000, at - 5].into(),
            values: vec![1.0, value],
            histograms: Vec::new(),
        };
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let histogram = model::Histogram {
            reset_hint: ResetHint::Unknown,
            schema: 1,
            zero_threshold: 0.001,
            sum: 18.4,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            negative_spans: Vec::new(),
            buckets: model::Buckets::Integer {
                count: 12,
                zero_count: 2,
                positive_deltas: vec![4, 2],
                negative_deltas: Vec::new(),
            },
            custom_values: Vec::new(),
        };
        let mut native = float(&[("__name__", "latency"), ("instance", "i")], 2.0);
        native.histograms = vec![(at, Arc::new(histogram))];
        vec![
            float(&[("__name__", "up"), ("instance", "i"), ("job", "a\\\"\n")], 1.5),
            float(&[("__name__", "up"), ("job", "b")], f64::INFINITY),
            float(&[("__name__", "ended")], stale),
            float(&[("job", "nameless")], 1.0),
            float(&[("__name__", "http.status"), ("k8s.node", "é")], 2.0),
            native,
        ]
    }
}

fn cut<T>(mut items: Vec<T>, limit: Option<usize>) -> Listing<T> {
    let limit = limit.unwrap_or(usize::MAX);
    let truncated = items.len() > limit;
    items.truncate(limit);
    Listing { items, truncated }
}

fn shown(range: TimeRange) -> String {
    format!("{}..{}", range.start_ms, range.end_ms)
}

fn noisy() -> Answer {
    let notes = |kind: &str, count: usize| {
        (1..=count).map(|i| format!("PromQL {kind}: number {i} (1:1)")).collect()
    };
    Answer {
        warnings: notes("warning", 12),
        infos: notes("info", 10),
        ..Answer::new(Value::Vector(Vec::new()))
    }
}

fn vector(text: &str, evaluation: &Evaluation, scope: &ReadScope) -> Value {
    let at_ms = evaluation.start_ms;
    let point = |pairs: &[(&str, &str)], value| VectorPoint { labels: labels(pairs), at_ms, value };
    Value::Vector(match text {
        "echo" => vec![point(&[("asked", &asked(evaluation, scope))], PointValue::Float(f64::NAN))],
        "latency" => {
            vec![point(&[("__name__", text)], PointValue::Histogram(Arc::new(histogram())))]
        }
        _ => vec![
            point(&[("__name__", text), ("job", "b")], PointValue::Float(1.5e-7)),
            point(&[("__name__", text), ("job", "a")], PointValue::Float(f64::INFINITY)),
        ],
    })
}

fn asked(evaluation: &Evaluation, scope: &ReadScope) -> String {
    let Evaluation { start_ms, end_ms, step_ms, lookback_ms, timeout, .. } = evaluation;
    let tenants: Vec<_> = scope.tenants().iter().map(|tenant| tenant.name.as_str()).collect();
    let tenants = format!("{tenants:?} labelled={}", scope.is_labelled());
    format!(
        "{start_ms}..{end_ms} step={step_ms} lookback={lookback_ms} timeout={timeout:?} {tenants}"
    )
}

fn matrix(text: &str, evaluation: &Evaluation, scope: &ReadScope) -> Value {
    let steps = evaluation.steps().min(3);
    let floats: Vec<_> = (0..steps)
        .map(|i| (evaluation.start_ms + i as i64 * evaluation.step_ms, i as f64))
        .collect();
    let series = |pairs: &[(&str, &str)]| MatrixSeries {
        labels: labels(pairs),
        floats: floats.clone(),
        histograms: Vec::new(),
    };
    if text == "echo" {
        return Value::Matrix(vec![series(&[("asked", &asked(evaluation, scope))])]);
    }
    let mut found = vec![
        series(&[("__name__", text), ("job", "b")]),
        series(&[("__name__", text), ("job", "a")]),
    ];
    if text == "latency" {
        found[0].histograms = vec![(evaluation.end_ms + 1, Arc::new(histogram()))];
        found[1].histograms =
            vec![(evaluation.end_ms, Arc::new(FloatHistogram { count: 0.0, ..empty() }))];
        found[1].floats.clear();
    }
    Value::Matrix(found)
}

fn empty() -> FloatHistogram {
    FloatHistogram {
        reset_hint: ResetHint::Unknown,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 0.0,
        count: 0.0,
        sum: 0.0,
        positive_spans: Arc::default(),
        positive: Vec::new(),
        negative_spans: Arc::default(),
        negative: Vec::new(),
        custom_values: Arc::default(),
    }
}

pub(super) fn histogram() -> FloatHistogram {
    FloatHistogram {
        zero_count: 2.0,
        count: 12.0,
        sum: 18.4,
        positive_spans: [Span { offset: 0, length: 2 }, Span { offset: 1, length: 2 }].into(),
        positive: vec![1.0, 2.0, 0.0, 1.0],
        negative_spans: [Span { offset: -1, length: 2 }].into(),
        negative: vec![2.0, 4.0],
        ..empty()
    }
}

/// Pieces that are there already.
struct Told(std::vec::IntoIter<Result<Bytes, Error>>);

#[async_trait]
impl Pieces for Told {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.next().transpose()
    }
}
