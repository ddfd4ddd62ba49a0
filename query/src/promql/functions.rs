//! The language's functions: one line each.

use std::fmt;

use super::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// A function of the language.
pub struct Function {
    /// What it is called.
    pub name: &'static str,
    /// The arguments' types; the last one also stands for those that follow it.
    pub args: &'static [ValueType],
    /// Whether there may be fewer or more.
    pub variadic: Variadic,
    /// What it gives.
    pub returns: ValueType,
    /// Whether it must be switched on, by [`super::Features`].
    pub experimental: bool,
}

/// Whether a call may have fewer or more arguments than the list of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variadic {
    /// As many as types.
    No,
    /// The last type's argument may be left out, or stand up to so many times.
    UpTo(u8),
    /// The last type's argument may be left out, or stand any number of times.
    Any,
}

/// The function of that name.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const fn stable(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, args, variadic: Variadic::No, returns, experimental: false }
}

const fn new(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { experimental: true, ..stable(name, args, returns) }
}

impl Function {
    const fn up_to(self, more: u8) -> Self {
        Self { variadic: Variadic::UpTo(more), ..self }
    }

    const fn any(self) -> Self {
        Self { variadic: Variadic::Any, ..self }
    }
}

/// All functions of Prometheus 3.14, by name.
pub const FUNCTIONS: &[Function] = &[
    stable("abs", &[Vector], Vector),
    stable("absent", &[Vector], Vector),
    stable("absent_over_time", &[Matrix], Vector),
    stable("acos", &[Vector], Vector),
    stable("acosh", &[Vector], Vector),
    stable("asin", &[Vector], Vector),
    stable("asinh", &[Vector], Vector),
    stable("atan", &[Vector], Vector),
    stable("atanh", &[Vector], Vector),
    stable("avg_over_time", &[Matrix], Vector),
    stable("ceil", &[Vector], Vector),
    stable("changes", &[Matrix], Vector),
    stable("clamp", &[Vector, Scalar, Scalar], Vector),
    stable("clamp_max", &[Vector, Scalar], Vector),
    stable("clamp_min", &[Vector, Scalar], Vector),
    stable("cos", &[Vector], Vector),
    stable("cosh", &[Vector], Vector),
    stable("count_over_time", &[Matrix], Vector),
    stable("day_of_month", &[Vector], Vector).up_to(1),
    stable("day_of_week", &[Vector], Vector).up_to(1),
    stable("day_of_year", &[Vector], Vector).up_to(1),
    stable("days_in_month", &[Vector], Vector).up_to(1),
    stable("deg", &[Vector], Vector),
    stable("delta", &[Matrix], Vector),
    stable("deriv", &[Matrix], Vector),
    new("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Vector),
    new("end", &[], Scalar),
    stable("exp", &[Vector], Vector),
    stable("first_over_time", &[Matrix], Vector),
    stable("floor", &[Vector], Vector),
    stable("histogram_avg", &[Vector], Vector),
    stable("histogram_count", &[Vector], Vector),
    stable("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    stable("histogram_quantile", &[Scalar, Vector], Vector),
    new("histogram_quantiles", &[Vector, String, Scalar, Scalar], Vector).up_to(9),
    stable("histogram_stddev", &[Vector], Vector),
    stable("histogram_stdvar", &[Vector], Vector),
    stable("histogram_sum", &[Vector], Vector),
    stable("hour", &[Vector], Vector).up_to(1),
    stable("idelta", &[Matrix], Vector),
    stable("increase", &[Matrix], Vector),
    new("info", &[Vector, Vector], Vector).up_to(1),
    stable("irate", &[Matrix], Vector),
    stable("label_join", &[Vector, String, String, String], Vector).any(),
    stable("label_replace", &[Vector, String, String, String, String], Vector),
    stable("last_over_time", &[Matrix], Vector),
    stable("ln", &[Vector], Vector),
    stable("log10", &[Vector], Vector),
    stable("log2", &[Vector], Vector),
    new("mad_over_time", &[Matrix], Vector),
    new("max_of", &[Scalar, Scalar], Scalar),
    stable("max_over_time", &[Matrix], Vector),
    new("min_of", &[Scalar, Scalar], Scalar),
    stable("min_over_time", &[Matrix], Vector),
    stable("minute", &[Vector], Vector).up_to(1),
    stable("month", &[Vector], Vector).up_to(1),
    stable("pi", &[], Scalar),
    stable("predict_linear", &[Matrix, Scalar], Vector),
    stable("present_over_time", &[Matrix], Vector),
    stable("quantile_over_time", &[Scalar, Matrix], Vector),
    stable("rad", &[Vector], Vector),
    new("range", &[], Scalar),
    stable("rate", &[Matrix], Vector),
    stable("resets", &[Matrix], Vector),
    stable("round", &[Vector, Scalar], Vector).up_to(1),
    stable("scalar", &[Vector], Scalar),
    stable("sgn", &[Vector], Vector),
    stable("sin", &[Vector], Vector),
    stable("sinh", &[Vector], Vector),
    stable("sort", &[Vector], Vector),
    new("sort_by_label", &[Vector, String], Vector).any(),
    new("sort_by_label_desc", &[Vector, String], Vector).any(),
    stable("sort_desc", &[Vector], Vector),
    stable("sqrt", &[Vector], Vector),
    new("start", &[], Scalar),
    new("start_timestamp", &[Vector], Vector),
    stable("stddev_over_time", &[Matrix], Vector),
    stable("stdvar_over_time", &[Matrix], Vector),
    new("step", &[], Scalar),
    stable("sum_over_time", &[Matrix], Vector),
    stable("tan", &[Vector], Vector),
    stable("tanh", &[Vector], Vector),
    stable("time", &[], Scalar),
    stable("timestamp", &[Vector], Vector),
    new("ts_of_first_over_time", &[Matrix], Vector),
    new("ts_of_last_over_time", &[Matrix], Vector),
    new("ts_of_max_over_time", &[Matrix], Vector),
    new("ts_of_min_over_time", &[Matrix], Vector),
    stable("vector", &[Scalar], Vector),
    stable("year", &[Vector], Vector).up_to(1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_searched() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        for listed in FUNCTIONS {
            assert_eq!(function(listed.name), Some(listed));
            assert!(listed.variadic == Variadic::No || !listed.args.is_empty(), "{listed:?}");
        }
        assert_eq!(function("nothing"), None);
    }

    /// As its documentation says of Prometheus 3.14.
    #[test]
    fn what_is_experimental() {
        let names: Vec<&str> =
            FUNCTIONS.iter().filter(|f| f.experimental).map(|f| f.name).collect();
        assert_eq!(
            names.join(" "),
            "double_exponential_smoothing end histogram_quantiles info mad_over_time max_of min_of range \
             sort_by_label sort_by_label_desc start start_timestamp step ts_of_first_over_time \
             ts_of_last_over_time ts_of_max_over_time ts_of_min_over_time"
        );
        assert_eq!(FUNCTIONS.len(), 90, "as many as Prometheus has");
    }
}
