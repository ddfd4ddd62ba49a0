//! The format pages are enough to write a reader from: one in another language, written from them,
//! reads every codec out of blocks of every level and of windows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ::model::{Buckets, Clock, Histogram, Labels, Random, Resolution, Span, TimeRange};
use serde_json::Value;
use storage::{Config, DownsamplingConfig, Extent, OsDisk, Parts, Select, SelectWindows, Storage};
use tenancy::ReadScope;
use testkit::{ManualClock, SeededRandom, python};

use crate::facts::{Request, text_of};
use crate::store::{BUCKETS, NOW_MS, Row, append, config};

/// Scrapes on the first day, one every half minute.
const SCRAPES: i64 = 700;

/// A value of one of the series: each has a shape that another codec takes.
fn value(series: u32, scrape: i64, random: &SeededRandom) -> f64 {
    let below = |n: u64| random.below(n) as f64;
    let skewed = || (random.below(16) * random.below(16) * random.below(16)) as f64;
    match series {
        0 => (scrape * 17) as f64,
        1 => -0.0,
        2 => f64::from_bits(random.next_u64()),
        3 => below(1_000) / 10.0,
        4 => skewed() * 60.0 + 7.0,
        5 => skewed() * 0.37,
        6 => f64::from((below(1 << 20) as f32).sqrt()),
        7 if scrape % 50 == 3 => f64::NAN,
        7 => below(3),
        8 => (scrape as f64 / 50.0).sin(),
        9 => 3.5,
        10 if scrape % 40 == 7 => ::model::stale_nan(),
        10 => (1i64 << 53) as f64 + below(1 << 30) * 2.0,
        _ => below(9) - 4.0,
    }
}

/// Rows of one scrape: all shapes, and the buckets of a histogram, the higher the more.
fn scrape(number: i64, at_ms: i64, counts: &mut [f64; 5], random: &SeededRandom) -> Vec<Row> {
    let mut rows: Vec<Row> = (0..12).map(|n| (n, at_ms, value(n, number, random))).collect();
    let mut more = 0.0;
    // "0.1", "1", "2.5", "10", "+Inf" as labels of the test have them.
    for (place, series) in [1, 2, 4, 3, 0].into_iter().enumerate() {
        more += random.below(4) as f64;
        counts[place] += more;
        rows.push((BUCKETS + series, at_ms, counts[place]));
    }
    rows
}

async fn lived(dir: &Path) -> Arc<Storage> {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let random = SeededRandom::new(5);
    let parts = Parts {
        disk: Arc::new(OsDisk::open(dir).expect("a directory")),
        objects: None,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        random: Arc::new(SeededRandom::new(1)),
    };
    let downsampling = DownsamplingConfig { enabled: true };
    let config = Config { partitions: 2, downsampling, ..config() };
    let storage = Storage::open(config, parts).await.expect("a new store");
    let mut counts = [0.0; 5];
    let mut last = None;
    for number in 0..SCRAPES + 100 {
        clock.advance(Duration::from_secs(30));
        let jitter = (random.below(12) * random.below(12)) as i64;
        let at_ms = clock.now_ms() + jitter;
        let rows = scrape(number, at_ms, &mut counts, &random);
        let appended = append(&storage, 1, &rows).expect("writes are taken");
        assert!(appended.outcome.rejected.is_empty(), "{:?}", appended.outcome);
        last = appended.position.or(last);
        if number % 10 == 0 {
            let request = Request {
                tenant: 2,
                histograms: vec![(40, at_ms), (41, at_ms)],
                exemplars: vec![(1, at_ms)],
                rows: vec![(1, at_ms, 1.0)],
                ..Request::default()
            };
            request.send(&storage).await.expect("a good write");
        }
        if number == SCRAPES - 1 {
            storage.flush_all().await.expect("a good flush");
            clock.advance(Duration::from_secs(24 * 3600));
            storage.compact(Extent::Due).await.expect("good merges");
        }
    }
    storage.durable(last.expect("rows were written")).await.expect("a sound disk");
    storage.flush_all().await.expect("a good flush");
    storage
}

fn hex(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

fn line(tenant: u64, labels: &Labels, at_ms: i64, what: &str) -> String {
    format!("{tenant} {labels} {at_ms} {what}")
}

/// A histogram as text; what it says of resets depends on what came before.
fn histogram_text(h: &Histogram) -> String {
    let spans = |spans: &[Span]| -> Vec<(i64, u64)> {
        spans.iter().map(|s| (i64::from(s.offset), u64::from(s.length))).collect()
    };
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let (kind, counts, positive, negative) = match &h.buckets {
        Buckets::Integer { count, zero_count, positive_deltas, negative_deltas } => {
            let text = |deltas: &[i64]| format!("{deltas:?}");
            (false, [*count, *zero_count], text(positive_deltas), text(negative_deltas))
        }
        Buckets::Float { count, zero_count, positive, negative } => {
            let text = |values: &[f64]| format!("{:?}", bits(values));
            let counts = [count.to_bits(), zero_count.to_bits()];
            (true, counts, text(positive), text(negative))
        }
    };
    format!(
        "{kind} {} {} {} {counts:?} {:?} {:?} {positive} {negative} {:?}",
        h.schema,
        h.zero_threshold.to_bits(),
        h.sum.to_bits(),
        spans(&h.positive_spans),
        spans(&h.negative_spans),
        bits(&h.custom_values)
    )
}

/// The same from what the reader says.
fn read_histogram_text(h: &Value) -> String {
    let list = |value: &Value| {
        let numbers: Vec<String> = items(value).map(ToString::to_string).collect();
        format!("[{}]", numbers.join(", "))
    };
    let spans = |value: &Value| -> Vec<(i64, u64)> {
        let span = |span: &Value| (number(&span[0]), number(&span[1]) as u64);
        items(value).map(span).collect()
    };
    format!(
        "{} {} {} {} [{}, {}] {:?} {:?} {} {} {}",
        h["float"],
        h["schema"],
        h["zero_threshold"],
        h["sum"],
        h["count"],
        h["zero_count"],
        spans(&h["spans"][0]),
        spans(&h["spans"][1]),
        list(&h["positive"]),
        list(&h["negative"]),
        list(&h["bounds"])
    )
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

fn number(value: &Value) -> i64 {
    value.as_i64().expect("an integer")
}

/// What the store says of its rows and windows.
async fn told(storage: &Storage) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for tenant in [1u32, 2] {
        let scope = ReadScope::for_test(&[(tenant, "team")]);
        let tenant = u64::from(tenant);
        let request = Select { matchers: vec![], range: TimeRange::ALL };
        let selection = storage.select(&scope, &request).await.expect("readable");
        let fetched = selection.fetch(0..selection.len()).await.expect("readable");
        for (i, samples) in fetched.decode().expect("readable").iter().enumerate() {
            let labels = selection.labels(i);
            for (at_ms, value) in samples.timestamps.iter().zip(&samples.values) {
                let what = format!("{} {}", hex(*value), samples.starts.at(*at_ms));
                lines.insert(line(tenant, labels, *at_ms, &what));
            }
            for (at_ms, histogram) in &samples.histograms {
                let since = samples.starts.at(*at_ms);
                let what = format!("{} {since}", histogram_text(histogram));
                lines.insert(line(tenant, labels, *at_ms, &what));
            }
        }
        for resolution in [Resolution::Minutes5, Resolution::Hour1] {
            // The first day: that is what blocks of windows are of.
            let range = TimeRange { start_ms: NOW_MS - 3_600_000, end_ms: NOW_MS + 36_000_000 };
            let request = SelectWindows { matchers: vec![], range, resolution };
            let selection = storage.select_windows(&scope, &request).await.expect("readable");
            let fetched = selection.fetch(0..selection.len()).await.expect("readable");
            for (i, w) in fetched.decode().expect("readable").iter().enumerate() {
                let labels = selection.labels(i);
                for at in 0..w.starts.len() {
                    let figures =
                        [&w.last, &w.first, &w.min, &w.max, &w.increase, &w.sum, &w.count];
                    let figures = figures.map(|column| hex(column[at])).join(" ");
                    let what = format!("{resolution} {figures} {}", w.ended[at]);
                    lines.insert(line(tenant, labels, w.starts[at], &what));
                }
                for h in &w.histograms {
                    let (last, merged) = (histogram_text(&h.last), histogram_text(&h.merged));
                    let what =
                        format!("{resolution} {} {last} {merged} {}", h.count.to_bits(), h.ended);
                    lines.insert(line(tenant, labels, h.start_ms, &what));
                }
            }
        }
    }
    lines
}

/// What the reader says of one block.
fn read_block(block: &Value, lines: &mut BTreeSet<String>) {
    let series: Vec<(u64, Labels)> = items(&block["series"])
        .map(|one| {
            let labels = one[1].as_object().expect("labels").iter();
            let labels = labels.map(|(name, value)| (name.as_str(), value.as_str().expect("text")));
            (one[0].as_u64().expect("a tenant"), Labels::from_pairs(labels))
        })
        .collect();
    let resolution = block["resolution"].as_str().expect("text");
    let mut add = |row: &Value, what: String| {
        let (tenant, labels) = &series[number(&row[0]) as usize];
        let is_new = lines.insert(line(*tenant, labels, number(&row[1]), &what));
        assert!(is_new, "twice: {row}");
    };
    for row in items(&block["samples"]) {
        add(row, format!("{} {}", row[2].as_str().expect("digits"), row[3]));
    }
    for row in items(&block["histograms"]) {
        add(row, format!("{} {}", read_histogram_text(&row[2]), row[3]));
    }
    for row in items(&block["windows"]) {
        let figures: Vec<&str> = items(&row[2]).map(|f| f.as_str().expect("digits")).collect();
        add(row, format!("{resolution} {} {}", figures.join(" "), row[3]));
    }
    for row in items(&block["histogram_windows"]) {
        let [count, last, merged, ended] = [0, 1, 2, 3].map(|at| &row[2][at]);
        let (last, merged) = (read_histogram_text(last), read_histogram_text(merged));
        add(row, format!("{resolution} {count} {last} {merged} {ended}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_written_from_the_pages_reads_every_codec() {
    let Some(python) = python(&["ctypes"]) else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = lived(dir.path()).await;
    let expected = told(&storage).await;
    let mut levels: BTreeMap<(&str, u8), u32> = BTreeMap::new();
    for (_, block) in storage.blocks() {
        *levels.entry((block.resolution.as_str(), block.level)).or_default() += 1;
    }
    storage.close().await.unwrap_or_else(|e| panic!("{}", text_of(&e)));
    assert!(levels.len() >= 4, "fresh, of a day, of both windows: {levels:?}");

    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats/reader.py");
    let output = Command::new(python).arg(reader).arg(dir.path()).output().expect("run python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let blocks = || items(&read["partitions"]).flat_map(|p| items(&p["blocks"]));
    let codecs: BTreeSet<i64> = blocks().flat_map(|b| items(&b["codecs"])).map(number).collect();
    assert_eq!(codecs, [1, 2, 3, 4, 5, 6, 7, 16, 17, 18].into(), "every codec is met");
    let mut found = BTreeSet::new();
    blocks().for_each(|block| read_block(block, &mut found));
    let missing: Vec<_> = expected.difference(&found).take(3).collect();
    let wrong: Vec<_> = found.difference(&expected).take(3).collect();
    assert!(missing.is_empty() && wrong.is_empty(), "missing {missing:#?}, wrong {wrong:#?}");
    assert!(found.len() > 15_000, "{} rows", found.len());
}
