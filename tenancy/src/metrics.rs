//! What this crate counts about itself.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Refusal;
use crate::refusal::REASONS;

/// Counters of authentication. No label names a tenant or a token: both can be many.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    refused: [AtomicU64; REASONS.len()],
}

impl Metrics {
    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.refused[refusal.reason()].fetch_add(1, Ordering::Relaxed);
    }

    /// Appends everything in Prometheus' text format.
    pub(crate) fn write(&self, tenants: usize, out: &mut String) {
        let name = "taffrail_tenancy_refused_requests_total";
        let mut line = |text: std::fmt::Arguments<'_>| {
            writeln!(out, "{text}").expect("writing to a string cannot fail");
        };
        line(format_args!(
            "# HELP {name} Requests that were turned away before they touched a row, by reason."
        ));
        line(format_args!("# TYPE {name} counter"));
        for (reason, count) in REASONS.iter().zip(&self.refused) {
            line(format_args!("{name}{{reason=\"{reason}\"}} {}", count.load(Ordering::Relaxed)));
        }
        let name = "taffrail_tenancy_tenants";
        line(format_args!("# HELP {name} Tenants that exist, suspended ones included."));
        line(format_args!("# TYPE {name} gauge"));
        line(format_args!("{name} {tenants}"));
    }
}
