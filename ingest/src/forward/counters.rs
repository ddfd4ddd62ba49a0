//! What forwarding counts, under the names that Prometheus gives to its own remote write.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::plan::LeftOut;
use super::queue::Totals;
use super::record::Counts;
use crate::http_client::shown;

/// Upper bounds of how long requests take, seconds.
const BOUNDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Rows, counted by several threads.
#[derive(Debug, Default)]
pub(super) struct Rows([AtomicU64; 3]);

impl Rows {
    pub(super) fn add(&self, counts: Counts) {
        for (total, more) in
            self.0.iter().zip([counts.samples, counts.histograms, counts.exemplars])
        {
            total.fetch_add(more, Relaxed);
        }
    }

    pub(super) fn read(&self) -> Counts {
        let [samples, histograms, exemplars] = self.0.each_ref().map(|total| total.load(Relaxed));
        Counts { samples, histograms, exemplars }
    }
}

/// Counters of one destination.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Rows and families of metadata of all attempts.
    pub(super) sent: Rows,
    pub(super) metadata: AtomicU64,
    /// Given up because the destination refused them for ever.
    pub(super) failed: Rows,
    pub(super) metadata_failed: AtomicU64,
    pub(super) retried: Rows,
    pub(super) metadata_retried: AtomicU64,
    /// By why rows were left out.
    pub(super) relabelled: Rows,
    too_old: Rows,
    not_in_v1: Rows,
    tenant_deleted: Rows,
    pub(super) unreadable: Rows,
    /// Bytes of requests, compressed.
    pub(super) bytes: AtomicU64,
    /// Lanes of the last batch, and how many the rows that waited would have filled.
    pub(super) shards: AtomicU64,
    pub(super) shards_desired: AtomicU64,
    /// The newest row that was queued, milliseconds.
    pub(super) queued_ms: AtomicI64,
    /// The newest row that was sent.
    pub(super) sent_ms: AtomicI64,
    durations: [AtomicU64; BOUNDS.len() + 1],
    duration_nanoseconds: AtomicU64,
}

impl Counters {
    /// A request was taken.
    pub(super) fn taken(&self, newest_ms: Option<i64>) {
        if let Some(newest_ms) = newest_ms {
            self.sent_ms.fetch_max(newest_ms, Relaxed);
        }
    }

    /// A request was answered, or was not.
    pub(super) fn took(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.durations[bucket].fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.duration_nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    pub(super) fn left_out(&self, rows: &LeftOut) {
        self.too_old.add(rows.too_old);
        self.not_in_v1.add(rows.not_in_v1);
        self.tenant_deleted.add(rows.tenant_deleted);
        self.unreadable.add(rows.unreadable);
    }
}

/// One destination's figures at one moment.
pub(super) struct Figures<'a> {
    pub(super) name: &'a str,
    pub(super) url: &'a str,
    pub(super) shards: (usize, usize),
    pub(super) samples_per_send: usize,
    pub(super) queue: Totals,
    pub(super) counters: &'a Counters,
}

impl Figures<'_> {
    /// What tells it from others. Names have nothing to escape.
    fn labels(&self) -> String {
        let url = shown(self.url).replace('\\', "\\\\").replace('"', "\\\"");
        format!("remote_name=\"{}\",url=\"{url}\"", self.name)
    }

    /// Rows that were dropped, by reason; the words are Prometheus' where it has one.
    fn dropped(&self) -> [(&'static str, Counts); 7] {
        let counters = self.counters;
        [
            ("dropped_series", counters.relabelled.read()),
            ("too_old", counters.too_old.read()),
            ("nhcb_in_rw1_not_supported", counters.not_in_v1.read()),
            ("queue_full", self.queue.dropped_full),
            ("queue_failed", self.queue.dropped_failed),
            ("tenant_deleted", counters.tenant_deleted.read()),
            ("unreadable", counters.unreadable.read()),
        ]
    }
}

/// The kinds of rows and how to count them.
type Kind = (&'static str, fn(Counts) -> u64);
const KINDS: [Kind; 3] = [
    ("samples", |counts| counts.samples),
    ("histograms", |counts| counts.histograms),
    ("exemplars", |counts| counts.exemplars),
];

/// Appends everything in Prometheus' text format.
pub(super) fn write(out: &mut String, all: &[Figures<'_>]) {
    if all.is_empty() {
        return;
    }
    for (kind, of) in KINDS {
        let mut family =
            |name: &str, type_: &str, help: &str, value: &dyn Fn(&Figures<'_>) -> Counts| {
                let help = format!("{} {help}", capitalised(kind));
                head(out, &format!("{kind}_{name}"), type_, &help);
                for one in all {
                    line(out, &format!("{kind}_{name}"), &one.labels(), of(value(one)) as f64);
                }
            };
        let counter = "counter";
        family("total", counter, "sent, repetitions included.", &|f| f.counters.sent.read());
        let help = "given up because the destination refused them for ever.";
        family("failed_total", counter, help, &|f| f.counters.failed.read());
        let help = "of requests that are repeated.";
        family("retried_total", counter, help, &|f| f.counters.retried.read());
        family("pending", "gauge", "that wait on disk.", &|f| f.queue.pending);
        let name = format!("{kind}_dropped_total");
        head(out, &name, counter, &format!("{} that are not sent, by reason.", capitalised(kind)));
        for one in all {
            for (reason, counts) in one.dropped() {
                let labels = format!("{},reason=\"{reason}\"", one.labels());
                line(out, &name, &labels, of(counts) as f64);
            }
        }
    }
    write_single(out, all);
    all.iter().enumerate().for_each(|(i, one)| write_durations(out, i == 0, one));
}

fn write_single(out: &mut String, all: &[Figures<'_>]) {
    let of = |value: &AtomicU64| value.load(Relaxed) as f64;
    let seconds = |value: &AtomicI64| value.load(Relaxed) as f64 / 1e3;
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Figures<'_>) -> f64| {
        head(out, name, kind, help);
        all.iter().for_each(|one| line(out, name, &one.labels(), value(one)));
    };
    let (counter, gauge) = ("counter", "gauge");
    let help = "Families whose metadata was sent by itself, repetitions included.";
    family("metadata_total", counter, help, &|f| of(&f.counters.metadata));
    let help = "Families whose metadata was given up.";
    family("metadata_failed_total", counter, help, &|f| of(&f.counters.metadata_failed));
    let help = "Families of requests that are repeated.";
    family("metadata_retried_total", counter, help, &|f| of(&f.counters.metadata_retried));
    family("bytes_total", counter, "Bytes of requests, compressed.", &|f| of(&f.counters.bytes));
    family("queue_bytes", gauge, "Bytes of the queue on disk.", &|f| f.queue.bytes as f64);
    family("shards", gauge, "Lanes of the last batch.", &|f| of(&f.counters.shards));
    family("shards_min", gauge, "Least number of lanes.", &|f| f.shards.0 as f64);
    family("shards_max", gauge, "Greatest number of lanes.", &|f| f.shards.1 as f64);
    let help = "Lanes that the waiting rows would have filled.";
    family("shards_desired", gauge, help, &|f| of(&f.counters.shards_desired));
    let help = "Greatest number of rows of a request.";
    family("max_samples_per_send", gauge, help, &|f| f.samples_per_send as f64);
    let help = "Newest instant among rows that were queued.";
    family("highest_timestamp_in_seconds", gauge, help, &|f| seconds(&f.counters.queued_ms));
    let help = "Newest instant among rows that the destination took.";
    let name = "queue_highest_sent_timestamp_seconds";
    family(name, gauge, help, &|f| seconds(&f.counters.sent_ms));
}

fn write_durations(out: &mut String, is_first: bool, one: &Figures<'_>) {
    let (name, labels) = ("sent_batch_duration_seconds", one.labels());
    if is_first {
        head(out, name, "histogram", "How long requests take.");
    }
    let mut count = 0;
    for (i, bucket) in one.counters.durations.iter().enumerate() {
        count += bucket.load(Relaxed);
        let bound = BOUNDS.get(i).map_or_else(|| "+Inf".to_owned(), f64::to_string);
        line(out, &format!("{name}_bucket"), &format!("{labels},le=\"{bound}\""), count as f64);
    }
    let sum = one.counters.duration_nanoseconds.load(Relaxed) as f64 / 1e9;
    line(out, &format!("{name}_sum"), &labels, sum);
    line(out, &format!("{name}_count"), &labels, count as f64);
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let name = format!("taffrail_remote_storage_{name}");
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(out, "taffrail_remote_storage_{name}{{{labels}}} {value}");
}

fn capitalised(kind: &str) -> String {
    let mut letters = kind.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_passwords_and_can_be_read() {
        let counters = Counters::default();
        counters.sent.add(Counts { samples: 3, ..Counts::default() });
        counters.took(Duration::from_millis(20));
        let figures = Figures {
            name: "a",
            url: "http://u:secret@h/w?x=\\y",
            shards: (1, 16),
            samples_per_send: 2_000,
            queue: Totals::default(),
            counters: &counters,
        };
        let mut text = String::new();
        write(&mut text, &[figures]);
        let labels = r#"remote_name="a",url="http://u:xxxxx@h/w?x=\\y""#;
        let family = "taffrail_remote_storage_sent_batch_duration_seconds_bucket";
        for line in [
            format!("taffrail_remote_storage_samples_total{{{labels}}} 3"),
            format!(
                "taffrail_remote_storage_samples_dropped_total{{{labels},reason=\"too_old\"}} 0"
            ),
            format!("{family}{{{labels},le=\"0.01\"}} 0"),
            format!("{family}{{{labels},le=\"0.025\"}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let mut parser = crate::exposition::TextParser::new(text.as_bytes());
        while parser.next_entry().expect("what Prometheus can read").is_some() {}
    }
}
