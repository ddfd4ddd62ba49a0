//! `histogram_quantile` and `histogram_fraction` on classic histograms: series that differ in `le`
//! only are the buckets of one histogram.

use hashbrown::HashMap;
use model::Labels;
use query::Error;

use super::CallContext;
use crate::column::Column;
use crate::eval::keys::key_of;
use crate::frame::{Frame, Outcome, Series, Twins, mistyped};
use crate::kernels::buckets::{self, Bucket};
use crate::plan::Grouping;

/// The label that holds a bucket's upper bound.
const BOUND: &str = "le";

/// The buckets of one histogram: indexes into the frame, with their bounds.
struct Family {
    labels: Labels,
    name: String,
    drop_name: bool,
    buckets: Vec<(f64, usize)>,
}

/// `histogram_quantile(φ, v)`
pub(super) fn histogram_quantile(
    context: &CallContext,
    args: Vec<Outcome>,
) -> Result<Outcome, Error> {
    let [phi, frame] = <[Outcome; 2]>::try_from(args).map_err(|_| mistyped("two arguments"))?;
    let (phi, frame) = (phi.into_scalar()?, frame.into_frame()?);
    if let Some(wrong) = phi.iter().find(|phi| !(0.0..=1.0).contains(*phi)) {
        let text = format!("quantile value should be between 0 and 1, got {}", go_float(*wrong));
        context.notes.warn(&text, context.arg_span(0));
    }
    let of_step = |step: usize, family: &Family, buckets: &mut Vec<Bucket>| {
        let found = buckets::quantile(phi[step], buckets);
        if found.lifted {
            let link = "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile";
            let text = format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see {link})"
            );
            context
                .notes
                .info(&format!("{text} for metric name {:?}", family.name), context.arg_span(1));
        }
        found.value
    };
    per_family(context, frame, 1, of_step)
}

/// `histogram_fraction(lower, upper, v)`
pub(super) fn histogram_fraction(
    context: &CallContext,
    args: Vec<Outcome>,
) -> Result<Outcome, Error> {
    let [lower, upper, frame] =
        <[Outcome; 3]>::try_from(args).map_err(|_| mistyped("three arguments"))?;
    let (lower, upper, frame) = (lower.into_scalar()?, upper.into_scalar()?, frame.into_frame()?);
    let of_step = |step: usize, _: &Family, buckets: &mut Vec<Bucket>| {
        buckets::fraction(lower[step], upper[step], buckets)
    };
    per_family(context, frame, 2, of_step)
}

fn per_family(
    context: &CallContext,
    frame: Frame,
    vector_arg: usize,
    of_step: impl Fn(usize, &Family, &mut Vec<Bucket>) -> f64,
) -> Result<Outcome, Error> {
    if frame.series.iter().any(|s| s.column.has_histograms()) {
        let text = format!("not supported yet: native histograms in {}()", context.name);
        return Err(Error::Execution(text));
    }
    let mut out = Frame::default();
    let mut present = Vec::new();
    for family in families(context, &frame, vector_arg) {
        context.budget.check()?;
        out.reserved.absorb(context.budget.reserve_columns(1, context.grid.len)?);
        let mut column = Column::empty(context.grid.len);
        for step in 0..context.grid.len {
            present.clear();
            let at_step = |(upper, at): &(f64, usize)| {
                frame.series[*at].column.get(step).map(|count| Bucket { upper: *upper, count })
            };
            present.extend(family.buckets.iter().filter_map(at_step));
            if !present.is_empty() {
                column.set(step, of_step(step, &family, &mut present));
            }
        }
        if column.any() {
            let mut series = Series { labels: family.labels, drop_name: family.drop_name, column };
            series.drop_name_of(context.late_names);
            out.series.push(series);
        }
    }
    if !context.late_names {
        out.unify(Twins::Merged)?;
    }
    Ok(Outcome::Vector(out))
}

fn families(context: &CallContext, frame: &Frame, vector_arg: usize) -> Vec<Family> {
    let without_bound = Grouping::new(&[BOUND.to_owned()], true);
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut families: Vec<Family> = Vec::new();
    let mut key = Vec::new();
    for (at, series) in frame.series.iter().enumerate() {
        if !series.column.present.any() {
            continue;
        }
        let bound = series.labels.get(BOUND).unwrap_or("");
        let Some(upper) = go_parse_float(bound) else {
            let name = series.labels.metric_name();
            let text =
                format!("bucket label {BOUND:?} is missing or has a malformed value of {bound:?}");
            let text =
                if name.is_empty() { text } else { format!("{text} for metric name {name:?}") };
            context.notes.warn(&text, context.arg_span(vector_arg));
            continue;
        };
        // Two metrics are two histograms, though their names are dropped later.
        key_of(&series.labels, &without_bound, &mut key);
        key.extend_from_slice(series.labels.metric_name().as_bytes());
        let place = *places.entry_ref(key.as_slice()).or_insert_with(|| {
            families.push(Family {
                labels: series.labels.to_builder().remove(BOUND).build(),
                name: series.labels.metric_name().to_owned(),
                drop_name: series.drop_name,
                buckets: Vec::new(),
            });
            families.len() - 1
        });
        families[place].buckets.push((upper, at));
    }
    families
}

/// A float as Go's `strconv.ParseFloat` reads it, as far as bounds go.
fn go_parse_float(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// A float as Go's `%g` prints it in notes.
pub(crate) fn go_float(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v if v != 0.0 && !(1e-4..1e21).contains(&v.abs()) => format!("{v:e}"),
        v => v.to_string(),
    }
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
        assert_eq!([go_float(1.5), go_float(-2.0), go_float(f64::NAN)], ["1.5", "-2", "NaN"]);
    }
}
