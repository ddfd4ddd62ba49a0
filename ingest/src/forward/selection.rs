//! Which rows go to a destination, and under which labels. Decided where rows come in, so that a
//! queue holds nothing that nobody wants; what was decided of a series is remembered.

use std::sync::Arc;

use hashbrown::HashMap;
use model::{Labels, Metadata};
use parking_lot::Mutex;
use storage::{MetricRows, SeriesRows};
use tenancy::TenantName;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::config::Destination;
use super::record::{Counts, Payload, Writer, histograms_of, samples_of};
use crate::relabel::{self, Rule};

/// Series whose fate is remembered, and bytes of the labels they are sent under. Beyond either all
/// is forgotten.
const DECISIONS_MAX: usize = 128 << 10;
const LABEL_BYTES_MAX: usize = 32 << 20;

/// Which rows are forwarded.
#[derive(Debug)]
pub(super) struct Selection {
    /// Empty: those of all tenants.
    tenants: Vec<TenantName>,
    /// Labels of series that do not have them.
    external: Vec<(String, String)>,
    rules: Vec<Rule>,
    exemplars: bool,
    histograms: bool,
    metadata: bool,
    /// So that nobody can make up series that share a place.
    seed: u64,
    decisions: Mutex<Decisions>,
}

#[derive(Debug, Default)]
struct Decisions {
    known: HashMap<u128, Decision>,
    label_bytes: usize,
}

#[derive(Debug, Clone)]
enum Decision {
    Dropped,
    AsItIs,
    /// Under these labels, encoded.
    As(Arc<[u8]>),
}

/// What of a request goes to a destination.
#[derive(Debug, Default)]
pub(super) struct Selected {
    pub(super) payloads: Vec<Payload>,
    /// The newest of the rows, milliseconds.
    pub(super) newest_ms: Option<i64>,
    /// Rows that the rules left out.
    pub(super) dropped: Counts,
}

impl Selection {
    pub(super) fn new(destination: &Destination, seed: u64) -> Self {
        Self {
            tenants: destination.tenants.clone(),
            external: destination.external_labels.clone(),
            rules: destination.relabel.clone(),
            exemplars: destination.exemplars,
            histograms: destination.histograms,
            metadata: destination.metadata_ms.is_some(),
            seed,
            decisions: Mutex::default(),
        }
    }

    /// Whether anything of a tenant is wanted.
    pub(super) fn wants(&self, tenant: &TenantName) -> bool {
        self.tenants.is_empty() || self.tenants.contains(tenant)
    }

    /// The rows that are wanted, as records hold them.
    pub(super) fn select(&self, rows: &MetricRows<'_>) -> Selected {
        let (mut writer, mut selected) = (Writer::default(), Selected::default());
        for series in &rows.series {
            let part = self.wanted_of(series);
            if Counts::of(&part).all() == 0 {
                continue;
            }
            let wire = rows.labels_of(series);
            match self.decide(wire) {
                Decision::Dropped => {
                    selected.dropped += Counts::of(&part);
                    continue;
                }
                Decision::AsItIs => writer.series(rows, &part, wire),
                Decision::As(labels) => writer.series(rows, &part, &labels),
            }
            selected.newest_ms = selected.newest_ms.max(newest_of(rows, &part));
        }
        let told: &[(String, Metadata)] = if self.metadata { &rows.metadata } else { &[] };
        told.iter().for_each(|(family, told)| writer.family(family, told));
        selected.payloads = writer.into_payloads();
        selected
    }

    fn wanted_of(&self, series: &SeriesRows) -> SeriesRows {
        let mut part = series.clone();
        if !self.exemplars {
            part.exemplars = 0..0;
        }
        if !self.histograms {
            part.histograms = 0..0;
        }
        part
    }

    fn decide(&self, wire: &[u8]) -> Decision {
        if self.rules.is_empty() && self.external.is_empty() {
            return Decision::AsItIs;
        }
        let key = xxh3_128_with_seed(wire, self.seed);
        if let Some(known) = self.decisions.lock().known.get(&key) {
            return known.clone();
        }
        let decision = self.relabelled(wire);
        let mut decisions = self.decisions.lock();
        let is_full = decisions.known.len() >= DECISIONS_MAX;
        if is_full || decisions.label_bytes >= LABEL_BYTES_MAX {
            *decisions = Decisions::default();
        }
        if let Decision::As(labels) = &decision {
            decisions.label_bytes += labels.len();
        }
        decisions.known.insert(key, decision.clone());
        decision
    }

    fn relabelled(&self, wire: &[u8]) -> Decision {
        // The store has refused what is no label set.
        let Ok(before) = Labels::from_wire(wire) else { return Decision::Dropped };
        let mut builder = before.to_builder();
        for (name, value) in &self.external {
            if builder.get(name).is_none() {
                builder.set(name, value);
            }
        }
        if !relabel::apply(&self.rules, &mut builder) {
            return Decision::Dropped;
        }
        let after = builder.build();
        if after.is_empty() {
            return Decision::Dropped;
        }
        if after == before {
            return Decision::AsItIs;
        }
        let mut encoded = Vec::new();
        after.encode(&mut encoded);
        Decision::As(encoded.into())
    }
}

/// The newest instant of some rows, milliseconds.
pub(super) fn newest_of(rows: &MetricRows<'_>, series: &SeriesRows) -> Option<i64> {
    let samples = samples_of(rows, series).iter().map(|sample| sample.timestamp_ms);
    samples.chain(histograms_of(rows, series).iter().map(|(at_ms, _)| *at_ms)).max()
}
