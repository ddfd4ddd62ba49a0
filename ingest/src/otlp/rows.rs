//! From points to rows: which series a point becomes, and with which values.

use model::{Buckets, Exemplar, Histogram, Labels, ResetHint, Sample, SeriesId, Span, stale_nan};
use storage::{Reason, SeriesRows};

use super::delta::{Bounds, Explicit, Exponential, NotAdded, Sum};
use super::labels::encode;
use super::point::{
    self, Common, ExplicitPoint, ExponentialPoint, NumberPoint, Side, SummaryPoint,
};
use super::walk::{Metric, Walk};
use crate::caps::{WalkError, room};
use crate::native::{SCHEMA_MAX, SCHEMA_MIN, coarser, deltas_of, spans_of};
use crate::remote_write::{EXEMPLAR_CHARS_MAX, chars, shortened};
use crate::wire::WireError;

/// Width of the zero bucket where none is told; Prometheus' (`defaultZeroThreshold`).
const ZERO_THRESHOLD: f64 = 1e-128;

/// Empty buckets that are written rather than left out between two spans.
const GAP_MAX: i64 = 2;

/// Why a point makes no rows.
pub(super) enum NotStored {
    /// Only this point.
    Point(Reason, String),
    /// The whole request.
    Request(WalkError),
}

impl From<WalkError> for NotStored {
    fn from(why: WalkError) -> Self {
        Self::Request(why)
    }
}

impl From<WireError> for NotStored {
    fn from(why: WireError) -> Self {
        Self::Request(why.into())
    }
}

type Stored = Result<(), NotStored>;

/// How far the rows of a request have come.
pub(super) struct Mark {
    series: usize,
    spill: usize,
    samples: usize,
    histograms: usize,
    exemplars: usize,
}

impl<'a> Walk<'_, 'a, '_> {
    pub(super) fn mark(&self) -> Mark {
        Mark {
            series: self.rows.series.len(),
            spill: self.rows.spill.len(),
            samples: self.rows.samples.len(),
            histograms: self.rows.histograms.len(),
            exemplars: self.rows.exemplars.len(),
        }
    }

    /// Forgets everything since the mark.
    pub(super) fn back_to(&mut self, mark: &Mark) {
        self.rows.series.truncate(mark.series);
        self.rows.spill.truncate(mark.spill);
        self.rows.truncate_samples(mark.samples);
        self.rows.truncate_histograms(mark.histograms);
        self.rows.exemplars.truncate(mark.exemplars);
    }

    /// Puts the labels of a series into the spill.
    fn encode(
        &mut self,
        metric: &Metric<'a>,
        suffix: &str,
        extra: Option<(&str, &str)>,
    ) -> Result<(), NotStored> {
        let limits = &self.context.limits;
        let known = self.shapes.labels();
        // The name, and maybe one more.
        let labels = known.unwrap_or(self.labels.len()) + 1 + usize::from(extra.is_some());
        if labels > limits.labels_max {
            let name = shortened(metric.family.as_bytes());
            let limit = limits.labels_max;
            let text = format!("series {name} has {labels} labels, the limit is {limit}");
            return Err(NotStored::Point(Reason::TooManyLabels, text));
        }
        let start = self.rows.spill.len();
        if known.is_some() {
            self.shapes.put(metric, suffix, extra, &mut self.fields);
            self.rows.spill.extend_from_slice(self.fields.bytes());
        } else {
            encode(&mut self.rows.spill, &self.labels, [&metric.family, suffix], extra);
        }
        let bytes = self.rows.spill.len() - start;
        if bytes > self.label_bytes_max {
            let (name, limit) = (shortened(metric.family.as_bytes()), self.label_bytes_max);
            let text = format!("labels of series {name} have {bytes} bytes, the limit is {limit}");
            return Err(NotStored::Point(Reason::LabelValueTooLong, text));
        }
        if self.rows.spill.len() > self.context.caps.label_bytes_max {
            let limit = self.context.caps.label_bytes_max;
            return Err(WalkError::TooMany { what: "bytes of labels", limit }.into());
        }
        Ok(())
    }

    /// What a delta stream is known by.
    fn stream_id(&mut self, metric: &Metric<'a>) -> Result<SeriesId, NotStored> {
        let start = self.rows.spill.len();
        self.encode(metric, "", None)?;
        let id = SeriesId::of_encoded(&self.rows.spill[start..]);
        self.rows.spill.truncate(start);
        Ok(id)
    }

    /// Makes one series of everything since the mark.
    fn finish(&mut self, mark: &Mark) -> Stored {
        room(self.rows.series.len(), self.context.caps.series_max, "series")?;
        let body = self.rows.body.len();
        self.rows.series.push(SeriesRows {
            labels: (body + mark.spill) as u32..(body + self.rows.spill.len()) as u32,
            samples: mark.samples as u32..self.rows.samples.len() as u32,
            histograms: mark.histograms as u32..self.rows.histograms.len() as u32,
            exemplars: mark.exemplars as u32..self.rows.exemplars.len() as u32,
        });
        Ok(())
    }

    /// One series with one sample and maybe exemplars.
    fn sample(
        &mut self,
        metric: &Metric<'a>,
        suffix: &str,
        extra: Option<(&str, &str)>,
        Told { start_ms, timestamp_ms, value }: Told,
        exemplars: Vec<Exemplar>,
    ) -> Stored {
        let mark = self.mark();
        self.encode(metric, suffix, extra)?;
        room(self.rows.samples.len(), self.context.caps.samples_max, "samples")?;
        self.rows.push_sample(Sample { timestamp_ms, value }, start_ms);
        self.rows.exemplars.extend(exemplars);
        self.finish(&mark)
    }

    /// Adds a delta point to its stream. The stream is known by the labels of its metric.
    fn add_delta(
        &mut self,
        metric: &Metric<'a>,
        common: &mut Common<'a>,
        point: Sum,
    ) -> Result<Sum, NotStored> {
        let id = self.stream_id(metric)?;
        let config = &self.context.config;
        let bounds = Bounds {
            cells_max: config.delta_streams_max,
            forget_after: std::time::Duration::from_secs(config.delta_stale_seconds),
        };
        let mut streams = self.context.streams.lock();
        let times = (common.start_ns, common.time_ns);
        let added = streams.add(id, times, point, self.context.now, bounds);
        // What was added up counts since the stream began.
        let added = added.map(|(sum, start_ns)| {
            common.start_ns = start_ns;
            sum.clone()
        });
        added.map_err(|why| match why {
            NotAdded::Before => NotStored::Point(
                Reason::TooOld,
                format!("delta point of metric {:?} lies before the last one of its stream", metric.name),
            ),
            NotAdded::Full => NotStored::Point(
                Reason::ActiveSeriesLimit,
                format!(
                    "metric {:?} has a new delta stream and the limit of {} is reached (otlp.delta_streams_max)",
                    metric.name, config.delta_streams_max
                ),
            ),
        })
    }

    /// A delta stream that says it has no value begins anew.
    fn end_delta(&mut self, metric: &Metric<'a>) -> Stored {
        let id = self.stream_id(metric)?;
        self.context.streams.lock().end(id);
        Ok(())
    }

    fn exemplars(&mut self, common: &Common<'a>) -> Result<Vec<Exemplar>, NotStored> {
        let mut kept = Vec::with_capacity(common.exemplars.len());
        for message in &common.exemplars {
            let have = self.rows.exemplars.len() + kept.len();
            room(have, self.context.caps.exemplars_max, "exemplars")?;
            let read = point::Exemplar::read(*message)?;
            let all = Labels::from_pairs(read.attributes.iter().map(|a| (a.key, &a.value)));
            let ids = read.attributes.iter().filter(|a| matches!(a.key, "trace_id" | "span_id"));
            // Attributes stay only where they fit, trace and span always.
            let labels = match chars(&all) > EXEMPLAR_CHARS_MAX {
                true => Labels::from_pairs(ids.take(2).map(|a| (a.key, &a.value))),
                false => all,
            };
            if chars(&labels) <= EXEMPLAR_CHARS_MAX {
                kept.push(Exemplar { labels, value: read.value, timestamp_ms: read.time_ms });
            }
        }
        kept.sort_by_key(|exemplar| exemplar.timestamp_ms);
        Ok(kept)
    }
}

/// A sample, and since when it counts; 0 is unknown.
struct Told {
    start_ms: i64,
    timestamp_ms: i64,
    value: f64,
}

impl Told {
    fn of(metric: &Metric<'_>, common: &Common<'_>, value: f64) -> Self {
        let (start_ms, timestamp_ms) = (start_ms(metric, common), common.time_ms());
        Self { start_ms, timestamp_ms, value: or_stale(common, value) }
    }
}

/// Since when a point counts. That of a gauge means nothing, as in Prometheus.
fn start_ms(metric: &Metric<'_>, common: &Common<'_>) -> i64 {
    if metric.is_gauge { 0 } else { common.start_ms() }
}

/// A value, or the marker that there is none any more.
fn or_stale(common: &Common<'_>, value: f64) -> f64 {
    if common.is_stale() { stale_nan() } else { value }
}

pub(super) fn number<'a>(
    walk: &mut Walk<'_, 'a, '_>,
    metric: &Metric<'a>,
    point: &mut NumberPoint<'a>,
) -> Stored {
    let common = &mut point.common;
    let mut value = point.value;
    if metric.is_delta && common.is_stale() {
        walk.end_delta(metric)?;
    } else if metric.is_delta
        && let Sum::Number(sum) = walk.add_delta(metric, common, Sum::Number(value))?
    {
        value = sum;
    }
    let exemplars = walk.exemplars(common)?;
    let sample = Told::of(metric, common, value.float());
    walk.sample(metric, "", None, sample, exemplars)
}

pub(super) fn summary<'a>(
    walk: &mut Walk<'_, 'a, '_>,
    metric: &Metric<'a>,
    point: &SummaryPoint<'a>,
) -> Stored {
    let at = |value: f64| Told::of(metric, &point.common, value);
    walk.sample(metric, "_sum", None, at(point.sum), Vec::new())?;
    walk.sample(metric, "_count", None, at(point.count as f64), Vec::new())?;
    for (quantile, value) in &point.quantiles {
        let quantile = float_text(*quantile);
        walk.sample(metric, "", Some(("quantile", &quantile)), at(*value), Vec::new())?;
    }
    Ok(())
}

/// As Go writes floats without an exponent (`strconv.FormatFloat(…, 'f', -1, 64)`).
fn float_text(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}

pub(super) fn explicit<'a>(
    walk: &mut Walk<'_, 'a, '_>,
    metric: &Metric<'a>,
    point: &mut ExplicitPoint<'a>,
) -> Stored {
    check_bounds(metric, point)?;
    if metric.is_delta {
        if point.common.is_stale() {
            walk.end_delta(metric)?;
        } else {
            let own = Explicit {
                count: point.count,
                sum: point.sum,
                counts: std::mem::take(&mut point.counts),
                bounds: std::mem::take(&mut point.bounds),
            };
            if let Sum::Explicit(sum) =
                walk.add_delta(metric, &mut point.common, Sum::Explicit(own))?
            {
                (point.count, point.sum) = (sum.count, sum.sum);
                (point.counts, point.bounds) = (sum.counts, sum.bounds);
            }
        }
    }
    if walk.context.config.convert_histograms_to_nhcb {
        return custom(walk, metric, point);
    }
    classic(walk, metric, point)
}

/// One bucket more than bounds, or neither.
fn check_bounds<'a>(metric: &Metric<'a>, point: &ExplicitPoint<'a>) -> Stored {
    let (counts, bounds) = (point.counts.len(), point.bounds.len());
    let fits = counts == bounds + 1 || (counts == 0 && bounds == 0);
    let ascends =
        point.bounds.is_sorted_by(|a, b| a < b) && !point.bounds.iter().any(|b| b.is_nan());
    if fits && ascends {
        return Ok(());
    }
    let name = metric.name;
    let text = match fits {
        false => format!("histogram {name:?} has {counts} buckets and {bounds} bounds"),
        true => format!("bounds of histogram {name:?} are not ascending"),
    };
    Err(NotStored::Point(Reason::InvalidHistogram, text))
}

/// Series for the sum, the count and each bucket.
fn classic<'a>(
    walk: &mut Walk<'_, 'a, '_>,
    metric: &Metric<'a>,
    point: &ExplicitPoint<'a>,
) -> Stored {
    let common = &point.common;
    let at = |value: f64| Told::of(metric, common, value);
    if let Some(sum) = point.sum {
        walk.sample(metric, "_sum", None, at(sum), Vec::new())?;
    }
    walk.sample(metric, "_count", None, at(point.count as f64), Vec::new())?;
    let mut exemplars = walk.exemplars(common)?;
    exemplars.sort_by(|a, b| a.value.total_cmp(&b.value));
    let mut exemplars = exemplars.into_iter().peekable();
    let mut cumulative = 0u64;
    for (bound, count) in point.bounds.iter().zip(&point.counts) {
        cumulative = cumulative.wrapping_add(*count);
        let within: Vec<_> =
            std::iter::from_fn(|| exemplars.next_if(|e| e.value <= *bound)).collect();
        let le = float_text(*bound);
        walk.sample(metric, "_bucket", Some(("le", &le)), at(cumulative as f64), within)?;
    }
    if point.bounds.last() == Some(&f64::INFINITY) {
        return Ok(());
    }
    let rest = exemplars.collect();
    walk.sample(metric, "_bucket", Some(("le", "+Inf")), at(point.count as f64), rest)
}

/// One native histogram with these bounds.
fn custom<'a>(
    walk: &mut Walk<'_, 'a, '_>,
    metric: &Metric<'a>,
    point: &ExplicitPoint<'a>,
) -> Stored {
    let numbered = point.counts.iter().enumerate().map(|(i, n)| (i as i64, *n));
    let (positive_spans, positive_deltas) = layout(numbered.collect(), metric)?;
    let is_stale = point.common.is_stale();
    let histogram = Histogram {
        reset_hint: ResetHint::Unknown,
        schema: -53,
        zero_threshold: 0.0,
        sum: or_stale(&point.common, point.sum.unwrap_or(0.0)),
        positive_spans: if is_stale { vec![] } else { positive_spans },
        negative_spans: vec![],
        buckets: Buckets::Integer {
            count: if is_stale { 0 } else { point.count },
            zero_count: 0,
            positive_deltas: if is_stale { vec![] } else { positive_deltas },
            negative_deltas: vec![],
        },
        custom_values: point.bounds.clone(),
    };
    native(walk, metric, &point.common, histogram)
}

pub(super) fn exponential<'a>(
    walk: &mut Walk<'_, 'a, '_>,
    metric: &Metric<'a>,
    point: &mut ExponentialPoint<'a>,
) -> Stored {
    let mut sum = Exponential {
        count: point.count,
        sum: point.sum,
        scale: point.scale,
        zero_count: point.zero_count,
        zero_threshold: point.zero_threshold,
        positive: std::mem::take(&mut point.positive),
        negative: std::mem::take(&mut point.negative),
    };
    let is_stale = point.common.is_stale();
    if metric.is_delta && is_stale {
        walk.end_delta(metric)?;
    } else if metric.is_delta {
        let point_sum = Sum::Exponential(sum.clone());
        if let Sum::Exponential(added) = walk.add_delta(metric, &mut point.common, point_sum)? {
            sum = added;
        }
    }
    if is_stale {
        (sum.count, sum.zero_count) = (0, 0);
        (sum.positive, sum.negative) = (Side::default(), Side::default());
    }
    if sum.scale < SCHEMA_MIN {
        let text = format!(
            "exponential histogram {:?} has scale {}, the least that can be stored is {SCHEMA_MIN}",
            metric.name, sum.scale
        );
        return Err(NotStored::Point(Reason::InvalidHistogram, text));
    }
    let by = sum.scale.saturating_sub(SCHEMA_MAX).max(0).unsigned_abs();
    let (positive_spans, positive_deltas) = exponential_layout(&sum.positive, by, metric)?;
    let (negative_spans, negative_deltas) = exponential_layout(&sum.negative, by, metric)?;
    let told = sum.zero_threshold > 0.0;
    let histogram = Histogram {
        reset_hint: ResetHint::Unknown,
        schema: sum.scale.min(SCHEMA_MAX),
        zero_threshold: if told { sum.zero_threshold } else { ZERO_THRESHOLD },
        sum: or_stale(&point.common, sum.sum.unwrap_or(0.0)),
        positive_spans,
        negative_spans,
        buckets: Buckets::Integer {
            count: sum.count,
            zero_count: sum.zero_count,
            positive_deltas,
            negative_deltas,
        },
        custom_values: vec![],
    };
    native(walk, metric, &point.common, histogram)
}

/// Bucket `i` there is bucket `i + 1` here: they are told by their lower bounds, ours by the upper.
fn exponential_layout(
    side: &Side,
    by: u32,
    metric: &Metric<'_>,
) -> Result<(Vec<Span>, Vec<i64>), NotStored> {
    let first = i64::from(side.offset) + 1;
    let numbered = side.counts.iter().enumerate().map(|(i, n)| (first + i as i64, *n)).collect();
    let coarse = coarser(numbered, by, |a: u64, b| a.checked_add(b));
    layout(coarse.ok_or_else(|| too_large(metric))?, metric)
}

/// Spans and deltas of buckets without gaps: empty ones are left out where they save something.
fn layout(
    buckets: Vec<(i64, u64)>,
    metric: &Metric<'_>,
) -> Result<(Vec<Span>, Vec<i64>), NotStored> {
    let mut kept: Vec<(i64, i64)> = Vec::with_capacity(buckets.len());
    for (index, count) in buckets {
        if count == 0 {
            continue;
        }
        if let Some((last, _)) = kept.last()
            && index - last - 1 <= GAP_MAX
        {
            kept.extend((last + 1..index).map(|empty| (empty, 0)).collect::<Vec<_>>());
        }
        kept.push((index, i64::try_from(count).map_err(|_| too_large(metric))?));
    }
    let counts: Vec<i64> = kept.iter().map(|(_, count)| *count).collect();
    Ok((spans_of(&kept).ok_or_else(|| too_large(metric))?, deltas_of(&counts)))
}

fn too_large(metric: &Metric<'_>) -> NotStored {
    let text = format!("histogram {:?} has a bucket count or index that is too large", metric.name);
    NotStored::Point(Reason::InvalidHistogram, text)
}

fn native<'a>(
    walk: &mut Walk<'_, 'a, '_>,
    metric: &Metric<'a>,
    common: &Common<'a>,
    histogram: Histogram,
) -> Stored {
    let caps = &walk.context.caps;
    room(walk.rows.histograms.len(), caps.histograms_max, "native histograms")?;
    let Buckets::Integer { positive_deltas, negative_deltas, .. } = &histogram.buckets else {
        return Ok(());
    };
    walk.buckets += positive_deltas.len() + negative_deltas.len() + histogram.custom_values.len();
    if walk.buckets > caps.histogram_buckets_max {
        let limit = caps.histogram_buckets_max;
        return Err(WalkError::TooMany { what: "buckets of native histograms", limit }.into());
    }
    let exemplars = walk.exemplars(common)?;
    let mark = walk.mark();
    walk.encode(metric, "", None)?;
    walk.rows.push_histogram(common.time_ms(), histogram, start_ms(metric, common));
    walk.rows.exemplars.extend(exemplars);
    walk.finish(&mark)
}

/// `target_info` of the labels that were put together, from the first time to the last.
pub(super) fn target_info(
    walk: &mut Walk<'_, '_, '_>,
    first_ms: i64,
    last_ms: i64,
    step_ms: i64,
) -> Stored {
    let metric = Metric {
        name: "target_info",
        family: "target_info".to_owned(),
        field: Vec::new(),
        is_delta: false,
        is_gauge: true,
    };
    let mark = walk.mark();
    walk.encode(&metric, "", None)?;
    let mut at_ms = first_ms;
    while at_ms < last_ms {
        room(walk.rows.samples.len(), walk.context.caps.samples_max, "samples")?;
        walk.rows.samples.push(Sample { timestamp_ms: at_ms, value: 1.0 });
        at_ms = at_ms.saturating_add(step_ms);
    }
    walk.rows.samples.push(Sample { timestamp_ms: last_ms, value: 1.0 });
    walk.finish(&mark)
}
