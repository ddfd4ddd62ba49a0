//! What the store of entries costs by itself, without HTTP and wire formats: the set of
//! `testkit::logs` appended in requests of a megabyte, with syncs, flushes beside it, and questions.
//! `cargo run --release -p storage --example entries_bench -- DIRECTORY [MEGABYTES]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, TimestampNanosecondArray, UInt32Array};
use model::{Cancel, Clock, Labels, Level, OsRandom, Signal, SourceKind, SystemClock};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use storage::entries::{
    Direction, Entry, EntryFilter, EntryRows, LineCondition, LineTest, SelectEntries,
    SelectStreams, StreamRows, TallyEntries,
};
use storage::{Config, Error, Extent, OsDisk, Parts, Storage};
use tenancy::{Limits, ReadScope, WriteScope};
use testkit::logs::{LogLine, LogScale, LogSet};

/// Bytes of lines in one request, as Grafana Alloy sends them.
const REQUEST_BYTES: usize = 1 << 20;

/// Repetitions of a question; the median counts.
const REPEATS: usize = 5;

/// Rows of a group of the Parquet file that sizes are compared with.
const PARQUET_ROWS: usize = 131_072;

/// A line in so many gives one of its identifiers to be looked for.
const NEEDLE_EVERY: u64 = 20_011;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (directory, megabytes) = match arguments.as_slice() {
        [directory] => (directory, 419),
        [directory, megabytes] => (directory, megabytes.parse()?),
        _ => return Err("usage: entries_bench DIRECTORY [MEGABYTES]".into()),
    };
    let directory = Path::new(directory);
    let start_ns = (SystemClock::default().now_ms() / 60_000 - 180) * 60_000_000_000;
    let full = LogScale::full(start_ns);
    let scale = LogScale { bytes: megabytes * 1_000_000, ..full };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let data = directory.join("entries");
        std::fs::create_dir_all(&data)?;
        let storage = Storage::open(Config::default(), parts(&data)?).await?;
        let set = ingest(&storage, scale).await?;
        let stored = directory_bytes(&data.join("objects"));
        let parquet = parquet_bytes(scale)?;
        let ratio = stored as f64 / parquet as f64;
        println!(
            "stored                {:.1} MB, {:.2}x smaller",
            mb(stored),
            set.raw / stored as f64
        );
        println!("Parquet in time order {:.1} MB; ours / that {ratio:.2} (goal 0.63)", mb(parquet));
        questions(&storage, &set).await?;
        let cpu = whole_cpu_s();
        storage.compact(Extent::Everything).await?;
        let cpu = whole_cpu_s() - cpu;
        let totals = storage.entry_totals();
        println!("merged                {:.1} MB per CPU s", set.raw / 1e6 / cpu);
        println!(
            "stored, merged        {:.1} MB in {} segments, {:.2}x smaller; / Parquet {:.2}",
            mb(totals.segment_bytes),
            totals.segments,
            set.raw / totals.segment_bytes as f64,
            totals.segment_bytes as f64 / parquet as f64
        );
        questions(&storage, &set).await?;
        storage.close().await?;
        Ok(())
    })
}

fn parts(data: &Path) -> Result<Parts, Failure> {
    Ok(Parts {
        disk: Arc::new(OsDisk::open(data)?),
        objects: None,
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(OsRandom),
    })
}

/// What was written.
struct Written {
    /// Bytes of lines.
    raw: f64,
    start_ns: i64,
    end_ns: i64,
    /// Identifiers that stand in some of the lines.
    needles: Vec<String>,
}

/// Writes the set and prints what that cost.
async fn ingest(storage: &Arc<Storage>, scale: LogScale) -> Result<Written, Failure> {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(Arc::clone(storage).run(stopped));
    let mut set = LogSet::new(scale);
    let labels: Vec<Vec<u8>> = set.streams().iter().map(|pairs| encoded(pairs)).collect();
    let scope = WriteScope::for_test(1, "bench", Limits::default());
    let (mut lines, mut raw, mut needles) = (0u64, 0u64, Vec::new());
    let (mut making, started, cpu) = (0.0, Instant::now(), whole_cpu_s());
    let mut peak = 0;
    loop {
        let begun = thread_cpu_s();
        let mut batch: Vec<Vec<(i64, Vec<u8>)>> = vec![Vec::new(); labels.len()];
        let mut bytes = 0;
        while bytes < REQUEST_BYTES
            && let Some(LogLine { stream, at_ns, line }) = set.next_line()
        {
            bytes += line.len() + 1;
            lines += 1;
            if lines % NEEDLE_EVERY == 0 {
                needles.extend(identifier(line));
            }
            batch[stream].push((at_ns, line.to_vec()));
        }
        let mut body = Vec::with_capacity(2 * REQUEST_BYTES);
        let rows = request(&batch, &labels, &mut body);
        raw += bytes as u64;
        making += thread_cpu_s() - begun;
        if bytes == 0 {
            break;
        }
        append(storage, &scope, &EntryRows { body: &body, ..rows }).await?;
        peak = peak.max(anonymous_bytes());
    }
    let until_answered = whole_cpu_s() - cpu - making;
    let memory = anonymous_bytes();
    storage.flush_all().await?;
    let cpu = whole_cpu_s() - cpu - making;
    println!("{lines} lines, {:.1} MB, wall {:.1} s", mb(raw), started.elapsed().as_secs_f64());
    println!("until answered        {:.1} MB per CPU s", mb(raw) / until_answered);
    println!(
        "until all is flushed  {:.1} MB per CPU s, {:.0} k lines",
        mb(raw) / cpu,
        lines as f64 / cpu / 1e3
    );
    println!("anonymous memory      {:.0} MB, at its peak {:.0} MB", mb(memory), mb(peak));
    stop.send(true)?;
    running.await?;
    let end_ns = scale.start_ns + scale.span_ns + 1_000_000_000;
    Ok(Written { raw: raw as f64, start_ns: scale.start_ns, end_ns, needles })
}

async fn append(
    storage: &Storage,
    scope: &WriteScope,
    rows: &EntryRows<'_>,
) -> Result<(), Failure> {
    loop {
        match storage.append_entries(scope, rows) {
            Ok(appended) => {
                assert_eq!(appended.outcome.rejected, [], "everything is stored");
                if let Some(position) = appended.position {
                    storage.durable(position).await?;
                }
                return Ok(());
            }
            Err(Error::EntriesBacklog { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(other) => return Err(other.into()),
        }
    }
}

/// A request as a walk leaves it: lines and labels lie in `body`.
fn request(
    batch: &[Vec<(i64, Vec<u8>)>],
    labels: &[Vec<u8>],
    body: &mut Vec<u8>,
) -> EntryRows<'static> {
    let mut rows = EntryRows::default();
    for (lines, labels) in batch.iter().zip(labels).filter(|(lines, _)| !lines.is_empty()) {
        let mut put = |bytes: &[u8]| {
            let start = body.len() as u32;
            body.extend_from_slice(bytes);
            start..body.len() as u32
        };
        let first = rows.entries.len() as u32;
        let own = put(labels);
        for (at_ns, line) in lines {
            let line = put(line);
            let (at_ns, has_own_time, level) = (*at_ns, true, Level::Unknown);
            let fields = 0..0;
            rows.entries.push(Entry {
                at_ns,
                has_own_time,
                line,
                fields,
                level,
                is_truncated: false,
            });
        }
        let entries = first..rows.entries.len() as u32;
        let (signal, kind) = (Signal::Logs, SourceKind::Container);
        rows.streams.push(StreamRows { signal, kind, labels: own, entries });
    }
    rows
}

fn encoded(pairs: &[(&'static str, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    Labels::from_pairs(pairs.iter().map(|(n, v)| (*n, v))).encode(&mut out);
    out
}

/// A token of a line that is mostly digits: what is looked for in incidents.
fn identifier(line: &[u8]) -> Option<String> {
    let mut tokens = line.split(|b| !b.is_ascii_alphanumeric());
    let found =
        tokens.find(|t| t.len() >= 8 && t.iter().filter(|b| b.is_ascii_digit()).count() > 3);
    found.map(|token| String::from_utf8_lossy(token).into_owned())
}

/// Bytes of a Parquet file of the same lines in the order in which they came, without statistics.
fn parquet_bytes(scale: LogScale) -> Result<u64, Failure> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_column_dictionary_enabled("line".into(), false)
        .set_column_dictionary_enabled("ts".into(), false)
        .set_column_encoding("ts".into(), Encoding::DELTA_BINARY_PACKED)
        .set_max_row_group_row_count(Some(PARQUET_ROWS))
        .build();
    let (mut set, mut writer) = (LogSet::new(scale), None);
    loop {
        let (mut at, mut streams, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        while at.len() < PARQUET_ROWS
            && let Some(LogLine { stream, at_ns, line }) = set.next_line()
        {
            at.push(at_ns);
            streams.push(stream as u32);
            lines.push(line.to_vec());
        }
        if at.is_empty() {
            break;
        }
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let columns: [(&str, ArrayRef); 3] = [
            ("ts", Arc::new(TimestampNanosecondArray::from(at))),
            ("stream", Arc::new(UInt32Array::from(streams))),
            ("line", Arc::new(BinaryArray::from(lines))),
        ];
        let batch = RecordBatch::try_from_iter(columns)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                let properties = Some(properties.clone());
                writer.insert(ArrowWriter::try_new(Vec::new(), batch.schema(), properties)?)
            }
        };
        writer.write(&batch)?;
    }
    Ok(writer.map_or(Ok(0), |writer| writer.into_inner().map(|file| file.len() as u64))?)
}

/// Asks, and prints what that took.
async fn questions(storage: &Storage, set: &Written) -> Result<(), Failure> {
    let words = |text: &str| LineTest::Words(text.to_owned());
    let contains = |text: &str| LineTest::Contains(text.to_owned());
    let middle = |text: &str| text.get(1..text.len() - 1).unwrap_or(text).to_owned();
    let each =
        |of: &dyn Fn(&str) -> LineTest| set.needles.iter().map(|n| of(n)).collect::<Vec<_>>();
    let regex = |pattern: &str| vec![LineTest::Regex(pattern.to_owned())];
    println!("| question, limit 100 | found | p50 ms | p95 ms | mean CPU ms | goal |");
    println!("| --- | ---: | ---: | ---: | ---: | --- |");
    for (name, tests, goal) in [
        ("rare token, as a word", each(&words), "p50 3, p95 15"),
        ("rare token, anywhere", each(&contains), ""),
        ("absent token, as a word", vec![words("zq81f0c2b7aa")], "2"),
        ("substring inside a token", each(&|n| contains(&middle(n))), "60"),
        ("substring that is nowhere", vec![contains("q81f0c2b7a")], "60"),
        ("regex with a literal, nowhere", regex("blk_-?[0-9]+ was never there"), "CPU 220"),
        ("regex with a literal, seldom", regex("blk_-?[0-9]+77[0-9] terminating"), "CPU 220"),
        ("regex without a literal, nowhere", regex("[0-9]+Q[0-9]+W[0-9]+"), ""),
        ("(?i)word, nowhere", regex("(?i)excepcion"), "CPU 250"),
        ("newest 100", vec![contains("")], ""),
    ] {
        let (mut wall, mut cpu, mut found) = (Vec::new(), 0.0, 0);
        let asked: Vec<LineTest> = match tests.len() {
            1 => std::iter::repeat_n(tests[0].clone(), REPEATS).collect(),
            _ => tests,
        };
        for test in &asked {
            let (begun, before) = (Instant::now(), process_cpu_s());
            found += ask(storage, set, test.clone()).await?;
            wall.push(begun.elapsed().as_secs_f64() * 1e3);
            cpu += (process_cpu_s() - before) * 1e3;
        }
        wall.sort_by(f64::total_cmp);
        let at = |share: usize| wall[(wall.len() - 1) * share / 100];
        let count = asked.len();
        println!(
            "| {name} | {} | {:.2} | {:.2} | {:.1} | {goal} |",
            found / count,
            at(50),
            at(95),
            cpu / count as f64
        );
    }
    counts(storage, set).await
}

/// Counts by label, in buckets of an hour: as tables of streams tell them, and by rows.
async fn counts(storage: &Storage, set: &Written) -> Result<(), Failure> {
    println!("| count by namespace | told | rows read | p50 ms | mean CPU ms |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let hour_ns = 3_600_000_000_000;
    let hours = (set.start_ns / hour_ns * hour_ns, (set.end_ns / hour_ns + 1) * hour_ns);
    let minutes = (set.start_ns + 600_000_000_000, set.end_ns - 600_000_000_000);
    for (name, (start_ns, end_ns), width_ns) in [
        ("all, in one number", hours, i64::MAX),
        ("whole hours, by hour", hours, hour_ns),
        ("from minute to minute, by hour", minutes, hour_ns),
    ] {
        let (mut wall, mut cpu, mut told, mut rows) = (Vec::new(), 0.0, 0, 0);
        for _ in 0..REPEATS {
            let (begun, before) = (Instant::now(), process_cpu_s());
            (told, rows) = count(storage, (start_ns, end_ns), width_ns).await?;
            wall.push(begun.elapsed().as_secs_f64() * 1e3);
            cpu += (process_cpu_s() - before) * 1e3 / REPEATS as f64;
        }
        wall.sort_by(f64::total_cmp);
        println!("| {name} | {told} | {rows} | {:.2} | {cpu:.1} |", wall[REPEATS / 2]);
    }
    Ok(())
}

/// Entries that tables told, and those that were read beside.
async fn count(
    storage: &Storage,
    (start_ns, end_ns): (i64, i64),
    width_ns: i64,
) -> Result<(u64, usize), Failure> {
    let scope = scope();
    let signals = vec![Signal::Logs];
    let streams =
        SelectStreams { signals: signals.clone(), start_ns, end_ns, ..SelectStreams::default() };
    let request = TallyEntries { streams, width_ns, names: vec!["namespace".to_owned()] };
    let tally = storage.tally_entries(&scope, &request, &Cancel::default()).await?;
    let tally = tally.ok_or("more streams than a question may touch")?;
    let told = tally.counts.iter().flat_map(|one| &one.buckets).map(|(_, entries)| entries).sum();
    if tally.rest.is_empty() {
        return Ok((told, 0));
    }
    let mut rest = SelectEntries {
        signals,
        start_ns,
        end_ns,
        only: Some(Arc::new(tally.rest)),
        direction: Direction::Forward,
        limit: 32 << 10,
        ..SelectEntries::default()
    };
    let mut rows = 0;
    loop {
        let found = storage.select_entries(&scope, &rest, &Cancel::default()).await?;
        rows += found.len();
        match found.last() {
            Some(last) if found.len() == rest.limit => rest.after = Some(last.place),
            _ => return Ok((told, rows)),
        }
    }
}

fn scope() -> ReadScope {
    let limits = Limits { query_bytes_max: usize::MAX, ..Limits::default() };
    ReadScope::for_test(&[(1, "bench")]).limited_for_test(limits)
}

async fn ask(storage: &Storage, set: &Written, test: LineTest) -> Result<usize, Failure> {
    let scope = scope();
    let lines = vec![LineCondition { any: vec![test], ..LineCondition::default() }];
    let request = SelectEntries {
        signals: vec![Signal::Logs],
        start_ns: set.start_ns,
        end_ns: set.end_ns,
        filter: EntryFilter { lines, ..EntryFilter::default() },
        direction: Direction::Backward,
        limit: 100,
        ..SelectEntries::default()
    };
    Ok(storage.select_entries(&scope, &request, &Cancel::default()).await?.len())
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// CPU seconds so far, of threads that ended too; counted in steps of 10 ms.
fn whole_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15 of proc(5), behind the name.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// CPU seconds of all threads that there are, to the nanosecond.
fn process_cpu_s() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.map(|task| scheduled_s(&task.path().join("schedstat"))).sum()
}

/// CPU seconds of this thread.
fn thread_cpu_s() -> f64 {
    scheduled_s(Path::new("/proc/thread-self/schedstat"))
}

fn scheduled_s(path: &Path) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let ns = text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
    ns.unwrap_or(0.0) / 1e9
}

fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn directory_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => directory_bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}
