//! Between numbers and vectors.

use query::Error;

use super::CallContext;
use super::math::{larger, smaller};
use crate::column::Column;
use crate::frame::{Frame, Outcome, mistyped};

/// The only float of a vector, or NaN.
pub(super) fn scalar(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    let frame = only(args)?.into_frame()?;
    let mut found = vec![0u8; context.grid.len];
    let mut values = vec![f64::NAN; context.grid.len];
    for series in &frame.series {
        for step in series.column.present.ones() {
            found[step] = found[step].saturating_add(1);
            values[step] = series.column.values[step];
        }
    }
    for (value, _) in values.iter_mut().zip(&found).filter(|(_, found)| **found != 1) {
        *value = f64::NAN;
    }
    Ok(Outcome::Scalar(values))
}

/// A number as a vector of one series without labels.
pub(super) fn vector(_: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    Ok(Outcome::Vector(Frame::single(Column::full(only(args)?.into_scalar()?))))
}

/// When a point was computed. (For a selector the planner takes the samples' own times.)
pub(super) fn timestamp(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    let mut frame = only(args)?.into_frame()?;
    for series in &mut frame.series {
        let mut column = Column::empty(context.grid.len);
        for step in series.column.occupied().ones() {
            column.set(step, context.grid.at(step) as f64 / 1000.0);
        }
        series.column = column;
    }
    frame.drop_names(context.late_names);
    Ok(Outcome::Vector(frame))
}

/// Only stored samples have a start.
pub(super) fn start_timestamp(_: &CallContext, _: Vec<Outcome>) -> Result<Outcome, Error> {
    Ok(Outcome::Vector(Frame::default()))
}

pub(super) fn max_of(_: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    of_two(args, larger)
}

pub(super) fn min_of(_: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    of_two(args, smaller)
}

fn of_two(args: Vec<Outcome>, choose: fn(f64, f64) -> f64) -> Result<Outcome, Error> {
    let [a, b] = <[Outcome; 2]>::try_from(args).map_err(|_| mistyped("two scalars"))?;
    let (a, b) = (a.into_scalar()?, b.into_scalar()?);
    Ok(Outcome::Scalar(a.into_iter().zip(b).map(|(a, b)| choose(a, b)).collect()))
}

pub(super) fn only(args: Vec<Outcome>) -> Result<Outcome, Error> {
    args.into_iter().next().ok_or_else(|| mistyped("an argument"))
}
