//! The walk of remote write 2.0: takes `io.prometheus.write.v2.Request` apart where it lies.
//!
//! ```text
//! Request { symbols = 4
//!           timeseries = 5 { labels_refs = 1 (pairs of places in symbols)
//!                            samples = 2 { value = 1, timestamp = 2, start_timestamp = 3 }
//!                            histograms = 3
//!                            exemplars = 4 { labels_refs = 1, value = 2, timestamp = 3 }
//!                            metadata = 5 { type = 1, help_ref = 3, unit_ref = 4 }
//!                            created_timestamp = 6 (early drafts) } }
//! ```
//!
//! Symbols are noted as ranges of the body, the length before each included: a label field is two
//! of them with three bytes around, so it is put together by copying and is at once in the form in
//! which series are known. Fields may come in any order, so symbols are looked for first.
//!
//! What is wrong with one series refuses that series and is told; the others are stored. The start
//! timestamp that early senders give a series stands in where a sample has none of its own.

use std::collections::HashSet;
use std::sync::Arc;

use model::{Exemplar, Labels, METRIC_NAME, Metadata, MetricKind, Sample};
use storage::{AppendOutcome, MetricRows, Reason, SeriesRows};
use tenancy::{Limits, TenantId, WriteScope};

use super::histogram;
use super::labels::{self, shortened};
use super::walk::{BODY_BYTES_MAX, EXEMPLAR_CHARS_MAX, chars, too_long};
use crate::caps::{Caps, WalkError, room};
use crate::families::KnownFamilies;
use crate::label_fields::{LabelFields, Piece};
use crate::wire::{Reader, WireError};

/// Which metadata is news.
#[derive(Debug)]
pub struct News {
    /// Whose metadata it is.
    pub tenant: TenantId,
    /// What is known.
    pub known: Arc<KnownFamilies>,
}

impl News {
    /// What is news for the tenant of a request. `None` if its rows are routed: what is news is asked
    /// for each tenant when it is known which that are.
    pub(crate) fn of(scope: &WriteScope, known: &Arc<KnownFamilies>) -> Option<Self> {
        let known = Arc::clone(known);
        scope.routes().is_none().then(|| Self { tenant: scope.tenant(), known })
    }
}

/// Takes a decompressed body apart into `rows`, which must be empty. Rows that are refused one by
/// one are counted in the outcome. Without `news` all metadata is kept.
pub fn walk_v2<'a>(
    body: &'a [u8],
    limits: &Limits,
    caps: &Caps,
    news: Option<&News>,
    rows: &mut MetricRows<'a>,
) -> Result<AppendOutcome, WalkError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(WalkError::TooMany { what: "bytes", limit: BODY_BYTES_MAX });
    }
    rows.body = body;
    let symbols = Symbols::read(body, caps)?;
    let mut walk = Walk {
        limits,
        caps,
        news,
        rows,
        symbols,
        refused: AppendOutcome::default(),
        refs: Vec::with_capacity(64),
        fields: LabelFields::new(labels::bytes_max(limits)),
        exemplar_refs: Vec::new(),
        described: HashSet::default(),
        buckets: 0,
        label_bytes_max: labels::bytes_max(limits),
    };
    let mut request = Reader::new(body);
    while !request.is_at_end() {
        match request.varint()? {
            0x2a => walk.time_series(request.message()?)?,
            0x22 => {
                request.range()?;
            }
            tag => request.skip(tag, &[4, 5])?,
        }
    }
    Ok(walk.refused)
}

/// [`METRIC_NAME`] with its length before it.
const METRIC_NAME_WIRE: &[u8] = b"\x08__name__";

/// One text of the request.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    /// Where its length begins in the body, where the text does, and where it ends.
    length_at: u32,
    start: u32,
    end: u32,
}

struct Symbols<'a> {
    body: &'a [u8],
    all: Vec<Symbol>,
}

impl<'a> Symbols<'a> {
    fn read(body: &'a [u8], caps: &Caps) -> Result<Self, WalkError> {
        let mut all = Vec::with_capacity(256);
        let mut request = Reader::new(body);
        while !request.is_at_end() {
            match request.varint()? {
                0x22 => {
                    room(all.len(), caps.symbols_max, "symbols")?;
                    let length_at = request.at() as u32;
                    let text = request.range()?;
                    all.push(Symbol { length_at, start: text.start as u32, end: text.end as u32 });
                }
                0x2a => {
                    request.range()?;
                }
                tag => request.skip(tag, &[4, 5])?,
            }
        }
        let symbols = Self { body, all };
        match symbols.text(0) {
            None | Some([]) => Ok(symbols),
            Some(text) => Err(WalkError::Wrong(format!(
                "the first symbol must be empty, it is {:?}",
                shortened(text)
            ))),
        }
    }

    #[inline(always)]
    fn text(&self, place: u32) -> Option<&'a [u8]> {
        let symbol = self.all.get(place as usize)?;
        Some(&self.body[symbol.start as usize..symbol.end as usize])
    }

    /// The text with its length before it, as it lies in the body.
    #[inline(always)]
    fn wire(&self, place: u32) -> Option<Piece<'a>> {
        let symbol = self.all.get(place as usize)?;
        Piece::of(self.body, symbol.length_at as usize, symbol.end as usize)
    }

    /// A text that must be one; nothing at all is the empty one.
    fn utf8(&self, place: u32) -> Option<&'a str> {
        match (place, self.text(place)) {
            (0, None) => Some(""),
            (_, text) => std::str::from_utf8(text?).ok(),
        }
    }
}

struct Walk<'w, 'a> {
    limits: &'w Limits,
    caps: &'w Caps,
    news: Option<&'w News>,
    rows: &'w mut MetricRows<'a>,
    symbols: Symbols<'a>,
    refused: AppendOutcome,
    /// Label references of the series being read.
    refs: Vec<u32>,
    /// Its label fields.
    fields: LabelFields,
    exemplar_refs: Vec<u32>,
    /// Metadata of this request so far, by its places: name, help, unit, and type.
    described: HashSet<(u32, u32, u32, u32), hashbrown::DefaultHashBuilder>,
    /// Buckets of all histograms so far.
    buckets: usize,
    label_bytes_max: usize,
}

/// Places of a series' metadata.
#[derive(Default, Clone, Copy)]
struct Described {
    kind: u32,
    help: u32,
    unit: u32,
}

/// Why one series is not taken.
type Wrong = (Reason, String);

impl<'a> Walk<'_, 'a> {
    fn time_series(&mut self, mut message: Reader<'a>) -> Result<(), WalkError> {
        let mut series = SeriesRows {
            labels: 0..0,
            samples: self.rows.samples.len() as u32..0,
            histograms: self.rows.histograms.len() as u32..0,
            exemplars: self.rows.exemplars.len() as u32..0,
        };
        let (mut described, mut created_ms) = (Described::default(), 0);
        self.refs.clear();
        while !message.is_at_end() {
            match message.varint()? {
                0x0a => packed(message.message()?, &mut self.refs, 2 * self.limits.labels_max)?,
                0x08 => push(&mut self.refs, message.varint()?, 2 * self.limits.labels_max),
                0x12 => {
                    room(self.rows.samples.len(), self.caps.samples_max, "samples")?;
                    let (sample, start_ms) = sample(message.message()?)?;
                    self.rows.push_sample(sample, start_ms);
                }
                0x1a => self.histogram(message.message()?)?,
                0x22 => self.exemplar(message.message()?)?,
                0x2a => described = metadata(message.message()?)?,
                0x30 => created_ms = message.varint()? as i64,
                tag => message.skip(tag, &[1, 2, 3, 4, 5, 6])?,
            }
        }
        series.samples.end = self.rows.samples.len() as u32;
        series.histograms.end = self.rows.histograms.len() as u32;
        series.exemplars.end = self.rows.exemplars.len() as u32;
        if created_ms != 0 {
            self.rows.start_unknown_at(&series, created_ms);
        }
        let spilled = self.rows.spill.len();
        match self.labels(&series) {
            Ok(name) => {
                room(self.rows.series.len(), self.caps.series_max, "series")?;
                let start = (self.rows.body.len() + spilled) as u32;
                series.labels = start..(self.rows.body.len() + self.rows.spill.len()) as u32;
                self.rows.series.push(series);
                if self.rows.spill.len() > self.caps.label_bytes_max {
                    let limit = self.caps.label_bytes_max;
                    return Err(WalkError::TooMany { what: "bytes of labels", limit });
                }
                self.describe(name, described)?;
            }
            Err((reason, text)) => {
                self.rows.spill.truncate(spilled);
                self.refuse(&series, reason, text);
            }
        }
        Ok(())
    }

    /// Puts the label fields of the series just read into the spill. Gives the place of its name.
    #[inline(always)]
    fn labels(&mut self, series: &SeriesRows) -> Result<u32, Wrong> {
        if self.refs.len() > 2 * self.limits.labels_max || self.refs.len() % 2 == 1 {
            return Err(self.wrong_count());
        }
        let mut metric = 0;
        self.fields.clear();
        for pair in self.refs.chunks_exact(2) {
            let (Some(name), Some(value)) =
                (self.symbols.wire(pair[0]), self.symbols.wire(pair[1]))
            else {
                return Err(self.wrong_ref(pair));
            };
            self.fields.put(name, value);
            if name.bytes() == METRIC_NAME_WIRE {
                metric = pair[1];
            }
        }
        let wire = self.fields.bytes();
        if wire.len() > self.label_bytes_max {
            return Err(labels::refusal(wire, self.refs.len() / 2, self.limits));
        }
        self.rows.spill.extend_from_slice(wire);
        match (series.samples.is_empty(), series.histograms.is_empty()) {
            (true, true) => Err((Reason::EmptySeries, self.told("neither samples nor histograms"))),
            (false, false) => Err((Reason::EmptySeries, self.told("both samples and histograms"))),
            _ => Ok(metric),
        }
    }

    #[cold]
    fn told(&self, what: &str) -> String {
        let name = self.refs.chunks_exact(2).find_map(|pair| {
            let is_name = self.symbols.text(pair[0])? == METRIC_NAME.as_bytes();
            is_name.then(|| self.symbols.text(pair[1]))?
        });
        format!("series {} has {what}", shortened(name.unwrap_or(b"without name")))
    }

    #[cold]
    fn wrong_count(&self) -> Wrong {
        let (refs, limit) = (self.refs.len(), self.limits.labels_max);
        match refs > 2 * limit {
            true => {
                let what = format!("more labels than {limit} (labels_max)");
                (Reason::TooManyLabels, self.told(&what))
            }
            false => {
                let what = format!("{refs} label references, which must come in pairs");
                (Reason::InvalidLabels, self.told(&what))
            }
        }
    }

    #[cold]
    fn wrong_ref(&self, pair: &[u32]) -> Wrong {
        let symbols = self.symbols.all.len();
        let place = pair.iter().find(|place| **place as usize >= symbols).unwrap_or(&pair[0]);
        let what = format!("label reference {place}, there are {symbols} symbols");
        (Reason::InvalidLabels, self.told(&what))
    }

    /// Forgets the rows of a series and counts them.
    #[cold]
    fn refuse(&mut self, series: &SeriesRows, reason: Reason, text: String) {
        let rows = (series.samples.len() + series.histograms.len() + series.exemplars.len()) as u64;
        self.refused.reject(reason, rows.max(1), || text);
        self.rows.truncate_samples(series.samples.start as usize);
        self.rows.truncate_histograms(series.histograms.start as usize);
        self.rows.exemplars.truncate(series.exemplars.start as usize);
    }

    fn histogram(&mut self, message: Reader<'a>) -> Result<(), WalkError> {
        let limits = (self.caps.histograms_max, self.caps.histogram_buckets_max);
        histogram::read_into(message, self.rows, &mut self.buckets, limits)
    }

    fn exemplar(&mut self, mut message: Reader<'a>) -> Result<(), WalkError> {
        room(self.rows.exemplars.len(), self.caps.exemplars_max, "exemplars")?;
        let (mut value, mut timestamp_ms) = (0.0, 0);
        self.exemplar_refs.clear();
        // Two characters a label at least.
        let refs_max = EXEMPLAR_CHARS_MAX;
        while !message.is_at_end() {
            match message.varint()? {
                0x0a => packed(message.message()?, &mut self.exemplar_refs, refs_max)?,
                0x08 => push(&mut self.exemplar_refs, message.varint()?, refs_max),
                0x11 => value = message.double()?,
                0x18 => timestamp_ms = message.varint()? as i64,
                tag => message.skip(tag, &[1, 2, 3])?,
            }
        }
        match self.exemplar_labels() {
            Ok(labels) => self.rows.exemplars.push(Exemplar { labels, value, timestamp_ms }),
            Err(text) => self.refused.reject(Reason::InvalidExemplar, 1, || text),
        }
        Ok(())
    }

    fn exemplar_labels(&self) -> Result<Labels, String> {
        let refs = &self.exemplar_refs;
        if refs.len() > EXEMPLAR_CHARS_MAX {
            return Err(too_long());
        }
        if refs.len() % 2 == 1 {
            return Err(format!(
                "exemplar has {} label references, which must come in pairs",
                refs.len()
            ));
        }
        let mut pairs = Vec::with_capacity(refs.len() / 2);
        for pair in refs.chunks_exact(2) {
            let (name, value) = (self.symbols.utf8(pair[0]), self.symbols.utf8(pair[1]));
            let (Some(name), Some(value)) = (name, value) else {
                return Err(
                    "exemplar has a label reference that is out of range or not UTF-8".to_owned()
                );
            };
            if name.is_empty() {
                return Err("exemplar: label with an empty name".to_owned());
            }
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(format!(
                    "exemplar: label name {:?} occurs twice",
                    shortened(name.as_bytes())
                ));
            }
            if name.len() + value.len() > 4 * EXEMPLAR_CHARS_MAX {
                return Err(too_long());
            }
            pairs.push((name, value));
        }
        let labels = Labels::from_pairs(pairs);
        if chars(&labels) > EXEMPLAR_CHARS_MAX { Err(too_long()) } else { Ok(labels) }
    }

    /// Keeps metadata that this request has not told yet and that is not known from others.
    #[inline(always)]
    fn describe(&mut self, name: u32, is: Described) -> Result<(), WalkError> {
        let tells = is.kind != 0 || is.help != 0 || is.unit != 0;
        if tells && self.described.insert((name, is.help, is.unit, is.kind)) {
            self.describe_new(name, is)?;
        }
        Ok(())
    }

    #[cold]
    fn describe_new(&mut self, name: u32, is: Described) -> Result<(), WalkError> {
        room(self.rows.metadata.len(), self.caps.metadata_max, "metric families with metadata")?;
        let kind = MetricKind::from_wire(u64::from(is.kind));
        let texts = [name, is.help, is.unit].map(|place| self.symbols.utf8(place));
        let [Some(name), Some(help), Some(unit)] = texts else {
            self.refused.reject(Reason::InvalidMetadata, 1, || {
                "metadata has a reference that is out of range or not UTF-8".to_owned()
            });
            return Ok(());
        };
        let family = family_of(name, kind);
        let is_news = |n: &News| n.known.is_news(n.tenant, family, (kind, help, unit));
        if !family.is_empty() && self.news.is_none_or(is_news) {
            let metadata = Metadata { kind, help: help.to_owned(), unit: unit.to_owned() };
            let is_told = |(known, told): &(String, Metadata)| known == family && *told == metadata;
            // The parts of one histogram come next to each other and say the same.
            if !self.rows.metadata.last().is_some_and(is_told) {
                self.rows.metadata.push((family.to_owned(), metadata));
            }
        }
        Ok(())
    }
}

/// The family of a series' name: parts of histograms and summaries are told with each of them.
fn family_of(name: &str, kind: MetricKind) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram => &["_bucket", "_count", "_sum"],
        MetricKind::GaugeHistogram => &["_bucket", "_gcount", "_gsum"],
        MetricKind::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// References, as long as there are not more than `limit`; one more marks that there were.
#[inline(always)]
fn push(refs: &mut Vec<u32>, place: u64, limit: usize) {
    if refs.len() <= limit {
        refs.push(place as u32);
    }
}

#[inline(always)]
fn packed(mut numbers: Reader<'_>, refs: &mut Vec<u32>, limit: usize) -> Result<(), WireError> {
    while !numbers.is_at_end() {
        push(refs, numbers.varint()?, limit);
    }
    Ok(())
}

#[inline(always)]
fn sample(mut message: Reader<'_>) -> Result<(Sample, i64), WireError> {
    let (mut value, mut timestamp_ms, mut start_ms) = (0.0, 0, 0);
    while !message.is_at_end() {
        match message.varint()? {
            0x09 => value = message.double()?,
            0x10 => timestamp_ms = message.varint()? as i64,
            0x18 => start_ms = message.varint()? as i64,
            tag => message.skip(tag, &[1, 2, 3])?,
        }
    }
    Ok((Sample { timestamp_ms, value }, start_ms))
}

fn metadata(mut message: Reader<'_>) -> Result<Described, WireError> {
    let mut is = Described::default();
    while !message.is_at_end() {
        match message.varint()? {
            0x08 => is.kind = message.varint()? as u32,
            0x18 => is.help = message.varint()? as u32,
            0x20 => is.unit = message.varint()? as u32,
            tag => message.skip(tag, &[1, 3, 4])?,
        }
    }
    Ok(is)
}
