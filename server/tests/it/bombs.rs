//! Bombs: requests made to cost far more than they weigh. Each gets an answer soon, the process
//! lives on, and what it holds in memory hardly grows.

mod bodies;
mod headers;
mod questions;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use model::{Clock, Labels, SystemClock};
use testkit::http::{Connection, escaped};
use testkit::remote_write::{self, Series};

use crate::process::{Program, taffrail};

const CONFIG: &str = "
[ingest.self_scrape]
enabled = false
[storage]
disk_reserve_bytes = 0
[query]
experimental_promql = true
";

/// How much one bomb may add to what the process holds, at any moment.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// How much a whole class may add: the allocator keeps some of what bombs before needed, and uses
/// it again.
const CLASS_BYTES_MAX: u64 = 2 * GROWTH_BYTES_MAX;

/// An optimised build answers in about a second; this only catches what hangs.
const ANSWER_SECONDS_MAX: u64 = 20;

/// Statuses that say what the sender did wrong.
const REFUSED: &[u16] = &[400, 408, 413, 414, 415, 422, 429, 431];

/// Refused, or carried out because it was not too much after all.
const ANSWERED: &[u16] = &[200, 204, 400, 408, 413, 414, 415, 422, 429, 431];

/// One request.
#[derive(Debug, Clone, Default)]
struct Bomb {
    /// For messages.
    name: String,
    method: &'static str,
    path: String,
    /// Lines with their ends.
    headers: Vec<u8>,
    body: Vec<u8>,
    framing: Framing,
    expected: &'static [u16],
    /// What it may leave behind because it was right to store it.
    stored_bytes: u64,
}

/// How the length of a body is told.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Framing {
    #[default]
    Length,
    Chunked,
    /// So many bytes are announced and none are sent.
    Announced(u64),
}

/// Throws one class of bombs at a server of its own.
struct Range {
    server: Program,
    now_ms: i64,
    _dir: tempfile::TempDir,
}

impl Range {
    /// A server that has received and answered the usual, so that what it always needs is there.
    fn open() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = taffrail(dir.path(), CONFIG);
        let range = Self { server, now_ms: SystemClock::default().now_ms(), _dir: dir };
        let series: Vec<Series> = (0..50)
            .map(|s| {
                let labels = Labels::from_pairs([
                    ("__name__", "m"),
                    ("series", &s.to_string()),
                    ("long", &"a".repeat(1000)),
                ]);
                let samples: Vec<_> =
                    (0..60).map(|i| (range.now_ms - 60_000 * i, f64::from(s))).rev().collect();
                Series::new(&labels, &samples)
            })
            .collect();
        let written = range.throw(&bodies::write("warm up", &remote_write::body(&series, &[])));
        assert_eq!(written.map(|(status, _)| status), Some(204));
        for query in
            ["sum by (series) (rate(m[5m]))", "m{long=~\"a+\"} * 2", "max_over_time(m[1h:1m])"]
        {
            let question = questions::instant("warm up", query);
            assert_eq!(range.throw(&question).map(|(status, _)| status), Some(200));
        }
        range
    }

    /// Every bomb is answered as expected, in time, and leaves a process that works and is small.
    fn survive(&self, bombs: impl IntoIterator<Item = Bomb>) {
        let before = anonymous_bytes(self.server.pid());
        let (stop, peak) = (AtomicBool::new(false), AtomicU64::new(before));
        let (mut failures, mut class_peak, mut stored) = (Vec::new(), before, 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    peak.fetch_max(anonymous_bytes(self.server.pid()), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            for bomb in bombs {
                let bomb_before = anonymous_bytes(self.server.pid());
                peak.store(bomb_before, Ordering::Relaxed);
                let thrown = self.failure_of(&bomb);
                let bomb_peak = peak.load(Ordering::Relaxed);
                stored += bomb.stored_bytes;
                class_peak = class_peak.max(bomb_peak.saturating_sub(stored));
                let grown = bomb_peak.saturating_sub(bomb_before);
                let Thrown { status, took, failure } = thrown;
                failures.extend(failure);
                println!(
                    "| {} | {status} | {:.1} | {:.1} |",
                    bomb.name.replace('|', "\\|"),
                    took.as_secs_f64() * 1e3,
                    grown as f64 / f64::from(1 << 20)
                );
                if grown >= GROWTH_BYTES_MAX + bomb.stored_bytes {
                    failures.push(format!("{}: {} MiB more", bomb.name, grown >> 20));
                }
                if failures.len() > 20 || anonymous_bytes(self.server.pid()) == 0 {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let growth = class_peak.saturating_sub(before);
        println!("all of them: {} MiB before, at most {} MiB more", before >> 20, growth >> 20);
        if growth >= CLASS_BYTES_MAX {
            failures.push(format!("all together: {} MiB more", growth >> 20));
        }
        let known = self.throw(&questions::instant("afterwards", "count(m) + sum(m)"));
        if !known.as_ref().is_some_and(|(_, text)| text.contains("\"1275\"")) {
            failures.push(format!("an ordinary question afterwards: {known:?}"));
        }
        assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), self.server.output());
    }

    fn failure_of(&self, bomb: &Bomb) -> Thrown {
        let started = Instant::now();
        let answer = self.throw(bomb);
        let took = started.elapsed();
        let status = answer.as_ref().map_or(0, |(status, _)| *status);
        let shown = |text: &str| text.chars().take(300).collect::<String>();
        let failure = match answer {
            _ if took > Duration::from_secs(ANSWER_SECONDS_MAX) => {
                Some(format!("{}: took {took:?}", bomb.name))
            }
            None => Some(format!("{}: no answer", bomb.name)),
            Some((status, text)) if !bomb.expected.contains(&status) => {
                Some(format!("{}: answered {status}: {}", bomb.name, shown(&text)))
            }
            Some((400.., text)) if !says_why(bomb, &text) => {
                Some(format!("{}: not as Prometheus says it: {}", bomb.name, shown(&text)))
            }
            Some(_) if !self.is_healthy() => Some(format!("{}: not healthy afterwards", bomb.name)),
            Some(_) => None,
        };
        Thrown { status, took, failure }
    }

    fn is_healthy(&self) -> bool {
        let answer = Connection::open(self.server.address)
            .and_then(|mut connection| connection.call("GET", "/-/healthy", &[], &[]));
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// Status and text of the answer, `None` if there was none.
    fn throw(&self, bomb: &Bomb) -> Option<(u16, String)> {
        let answer = send(self.server.address, bomb).ok()?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text))
    }
}

/// Whether the refusal of a question has Prometheus' form. What the HTTP library refuses by itself,
/// for its header lines, never gets as far as that.
fn says_why(bomb: &Bomb, answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let is_question = bomb.path.starts_with("/api/v1/") && bomb.path != "/api/v1/write";
    if !is_question || !bomb.headers.starts_with(b"Content-Type") {
        return true;
    }
    head.contains("application/json")
        && body.contains("\"status\":\"error\"")
        && body.contains("\"errorType\":")
        && body.contains("\"error\":")
}

/// What came of a bomb.
struct Thrown {
    /// 0 if there was no answer.
    status: u16,
    took: Duration,
    failure: Option<String>,
}

/// Sends while reading: whoever refuses a body answers before its end.
fn send(address: SocketAddr, bomb: &Bomb) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX + 5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX + 5)))?;
    let mut head =
        format!("{} {} HTTP/1.1\r\nHost: bombs\r\n", bomb.method, bomb.path).into_bytes();
    head.extend_from_slice(&bomb.headers);
    let framing = match bomb.framing {
        Framing::Length => format!("Content-Length: {}\r\n", bomb.body.len()),
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Framing::Announced(bytes) => format!("Content-Length: {bytes}\r\n"),
    };
    head.extend(format!("{framing}Connection: close\r\n\r\n").into_bytes());
    let mut sending = stream.try_clone()?;
    thread::scope(|scope| {
        // An error here is the server's refusal, which the reader sees.
        scope.spawn(move || write_all(&mut sending, &head, bomb));
        let answer = read_all(&mut stream);
        let _ = stream.shutdown(Shutdown::Both);
        answer
    })
}

fn write_all(stream: &mut TcpStream, head: &[u8], bomb: &Bomb) -> io::Result<()> {
    stream.write_all(head)?;
    match bomb.framing {
        Framing::Length => stream.write_all(&bomb.body),
        Framing::Announced(_) => Ok(()),
        Framing::Chunked => {
            for chunk in bomb.body.chunks(1 << 16) {
                write!(stream, "{:x}\r\n", chunk.len())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            stream.write_all(b"0\r\n\r\n")
        }
    }
}

/// Up to the end; a connection that is cut after an answer has answered.
fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

/// What a process holds that is not in files. Bytes.
fn anonymous_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    // A process that is gone holds nothing; that it is gone is noticed by who asks it.
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    fields.join("&")
}
