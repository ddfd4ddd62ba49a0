//! Functions that order a vector. In a range query the order of points at one step has no meaning,
//! so they leave it as it is.

use std::cmp::Ordering;

use query::Error;

use super::CallContext;
use super::convert::only;
use crate::frame::{Frame, Outcome, Series, mistyped};

pub(super) fn sort(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    by_value(context, args, |a, b| a.partial_cmp(&b).unwrap_or(Ordering::Equal))
}

pub(super) fn sort_desc(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    by_value(context, args, |a, b| b.partial_cmp(&a).unwrap_or(Ordering::Equal))
}

fn by_value(
    context: &CallContext,
    args: Vec<Outcome>,
    order: fn(f64, f64) -> Ordering,
) -> Result<Outcome, Error> {
    let mut frame = only(args)?.into_frame()?;
    // Histograms have no order among floats, and are left out.
    for series in &mut frame.series {
        series.column.histograms = None;
    }
    frame.series.retain(|s| s.column.any());
    if context.instant {
        let value = |s: &Series| s.column.get(0).unwrap_or(f64::NAN);
        frame.series.sort_by(|a, b| nan_last(value(a), value(b), order));
        frame.ordered = true;
    } else {
        warn_about_range(context);
    }
    Ok(Outcome::Vector(frame))
}

fn warn_about_range(context: &CallContext) {
    let text = format!(
        "{} is ineffective for range queries since results are always ordered by labels",
        context.name
    );
    context.notes.warn(&text, context.arg_span(0));
}

/// NaN comes last in either direction.
pub(crate) fn nan_last(a: f64, b: f64, order: fn(f64, f64) -> Ordering) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| if a.is_nan() { Ordering::Equal } else { order(a, b) })
}

pub(super) fn sort_by_label(context: &CallContext, args: Vec<Outcome>) -> Result<Outcome, Error> {
    by_label(context, args, |a, b| a.cmp_by(b, Direction::Up))
}

pub(super) fn sort_by_label_desc(
    context: &CallContext,
    args: Vec<Outcome>,
) -> Result<Outcome, Error> {
    by_label(context, args, |a, b| a.cmp_by(b, Direction::Down))
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

/// The values of the labels to sort by, and the whole set for a tie.
struct Key<'a> {
    values: Vec<&'a str>,
    series: &'a Series,
}

impl Key<'_> {
    fn cmp_by(&self, other: &Self, direction: Direction) -> Ordering {
        let pairs = self.values.iter().zip(&other.values);
        let by_values = pairs.map(|(a, b)| natural(a, b)).find(|o| o.is_ne());
        let up = by_values.unwrap_or_else(|| self.series.labels.cmp(&other.series.labels));
        match direction {
            Direction::Up => up,
            Direction::Down => up.reverse(),
        }
    }
}

fn by_label(
    context: &CallContext,
    args: Vec<Outcome>,
    order: fn(&Key<'_>, &Key<'_>) -> Ordering,
) -> Result<Outcome, Error> {
    let mut args = args.into_iter();
    let frame = args.next().ok_or_else(|| mistyped("an argument"))?.into_frame()?;
    let names = args.map(Outcome::into_text).collect::<Result<Vec<_>, _>>()?;
    if !context.instant {
        warn_about_range(context);
        return Ok(Outcome::Vector(frame));
    }
    let Frame { series, reserved, label_bytes, .. } = frame;
    let key = |series| Key { values: names.iter().map(|n| label(series, n)).collect(), series };
    let mut keys: Vec<(usize, Key<'_>)> = series.iter().map(key).enumerate().collect();
    keys.sort_by(|(_, a), (_, b)| order(a, b));
    let places: Vec<usize> = keys.iter().map(|(at, _)| *at).collect();
    drop(keys);
    let mut series: Vec<Option<Series>> = series.into_iter().map(Some).collect();
    let series = places.into_iter().filter_map(|at| series[at].take()).collect();
    Ok(Outcome::Vector(Frame { series, ordered: true, reserved, label_bytes }))
}

fn label<'a>(series: &'a Series, name: &str) -> &'a str {
    series.labels.get(name).unwrap_or("")
}

/// As people sort: runs of digits by their number.
fn natural(mut a: &str, mut b: &str) -> Ordering {
    loop {
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let (run_a, rest_a) = run(a);
        let (run_b, rest_b) = run(b);
        let order = match (is_number(run_a), is_number(run_b)) {
            (true, true) => by_number(run_a, run_b),
            _ => run_a.cmp(run_b),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// The first run of digits, or of anything else.
fn run(text: &str) -> (&str, &str) {
    let digits = is_number(text);
    let end = text.bytes().position(|b| b.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

fn is_number(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

fn by_number(a: &str, b: &str) -> Ordering {
    let (short_a, short_b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    (short_a.len(), short_a).cmp(&(short_b.len(), short_b)).then_with(|| a.len().cmp(&b.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_count() {
        let sorted = ["", "1", "2", "10", "a", "a1", "a2b", "a10", "a10b", "b"];
        assert!(sorted.windows(2).all(|pair| natural(pair[0], pair[1]).is_lt()));
        assert!(natural("a01", "a1").is_gt());
    }
}
