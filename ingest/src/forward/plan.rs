//! A batch of the queue as requests: which rows go together, under whose name, and in which order.
//!
//! ```text
//! records ─► rows ─► by receiver's tenant ─► lanes (by series) ─► requests, one after the other
//! ```
//!
//! A lane is sent in order and lanes beside each other; all rows of a series are in one lane. A plain
//! function of its arguments; takes a millisecond for some thousand rows.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use storage::{MetricRows, SeriesRows};
use tenancy::{TenantId, TenantName};

use super::config::Protocol;
use super::encode::{Message, Piece, message_v1, message_v2, metadata_v1};
use super::known::Known;
use super::queue::{Batch, Record};
use super::record::{Counts, exemplars_of, histograms_of, inflated, parts, rows_of, samples_of};
use super::selection::newest_of;

/// Families of one request of metadata; Prometheus' `metadata_config.max_samples_per_send`.
const FAMILIES_PER_SEND: usize = 2_000;

/// What requests look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    pub(super) protocol: Protocol,
    /// Most rows of a request.
    pub(super) rows_max: usize,
    /// How many lanes there are at least, if there are rows for them, and at most.
    pub(super) lanes: (usize, usize),
    /// `X-Scope-OrgID`, with `{tenant}` for the name; empty for none.
    pub(super) org_id: &'a str,
    /// How often 1.0 tells metadata; `None` if metadata is not told.
    pub(super) metadata_every: Option<Duration>,
    /// Monotonic time.
    pub(super) now: Duration,
    /// What is older is left out, milliseconds.
    pub(super) oldest_ms: Option<i64>,
}

/// One request, compressed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) body: Bytes,
    pub(super) counts: Counts,
    /// Families of which it tells metadata and nothing else.
    pub(super) families: u64,
    pub(super) newest_ms: Option<i64>,
}

/// Requests that are sent one after the other.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The value of `X-Scope-OrgID`; empty for none.
    pub(super) org_id: String,
    pub(super) requests: VecDeque<Request>,
}

/// Everything that becomes of a batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) lanes: Vec<Lane>,
    pub(super) left_out: LeftOut,
}

/// Rows that are not sent, by reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) too_old: Counts,
    /// What 1.0 has no place for.
    pub(super) not_in_v1: Counts,
    pub(super) tenant_deleted: Counts,
    pub(super) unreadable: Counts,
}

/// Plans a batch. `name_of` knows the names of tenants that are there.
pub(super) fn plan(
    batch: &Batch,
    form: Form<'_>,
    known: &mut Known,
    name_of: impl Fn(TenantId) -> Option<TenantName>,
) -> Plan {
    let mut plan = Plan::default();
    let mut bodies = Vec::with_capacity(batch.records.len());
    for (_, record) in &batch.records {
        match (name_of(record.tenant), inflated(&record.payload.bytes)) {
            (None, _) => plan.left_out.tenant_deleted += record.payload.counts,
            (Some(_), Err(error)) => plan.unreadable(record, &error),
            (Some(name), Ok(body)) => bodies.push((record, name, body)),
        }
    }
    let mut groups: BTreeMap<String, Vec<(TenantId, MetricRows<'_>)>> = BTreeMap::new();
    for (record, name, body) in &bodies {
        match rows_of(body) {
            Ok(rows) => {
                let told = rows.metadata.iter();
                told.for_each(|(family, told)| known.learn(record.tenant, family, told));
                let org_id = form.org_id.replace("{tenant}", name.as_str());
                groups.entry(org_id).or_default().push((record.tenant, rows));
            }
            Err(error) => plan.unreadable(record, &error),
        }
    }
    for (org_id, all) in &groups {
        let told = plan.metadata(org_id, all, form, known);
        let known = form.metadata_every.is_some().then_some(&*known);
        plan.rows(org_id, all, (form, known), told);
    }
    plan
}

impl Plan {
    fn unreadable(&mut self, record: &Record, error: &dyn std::fmt::Display) {
        tracing::error!(%error, tenant = %record.tenant, "queued rows cannot be read and are given up");
        self.left_out.unreadable += record.payload.counts;
    }

    /// Requests of 1.0 that tell the metadata that is due. In 2.0 it goes with its series.
    fn metadata(
        &self,
        org_id: &str,
        all: &[(TenantId, MetricRows<'_>)],
        form: Form<'_>,
        known: &mut Known,
    ) -> Option<Lane> {
        let every = form.metadata_every.filter(|_| form.protocol == Protocol::V1)?;
        let mut families = Vec::new();
        for (tenant, _) in all {
            families.extend(known.due(*tenant, every, form.now));
        }
        let request = |families: &[_]| Request {
            body: compressed(&metadata_v1(families)),
            counts: Counts::default(),
            families: families.len() as u64,
            newest_ms: None,
        };
        let requests: VecDeque<_> = families.chunks(FAMILIES_PER_SEND).map(request).collect();
        (!requests.is_empty()).then(|| Lane { org_id: org_id.to_owned(), requests })
    }

    fn rows(
        &mut self,
        org_id: &str,
        all: &[(TenantId, MetricRows<'_>)],
        (form, known): (Form<'_>, Option<&Known>),
        told: Option<Lane>,
    ) {
        let mut pieces = Vec::new();
        for (tenant, rows) in all {
            for series in &rows.series {
                let mut series = series.clone();
                if let Some(oldest_ms) = form.oldest_ms {
                    self.left_out.too_old += without_old(rows, &mut series, oldest_ms);
                }
                let of_series = parts(&series, form.rows_max as u32);
                pieces.extend(of_series.map(|series| Piece { tenant: *tenant, rows, series }));
            }
        }
        let rows: u64 = pieces.iter().map(|piece| Counts::of(&piece.series).all()).sum();
        let full = (rows as usize).div_ceil(form.rows_max);
        let mut lanes = vec![Vec::new(); full.clamp(form.lanes.0, form.lanes.1)];
        let count = lanes.len() as u64;
        for piece in pieces {
            let hash = xxhash_rust::xxh3::xxh3_64(piece.rows.labels_of(&piece.series));
            lanes[(hash % count) as usize].push(piece);
        }
        self.lanes.extend(told);
        for pieces in lanes {
            let requests = self.requests(&pieces, form, known);
            if !requests.is_empty() {
                self.lanes.push(Lane { org_id: org_id.to_owned(), requests });
            }
        }
    }

    fn requests(
        &mut self,
        mut pieces: &[Piece<'_, '_>],
        form: Form<'_>,
        known: Option<&Known>,
    ) -> VecDeque<Request> {
        let mut requests = VecDeque::new();
        while !pieces.is_empty() {
            let (mut rows, mut end) = (0, 0);
            for piece in pieces {
                rows += Counts::of(&piece.series).all();
                if rows > form.rows_max as u64 && end > 0 {
                    break;
                }
                end += 1;
            }
            let (now, later) = pieces.split_at(end);
            pieces = later;
            let Message { body, counts, left_out, unreadable } = match form.protocol {
                Protocol::V1 => message_v1(now),
                Protocol::V2 => message_v2(now, known),
            };
            self.left_out.not_in_v1 += left_out;
            self.left_out.unreadable += unreadable;
            if counts.all() > 0 {
                let newest_ms = now.iter().filter_map(|p| newest_of(p.rows, &p.series)).max();
                let body = compressed(&body);
                requests.push_back(Request { body, counts, families: 0, newest_ms });
            }
        }
        requests
    }
}

fn compressed(body: &[u8]) -> Bytes {
    let bytes = snap::raw::Encoder::new().compress_vec(body);
    bytes.expect("a request is far shorter than the 4 GiB that snappy can say").into()
}

/// Leaves out the rows at the front that are too old, and counts them.
fn without_old(rows: &MetricRows<'_>, series: &mut SeriesRows, oldest_ms: i64) -> Counts {
    let before = Counts::of(series);
    let old = |at_ms: &i64| *at_ms < oldest_ms;
    let samples = samples_of(rows, series).iter().map(|s| s.timestamp_ms).take_while(old).count();
    let histograms = histograms_of(rows, series).iter().map(|h| h.0).take_while(old).count();
    let exemplars = exemplars_of(rows, series).iter().map(|e| e.timestamp_ms);
    let exemplars = exemplars.take_while(old).count();
    series.samples.start += samples as u32;
    series.histograms.start += histograms as u32;
    series.exemplars.start += exemplars as u32;
    let mut left_out = before;
    left_out -= Counts::of(series);
    left_out
}

#[cfg(test)]
mod tests;
