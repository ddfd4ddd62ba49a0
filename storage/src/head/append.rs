//! Rows in: the path every sample takes.
//!
//! ```text
//! batch ─► find (one look-up each) ─► known: append to the bit stream and the log payload
//!                                 └─► unknown: parse, check, admit, number, then the same
//! ```

use model::{Labels, Sample, SeriesId};
use tenancy::{Limits, TenantId};

use super::Head;
use super::buffer::{Buffer, Point};
use super::frozen::Frozen;
use super::payload::Payloads;
use super::series::{Flags, Series};
use crate::{AppendOutcome, MetricRows, Reason, SeriesRows};

/// One request's rows of one tenant for one partition.
#[expect(missing_debug_implementations, reason = "holds closures of the caller")]
pub struct Append<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// Its limits; here those on labels count.
    pub limits: &'a Limits,
    /// The whole request.
    pub rows: &'a MetricRows<'a>,
    /// This partition's series: the id of the bytes as sent, and the position in `rows.series`.
    pub batch: &'a [(SeriesId, u32)],
    /// Samples before are too old.
    pub oldest_ms: i64,
    /// Samples after are too far in the future.
    pub newest_ms: i64,
    /// Asked once for each new series; counts it if it may be created.
    pub admit_series: &'a mut dyn FnMut(&Labels) -> Result<(), Reason>,
    /// Whether a series belongs to this partition. A sender that does not sort its labels sends
    /// other bytes than the canonical ones, and so may have been routed to the wrong partition.
    pub owns: &'a dyn Fn(&Labels) -> bool,
    /// Series found to belong elsewhere, to be appended there: labels, and the position in
    /// `rows.series`.
    pub misplaced: &'a mut Vec<(Labels, u32)>,
    /// Receives what must be logged; cleared first.
    pub payloads: &'a mut Payloads,
    /// Receives what became of the rows.
    pub outcome: &'a mut AppendOutcome,
}

/// Series looked up at a time: enough for the memory to answer many look-ups at once, few enough
/// that their cache lines are still near when the samples are appended.
const LOOK_UPS: usize = 256;

/// In place of a number: the series is not known by this id.
const UNKNOWN: u32 = u32::MAX;

/// Samples of a series' bit stream that a late sample is compared with. A longer stream would let
/// one sender's late samples cost everyone; there a late sample is taken unseen, and reading
/// keeps the one that came first.
const COMPARED_MAX: u32 = 1024;

impl Head {
    /// Appends what is good and counts what is not.
    pub fn append(&mut self, request: &mut Append<'_>) {
        request.payloads.begin(self.epoch, request.rows.has_starts());
        let (mark, samples_before) = (self.mark(), self.open.counts.samples);
        let mut numbers = [UNKNOWN; LOOK_UPS];
        for batch in request.batch.chunks(LOOK_UPS) {
            for (number, &(id, _)) in numbers.iter_mut().zip(batch) {
                *number = self.series.find(request.tenant, id).unwrap_or(UNKNOWN);
            }
            for (&number, &(id, at)) in numbers.iter().zip(batch) {
                let rows = &request.rows.series[at as usize];
                let number = match number {
                    UNKNOWN => match self.resolve(request, id, at) {
                        Some(number) => number,
                        None => continue,
                    },
                    known => known,
                };
                let samples =
                    &request.rows.samples[rows.samples.start as usize..rows.samples.end as usize];
                let starts = request.rows.sample_starts_of(rows);
                self.append_samples(request, number, samples, starts);
                if !rows.histograms.is_empty() || !rows.exemplars.is_empty() {
                    self.append_rare(request, number, rows);
                }
            }
        }
        let samples = self.open.counts.samples - samples_before;
        if let Some(tenant) = self.index.tenants.get_mut(&request.tenant) {
            tenant.samples_open += samples;
        }
        request.payloads.finish(mark, &self.labels, &self.series.all);
    }

    #[inline]
    fn append_samples(
        &mut self,
        request: &mut Append<'_>,
        number: u32,
        samples: &[Sample],
        starts: &[i64],
    ) {
        if !starts.is_empty() {
            return self.append_unusual(request, number, samples, starts);
        }
        let series = &mut self.series.all[number as usize];
        for (at, sample) in samples.iter().enumerate() {
            let to = Point { ms: sample.timestamp_ms, bits: sample.value.to_bits() };
            let is_usual = to.ms > series.last_ms
                && to.ms >= request.oldest_ms
                && to.ms <= request.newest_ms
                && series.flags == Flags::NONE;
            if !is_usual {
                return self.append_unusual(request, number, &samples[at..], &[]);
            }
            request.payloads.ordered.push(number, to, 0);
            self.open.push(series, to);
            request.outcome.samples += 1;
        }
    }

    /// Samples of which at least the first is not simply the series' next one. Those behind the end
    /// of `starts` have none.
    #[cold]
    fn append_unusual(
        &mut self,
        request: &mut Append<'_>,
        number: u32,
        samples: &[Sample],
        starts: &[i64],
    ) {
        // Decoded once, when first needed, and kept up to date.
        let mut stream: Option<Vec<Point>> = None;
        for (at, sample) in samples.iter().enumerate() {
            let start_ms = starts.get(at).copied().unwrap_or(0);
            let to = Point { ms: sample.timestamp_ms, bits: sample.value.to_bits() };
            if !self.is_in_window(request, number, to.ms, || sample.value.to_string()) {
                continue;
            }
            if self.is_histogram_at(number, to.ms) {
                self.reject_duplicate(
                    request,
                    number,
                    to.ms,
                    "a histogram",
                    &sample.value.to_string(),
                );
                continue;
            }
            let series = &mut self.series.all[number as usize];
            if to.ms > series.last_ms {
                request.payloads.ordered.push(number, to, start_ms);
                self.open.push(series, to);
                self.note_start(number, to.ms, start_ms);
                self.show(number);
                if let Some(stream) = &mut stream {
                    stream.push(to);
                }
            } else {
                let known = self.value_at(number, to.ms, &mut stream);
                match known {
                    None => {
                        request.payloads.late.push(number, to, start_ms);
                        self.open.insert_late(number, to);
                        self.note_start(number, to.ms, start_ms);
                        self.show(number);
                    }
                    Some(bits) if bits == to.bits => {}
                    Some(bits) => {
                        let stored = f64::from_bits(bits).to_string();
                        self.reject_duplicate(
                            request,
                            number,
                            to.ms,
                            &stored,
                            &sample.value.to_string(),
                        );
                        continue;
                    }
                }
            }
            request.outcome.samples += 1;
        }
    }

    /// The value at an instant not after the series' last, as far as this head knows it.
    pub(super) fn value_at(
        &self,
        number: u32,
        ms: i64,
        stream: &mut Option<Vec<Point>>,
    ) -> Option<u64> {
        let series = &self.series.all[number as usize];
        if let Some(last) = series.last()
            && last.ms == ms
        {
            return Some(last.bits);
        }
        let frozen = self.frozen.as_deref();
        let late = self.open.late_at(number, ms);
        let frozen_late = || {
            let frozen = frozen.filter(|_| !self.is_frozen_deleted(number, ms))?;
            frozen.generation.late_at(number, ms)
        };
        if let Some(bits) = late.or_else(frozen_late) {
            return Some(bits);
        }
        let stream =
            stream.get_or_insert_with(|| decode_stream(self, frozen, number, &series.buffer));
        let at = stream.binary_search_by_key(&ms, |p| p.ms).ok()?;
        Some(stream[at].bits)
    }

    pub(super) fn is_histogram_at(&self, number: u32, ms: i64) -> bool {
        self.series.all[number as usize].flags.has(Flags::HISTOGRAMS)
            && self.histogram_at(number, ms).is_some()
    }

    pub(super) fn histogram_at(&self, number: u32, ms: i64) -> Option<&[u8]> {
        let frozen = || self.frozen_histogram_at(number, ms);
        self.open.histogram_at(number, ms).or_else(frozen)
    }

    /// Whether an instant may be stored; counts a refusal if not.
    pub(super) fn is_in_window(
        &self,
        request: &mut Append<'_>,
        number: u32,
        ms: i64,
        value: impl FnOnce() -> String,
    ) -> bool {
        let Err(reason) = window(request, ms) else { return true };
        let labels = || self.labels.labels(number);
        request.outcome.reject(reason, 1, || {
            window_text(reason, request.oldest_ms, request.newest_ms, &labels(), ms, &value())
        });
        false
    }

    pub(super) fn reject_duplicate(
        &self,
        request: &mut Append<'_>,
        number: u32,
        ms: i64,
        stored: &str,
        sent: &str,
    ) {
        request.outcome.reject(Reason::DuplicateTimestamp, 1, || {
            let labels = self.labels.labels(number);
            format!("series {labels} has {stored} at timestamp {ms}, {sent} came later and was not stored")
        });
    }

    /// The number of a series that is not known by the bytes it was sent with.
    #[cold]
    fn resolve(&mut self, request: &mut Append<'_>, sent: SeriesId, at: u32) -> Option<u32> {
        let rows = &request.rows.series[at as usize];
        let labels = match Labels::from_wire(request.rows.labels_of(rows)) {
            Ok(labels) => labels,
            Err(error) => {
                let count = row_count(rows);
                request.outcome.reject(Reason::InvalidLabels, count, || error.to_string());
                return None;
            }
        };
        let id = labels.series_id();
        if id != sent && !(request.owns)(&labels) {
            request.misplaced.push((labels, at));
            return None;
        }
        // Also when the bytes were canonical: an earlier row of this request may have made it.
        if let Some(known) = self.series.find(request.tenant, id) {
            return Some(known);
        }
        if !self.has_storable(request, rows, &labels) {
            return None;
        }
        if let Err((reason, text)) = self.check_new(request, &labels) {
            request.outcome.reject(reason, row_count(rows), || text);
            return None;
        }
        request.outcome.series_created += 1;
        Some(self.create(request.tenant, id, &labels))
    }

    /// Whether a series would get at least one of its samples; counts the refusals if not. A
    /// series is not created for nothing.
    fn has_storable(&self, request: &mut Append<'_>, rows: &SeriesRows, labels: &Labels) -> bool {
        let samples = &request.rows.samples[rows.samples.start as usize..rows.samples.end as usize];
        let histograms =
            &request.rows.histograms[rows.histograms.start as usize..rows.histograms.end as usize];
        let values = samples.iter().map(|s| (s.timestamp_ms, Some(s.value)));
        let values = values.chain(histograms.iter().map(|(ms, _)| (*ms, None)));
        if values.clone().any(|(ms, _)| window(request, ms).is_ok()) {
            return true;
        }
        for (ms, value) in values {
            let Err(reason) = window(request, ms) else { continue };
            let (oldest_ms, newest_ms) = (request.oldest_ms, request.newest_ms);
            request.outcome.reject(reason, 1, || {
                let value = value.map_or_else(|| "a histogram".to_owned(), |v| v.to_string());
                window_text(reason, oldest_ms, newest_ms, labels, ms, &value)
            });
        }
        if !rows.exemplars.is_empty() {
            request.outcome.reject(Reason::InvalidExemplar, rows.exemplars.len() as u64, || {
                format!("series {labels} has exemplars and no samples")
            });
        }
        false
    }

    fn check_new(&self, request: &mut Append<'_>, labels: &Labels) -> Result<(), (Reason, String)> {
        request
            .limits
            .check_labels(labels)
            .map_err(|refused| (reason_of(&refused), refused.to_string()))?;
        if !self.labels.has_room(labels) {
            let text = format!("series {labels} is new and the partition's label memory is full");
            return Err((Reason::ActiveSeriesLimit, text));
        }
        let limits = request.limits;
        (request.admit_series)(labels).map_err(|reason| {
            let limit = match reason {
                Reason::NewSeriesRate => {
                    format!("{} new series a second", limits.new_series_per_second)
                }
                _ => format!("{} active series", limits.active_series_max),
            };
            (reason, format!("series {labels} is new and the limit of {limit} is reached"))
        })
    }

    /// Numbers a new series.
    pub(super) fn create(&mut self, tenant: TenantId, id: SeriesId, labels: &Labels) -> u32 {
        self.labels.push(labels);
        let number = self.series.push(Series::new(tenant, id));
        self.index.add(tenant, number, &self.labels);
        number
    }
}

/// The sorted samples of a series' bit streams, if there are not too many to look through.
fn decode_stream(head: &Head, frozen: Option<&Frozen>, number: u32, open: &Buffer) -> Vec<Point> {
    let mut points = Vec::new();
    let frozen = frozen.and_then(|f| Some((&f.generation, f.buffers.get(number as usize)?)));
    for (generation, buffer) in frozen.into_iter().chain([(&head.open, open)]) {
        if buffer.len() <= COMPARED_MAX {
            buffer.decode(&generation.blocks, generation.base_ms.unwrap_or(0), |p| points.push(p));
        }
        if !std::ptr::eq(generation, &head.open) {
            points.retain(|p| !head.is_frozen_deleted(number, p.ms));
        }
    }
    points
}

fn window(request: &Append<'_>, ms: i64) -> Result<(), Reason> {
    // The least instant stands for "none" in the head.
    if ms < request.oldest_ms || ms == i64::MIN {
        Err(Reason::TooOld)
    } else if ms > request.newest_ms {
        Err(Reason::TooFarInFuture)
    } else {
        Ok(())
    }
}

fn window_text(
    reason: Reason,
    oldest_ms: i64,
    newest_ms: i64,
    labels: &Labels,
    ms: i64,
    value: &str,
) -> String {
    match reason {
        Reason::TooOld => {
            format!(
                "series {labels} has {value} at timestamp {ms}, older than the oldest allowed, {oldest_ms}"
            )
        }
        _ => format!(
            "series {labels} has {value} at timestamp {ms}, later than the latest allowed, {newest_ms}"
        ),
    }
}

/// Samples, histograms and exemplars of one series of a request.
fn row_count(rows: &SeriesRows) -> u64 {
    (rows.samples.len() + rows.histograms.len() + rows.exemplars.len()) as u64
}

fn reason_of(refused: &tenancy::LabelsRefused) -> Reason {
    match refused {
        tenancy::LabelsRefused::Reserved { .. } => Reason::InvalidLabels,
        tenancy::LabelsRefused::NoName { .. } => Reason::MissingMetricName,
        tenancy::LabelsRefused::TooMany { .. } => Reason::TooManyLabels,
        tenancy::LabelsRefused::NameTooLong { .. } => Reason::LabelNameTooLong,
        tenancy::LabelsRefused::ValueTooLong { .. } => Reason::LabelValueTooLong,
    }
}
