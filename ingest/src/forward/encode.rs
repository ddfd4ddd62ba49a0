//! Rows as requests of remote write 1.0 and 2.0.

use hashbrown::HashMap;
use model::{METRIC_NAME, Metadata};
use storage::{MetricRows, SeriesRows};
use tenancy::TenantId;

use super::known::Known;
use super::record::{Counts, exemplars_of, histograms_of, samples_of};
use super::wire::{put_bytes, put_double, put_histogram, put_number, put_whole};
use crate::build::put_label;
use crate::ha::fields;

/// The schema of histograms with custom bounds, which 1.0 does not have.
const CUSTOM_BOUNDS: i32 = -53;

/// Some rows of one series.
#[derive(Debug, Clone)]
pub(super) struct Piece<'r, 'b> {
    pub(super) tenant: TenantId,
    pub(super) rows: &'r MetricRows<'b>,
    pub(super) series: SeriesRows,
}

/// A request's message, not compressed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) body: Vec<u8>,
    pub(super) counts: Counts,
    /// Rows that the message has no place for.
    pub(super) left_out: Counts,
    /// Rows of what is no label set; the store has refused them.
    pub(super) unreadable: Counts,
}

/// A label set as senders must send it: sorted, no value empty. `None` if it is none.
fn label_set<'r>(wire: &'r [u8], pairs: &mut Vec<(&'r str, &'r str)>) -> Option<()> {
    pairs.clear();
    let mut bytes = 0;
    for (field, name, value) in fields(wire) {
        bytes += field.len();
        if name.is_empty() {
            return None;
        }
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    if bytes != wire.len() {
        return None;
    }
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        pairs.sort_by(|a, b| a.0.cmp(b.0));
    }
    let is_set = pairs.is_sorted_by(|a, b| a.0 < b.0) && !pairs.is_empty();
    is_set.then_some(())
}

/// `prometheus.WriteRequest`. It has no place for start timestamps and custom bounds.
pub(super) fn message_v1(pieces: &[Piece<'_, '_>]) -> Message {
    let mut done = Message::default();
    let (mut pairs, mut message, mut field) = (Vec::new(), Vec::new(), Vec::new());
    for Piece { rows, series, .. } in pieces {
        let mut counts = Counts::of(series);
        if label_set(rows.labels_of(series), &mut pairs).is_none() {
            done.unreadable += counts;
            continue;
        }
        message.clear();
        pairs.iter().for_each(|(name, value)| put_label(&mut message, name, [value, ""]));
        for sample in samples_of(rows, series) {
            field.clear();
            put_double(&mut field, 1, sample.value);
            put_number(&mut field, 2, sample.timestamp_ms as u64);
            put_whole(&mut message, 2, &field);
        }
        for exemplar in exemplars_of(rows, series) {
            field.clear();
            exemplar.labels.encode(&mut field);
            put_double(&mut field, 2, exemplar.value);
            put_number(&mut field, 3, exemplar.timestamp_ms as u64);
            put_bytes(&mut message, 3, &field);
        }
        for (timestamp_ms, histogram) in histograms_of(rows, series) {
            if histogram.schema == CUSTOM_BOUNDS {
                let one = Counts { histograms: 1, ..Counts::default() };
                counts -= one;
                done.left_out += one;
                continue;
            }
            field.clear();
            put_histogram(&mut field, (*timestamp_ms, 0), histogram);
            put_bytes(&mut message, 4, &field);
        }
        if counts.all() > 0 {
            put_bytes(&mut done.body, 1, &message);
            done.counts += counts;
        }
    }
    done
}

/// A request of 1.0 that tells metadata and nothing else.
pub(super) fn metadata_v1(families: &[(String, Metadata)]) -> Vec<u8> {
    let (mut body, mut field) = (Vec::new(), Vec::new());
    for (family, told) in families {
        field.clear();
        put_number(&mut field, 1, told.kind as u64);
        put_bytes(&mut field, 2, family.as_bytes());
        put_bytes(&mut field, 4, told.help.as_bytes());
        put_bytes(&mut field, 5, told.unit.as_bytes());
        put_bytes(&mut body, 3, &field);
    }
    body
}

/// Texts of a request of 2.0, each once, the empty one first.
struct Symbols<'r> {
    places: HashMap<&'r str, u32>,
    /// Field 4 of the request.
    fields: Vec<u8>,
}

impl<'r> Symbols<'r> {
    fn new() -> Self {
        let mut symbols = Self { places: HashMap::new(), fields: Vec::new() };
        symbols.place("");
        symbols
    }

    fn place(&mut self, text: &'r str) -> u32 {
        let next = self.places.len() as u32;
        *self.places.entry(text).or_insert_with(|| {
            put_whole(&mut self.fields, 4, text.as_bytes());
            next
        })
    }

    /// Field 1 of a series or an exemplar.
    fn put_refs(&mut self, out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'r str, &'r str)>) {
        let mut packed = Vec::with_capacity(64);
        for (name, value) in pairs {
            model::varint::put(&mut packed, u64::from(self.place(name)));
            model::varint::put(&mut packed, u64::from(self.place(value)));
        }
        put_bytes(out, 1, &packed);
    }
}

/// `io.prometheus.write.v2.Request`. Metadata is told with its series, if any is known.
pub(super) fn message_v2<'r>(pieces: &'r [Piece<'r, '_>], known: Option<&'r Known>) -> Message {
    let mut done = Message::default();
    let (mut symbols, mut all) = (Symbols::new(), Vec::new());
    let (mut pairs, mut field) = (Vec::new(), Vec::new());
    let (mut head, mut tail, mut message) = (Vec::new(), Vec::new(), Vec::new());
    for Piece { tenant, rows, series } in pieces {
        if label_set(rows.labels_of(series), &mut pairs).is_none() {
            done.unreadable += Counts::of(series);
            continue;
        }
        head.clear();
        symbols.put_refs(&mut head, pairs.iter().copied());
        tail.clear();
        for exemplar in exemplars_of(rows, series) {
            field.clear();
            symbols.put_refs(&mut field, exemplar.labels.iter());
            put_double(&mut field, 2, exemplar.value);
            put_number(&mut field, 3, exemplar.timestamp_ms as u64);
            put_bytes(&mut tail, 4, &field);
        }
        let name = pairs.iter().find(|(name, _)| *name == METRIC_NAME).map_or("", |pair| pair.1);
        if let Some(told) = known.and_then(|known| known.of_series(*tenant, name)) {
            field.clear();
            put_number(&mut field, 1, told.kind as u64);
            put_number(&mut field, 3, u64::from(symbols.place(&told.help)));
            put_number(&mut field, 4, u64::from(symbols.place(&told.unit)));
            put_bytes(&mut tail, 5, &field);
        }
        // A series has samples or histograms, never both.
        message.clear();
        put_samples(&mut message, rows, series);
        let histograms_follow = !series.histograms.is_empty();
        if !message.is_empty() || !histograms_follow {
            put_series(&mut all, &head, &message, &tail);
            // Exemplars and metadata are told once.
            tail.clear();
        }
        if histograms_follow {
            message.clear();
            put_histograms(&mut message, rows, series);
            put_series(&mut all, &head, &message, &tail);
        }
        done.counts += Counts::of(series);
    }
    if done.counts.all() > 0 {
        done.body = symbols.fields;
        done.body.extend_from_slice(&all);
    }
    done
}

/// Field 5 of the request.
fn put_series(out: &mut Vec<u8>, head: &[u8], rows: &[u8], tail: &[u8]) {
    model::varint::put(out, 5 << 3 | 2);
    model::varint::put(out, (head.len() + rows.len() + tail.len()) as u64);
    [head, rows, tail].iter().for_each(|part| out.extend_from_slice(part));
}

fn put_samples(out: &mut Vec<u8>, rows: &MetricRows<'_>, series: &SeriesRows) {
    let mut field = Vec::with_capacity(32);
    let starts = rows.sample_starts_of(series).iter().copied().chain(std::iter::repeat(0));
    for (sample, start_ms) in samples_of(rows, series).iter().zip(starts) {
        field.clear();
        put_double(&mut field, 1, sample.value);
        put_number(&mut field, 2, sample.timestamp_ms as u64);
        put_number(&mut field, 3, start_ms as u64);
        put_whole(out, 2, &field);
    }
}

fn put_histograms(out: &mut Vec<u8>, rows: &MetricRows<'_>, series: &SeriesRows) {
    let mut field = Vec::new();
    let starts = rows.histogram_starts_of(series).iter().copied().chain(std::iter::repeat(0));
    for ((timestamp_ms, histogram), start_ms) in histograms_of(rows, series).iter().zip(starts) {
        field.clear();
        put_histogram(&mut field, (*timestamp_ms, start_ms), histogram);
        put_bytes(out, 3, &field);
    }
}

#[cfg(test)]
mod tests {
    use tenancy::Limits;

    use super::*;
    use crate::Caps;
    use crate::forward::testing::{everything, shown};
    use crate::remote_write::{walk, walk_v2};

    fn pieces<'r>(rows: &'r MetricRows<'static>) -> Vec<Piece<'r, 'static>> {
        let piece =
            |series: &SeriesRows| Piece { tenant: TenantId(1), rows, series: series.clone() };
        rows.series.iter().map(piece).collect()
    }

    #[test]
    fn receivers_of_2_0_read_what_was_queued() {
        let (rows, mut known) = (everything(), Known::default());
        rows.metadata.iter().for_each(|(name, told)| known.learn(TenantId(1), name, told));
        let pieces = pieces(&rows);
        let sent = message_v2(&pieces, Some(&known));
        assert_eq!(sent.counts, Counts { samples: 5, histograms: 2, exemplars: 1 });
        let (mut read, limits, caps) = (MetricRows::default(), Limits::default(), Caps::default());
        let refused = walk_v2(&sent.body, &limits, &caps, None, &mut read).expect("2.0");
        assert!(refused.rejected.is_empty(), "{refused:?}");
        assert_eq!(shown(&read), shown(&rows));
    }

    #[test]
    fn receivers_of_1_0_read_all_that_it_has_a_place_for() {
        let rows = everything();
        let sent = message_v1(&pieces(&rows));
        assert_eq!(sent.counts, Counts { samples: 5, histograms: 1, exemplars: 1 });
        assert_eq!(sent.left_out, Counts { histograms: 1, ..Counts::default() });
        let body = [sent.body, metadata_v1(&rows.metadata)].concat();
        let (mut read, limits, caps) = (MetricRows::default(), Limits::default(), Caps::default());
        let refused = walk(&body, &limits, &caps, &mut read).expect("1.0");
        assert!(refused.rejected.is_empty(), "{refused:?}");
        let has_place = |line: &&String| !line.contains("schema: -53");
        let without_starts = |line: &String| match line.split_once(" since ") {
            Some((before, _)) => format!("{before} since 0"),
            None => line.clone(),
        };
        let all = shown(&rows);
        let expected: Vec<String> = all.iter().filter(has_place).map(without_starts).collect();
        assert_eq!(shown(&read), expected);
    }

    #[test]
    fn a_series_with_both_kinds_becomes_two_of_2_0() {
        let mut rows = everything();
        let both = SeriesRows {
            labels: rows.series[0].labels.clone(),
            samples: rows.series[0].samples.clone(),
            histograms: rows.series[1].histograms.clone(),
            exemplars: rows.series[0].exemplars.clone(),
        };
        rows.series = vec![both];
        let pieces = pieces(&rows);
        let sent = message_v2(&pieces, None);
        let (mut read, limits, caps) = (MetricRows::default(), Limits::default(), Caps::default());
        walk_v2(&sent.body, &limits, &caps, None, &mut read).expect("2.0");
        let shape = |s: &SeriesRows| (s.samples.len(), s.histograms.len(), s.exemplars.len());
        assert_eq!(read.series.iter().map(shape).collect::<Vec<_>>(), [(5, 0, 1), (0, 2, 0)]);
    }

    #[test]
    fn labels_are_sent_sorted_or_not_at_all() {
        #[track_caller]
        fn check(pairs: &[(&str, &str)], end: &[u8], expected: Option<&[(&str, &str)]>) {
            let mut wire = Vec::new();
            pairs.iter().for_each(|(name, value)| put_label(&mut wire, name, [value, ""]));
            wire.extend_from_slice(end);
            let mut found = Vec::new();
            let is_set = label_set(&wire, &mut found).is_some();
            assert_eq!(is_set.then_some(&found[..]), expected);
        }
        check(&[("z", "1"), ("__name__", "x")], b"", Some(&[("__name__", "x"), ("z", "1")]));
        check(&[("a", "1"), ("b", "")], b"", Some(&[("a", "1")]));
        check(&[("a", "1"), ("a", "2")], b"", None);
        check(&[("", "1")], b"", None);
        check(&[], b"", None);
        check(&[("a", "1")], b"\x0a\x7f", None);
    }
}
