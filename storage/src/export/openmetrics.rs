//! OpenMetrics text, as `promtool tsdb create-blocks-from openmetrics` takes it: a line for each
//! sample, the samples of a series together and in order of time, `# EOF` at the end.
//!
//! Types are not written: every name is a family of its own, of unknown type.

use std::fmt::Write as _;
use std::io::Write;

use model::{Labels, METRIC_NAME, is_stale};

use super::{Exported, failed};
use crate::{Error, SeriesSamples};

pub(super) struct OpenMetrics<W: Write> {
    out: W,
    text: String,
}

/// Bytes of text that are handed on at a time.
const TEXT_BYTES: usize = 256 << 10;

impl<W: Write> OpenMetrics<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, text: String::with_capacity(TEXT_BYTES + 4096) }
    }

    pub(super) fn add(
        &mut self,
        labels: &Labels,
        samples: &SeriesSamples,
        exported: &mut Exported,
    ) -> Result<(), Error> {
        exported.histograms_left_out += samples.histograms.len() as u64;
        let stale = samples.values.iter().filter(|value| is_stale(**value)).count();
        exported.stale_left_out += stale as u64;
        if stale == samples.values.len() {
            return Ok(());
        }
        exported.series += 1;
        let series = series_of(labels);
        for (ms, value) in samples.timestamps.iter().zip(&samples.values) {
            if is_stale(*value) {
                continue;
            }
            self.text.push_str(&series);
            self.text.push(' ');
            put_value(&mut self.text, *value);
            self.text.push(' ');
            put_seconds(&mut self.text, *ms);
            self.text.push('\n');
            exported.samples += 1;
            if self.text.len() >= TEXT_BYTES {
                self.hand_on()?;
            }
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<(), Error> {
        self.out.write_all(self.text.as_bytes()).map_err(failed)?;
        self.text.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.text.push_str("# EOF\n");
        self.hand_on()?;
        self.out.flush().map_err(failed)
    }
}

/// Name and labels. Names beyond what OpenMetrics 1.0 has are quoted, as Prometheus 3 writes them.
fn series_of(labels: &Labels) -> String {
    let name = labels.get(METRIC_NAME).unwrap_or("");
    let is_plain_name = is_plain(name, true);
    let mut text = String::new();
    if is_plain_name {
        text.push_str(name);
    }
    let mut parts: Vec<String> = Vec::new();
    if !is_plain_name {
        parts.push(quoted(name));
    }
    for (label, value) in labels.iter().filter(|(label, _)| *label != METRIC_NAME) {
        let label = if is_plain(label, false) { label.to_owned() } else { quoted(label) };
        parts.push(format!("{label}={}", quoted(value)));
    }
    if !parts.is_empty() {
        let _ = write!(text, "{{{}}}", parts.join(","));
    }
    text
}

fn is_plain(name: &str, is_metric: bool) -> bool {
    let fits = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic()
            || c == '_'
            || (c == ':' && is_metric)
            || (at > 0 && c.is_ascii_digit())
    };
    !name.is_empty() && name.char_indices().all(fits)
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn put_value(out: &mut String, value: f64) {
    let _ = match value {
        v if v.is_nan() => write!(out, "NaN"),
        v if v.is_infinite() && v > 0.0 => write!(out, "+Inf"),
        v if v.is_infinite() => write!(out, "-Inf"),
        v => write!(out, "{v:?}"),
    };
}

/// Seconds since the Unix epoch. Prometheus' reader multiplies by 1,000 and cuts off what is
/// behind the point, so that a number a hair above is written where the product falls below.
fn put_seconds(out: &mut String, ms: i64) {
    let exact = ms as f64 / 1000.0;
    let candidates = [exact, exact.next_up(), exact.next_down()];
    let cut = |seconds: &f64| (seconds * 1000.0) as i64 == ms;
    let seconds = candidates.into_iter().find(cut).unwrap_or(exact);
    let _ = write!(out, "{seconds}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn series(labels: &[(&str, &str)], expected: &str) {
        assert_eq!(series_of(&Labels::from_pairs(labels.iter().copied())), expected);
    }

    #[test]
    fn series_are_written_as_prometheus_reads_them() {
        series(&[("__name__", "up")], "up");
        series(&[("__name__", "a:b_2"), ("c", "d")], "a:b_2{c=\"d\"}");
        series(&[("__name__", "a"), ("c", "\"\\\n")], r#"a{c="\"\\\n"}"#);
        series(&[("__name__", "a.b"), ("c.d", "e")], r#"{"a.b","c.d"="e"}"#);
        series(&[("__name__", "2a")], r#"{"2a"}"#);
    }

    #[test]
    fn values_keep_their_bits() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1e300, "1e300"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = String::new();
            put_value(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn instants_survive_a_reader_that_cuts_off() {
        let mut shifted = 0;
        let now = (0..50_000i64).map(|n| 1_700_000_000_000 + n * 7_919);
        for ms in (-5..100_000).chain(now) {
            let mut out = String::new();
            put_seconds(&mut out, ms);
            let read: f64 = out.parse().expect("a number");
            assert_eq!((read * 1000.0) as i64, ms, "{out}");
            assert_eq!((read * 1000.0).round() as i64, ms, "{out}");
            shifted += u32::from(read != ms as f64 / 1000.0);
        }
        assert!(shifted > 0, "no instant needed it");
    }
}
