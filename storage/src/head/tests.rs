//! The head as its owner uses it: rows in, payloads to a log, reads out.

mod appending;
mod deleting;
mod hostile;
mod model_based;
mod selecting;
mod snapshots;

use model::{Exemplar, Histogram, Labels, RecordKind, Sample, SeriesId, TimeRange};
use tenancy::{Limits, TenantId};

use super::{Append, Head, Payloads, SharedTimestamps};
use crate::{AppendOutcome, MetricRows, Reason, SeriesRows};

/// A head and the log its owner would write.
pub(super) struct Rig {
    pub(super) head: Head,
    pub(super) log: Vec<(RecordKind, TenantId, Vec<u8>)>,
    pub(super) limits: Limits,
    /// Series admitted before the limit is reached.
    pub(super) room: usize,
    pub(super) misplaced: Vec<(Labels, u32)>,
}

/// The window all tests append with.
pub(super) const OLDEST_MS: i64 = 1_000;
pub(super) const NEWEST_MS: i64 = 1_000_000;

/// One series of a request as a test writes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    pub(super) wire: Vec<u8>,
    pub(super) samples: Vec<(i64, f64)>,
    /// Since when the samples count; what is missing is unknown.
    pub(super) starts: Vec<i64>,
    pub(super) histograms: Vec<(i64, Histogram)>,
    pub(super) exemplars: Vec<Exemplar>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let limits = Limits { labels_max: 12, label_value_bytes_max: 64, ..Limits::default() };
        Self {
            head: Head::new(0x5eed),
            log: Vec::new(),
            limits,
            room: usize::MAX,
            misplaced: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, tenant: u32, request: &[Sent]) -> AppendOutcome {
        self.send_owning(tenant, request, &|_| true)
    }

    pub(super) fn send_owning(
        &mut self,
        tenant: u32,
        request: &[Sent],
        owns: &dyn Fn(&Labels) -> bool,
    ) -> AppendOutcome {
        let rows = rows_of(request);
        let id = |s: &SeriesRows| SeriesId::of_encoded(rows.labels_of(s));
        let batch: Vec<(SeriesId, u32)> = rows.series.iter().map(id).zip(0..).collect();
        let (mut payloads, mut outcome) = (Payloads::default(), AppendOutcome::default());
        let room = &mut self.room;
        let mut admit = |_: &Labels| match room.checked_sub(1) {
            Some(left) => {
                *room = left;
                Ok(())
            }
            None => Err(Reason::ActiveSeriesLimit),
        };
        self.head.append(&mut Append {
            tenant: TenantId(tenant),
            limits: &self.limits,
            rows: &rows,
            batch: &batch,
            oldest_ms: OLDEST_MS,
            newest_ms: NEWEST_MS,
            admit_series: &mut admit,
            owns,
            misplaced: &mut self.misplaced,
            payloads: &mut payloads,
            outcome: &mut outcome,
        });
        self.log.extend(payloads.records().map(|(kind, p)| (kind, TenantId(tenant), p.to_vec())));
        outcome
    }

    /// A head with another hash key, from a snapshot and the log.
    pub(super) fn replayed(&self) -> Head {
        let mut head = Head::new(77);
        for (kind, tenant, payload) in &self.log {
            head.replay(*kind, *tenant, payload).expect("payloads of append and cut");
        }
        head
    }
}

fn rows_of(request: &[Sent]) -> MetricRows<'static> {
    let mut rows = MetricRows::default();
    for sent in request {
        let starts =
            (rows.spill.len(), rows.samples.len(), rows.histograms.len(), rows.exemplars.len());
        rows.spill.extend_from_slice(&sent.wire);
        for (at, &(timestamp_ms, value)) in sent.samples.iter().enumerate() {
            let start_ms = sent.starts.get(at).copied().unwrap_or(0);
            rows.push_sample(Sample { timestamp_ms, value }, start_ms);
        }
        rows.histograms.extend(sent.histograms.iter().cloned());
        rows.exemplars.extend(sent.exemplars.iter().cloned());
        rows.series.push(SeriesRows {
            labels: starts.0 as u32..rows.spill.len() as u32,
            samples: starts.1 as u32..rows.samples.len() as u32,
            histograms: starts.2 as u32..rows.histograms.len() as u32,
            exemplars: starts.3 as u32..rows.exemplars.len() as u32,
        });
    }
    rows
}

/// Labels as an honest sender writes them.
pub(super) fn canonical(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut wire = Vec::new();
    Labels::from_pairs(pairs.iter().copied()).encode(&mut wire);
    wire
}

/// Labels in the order given.
pub(super) fn as_given(pairs: &[(&str, &str)]) -> Vec<u8> {
    pairs.iter().flat_map(|&pair| one_label(pair)).collect()
}

fn one_label((name, value): (&str, &str)) -> Vec<u8> {
    let mut label = vec![0x0a, name.len() as u8];
    label.extend(name.bytes());
    label.extend([0x12, value.len() as u8]);
    label.extend(value.bytes());
    let mut field = vec![0x0a, label.len() as u8];
    field.extend(label);
    field
}

pub(super) fn sent(pairs: &[(&str, &str)], samples: &[(i64, f64)]) -> Sent {
    Sent { wire: canonical(pairs), samples: samples.to_vec(), ..Sent::default() }
}

/// All samples of a series, values as bits.
pub(super) fn read_all(head: &Head, series: u32) -> Vec<(i64, u64)> {
    let read = head.read(series, TimeRange::ALL, &mut SharedTimestamps::default());
    read.timestamps.iter().copied().zip(read.values.iter().map(|v| v.to_bits())).collect()
}
