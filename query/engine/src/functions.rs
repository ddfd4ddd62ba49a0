//! The language's functions: one line each in [`LIST`], families in a file each. Those that the
//! planner resolves by itself (`time`, `absent`, …) are in `plan/lower.rs`.

use std::f64::consts::PI;
use std::sync::Arc;

use query::Error;
use query::promql::Span;

use crate::budget::Budget;
use crate::frame::Outcome;
use crate::grid::Grid;
use crate::kernels::over_time::{self, Kernel, Params};
use crate::kernels::rate::Rate;
use crate::notes::Notes;

mod convert;
mod date;
mod histogram_values;
mod histograms;
mod labels;
mod math;
mod sorting;

pub(crate) use sorting::nan_last;

/// A function of one float and numbers beside it; `None` removes the point.
pub(crate) type MapFunction = fn(f64, Params<'_>) -> Option<f64>;

/// A function of a point in time, in seconds since the epoch.
pub(crate) type DateFunction = fn(f64) -> f64;

/// A function of whole vectors, numbers and texts.
pub(crate) type FrameFunction = fn(&CallContext, Vec<Outcome>) -> Result<Outcome, Error>;

/// A function of the samples before each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RangeFunction {
    pub(crate) kernel: RangeKernel,
    /// Whether the result is still what the metric's name says.
    pub(crate) keeps_name: bool,
    /// Whether it only makes sense for counters.
    pub(crate) of_counter: bool,
}

/// How a function of a range works, by what it needs of the samples.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RangeKernel {
    /// Floats only; histograms beside them are left out, as Prometheus does.
    Floats(Kernel),
    /// Floats, or histograms, or both.
    Either(Kernel, OfHistograms),
    /// Extrapolated differences.
    Rate(Rate),
    /// Needs no values.
    Count,
    Present,
    /// One sample of either kind, or its time.
    First,
    Last,
    TimeOfFirst,
    TimeOfLast,
}

/// What a function that takes floats does with histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfHistograms {
    Avg,
    Changes,
    Idelta,
    Irate,
    Resets,
    Sum,
}

impl PartialEq for RangeKernel {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What a function is made of.
#[derive(Debug)]
pub(crate) enum Implementation {
    Number(f64),
    Map(MapFunction),
    Date(DateFunction),
    Range(RangeFunction),
    Frame(FrameFunction),
}

/// Where a function is called.
#[derive(Debug, Clone)]
pub(crate) struct CallContext {
    pub(crate) grid: Grid,
    /// Names are dropped at the end of the evaluation, not at once.
    pub(crate) late_names: bool,
    /// Whether the question is about one instant, so that order means something.
    pub(crate) instant: bool,
    pub(crate) notes: Arc<Notes>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) name: &'static str,
    pub(crate) arg_spans: Vec<Span>,
}

impl CallContext {
    pub(crate) fn arg_span(&self, arg: usize) -> Span {
        self.arg_spans.get(arg).copied().unwrap_or_default()
    }
}

const fn range(kernel: RangeKernel) -> Implementation {
    Implementation::Range(RangeFunction { kernel, keeps_name: false, of_counter: false })
}

const fn floats(kernel: Kernel) -> Implementation {
    range(RangeKernel::Floats(kernel))
}

const fn either(kernel: Kernel, of_histograms: OfHistograms) -> Implementation {
    range(RangeKernel::Either(kernel, of_histograms))
}

const fn keeping_name(kernel: RangeKernel) -> Implementation {
    Implementation::Range(RangeFunction { kernel, keeps_name: true, of_counter: false })
}

const fn of_counter(rate: Rate) -> Implementation {
    Implementation::Range(RangeFunction {
        kernel: RangeKernel::Rate(rate),
        keeps_name: false,
        of_counter: true,
    })
}

/// `present_over_time`, which `absent_over_time` turns around.
pub(crate) const PRESENT: RangeFunction =
    RangeFunction { kernel: RangeKernel::Present, keeps_name: false, of_counter: false };

/// `timestamp` and `start_timestamp` of anything but a selector.
pub(crate) const TIMESTAMP: FrameFunction = convert::timestamp;
pub(crate) const START_TIMESTAMP: FrameFunction = convert::start_timestamp;

/// The implementation of a function, if there is one.
pub(crate) fn find(name: &str) -> Option<&'static Implementation> {
    LIST.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|at| &LIST[at].1)
}

/// By name.
const LIST: &[(&str, Implementation)] = &[
    ("abs", Implementation::Map(math::abs)),
    ("acos", Implementation::Map(math::acos)),
    ("acosh", Implementation::Map(math::acosh)),
    ("asin", Implementation::Map(math::asin)),
    ("asinh", Implementation::Map(math::asinh)),
    ("atan", Implementation::Map(math::atan)),
    ("atanh", Implementation::Map(math::atanh)),
    ("avg_over_time", either(over_time::avg, OfHistograms::Avg)),
    ("ceil", Implementation::Map(math::ceil)),
    ("changes", either(over_time::changes, OfHistograms::Changes)),
    ("clamp", Implementation::Map(math::clamp)),
    ("clamp_max", Implementation::Map(math::clamp_max)),
    ("clamp_min", Implementation::Map(math::clamp_min)),
    ("cos", Implementation::Map(math::cos)),
    ("cosh", Implementation::Map(math::cosh)),
    ("count_over_time", range(RangeKernel::Count)),
    ("day_of_month", Implementation::Date(date::day_of_month)),
    ("day_of_week", Implementation::Date(date::day_of_week)),
    ("day_of_year", Implementation::Date(date::day_of_year)),
    ("days_in_month", Implementation::Date(date::days_in_month)),
    ("deg", Implementation::Map(math::deg)),
    ("delta", range(RangeKernel::Rate(Rate::Delta))),
    ("deriv", floats(over_time::deriv)),
    ("double_exponential_smoothing", floats(over_time::smoothed)),
    ("exp", Implementation::Map(math::exp)),
    ("first_over_time", keeping_name(RangeKernel::First)),
    ("floor", Implementation::Map(math::floor)),
    ("histogram_avg", Implementation::Frame(histogram_values::histogram_avg)),
    ("histogram_count", Implementation::Frame(histogram_values::histogram_count)),
    ("histogram_fraction", Implementation::Frame(histograms::histogram_fraction)),
    ("histogram_quantile", Implementation::Frame(histograms::histogram_quantile)),
    ("histogram_quantiles", Implementation::Frame(histograms::histogram_quantiles)),
    ("histogram_stddev", Implementation::Frame(histogram_values::histogram_stddev)),
    ("histogram_stdvar", Implementation::Frame(histogram_values::histogram_stdvar)),
    ("histogram_sum", Implementation::Frame(histogram_values::histogram_sum)),
    ("hour", Implementation::Date(date::hour)),
    ("idelta", either(over_time::idelta, OfHistograms::Idelta)),
    ("increase", of_counter(Rate::Increase)),
    ("irate", either(over_time::irate, OfHistograms::Irate)),
    ("label_join", Implementation::Frame(labels::label_join)),
    ("label_replace", Implementation::Frame(labels::label_replace)),
    ("last_over_time", keeping_name(RangeKernel::Last)),
    ("ln", Implementation::Map(math::ln)),
    ("log10", Implementation::Map(math::log10)),
    ("log2", Implementation::Map(math::log2)),
    ("mad_over_time", floats(over_time::mad)),
    ("max_of", Implementation::Frame(convert::max_of)),
    ("max_over_time", floats(over_time::max)),
    ("min_of", Implementation::Frame(convert::min_of)),
    ("min_over_time", floats(over_time::min)),
    ("minute", Implementation::Date(date::minute)),
    ("month", Implementation::Date(date::month)),
    ("pi", Implementation::Number(PI)),
    ("predict_linear", floats(over_time::predict_linear)),
    ("present_over_time", range(RangeKernel::Present)),
    ("quantile_over_time", floats(over_time::quantile_of)),
    ("rad", Implementation::Map(math::rad)),
    ("rate", of_counter(Rate::PerSecond)),
    ("resets", either(over_time::resets, OfHistograms::Resets)),
    ("round", Implementation::Map(math::round)),
    ("scalar", Implementation::Frame(convert::scalar)),
    ("sgn", Implementation::Map(math::sgn)),
    ("sin", Implementation::Map(math::sin)),
    ("sinh", Implementation::Map(math::sinh)),
    ("sort", Implementation::Frame(sorting::sort)),
    ("sort_by_label", Implementation::Frame(sorting::sort_by_label)),
    ("sort_by_label_desc", Implementation::Frame(sorting::sort_by_label_desc)),
    ("sort_desc", Implementation::Frame(sorting::sort_desc)),
    ("sqrt", Implementation::Map(math::sqrt)),
    ("stddev_over_time", floats(over_time::stddev)),
    ("stdvar_over_time", floats(over_time::stdvar)),
    ("sum_over_time", either(over_time::sum, OfHistograms::Sum)),
    ("tan", Implementation::Map(math::tan)),
    ("tanh", Implementation::Map(math::tanh)),
    ("ts_of_first_over_time", range(RangeKernel::TimeOfFirst)),
    ("ts_of_last_over_time", range(RangeKernel::TimeOfLast)),
    ("ts_of_max_over_time", floats(over_time::ts_of_max)),
    ("ts_of_min_over_time", floats(over_time::ts_of_min)),
    ("vector", Implementation::Frame(convert::vector)),
    ("year", Implementation::Date(date::year)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order() {
        assert!(LIST.is_sorted_by(|a, b| a.0 < b.0));
        assert!(find("rate").is_some() && find("nope").is_none());
    }

    #[test]
    fn every_function_of_the_language_is_here_or_in_the_planner() {
        const PLANNED: &[&str] = &[
            "absent",
            "absent_over_time",
            "end",
            "info",
            "range",
            "start",
            "start_timestamp",
            "step",
            "time",
            "timestamp",
        ];
        for function in query::promql::FUNCTIONS {
            let elsewhere = PLANNED.contains(&function.name);
            assert!(find(function.name).is_some() != elsewhere, "{}", function.name);
        }
    }
}
