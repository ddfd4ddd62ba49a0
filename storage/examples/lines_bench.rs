//! What lines take as templates and columns, and how fast they are encoded and decoded, by program
//! and group of 8,192 rows in order of stream and time; beside it what zstd makes of the same.
//! `cargo run --release -p storage --example lines_bench [megabytes]`.

#![expect(clippy::print_stdout, reason = "a report")]

use std::collections::BTreeMap;
use std::hint::black_box;

use storage::entries::lines;
use testkit::logs::{LogScale, LogSet};

/// Rows of a group of a segment.
const GROUP_ROWS: usize = 8_192;

/// The level of merged segments.
const LEVEL: i32 = 6;

/// How often everything is decoded.
const ROUNDS: usize = 3;

/// 21 September 2026. Nanoseconds.
const START_NS: i64 = 1_790_000_000_000_000_000;

/// CPU time of this thread in seconds: other work on the machine does not count.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1e9
}

/// Bytes and seconds of one program, or all.
#[derive(Default)]
struct Sums {
    raw: f64,
    lines: f64,
    zstd_1: f64,
    zstd_6: f64,
    encode: f64,
    decode: f64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.raw += other.raw;
        self.lines += other.lines;
        self.zstd_1 += other.zstd_1;
        self.zstd_6 += other.zstd_6;
        self.encode += other.encode;
        self.decode += other.decode;
    }

    fn print(&self, name: &str) {
        println!(
            "{name:12} {:8.2} {:9.4} {:9.4} {:9.4} {:10.0} {:10.0}",
            self.raw / 1e6,
            self.lines / self.raw,
            self.zstd_1 / self.raw,
            self.zstd_6 / self.raw,
            self.raw / self.encode / 1e6,
            self.raw / self.decode / 1e6,
        );
    }
}

fn measure(streams: &[Vec<Vec<u8>>]) -> Result<Sums, Box<dyn std::error::Error>> {
    let groups: Vec<Vec<&[u8]>> = streams
        .iter()
        .flat_map(|lines| lines.chunks(GROUP_ROWS))
        .map(|lines| lines.iter().map(Vec::as_slice).collect())
        .collect();
    let mut sums = Sums::default();
    let started = cpu_seconds();
    let mut blobs = Vec::new();
    for group in &groups {
        blobs.push(lines::encode(black_box(group), LEVEL)?);
    }
    sums.encode = cpu_seconds() - started;
    let started = cpu_seconds();
    for _ in 0..ROUNDS {
        for (blob, group) in blobs.iter().zip(&groups) {
            black_box(lines::decode(black_box(blob), group.len())?);
        }
    }
    sums.decode = (cpu_seconds() - started) / ROUNDS as f64;
    for (blob, group) in blobs.iter().zip(&groups) {
        let decoded = lines::decode(blob, group.len())?.text;
        let text: Vec<u8> = group.iter().flat_map(|l| l.iter().copied().chain([b'\n'])).collect();
        assert!(decoded == text, "lines come back as they were");
        sums.raw += text.len() as f64;
        sums.lines += blob.len() as f64;
        sums.zstd_1 += zstd::bulk::compress(&text, 1)?.len() as f64;
        sums.zstd_6 += zstd::bulk::compress(&text, 6)?.len() as f64;
    }
    Ok(sums)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut scale = LogScale::full(START_NS);
    if let Some(megabytes) = std::env::args().nth(1) {
        scale.bytes = megabytes.parse::<u64>()? * 1_000_000;
        scale.streams = (scale.bytes * 254 / 419_000_000).max(16) as usize;
    }
    let mut set = LogSet::new(scale);
    let mut streams = vec![Vec::new(); set.streams().len()];
    while let Some(line) = set.next_line() {
        streams[line.stream].push(line.line.to_vec());
    }
    let mut programs: BTreeMap<String, Vec<Vec<Vec<u8>>>> = BTreeMap::new();
    for (labels, lines) in set.streams().iter().zip(streams) {
        let program = labels.iter().find(|(name, _)| *name == "container");
        let program = program.map(|(_, value)| value.clone()).unwrap_or_default();
        programs.entry(program).or_default().push(lines);
    }
    println!("program      raw, MB     lines    zstd-1    zstd-6  encode M/s  decode M/s");
    let mut all = Sums::default();
    for (program, streams) in &programs {
        let sums = measure(streams)?;
        sums.print(program);
        all.add(&sums);
    }
    all.print("all");
    Ok(())
}
