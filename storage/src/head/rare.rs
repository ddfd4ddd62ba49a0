//! Rows in, the rarer kinds: native histograms, exemplars, metadata.

use model::{Exemplar, Histogram, Metadata, ResetHint};
use tenancy::TenantId;

use super::Head;
use super::append::Append;
use super::exemplars::LABEL_CHARS_MAX;
use super::growth;
use super::histogram;
use super::payload::Payloads;
use super::series::Flags;
use crate::{AppendOutcome, Reason, SeriesRows};

impl Head {
    /// Histograms and exemplars of one series.
    #[cold]
    pub(super) fn append_rare(&mut self, request: &mut Append<'_>, number: u32, rows: &SeriesRows) {
        let all = request.rows;
        let starts = all.histogram_starts_of(rows);
        let histograms =
            &all.histograms[rows.histograms.start as usize..rows.histograms.end as usize];
        for (at, (ms, histogram)) in histograms.iter().enumerate() {
            let start_ms = starts.get(at).copied().unwrap_or(0);
            self.append_histogram(request, number, (*ms, start_ms), histogram);
        }
        for exemplar in &all.exemplars[rows.exemplars.start as usize..rows.exemplars.end as usize] {
            self.append_exemplar(request, number, exemplar);
        }
    }

    fn append_histogram(
        &mut self,
        request: &mut Append<'_>,
        number: u32,
        (ms, start_ms): (i64, i64),
        sent: &Histogram,
    ) {
        if !self.is_in_window(request, number, ms, || "a histogram".to_owned()) {
            return;
        }
        if let Err(wrong) = histogram::check_histogram(sent) {
            request.outcome.reject(Reason::InvalidHistogram, 1, || {
                let labels = self.labels.labels(number);
                format!("histogram of series {labels} at timestamp {ms}: {wrong}")
            });
            return;
        }
        let mut encoded = Vec::with_capacity(256);
        histogram::encode(sent, &mut encoded);
        match self.histogram_at(number, ms) {
            Some(stored) if histogram::is_same(stored, &encoded) => {}
            Some(_) => return self.reject_duplicate(request, number, ms, "a histogram", "another"),
            None if self.is_float_at(number, ms) => {
                return self.reject_duplicate(request, number, ms, "a sample", "a histogram");
            }
            None => {
                if sent.reset_hint == ResetHint::Unknown && self.goes_on(number, ms, sent) {
                    histogram::set_hint(&mut encoded, ResetHint::No);
                }
                request.payloads.push_histogram(number, (ms, start_ms), &encoded);
                self.insert_histogram(number, ms, &encoded);
                self.note_start(number, ms, start_ms);
            }
        }
        request.outcome.histograms += 1;
    }

    /// Whether a histogram goes on from the one before it, as far as that is known here.
    fn goes_on(&self, number: u32, ms: i64, sent: &Histogram) -> bool {
        let frozen = |ms: &i64| !self.is_frozen_deleted(number, *ms);
        let frozen = self.frozen.as_deref().and_then(|f| {
            let of_series = f.generation.histograms.get(&number)?;
            of_series.iter().rfind(|(ms, _)| frozen(ms)).map(|(ms, h)| (*ms, &**h))
        });
        let open = self
            .open
            .histograms
            .get(&number)
            .and_then(|of_series| of_series.last_key_value().map(|(ms, h)| (*ms, &**h)));
        let flushed = self.flushed_histograms.get(&number).map(|(ms, h)| (*ms, &**h));
        let newest = [open, frozen, flushed].into_iter().flatten().max_by_key(|(ms, _)| *ms);
        // What comes late stands before one that knew nothing of it.
        let before = newest.filter(|(newest_ms, _)| *newest_ms < ms);
        let before = before.and_then(|(_, encoded)| histogram::decode(encoded));
        before.is_some_and(|before| growth::goes_on(sent, &before))
    }

    fn is_float_at(&self, number: u32, ms: i64) -> bool {
        let series = &self.series.all[number as usize];
        ms <= series.last_ms && self.value_at(number, ms, &mut None).is_some()
    }

    /// Also for replay.
    pub(super) fn insert_histogram(&mut self, number: u32, ms: i64, encoded: &[u8]) {
        self.open.insert_histogram(number, ms, encoded);
        self.show(number);
        self.series.all[number as usize].flags.set(Flags::HISTOGRAMS);
        let last = self.last_histogram_ms.entry(number).or_insert(ms);
        *last = ms.max(*last);
    }

    fn append_exemplar(&mut self, request: &mut Append<'_>, number: u32, exemplar: &Exemplar) {
        if !self.is_in_window(request, number, exemplar.timestamp_ms, || exemplar.value.to_string())
        {
            return;
        }
        let chars: usize =
            exemplar.labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
        if chars > LABEL_CHARS_MAX {
            request.outcome.reject(Reason::InvalidExemplar, 1, || {
                let series = self.labels.labels(number);
                format!("exemplar of series {series} has {chars} characters of labels, the limit is {LABEL_CHARS_MAX}")
            });
            return;
        }
        if self.open.exemplars.insert(request.tenant, number, exemplar.clone()) {
            request.payloads.push_exemplar(number, exemplar);
        }
        request.outcome.exemplars += 1;
    }

    /// Keeps metadata of metric families; of a family's, the last counts. `payloads` is cleared
    /// first and receives what changed.
    pub fn append_metadata<'m>(
        &mut self,
        tenant: TenantId,
        families: impl IntoIterator<Item = &'m (String, Metadata)>,
        payloads: &mut Payloads,
        outcome: &mut AppendOutcome,
    ) {
        payloads.begin(self.epoch, false);
        let known = self.metadata.entry(tenant).or_default();
        for (family, metadata) in families {
            if let Err(wrong) = known.check(family, metadata) {
                outcome.reject(Reason::InvalidMetadata, 1, || wrong);
            } else if known.get(family) != Some(metadata) {
                payloads.push_metadata(family, metadata);
                known.insert(family.clone(), metadata.clone());
            }
        }
        if known.len() == 0 {
            self.metadata.remove(&tenant);
        }
    }
}
