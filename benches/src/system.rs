//! The systems beside each other: how each is started, asked and stopped, and what it uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use testkit::http::{Connection, escaped};

/// Which system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This project's release build.
    Taffrail,
    /// The packaged `victoria-metrics`.
    VictoriaMetrics,
    /// The packaged `prometheus`.
    Prometheus,
}

impl Kind {
    /// Its name in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Taffrail => "Taffrail",
            Self::VictoriaMetrics => "VictoriaMetrics",
            Self::Prometheus => "Prometheus",
        }
    }

    /// The program.
    fn program(self) -> PathBuf {
        match self {
            Self::Taffrail => std::env::var_os("TAFFRAIL_BIN")
                .map_or_else(|| "target/release/taffrail".into(), PathBuf::from),
            Self::VictoriaMetrics => "victoria-metrics".into(),
            Self::Prometheus => "prometheus".into(),
        }
    }

    /// What it says of its version.
    pub(crate) fn version(self) -> String {
        let flag = if self == Self::VictoriaMetrics { "-version" } else { "--version" };
        let output = Command::new(self.program()).arg(flag).output();
        let text = output.map_or_else(
            |e| e.to_string(),
            |o| {
                let both = [o.stdout, o.stderr].concat();
                String::from_utf8_lossy(&both).lines().next().unwrap_or("?").to_owned()
            },
        );
        format!("{}: {text}", self.name())
    }
}

/// What a system is started with: a file as Prometheus reads it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Configuration<'f> {
    /// Nothing beside what all have.
    Plain,
    /// It scrapes what the file says.
    Scrape(&'f Path),
    /// It sends on what it takes, to where the file says.
    Forward(&'f Path),
    /// More of Taffrail's own configuration; the others have none of it.
    Also(&'f str),
}

/// A running server with a data directory of its own.
#[derive(Debug)]
pub(crate) struct System {
    /// Which one.
    pub(crate) kind: Kind,
    /// Where it listens.
    pub(crate) port: u16,
    data: PathBuf,
    child: Child,
}

impl System {
    /// Starts it and waits until it answers.
    pub(crate) fn start(kind: Kind, data: &Path, port: u16) -> Result<(Self, Duration)> {
        Self::start_with(kind, data, port, Configuration::Plain)
    }

    /// The same under a configuration.
    pub(crate) fn start_with(
        kind: Kind,
        data: &Path,
        port: u16,
        configuration: Configuration<'_>,
    ) -> Result<(Self, Duration)> {
        fs::create_dir_all(data)?;
        let mut command = Command::new(kind.program());
        arguments(kind, data, port, configuration, &mut command)?;
        let log =
            fs::OpenOptions::new().create(true).append(true).open(data.with_extension("log"))?;
        command.stdout(log.try_clone()?).stderr(Stdio::from(log)).stdin(Stdio::null());
        let started = Instant::now();
        let child =
            command.spawn().with_context(|| format!("start {}", kind.program().display()))?;
        let system = Self { kind, port, data: data.to_owned(), child };
        let took = system.wait_for(
            |s| s.get("/-/ready").is_ok_and(|r| r < 300),
            Duration::from_secs(120),
            started,
        )?;
        Ok((system, took))
    }

    fn wait_for(
        &self,
        ready: impl Fn(&Self) -> bool,
        limit: Duration,
        since: Instant,
    ) -> Result<Duration> {
        while !ready(self) {
            if since.elapsed() > limit {
                bail!("{} was not ready after {limit:?}", self.kind.name());
            }
            thread::sleep(Duration::from_millis(3));
        }
        Ok(since.elapsed())
    }

    fn get(&self, path: &str) -> Result<u16> {
        // VictoriaMetrics 1.79 has no readiness path of its own name.
        let path =
            if self.kind == Kind::VictoriaMetrics && path == "/-/ready" { "/health" } else { path };
        Ok(self.connect()?.call("GET", path, &[], &[])?.status)
    }

    /// A new connection to it.
    pub(crate) fn connect(&self) -> Result<Connection> {
        Connection::open(([127, 0, 0, 1], self.port).into())
            .with_context(|| format!("connect to {}", self.kind.name()))
    }

    /// Waits until an instant query gives `expected` as its first value.
    pub(crate) fn wait_for_answer(
        &self,
        query: &str,
        at_ms: i64,
        expected: &str,
        since: Instant,
    ) -> Result<Duration> {
        self.wait_for_answer_with(&[], query, at_ms, expected, since)
    }

    /// The same for one tenant.
    pub(crate) fn wait_for_answer_of(
        &self,
        tenant: &str,
        query: &str,
        at_ms: i64,
        expected: &str,
        since: Instant,
    ) -> Result<Duration> {
        self.wait_for_answer_with(&[("X-Scope-OrgID", tenant)], query, at_ms, expected, since)
    }

    fn wait_for_answer_with(
        &self,
        headers: &[(&str, &str)],
        query: &str,
        at_ms: i64,
        expected: &str,
        since: Instant,
    ) -> Result<Duration> {
        let path = instant(query, at_ms);
        let needle = format!("\"{expected}\"");
        let right = |s: &Self| {
            let answer = s.connect().and_then(|mut c| Ok(c.call("GET", &path, headers, &[])?));
            answer.is_ok_and(|r| {
                r.status == 200 && String::from_utf8_lossy(&r.body).contains(&needle)
            })
        };
        self.wait_for(right, Duration::from_secs(180), since)
    }

    /// CPU seconds so far, all threads, user and system.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        // Fields 14 and 15 of proc(5); a tick is 10 ms on every Linux we run on.
        (ticks(11) + ticks(12)) / 100.0
    }

    /// Anonymous resident memory in bytes, now.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap_or("");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Waits until it has used next to no CPU for two seconds.
    pub(crate) fn settle(&self) {
        let started = Instant::now();
        let mut before = self.cpu_seconds();
        while started.elapsed() < Duration::from_secs(120) {
            thread::sleep(Duration::from_secs(2));
            let now = self.cpu_seconds();
            if now - before < 0.06 {
                return;
            }
            before = now;
        }
    }

    /// Merges everything into its smallest form, as far as the system can be told to.
    pub(crate) fn compact(&self) -> Result<()> {
        match self.kind {
            Kind::Taffrail => self.must("POST", "/api/v1/admin/storage/compact")?,
            Kind::VictoriaMetrics => {
                self.must("GET", "/internal/force_flush")?;
                self.must("GET", "/internal/force_merge")?;
            }
            Kind::Prometheus => self.must("POST", "/api/v1/admin/tsdb/snapshot")?,
        }
        self.settle();
        Ok(())
    }

    /// A call that must succeed.
    pub(crate) fn must(&self, method: &str, path: &str) -> Result<()> {
        let response = self.connect()?.call(method, path, &[], &[])?;
        if response.status >= 300 {
            bail!("{} {path} answered {}", self.kind.name(), response.status);
        }
        Ok(())
    }

    /// Bytes of stored data and index. Prometheus: of a snapshot, its WAL left out.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match self.kind {
            Kind::Prometheus => directory_bytes(&self.data.join("snapshots")),
            Kind::Taffrail => directory_bytes(&self.data.join("objects")),
            Kind::VictoriaMetrics => directory_bytes(&self.data),
        }
    }

    /// Pulls the plug.
    pub(crate) fn kill(mut self) -> Result<PathBuf> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.data.clone())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Path of an instant query, caches off.
pub(crate) fn instant(query: &str, at_ms: i64) -> String {
    format!(
        "/api/v1/query?query={}&time={}.{:03}&nocache=1",
        escaped(query),
        at_ms / 1000,
        at_ms % 1000
    )
}

fn arguments(
    kind: Kind,
    data: &Path,
    port: u16,
    configuration: Configuration<'_>,
    command: &mut Command,
) -> Result<()> {
    let listen = format!("127.0.0.1:{port}");
    match kind {
        Kind::Taffrail => {
            let config = data.with_extension("toml");
            let more = match configuration {
                Configuration::Plain => String::new(),
                Configuration::Also(text) => text.to_owned(),
                Configuration::Scrape(file) => format!("[ingest.scrape]\nconfig_file = {file:?}\n"),
                Configuration::Forward(file) => {
                    format!("[ingest.forward]\nconfig_file = {file:?}\n")
                }
            };
            fs::write(&config, format!("{TAFFRAIL_CONFIG}{more}"))?;
            command
                .args(["serve", "--listen", &listen, "--data-dir"])
                .arg(data)
                .arg("--config")
                .arg(config);
        }
        Kind::VictoriaMetrics => {
            command
                .arg(format!("-storageDataPath={}", data.display()))
                .arg(format!("-httpListenAddr={listen}"))
                .args([
                    "-retentionPeriod=24",
                    // It closes every connection after two minutes otherwise.
                    "-http.connTimeout=24h",
                    "-search.maxUniqueTimeseries=3000000",
                    "-search.maxSeries=3000000",
                ])
                .args(match configuration {
                    Configuration::Scrape(file) => {
                        Some(format!("-promscrape.config={}", file.display()))
                    }
                    Configuration::Plain | Configuration::Forward(_) | Configuration::Also(_) => {
                        None
                    }
                });
        }
        Kind::Prometheus => {
            let config = data.with_extension("yml");
            match configuration {
                Configuration::Plain | Configuration::Also(_) => {
                    fs::write(&config, "global: {}\n")?;
                }
                Configuration::Scrape(file) | Configuration::Forward(file) => {
                    fs::copy(file, &config)?;
                }
            }
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", data.display()))
                .arg(format!("--web.listen-address={listen}"))
                .args([
                    "--web.enable-remote-write-receiver",
                    "--web.enable-admin-api",
                    "--log.level=warn",
                ]);
        }
    }
    Ok(())
}

/// No self-observation beside the load, no downsampled blocks (the others make none), no answers that
/// are kept, and limits that a benchmark does not run into.
const TAFFRAIL_CONFIG: &str = "
[query]
result_cache_bytes = 0

[ingest.self_scrape]
enabled = false

[storage.downsampling]
enabled = false

[tenancy.limits.default]
samples_per_second = 1e9
samples_burst = 1e9
new_series_per_second = 1e9
new_series_burst = 1e9
active_series_max = 100000000
query_series_max = 100000000
query_samples_max = 1000000000
query_memory_bytes_max = 17179869184
";

/// How many files there are below a directory, and their bytes.
pub(crate) fn files_below(dir: &Path) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(dir) else { return (0, 0) };
    let all = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => files_below(&entry.path()),
        Ok(meta) => (1, meta.len()),
        Err(_) => (0, 0),
    });
    all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn directory_bytes(dir: &Path) -> u64 {
    files_below(dir).1
}
