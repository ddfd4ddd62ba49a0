//! Quantiles and fractions of histograms: native ones, and classic ones, where series that differ
//! in `le` only are the buckets of one histogram.

use hashbrown::HashMap;
use model::Labels;
use query::{Error, FloatHistogram};

use super::CallContext;
use crate::column::Column;
use crate::eval::keys::key_of;
use crate::frame::{Frame, Outcome, Series, Twins, mistyped};
use crate::histogram::{self, Quantile, go_g};
use crate::kernels::buckets::{self, Bucket};
use crate::plan::Grouping;

/// The label that holds a bucket's upper bound.
const BOUND: &str = "le";

/// The buckets of one classic histogram: indexes into the frame, with their bounds.
struct Family {
    labels: Labels,
    name: String,
    drop_name: bool,
    buckets: Vec<(f64, usize)>,
}

/// A series with native histograms: its index, and the classic one with the same labels.
struct Native {
    at: usize,
    twin: Option<usize>,
}

/// What is computed of each histogram at each step.
trait Measure {
    fn of_classic(&self, step: usize, name: &str, buckets: &mut Vec<Bucket>) -> Option<f64>;
    fn of_native(
        &self,
        step: usize,
        name: &str,
        h: &FloatHistogram,
        scratch: &mut Vec<query::Bucket>,
    ) -> Option<f64>;
}

/// `histogram_quantile(φ, v)`
pub(super) fn histogram_quantile(
    context: &CallContext,
    args: Vec<Outcome>,
) -> Result<Outcome, Error> {
    let [phi, frame] = <[Outcome; 2]>::try_from(args).map_err(|_| mistyped("two arguments"))?;
    let (phi, frame) = (phi.into_scalar()?, frame.into_frame()?);
    warn_about_phi(context, 0, &phi);
    let families = Families::new(context, &frame, 1);
    let quantiles = Quantiles { context, phi: &phi, only: None, args: (0, 1) };
    let series = families.measured(&quantiles, 1)?;
    finished(context, series)
}

/// `histogram_quantiles(v, label, φ…)`
pub(super) fn histogram_quantiles(
    context: &CallContext,
    args: Vec<Outcome>,
) -> Result<Outcome, Error> {
    let mut args = args.into_iter();
    let mut next = || args.next().ok_or_else(|| mistyped("more arguments"));
    let (frame, label) = (next()?.into_frame()?, next()?.into_text()?);
    if label.is_empty() {
        let text = "invalid label name in histogram_quantiles(): ".to_owned();
        return Err(Error::Execution(text));
    }
    let families = Families::new(context, &frame, 0);
    let mut out = Frame::default();
    for (at, phi) in args.enumerate() {
        let phi = phi.into_scalar()?;
        warn_about_phi(context, at + 2, &phi);
        // Mostly the same at all steps; each other value makes series of its own.
        let mut values: Vec<u64> = phi.iter().map(|phi| phi.to_bits()).collect();
        values.sort_unstable();
        values.dedup();
        for value in values {
            let quantiles = Quantiles { context, phi: &phi, only: Some(value), args: (at + 2, 0) };
            let found = families.measured(&quantiles, 0)?;
            out.reserved.absorb(found.reserved);
            let text = open_metrics_text(f64::from_bits(value));
            out.series.extend(found.series.into_iter().map(|series| Series {
                labels: series.labels.to_builder().set(&label, &text).build(),
                ..series
            }));
        }
    }
    finished(context, out)
}

/// `histogram_fraction(lower, upper, v)`
pub(super) fn histogram_fraction(
    context: &CallContext,
    args: Vec<Outcome>,
) -> Result<Outcome, Error> {
    let [lower, upper, frame] =
        <[Outcome; 3]>::try_from(args).map_err(|_| mistyped("three arguments"))?;
    let (lower, upper, frame) = (lower.into_scalar()?, upper.into_scalar()?, frame.into_frame()?);
    let families = Families::new(context, &frame, 2);
    let series = families.measured(&Fractions { context, lower, upper }, 2)?;
    finished(context, series)
}

fn finished(context: &CallContext, mut frame: Frame) -> Result<Outcome, Error> {
    frame.drop_names(context.late_names);
    if !context.late_names {
        frame.unify(Twins::Merged)?;
    }
    Ok(Outcome::Vector(frame))
}

fn warn_about_phi(context: &CallContext, arg: usize, phi: &[f64]) {
    if let Some(wrong) = phi.iter().find(|phi| !(0.0..=1.0).contains(*phi)) {
        let text = format!("quantile value should be between 0 and 1, got {}", go_g(*wrong));
        context.notes.warn(&text, context.arg_span(arg));
    }
}

/// A float as OpenMetrics writes it in labels: never like an integer.
fn open_metrics_text(value: f64) -> String {
    let mut text = go_g(value);
    if value.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    text
}

/// A text about a metric, if it has a name.
fn of_metric(text: &str, name: &str) -> String {
    if name.is_empty() { text.to_owned() } else { format!("{text} for metric name {name:?}") }
}

struct Quantiles<'a> {
    context: &'a CallContext,
    phi: &'a [f64],
    /// The bits of the only φ that counts.
    only: Option<u64>,
    /// Where φ and the vector stand.
    args: (usize, usize),
}

impl Quantiles<'_> {
    fn phi(&self, step: usize) -> Option<f64> {
        let phi = self.phi[step];
        self.only.is_none_or(|only| only == phi.to_bits()).then_some(phi)
    }
}

impl Measure for Quantiles<'_> {
    fn of_classic(&self, step: usize, name: &str, buckets: &mut Vec<Bucket>) -> Option<f64> {
        let found = buckets::quantile(self.phi(step)?, buckets);
        if found.lifted {
            let link = "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile";
            let text = format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see {link})"
            );
            let span = self.context.arg_span(self.args.1);
            self.context.notes.info(&of_metric(&text, name), span);
        }
        Some(found.value)
    }

    fn of_native(
        &self,
        step: usize,
        name: &str,
        h: &FloatHistogram,
        scratch: &mut Vec<query::Bucket>,
    ) -> Option<f64> {
        let (value, outcome) = match histogram::quantile(self.phi(step)?, h, scratch) {
            Quantile::Found(value) => return Some(value),
            Quantile::Skewed(value) => (value, "result is skewed higher"),
            Quantile::Lost => (f64::NAN, "result is NaN"),
        };
        let text = format!("input to histogram_quantile has NaN observations, {outcome}");
        let span = self.context.arg_span(self.args.0);
        self.context.notes.info(&of_metric(&text, name), span);
        Some(value)
    }
}

struct Fractions<'a> {
    context: &'a CallContext,
    lower: Vec<f64>,
    upper: Vec<f64>,
}

impl Measure for Fractions<'_> {
    fn of_classic(&self, step: usize, _: &str, buckets: &mut Vec<Bucket>) -> Option<f64> {
        Some(buckets::fraction(self.lower[step], self.upper[step], buckets))
    }

    fn of_native(
        &self,
        step: usize,
        name: &str,
        h: &FloatHistogram,
        scratch: &mut Vec<query::Bucket>,
    ) -> Option<f64> {
        let (lower, upper) = (self.lower[step], self.upper[step]);
        let value = histogram::fraction(lower, upper, h, scratch);
        if h.sum.is_nan() && h.count != 0.0 && lower < upper {
            let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
            self.context.notes.info(&of_metric(text, name), self.context.arg_span(0));
        }
        Some(value)
    }
}

/// The histograms of a vector.
struct Families<'a> {
    context: &'a CallContext,
    frame: &'a Frame,
    classic: Vec<Family>,
    native: Vec<Native>,
}

impl<'a> Families<'a> {
    fn new(context: &'a CallContext, frame: &'a Frame, vector_arg: usize) -> Self {
        let without_bound = Grouping::new(&[BOUND.to_owned()], true);
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut key = Vec::new();
        // Two metrics are two histograms, though their names are dropped later.
        let key_of_series = |series: &Series, key: &mut Vec<u8>| {
            key_of(&series.labels, &without_bound, key);
            key.extend_from_slice(series.labels.metric_name().as_bytes());
        };
        let mut classic: Vec<Family> = Vec::new();
        for (at, series) in frame.series.iter().enumerate() {
            if !series.column.present.any() {
                continue;
            }
            let bound = series.labels.get(BOUND).unwrap_or("");
            let Some(upper) = go_parse_float(bound) else {
                let text = format!(
                    "bucket label {BOUND:?} is missing or has a malformed value of {bound:?}"
                );
                let text = of_metric(&text, series.labels.metric_name());
                context.notes.warn(&text, context.arg_span(vector_arg));
                continue;
            };
            key_of_series(series, &mut key);
            let place = *places.entry_ref(key.as_slice()).or_insert_with(|| {
                classic.push(Family {
                    labels: series.labels.to_builder().remove(BOUND).build(),
                    name: series.labels.metric_name().to_owned(),
                    drop_name: series.drop_name,
                    buckets: Vec::new(),
                });
                classic.len() - 1
            });
            classic[place].buckets.push((upper, at));
        }
        let with_histograms = |(_, s): &(usize, &Series)| s.column.has_histograms();
        let native = frame.series.iter().enumerate().filter(with_histograms).map(|(at, series)| {
            key_of_series(series, &mut key);
            let same = places.get(key.as_slice()).copied();
            Native { at, twin: same.filter(|_| series.labels.get(BOUND).is_none()) }
        });
        let native = native.collect();
        Self { context, frame, classic, native }
    }

    /// The measure of each histogram, as series that still have their names. `vector_arg` is where
    /// the vector stands.
    fn measured(&self, measure: &impl Measure, vector_arg: usize) -> Result<Frame, Error> {
        let mut out = Frame::default();
        for native in &self.native {
            let series = &self.frame.series[native.at];
            let column = self.native_column(&mut out, native, measure, vector_arg)?;
            out.series.push(Series { column, ..named(series) });
        }
        for (place, family) in self.classic.iter().enumerate() {
            let column = self.classic_column(&mut out, place, measure)?;
            let (labels, drop_name) = (family.labels.clone(), family.drop_name);
            out.series.push(Series { labels, drop_name, column });
        }
        out.series.retain(|series| series.column.any());
        Ok(out)
    }

    fn native_column(
        &self,
        out: &mut Frame,
        native: &Native,
        measure: &impl Measure,
        vector_arg: usize,
    ) -> Result<Column, Error> {
        self.context.budget.check()?;
        let steps = self.context.grid.len;
        out.reserved.absorb(self.context.budget.reserve_columns(1, steps)?);
        let mut column = Column::empty(steps);
        let mut scratch = Vec::new();
        let series = &self.frame.series[native.at];
        let name = series.labels.metric_name();
        for step in 0..steps {
            let Some(h) = series.column.histogram(step) else { continue };
            if native.twin.is_some_and(|twin| self.has_buckets(twin, step)) {
                let text = "vector contains a mix of classic and native histograms";
                let span = self.context.arg_span(vector_arg);
                self.context.notes.warn(&of_metric(text, name), span);
            } else if let Some(value) = measure.of_native(step, name, h, &mut scratch) {
                column.set(step, value);
            }
        }
        Ok(column)
    }

    fn has_buckets(&self, family: usize, step: usize) -> bool {
        let buckets = &self.classic[family].buckets;
        buckets.iter().any(|(_, at)| self.frame.series[*at].column.get(step).is_some())
    }

    fn classic_column(
        &self,
        out: &mut Frame,
        place: usize,
        measure: &impl Measure,
    ) -> Result<Column, Error> {
        self.context.budget.check()?;
        let steps = self.context.grid.len;
        out.reserved.absorb(self.context.budget.reserve_columns(1, steps)?);
        let mut column = Column::empty(steps);
        let family = &self.classic[place];
        let twins: Vec<usize> =
            self.native.iter().filter(|n| n.twin == Some(place)).map(|n| n.at).collect();
        let mut present = Vec::new();
        for step in 0..steps {
            let is_native = |at: &usize| self.frame.series[*at].column.histogram(step).is_some();
            if twins.iter().any(is_native) {
                continue;
            }
            present.clear();
            let at_step = |(upper, at): &(f64, usize)| {
                let count = self.frame.series[*at].column.get(step)?;
                Some(Bucket { upper: *upper, count })
            };
            present.extend(family.buckets.iter().filter_map(at_step));
            if present.is_empty() {
                continue;
            }
            if let Some(value) = measure.of_classic(step, &family.name, &mut present) {
                column.set(step, value);
            }
        }
        Ok(column)
    }
}

/// A series of the same name and labels, still empty.
fn named(series: &Series) -> Series {
    let (labels, drop_name) = (series.labels.clone(), series.drop_name);
    Series { labels, drop_name, column: Column::empty(0) }
}

/// A float as Go's `strconv.ParseFloat` reads it, as far as bounds go.
fn go_parse_float(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_floats() {
        for (text, value) in
            [("+Inf", Some(f64::INFINITY)), ("1e3", Some(1000.0)), ("", None), ("x", None)]
        {
            assert_eq!(go_parse_float(text), value, "{text}");
        }
        let texts = [0.0, 1.0, -0.1, 0.99, f64::NAN, f64::INFINITY].map(open_metrics_text);
        assert_eq!(texts, ["0.0", "1.0", "-0.1", "0.99", "NaN", "+Inf"]);
    }
}
