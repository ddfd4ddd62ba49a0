//! Log payloads back in: the state they came from, without asking for limits again.
//!
//! Identities that a snapshot already brought are recognised and skipped, so that a replay may
//! start anywhere between the cut a snapshot belongs to and the snapshot itself.
//!
//! After a gap, that is once records are known to be lost, what fits is applied and the rest left
//! out and counted. That never gives wrong rows: a record tells its numbering (epoch), numbers are
//! given out in order, so that what a lost record numbered stays unknown, and values stand for
//! themselves.

use model::{Exemplar, Labels, Metadata, MetricKind, RecordKind, SeriesId, varint};
use roaring::RoaringBitmap;
use tenancy::TenantId;

use super::Head;
use super::buffer::Point;
use super::histogram;
use super::payload::{VERSION, VERSION_STARTS, take_start, take_value};
use super::series::{Flags, Series};

/// A field is missing, too long or out of range.
const DAMAGED: &str = "payload is cut short or malformed";

/// Records of a head are lost.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// Records of which at least a part did not fit.
    left_out: u64,
    /// Whether something of the record being applied does not fit.
    misfit: bool,
}

impl Head {
    /// From here on records are missing: of those that follow, only what fits is applied.
    pub fn note_gap(&mut self) {
        self.gap.get_or_insert_default();
    }

    /// How many records could not be applied wholly, because one before them is lost.
    pub fn left_out(&self) -> u64 {
        self.gap.as_ref().map_or(0, |gap| gap.left_out)
    }

    /// Applies the payload of one record. After an error the head takes no more.
    pub fn replay(
        &mut self,
        kind: RecordKind,
        tenant: TenantId,
        payload: &[u8],
    ) -> Result<(), String> {
        let applied = self.apply(kind, tenant, payload);
        let Some(gap) = &mut self.gap else { return applied };
        gap.left_out += u64::from(std::mem::take(&mut gap.misfit) || applied.is_err());
        Ok(())
    }

    /// Something of a record does not fit: an error, unless records before it are lost.
    fn misfit(&mut self, reason: &str) -> Result<(), String> {
        match &mut self.gap {
            None => Err(reason.to_owned()),
            Some(gap) => {
                gap.misfit = true;
                Ok(())
            }
        }
    }

    fn apply(&mut self, kind: RecordKind, tenant: TenantId, payload: &[u8]) -> Result<(), String> {
        let (&version, mut payload) = payload.split_first().ok_or("payload is empty")?;
        let may_have_starts = matches!(kind, RecordKind::Samples | RecordKind::Histograms);
        let with_starts = version == VERSION_STARTS && may_have_starts;
        if version != VERSION && !with_starts {
            return Err(format!(
                "payload has version {version}, this build knows {VERSION} and, with start timestamps, {VERSION_STARTS}"
            ));
        }
        let epoch = take_u64(&mut payload)?;
        let by_number =
            !matches!(kind, RecordKind::Metadata | RecordKind::Tombstone | RecordKind::Forgotten);
        if epoch != self.epoch && by_number {
            return self.misfit(&format!("record of epoch {epoch}, the head is at {}", self.epoch));
        }
        match kind {
            RecordKind::Samples => self.replay_samples(tenant, payload, with_starts),
            RecordKind::Metadata => self.replay_metadata(tenant, payload),
            RecordKind::Exemplars => self.replay_exemplars(tenant, payload),
            RecordKind::Histograms => self.replay_histograms(tenant, payload, with_starts),
            RecordKind::Renumbered => self.replay_renumbered(payload),
            RecordKind::Tombstone => self.replay_tombstone(payload),
            RecordKind::Forgotten => self.replay_forgotten(tenant, payload),
            RecordKind::Entries | RecordKind::Batches => {
                Err(format!("a record of kind {kind:?} is not for a partition of metrics"))
            }
        }
    }

    fn replay_samples(
        &mut self,
        tenant: TenantId,
        mut payload: &[u8],
        with_starts: bool,
    ) -> Result<(), String> {
        let from = &mut payload;
        let identities = take_bytes(from)?;
        if let Err(reason) = self.take_identities(tenant, identities) {
            self.misfit(&reason)?;
        }
        let before = self.open.counts.samples;
        self.take_columns(tenant, from, with_starts, Self::apply_ordered)?;
        self.take_columns(tenant, from, with_starts, Self::apply_late)?;
        if let Some(entry) = self.index.tenants.get_mut(&tenant) {
            entry.samples_open += self.open.counts.samples - before;
        }
        is_all(from)
    }

    /// What a record numbered.
    fn take_identities(&mut self, tenant: TenantId, mut payload: &[u8]) -> Result<(), String> {
        if payload.is_empty() {
            return Ok(());
        }
        let from = &mut payload;
        self.take_symbols(from)?;
        self.take_shapes(from)?;
        let first = take_number(from)?;
        for number in counted(first, from)? {
            self.take_series(tenant, number, from)?;
        }
        is_all(from)
    }

    /// Columns of samples, each given to `apply` as number, instant and bits.
    fn take_columns(
        &mut self,
        tenant: TenantId,
        from: &mut &[u8],
        with_starts: bool,
        apply: impl Fn(&mut Self, u32, Point) -> Result<(), String>,
    ) -> Result<(), String> {
        let count = take_u64(from)?;
        let (mut numbers, mut times, mut values) =
            (take_bytes(from)?, take_bytes(from)?, take_bytes(from)?);
        let mut starts = if with_starts { take_bytes(from)? } else { &[] };
        let (mut number, mut ms, mut last_start_ms) = (0i64, 0i64, 0i64);
        for _ in 0..count {
            number = number.wrapping_add(varint::take_signed(&mut numbers).ok_or(DAMAGED)?);
            ms = ms.wrapping_add(varint::take_signed(&mut times).ok_or(DAMAGED)?);
            let bits = take_value(&mut values).ok_or(DAMAGED)?;
            let start_ms = match with_starts {
                true => take_start(&mut starts, &mut last_start_ms).ok_or(DAMAGED)?,
                false => 0,
            };
            let series = usize::try_from(number).ok().and_then(|n| self.series.all.get(n));
            if series.is_none_or(|s| s.tenant != tenant) || ms == i64::MIN {
                self.misfit("sample of an unknown series or without an instant")?;
                continue;
            }
            apply(self, number as u32, Point { ms, bits })?;
            self.note_start(number as u32, ms, start_ms);
        }
        match [numbers, times, values, starts].iter().all(|column| column.is_empty()) {
            true => Ok(()),
            false => Err(DAMAGED.to_owned()),
        }
    }

    #[inline]
    fn apply_ordered(&mut self, number: u32, point: Point) -> Result<(), String> {
        let series = &mut self.series.all[number as usize];
        if !series.buffer.is_empty() && point.ms <= series.last_ms {
            return Err("sample not later than the one before".to_owned());
        }
        self.open.push(series, point);
        self.show(number);
        Ok(())
    }

    fn apply_late(&mut self, number: u32, point: Point) -> Result<(), String> {
        let series = &mut self.series.all[number as usize];
        if point.ms > series.last_ms {
            if !series.buffer.is_empty() {
                // The newer one that made it late was lost, or lay among flushed rows that are not
                // here when a deletion is replayed.
                self.open.push(series, point);
                self.show(number);
                return Ok(());
            }
            // The newest one is in a block; what is as old as this one stays late.
            series.last_ms = point.ms;
            series.flags.set(Flags::LAST_UNKNOWN);
        }
        self.open.insert_late(number, point);
        self.show(number);
        Ok(())
    }

    pub(super) fn take_symbols(&mut self, from: &mut &[u8]) -> Result<(), String> {
        let first = take_number(from)?;
        let symbols = &mut self.labels.symbols;
        let numbers = counted(first, from)?;
        if first > symbols.len() {
            return Err(format!("symbol {first} does not follow"));
        }
        symbols.reserve(numbers.len());
        for number in numbers {
            let text = take_text(from)?;
            let is_known = number < symbols.len();
            // Neither names nor values are ever empty.
            if text.is_empty()
                || !symbols.has_room(text.len())
                || (is_known && symbols.text(number) != text)
            {
                return Err(format!("symbol {number} is empty or another text"));
            }
            if !is_known && symbols.intern(text) != number {
                return Err(format!("symbol {number} does not follow or is there twice"));
            }
        }
        Ok(())
    }

    pub(super) fn take_shapes(&mut self, from: &mut &[u8]) -> Result<(), String> {
        let first = take_number(from)?;
        let (symbols, shapes) = (&self.labels.symbols, &mut self.labels.shapes);
        if first > shapes.len() {
            return Err(format!("shape {first} does not follow"));
        }
        for number in counted(first, from)? {
            let names: Vec<u32> = counted(0, from)?
                .map(|_| take_number_below(from, symbols.len()))
                .collect::<Result<_, _>>()?;
            let is_ordered = names.is_sorted_by(|a, b| symbols.text(*a) < symbols.text(*b));
            let is_known = number < shapes.len();
            if !is_ordered || (is_known && shapes.names(number) != names) {
                return Err(format!("label names of shape {number} are wrong"));
            }
            if !is_known && shapes.intern(&names) != number {
                return Err(format!("shape {number} does not follow or is there twice"));
            }
        }
        Ok(())
    }

    fn take_series(
        &mut self,
        tenant: TenantId,
        number: u32,
        from: &mut &[u8],
    ) -> Result<(), String> {
        let id = SeriesId(take_u128(from)?);
        let is_new = number == self.series.len();
        if !is_new
            && self.series.all.get(number as usize).is_none_or(|s| s.id != id || s.tenant != tenant)
        {
            return Err(format!("series {number} is another one or does not follow"));
        }
        if is_new && self.series.find(tenant, id).is_some() {
            return Err(format!("series {number} is there already"));
        }
        self.take_labels(from, is_new)?;
        if is_new {
            self.series.push(Series::new(tenant, id));
            self.index.add(tenant, number, &self.labels);
        }
        Ok(())
    }

    /// Shape and values of one series; kept if it is new.
    pub(super) fn take_labels(&mut self, from: &mut &[u8], is_new: bool) -> Result<(), String> {
        let shape = take_number_below(from, self.labels.shapes.len())?;
        let values = self.labels.values.len();
        let start = u32::try_from(values).map_err(|_| "too many labels")?;
        for _ in 0..self.labels.shapes.names(shape).len() {
            let value = match take_number_below(from, self.labels.symbols.len()) {
                Ok(value) => value,
                Err(reason) => {
                    self.labels.values.truncate(values);
                    return Err(reason);
                }
            };
            if is_new {
                self.labels.values.push(value);
            }
        }
        if is_new {
            self.labels.at.push(super::identity::LabelsAt { shape, start });
        }
        Ok(())
    }

    fn replay_histograms(
        &mut self,
        tenant: TenantId,
        mut payload: &[u8],
        with_starts: bool,
    ) -> Result<(), String> {
        let from = &mut payload;
        while !from.is_empty() {
            let (number, ms) = (take_number(from)?, take_ms(from)?);
            let start_ms = match with_starts {
                true => varint::take_signed(from).ok_or(DAMAGED)?,
                false => 0,
            };
            let encoded = take_bytes(from)?;
            histogram::decode(encoded).ok_or("histogram is malformed")?;
            if !self.is_of(tenant, number) {
                self.misfit("histogram of an unknown series")?;
                continue;
            }
            self.insert_histogram(number, ms, encoded);
            self.note_start(number, ms, start_ms);
        }
        Ok(())
    }

    fn replay_exemplars(&mut self, tenant: TenantId, mut payload: &[u8]) -> Result<(), String> {
        let from = &mut payload;
        while !from.is_empty() {
            let (number, timestamp_ms) = (take_number(from)?, take_ms(from)?);
            let value = f64::from_bits(take_bits(from)?);
            let labels =
                Labels::from_wire(take_bytes(from)?).map_err(|e| format!("exemplar: {e}"))?;
            if !self.is_of(tenant, number) {
                self.misfit("exemplar of an unknown series")?;
                continue;
            }
            self.open.exemplars.insert(tenant, number, Exemplar { labels, value, timestamp_ms });
        }
        Ok(())
    }

    fn replay_metadata(&mut self, tenant: TenantId, mut payload: &[u8]) -> Result<(), String> {
        let from = &mut payload;
        while !from.is_empty() {
            let (family, metadata) = take_metadata(from)?;
            self.metadata.entry(tenant).or_default().insert(family, metadata);
        }
        Ok(())
    }

    fn replay_forgotten(&mut self, tenant: TenantId, mut payload: &[u8]) -> Result<(), String> {
        let from = &mut payload;
        while !from.is_empty() {
            let family = take_text(from)?;
            if let Some(families) = self.metadata.get_mut(&tenant) {
                families.remove(family);
            }
        }
        if self.metadata.get(&tenant).is_some_and(|families| families.len() == 0) {
            self.metadata.remove(&tenant);
        }
        Ok(())
    }

    fn replay_renumbered(&mut self, mut payload: &[u8]) -> Result<(), String> {
        let mark = self.mark();
        for known in [mark.symbols, mark.shapes, mark.series] {
            if take_number(&mut payload)? != known {
                // The new numbers depend on all old ones: later records will not fit either.
                return self.misfit("not all of what is renumbered is known");
            }
        }
        let survivors =
            RoaringBitmap::deserialize_from(payload).map_err(|e| format!("survivors: {e}"))?;
        if survivors.max().is_some_and(|max| max >= self.series.len()) {
            return Err("a survivor is not among the series".to_owned());
        }
        let is_lost = |n: u32| {
            !survivors.contains(n)
                && (!self.series.all[n as usize].buffer.is_empty() || self.open.has(n))
        };
        if self.frozen.is_some() || (0..self.series.len()).any(is_lost) {
            return Err("a series with samples would be dropped".to_owned());
        }
        self.renumber(&survivors);
        Ok(())
    }

    /// Whether this tenant has a series of this number.
    fn is_of(&self, tenant: TenantId, number: u32) -> bool {
        self.series.all.get(number as usize).is_some_and(|s| s.tenant == tenant)
    }
}

pub(super) fn take_u64(from: &mut &[u8]) -> Result<u64, String> {
    varint::take(from).ok_or_else(|| DAMAGED.to_owned())
}

pub(super) fn take_number(from: &mut &[u8]) -> Result<u32, String> {
    u32::try_from(take_u64(from)?).map_err(|_| DAMAGED.to_owned())
}

fn take_number_below(from: &mut &[u8], end: u32) -> Result<u32, String> {
    match varint::take(from) {
        Some(number) if number < u64::from(end) => Ok(number as u32),
        _ => Err("number out of range".to_owned()),
    }
}

/// The numbers of a counted list that starts at `first`. Every entry takes a byte at least, so a
/// count is believed only as far as there are bytes.
pub(super) fn counted(first: u32, from: &mut &[u8]) -> Result<std::ops::Range<u32>, String> {
    let count = take_number(from)?;
    let end = first.checked_add(count).filter(|_| count as usize <= from.len());
    end.map(|end| first..end).ok_or_else(|| DAMAGED.to_owned())
}

fn take_ms(from: &mut &[u8]) -> Result<i64, String> {
    varint::take_signed(from).filter(|ms| *ms != i64::MIN).ok_or_else(|| DAMAGED.to_owned())
}

fn take_bits(from: &mut &[u8]) -> Result<u64, String> {
    let (bytes, rest) = from.split_first_chunk::<8>().ok_or(DAMAGED)?;
    *from = rest;
    Ok(u64::from_le_bytes(*bytes))
}

pub(super) fn take_u128(from: &mut &[u8]) -> Result<u128, String> {
    let (bytes, rest) = from.split_first_chunk::<16>().ok_or(DAMAGED)?;
    *from = rest;
    Ok(u128::from_le_bytes(*bytes))
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = usize::try_from(take_u64(from)?).map_err(|_| DAMAGED)?;
    let (bytes, rest) = from.split_at_checked(length).ok_or(DAMAGED)?;
    *from = rest;
    Ok(bytes)
}

pub(super) fn take_text<'a>(from: &mut &'a [u8]) -> Result<&'a str, String> {
    std::str::from_utf8(take_bytes(from)?).map_err(|e| format!("text: {e}"))
}

pub(super) fn take_metadata(from: &mut &[u8]) -> Result<(String, Metadata), String> {
    let family = take_text(from)?.to_owned();
    let (&kind, rest) = from.split_first().ok_or(DAMAGED)?;
    *from = rest;
    let kind = MetricKind::from_wire(u64::from(kind));
    let (help, unit) = (take_text(from)?.to_owned(), take_text(from)?.to_owned());
    Ok((family, Metadata { kind, help, unit }))
}

pub(super) fn is_all(from: &[u8]) -> Result<(), String> {
    if from.is_empty() { Ok(()) } else { Err("bytes follow the payload".to_owned()) }
}
