//! Logs, the whole way: lines over HTTP with syncs, what they take in memory and on disk, and
//! questions through Loki's API and the search. Taffrail alone: its peers could not be packaged
//! (docs/benchmarks.md quotes their figures).

use std::time::Instant;

use anyhow::{Context, Result, bail};
use testkit::http::escaped;
use testkit::logs::{LogLine, LogScale, LogSet};

use crate::load::{self, CONNECTIONS};
use crate::log_bodies::{FORMS, requests};
use crate::scenario::{Figure, PORT, Run, fresh, measure_query};
use crate::sender;
use crate::system::{Configuration, Kind, System};

/// Bytes of lines that go through each door but the first.
const OTHERS_BYTES: u64 = 60_000_000;

/// A line in so many gives one of its identifiers to be looked for.
const NEEDLE_EVERY: u64 = 40_009;

/// Nobody is to be slowed down, and questions about everything are answered.
const LIMITS: &str = "entry_bytes_per_second = 1e12\nentry_bytes_burst = 1e12\n";

/// What was written, and what may be asked of it.
struct Set {
    scale: LogScale,
    needles: Vec<String>,
    raw: u64,
    lines: u64,
}

/// The set through Loki's push, then questions; a part of it through each of the other doors.
pub(crate) fn measure(
    run: &Run,
    start_ns: i64,
    megabytes: u64,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let whole = LogScale { bytes: megabytes * 1_000_000, ..LogScale::full(start_ns) };
    for (i, form) in FORMS.iter().enumerate() {
        let bytes = if i == 0 { whole.bytes } else { whole.bytes.min(OTHERS_BYTES) };
        let set = Set::look(LogScale { bytes, ..whole });
        let file = form.name.replace([' ', ','], "-");
        let bodies = requests(LogSet::new(set.scale), form);
        let end_ms = (set.scale.start_ns + set.scale.span_ns) / 1_000_000;
        let load = load::prepared(&run.dir, &file, bodies, set.scale.streams as u64, end_ms)?;
        let data = fresh(run.dir.join(&file))?;
        let (system, _) =
            System::start_with(Kind::Taffrail, &data, PORT, Configuration::Also(LIMITS))?;
        let mut put = |measure: &str, value: f64, more_is_better| {
            let measure = format!("{}: {measure}", form.name);
            let (kind, value) = (Kind::Taffrail, Some(value));
            figures.push(Figure { measure, kind, value, more_is_better });
        };
        let before = system.cpu_seconds();
        let sent = sender::send(&load, PORT, &form.door, form.name)?;
        let memory = system.anonymous_bytes();
        system.settle();
        let idle = system.cpu_seconds() - before;
        put("MB of lines per CPU s, until idle (goal 70)", set.raw as f64 / 1e6 / idle, true);
        let seconds = sent.wall.as_secs_f64();
        put(
            &format!("MB of lines per wall s, {CONNECTIONS} connections"),
            set.raw as f64 / 1e6 / seconds,
            true,
        );
        put("anonymous memory after ingest, MB (goal 200)", memory as f64 / 1e6, false);
        system.compact()?;
        let cpu = system.cpu_seconds() - before;
        put("the same, flushed and merged", set.raw as f64 / 1e6 / cpu, true);
        put("thousand lines per CPU s, flushed and merged", set.lines as f64 / 1e3 / cpu, true);
        put("MB on disk, flushed and merged", system.stored_bytes() as f64 / 1e6, false);
        check(&system, &set).with_context(|| form.name)?;
        if i == 0 {
            questions(&system, &set, run.repeats, figures)?;
        }
        std::fs::remove_dir_all(system.kill()?)?;
        load.files.iter().try_for_each(std::fs::remove_file)?;
    }
    Ok(())
}

impl Set {
    /// Looks through the lines before they are sent.
    fn look(scale: LogScale) -> Self {
        let (mut set, mut needles, mut raw, mut lines) = (LogSet::new(scale), Vec::new(), 0, 0);
        while let Some(LogLine { line, .. }) = set.next_line() {
            (raw, lines) = (raw + line.len() as u64 + 1, lines + 1);
            if lines % NEEDLE_EVERY == 0 {
                needles.extend(identifier(line));
            }
        }
        Self { scale, needles, raw, lines }
    }

    fn range(&self) -> String {
        let end_ns = self.scale.start_ns + self.scale.span_ns + 10_000_000_000;
        format!("start={}&end={end_ns}", self.scale.start_ns)
    }
}

/// A token of a line that is mostly digits: what is looked for in incidents.
fn identifier(line: &[u8]) -> Option<String> {
    let mut tokens = line.split(|b| !b.is_ascii_alphanumeric());
    let digits = |token: &[u8]| token.iter().filter(|b| b.is_ascii_digit()).count();
    let found = tokens.find(|token| token.len() >= 8 && digits(token) > 3);
    found.map(|token| String::from_utf8_lossy(token).into_owned())
}

/// Whoever answers well and stores nothing would look cheap.
fn check(system: &System, set: &Set) -> Result<()> {
    let path = format!("/api/v1/search/logs?operation=statistics&{}", set.range());
    let response = system.connect()?.call("GET", &path, &[], &[])?;
    let text = response.text();
    match text.contains(&format!("\"entries\":{},", set.lines)) {
        true => Ok(()),
        false => bail!("{} lines were sent; status {}: {text}", set.lines, response.status),
    }
}

/// Questions, each with what it is to take.
fn questions(system: &System, set: &Set, repeats: usize, figures: &mut Vec<Figure>) -> Result<()> {
    let range = set.range();
    let loki = |query: &str| {
        let selector = format!("{{cluster=\"production-1\"}} {query}");
        format!("/loki/api/v1/query_range?query={}&limit=100&{range}", escaped(&selector))
    };
    let words = |word: &str| {
        format!(
            "/api/v1/search/logs?match=words&case=exact&size=100&must={}&{range}",
            escaped(word)
        )
    };
    let mut put = |measure: String, value: Option<f64>| {
        let (kind, more_is_better) = (Kind::Taffrail, false);
        figures.push(Figure { measure, kind, value, more_is_better });
    };
    let part = |needle: &String| loki(&format!("|= \"{needle}\""));
    let as_words: Vec<String> = set.needles.iter().map(|needle| words(needle)).collect();
    let as_parts: Vec<String> = set.needles.iter().map(part).collect();
    for (name, paths) in [
        ("rare token, limit 100, search of words", as_words),
        ("rare token, limit 100, Loki's |=", as_parts),
    ] {
        let (p50, p95) = spread(system, &paths)?;
        put(format!("{name}, p50 wall ms (goal 3)"), Some(p50));
        put(format!("{name}, p95 wall ms (goal 15)"), Some(p95));
    }
    let counted = "sum by(namespace)(count_over_time({cluster=\"production-1\"}[3h]))";
    let end_s = (set.scale.start_ns + set.scale.span_ns) / 1_000_000_000 + 1;
    let width_s = set.scale.span_ns / 30 / 1_000_000_000 + 1;
    let histogram = |rest: &str| {
        format!("/api/v1/search/logs?operation=histogram&interval={width_s}s&{rest}{range}")
    };
    for (name, path) in [
        ("absent token, words (goal 2)", words("zq81f0c2b7aa")),
        ("substring inside a token (goal 60)", loki("|= \"q81f0c2b7a\"")),
        ("regex with a literal (goal 220 of CPU)", loki("|~ \"blk_-?[0-9]+77[0-9] terminating\"")),
        ("(?i)word (goal 250 of CPU)", loki("|~ \"(?i)excepcion\"")),
        ("newest 100", loki("")),
        (
            "count by label (goal 1)",
            format!("/loki/api/v1/query?query={}&time={end_s}", escaped(counted)),
        ),
        ("histogram of all by label, 30 buckets (goal 1)", histogram("by=namespace&")),
        ("keyword and histogram, 30 buckets (goal 50)", histogram("must=terminating&")),
    ] {
        let (cpu_ms, wall_ms) = measure_query(system, &path, repeats)?;
        put(format!("{name}, CPU ms"), cpu_ms);
        put(format!("{name}, wall ms"), wall_ms);
    }
    Ok(())
}

/// The middle and the 95th percentile of what different questions take, each asked once. Milliseconds.
fn spread(system: &System, paths: &[String]) -> Result<(f64, f64)> {
    let mut connection = system.connect()?;
    let mut took = Vec::with_capacity(paths.len());
    for path in paths {
        let begun = Instant::now();
        let response = connection.call("GET", path, &[], &[])?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        if response.status != 200 {
            bail!("{path} answered {}: {}", response.status, response.text());
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100).copied();
    Ok((at(50).unwrap_or(f64::NAN), at(95).unwrap_or(f64::NAN)))
}
