//! Arithmetic on plain slices: windows, sums, rates, quantiles. Nothing here knows labels, plans
//! or threads. Each result equals Prometheus' to the last bit, so the order of additions is
//! Prometheus' order.

pub(crate) mod aggregate;
pub(crate) mod buckets;
pub(crate) mod extended;
pub(crate) mod extended_histograms;
pub(crate) mod histograms;
pub(crate) mod over_time;
pub(crate) mod quantile;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod select;
pub(crate) mod sums;
pub(crate) mod window;
