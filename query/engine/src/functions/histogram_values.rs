//! Numbers that single native histograms give. Floats among them are left out.

use query::{Bucket, Error, FloatHistogram};

use super::CallContext;
use super::convert::only;
use crate::column::Column;
use crate::frame::{Outcome, Twins};
use crate::histogram::variance;

type Number = fn(&FloatHistogram, &mut Vec<Bucket>) -> f64;

pub(super) fn histogram_avg(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    each(context, args, |h, _| h.sum / h.count)
}

pub(super) fn histogram_count(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    each(context, args, |h, _| h.count)
}

pub(super) fn histogram_sum(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    each(context, args, |h, _| h.sum)
}

pub(super) fn histogram_stddev(
    context: &CallContext,
    args: Vec<Outcome>,
) -> Result<Outcome, Error> {
    each(context, args, |h, scratch| variance(h, scratch).sqrt())
}

pub(super) fn histogram_stdvar(
    context: &CallContext,
    args: Vec<Outcome>,
) -> Result<Outcome, Error> {
    each(context, args, variance)
}

fn each(context: &CallContext, args: Vec<Outcome>, number: Number) -> Result<Outcome, Error> {
    let mut frame = only(args)?.into_frame()?;
    let mut scratch = Vec::new();
    for series in &mut frame.series {
        context.budget.check()?;
        let Some(histograms) = series.column.histograms.take() else {
            series.column = Column::empty(0);
            continue;
        };
        series.column.present = crate::column::Bitmap::none(series.column.len());
        for (step, h) in histograms.iter().enumerate() {
            if let Some(h) = h {
                series.column.set(step, number(h, &mut scratch));
            }
        }
    }
    frame.series.retain(|series| series.column.any());
    frame.drop_names(context.late_names);
    if !context.late_names {
        frame.unify(Twins::Merged)?;
    }
    Ok(Outcome::Vector(frame))
}
