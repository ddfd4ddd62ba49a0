//! Cold reads from object storage: a day of a thousand series from an S3 service that takes 30 ms for
//! each request, with nothing of it in memory or on the local disk.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::http::{Connection, escaped};
use testkit::{S3Plan, S3Server};

use crate::load;
use crate::sender;

/// Series, and rounds of 15 s: a day.
const SERIES: u64 = 1_000;
const ROUNDS: u64 = 5_760;

/// What every request to the service takes. Milliseconds.
const DELAY_MS: u32 = 30;

const PORT: u16 = 19_551;

/// Every series, every sample.
const QUERY: &str = "sum by (namespace) ({environment=\"production\"})";

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Server {
    /// Starts the release build on objects of the service, and waits until it answers.
    fn start(dir: &Path, endpoint: &str) -> Result<Self> {
        let config = dir.join("taffrail.toml");
        let text = format!(
            "[ingest.self_scrape]\nenabled = false\n[storage.objects]\nkind = \"s3\"\nbucket = \"{}\"\n\
             endpoint = \"{endpoint}\"\nallow_http = true\ncredentials = \"keys\"\naccess_key_id = \"a\"\n\
             secret_access_key = \"b\"\n",
            S3Server::BUCKET
        );
        fs::write(&config, text)?;
        let program = std::env::var_os("TAFFRAIL_BIN")
            .map_or_else(|| "target/release/taffrail".into(), PathBuf::from);
        let log =
            fs::OpenOptions::new().create(true).append(true).open(dir.join("taffrail.log"))?;
        let child = Command::new(&program)
            .args(["serve", "--listen", &format!("127.0.0.1:{PORT}"), "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let server = Self(child);
        let started = Instant::now();
        while call("GET", "/-/ready").is_err() {
            ensure!(started.elapsed() < Duration::from_secs(60), "the server does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

fn call(method: &str, path: &str) -> Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let answer = Connection::open(address)?.call(method, path, &[], &[])?;
    if answer.status >= 300 {
        bail!("{method} {path} answered {}: {}", answer.status, answer.text());
    }
    Ok(answer.body)
}

/// Fills a store on the service, then asks for all of the day, each time after a start with an
/// empty cache. Gives a table.
pub(crate) fn cold(dir: &Path, start_ms: i64, repeats: usize) -> Result<String> {
    let service = S3Server::start().context("no Python with moto; set TAFFRAIL_PYTHON")?;
    let load = load::wide(dir, "cold", SERIES, start_ms, 0..ROUNDS)?;
    let server = Server::start(dir, &service.endpoint())?;
    sender::send(&load, PORT, &sender::REMOTE_WRITE, "cold → Taffrail")?;
    call("POST", "/api/v1/admin/storage/compact")?;
    drop(server);
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let path = format!(
        "/api/v1/query_range?query={}&start={}&end={}&step=60",
        escaped(QUERY),
        seconds(start_ms),
        seconds(load.end_ms - 15_000)
    );
    let (mut runs, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..repeats.max(1) {
        service.plan(&S3Plan::default());
        drop(fs::remove_dir_all(dir.join("data/cache")));
        let server = Server::start(dir, &service.endpoint())?;
        service.plan(&S3Plan { delay_ms: DELAY_MS, ..S3Plan::default() });
        drop(service.requests());
        let asked = Instant::now();
        let cold = call("GET", &path)?;
        let took = asked.elapsed();
        let requests = service.requests();
        let asked = Instant::now();
        answers.push((cold == call("GET", &path)?, cold.len()));
        runs.push((took, requests.len(), asked.elapsed()));
        drop(server);
    }
    ensure!(answers.iter().all(|(same, bytes)| *same && *bytes > 10_000), "answers differ");
    runs.sort();
    let (took, requests, warm) = runs[runs.len() / 2];
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let mut table = String::new();
    writeln!(table, "| cold read from S3, {DELAY_MS} ms a request | |\n| --- | ---: |")?;
    writeln!(table, "| samples read | {} |", load.samples)?;
    writeln!(table, "| requests | {requests} |")?;
    writeln!(table, "| ms, median of {} | {:.0} |", runs.len(), ms(took))?;
    writeln!(table, "| ms, all runs | {} |", list(runs.iter().map(|run| ms(run.0))))?;
    writeln!(table, "| ms, the same once more | {:.0} |", ms(warm))?;
    Ok(table)
}

fn list(values: impl Iterator<Item = f64>) -> String {
    values.map(|value| format!("{value:.0}")).collect::<Vec<_>>().join(", ")
}
