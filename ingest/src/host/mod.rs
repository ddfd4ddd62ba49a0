//! Metrics of the machine Taffrail runs on, with node_exporter's names, labels, types and help
//! texts, so that its dashboards and alerts work with nothing else installed.
//!
//! Everything is read from `/proc` and `/sys` below a root that tests replace. A collector that
//! fails (a file this kernel lacks) is reported by `node_scrape_collector_success` and does not
//! stop the others. Never here: labels `job` and `instance`, schedules, writing.

mod cpu;
mod disk;
mod families;
mod filesystem;
mod kernel;
mod memory;
mod network;
mod system;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Clock;
use parking_lot::Mutex;

pub use filesystem::FilesystemUsage;

use families::Families;

/// Where the kernel's files are.
#[derive(Debug, Clone)]
pub struct Root {
    /// Usually `/`; the host's root as mounted into a container otherwise.
    pub path: PathBuf,
}

impl Default for Root {
    fn default() -> Self {
        Self { path: PathBuf::from("/") }
    }
}

impl Root {
    fn read(&self, path: &str) -> io::Result<String> {
        let bytes = std::fs::read(self.path.join(path))?;
        // Names of devices and mount points may be any bytes.
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// A file with one value, without the line feed. `None` if it is not there or not readable:
    /// attributes of some devices answer with an error.
    fn value(&self, path: &str) -> Option<String> {
        self.read(path).ok().map(|text| text.trim_end().to_owned())
    }
}

/// How the size of a mounted file system is asked for; tests give an answer of their own.
pub type UsageOf = fn(&Path) -> io::Result<FilesystemUsage>;

/// Reads the machine's metrics.
#[derive(Debug)]
pub struct Host {
    root: Root,
    clock: Arc<dyn Clock>,
    usage_of: UsageOf,
    cpu: Mutex<cpu::Seen>,
    stuck: filesystem::Stuck,
}

type Collect = fn(&Host, &mut Families<'_>) -> io::Result<()>;

/// Collectors by node_exporter's names, in its order.
const COLLECTORS: &[(&str, Collect)] = &[
    ("cpu", cpu::collect),
    ("diskstats", disk::collect),
    ("entropy", kernel::entropy),
    ("filefd", kernel::file_descriptors),
    ("filesystem", filesystem::collect),
    ("loadavg", kernel::load),
    ("meminfo", memory::meminfo),
    ("netclass", network::class),
    ("netdev", network::devices),
    ("netstat", network::netstat),
    ("os", system::os),
    ("pressure", kernel::pressure),
    ("sockstat", network::sockstat),
    ("stat", kernel::stat),
    ("time", system::time),
    ("uname", system::uname),
    ("vmstat", memory::vmstat),
];

impl Host {
    /// The machine whose files are under `root`.
    pub fn new(root: Root, clock: Arc<dyn Clock>) -> Self {
        Self::with_usage(root, clock, filesystem::usage_of)
    }

    /// The same with another way to ask for the size of file systems.
    pub fn with_usage(root: Root, clock: Arc<dyn Clock>, usage_of: UsageOf) -> Self {
        Self { root, clock, usage_of, cpu: Mutex::default(), stuck: filesystem::Stuck::default() }
    }

    /// The machine's name, as `instance` shows it.
    pub fn name(&self) -> String {
        let name = self.root.value("proc/sys/kernel/hostname");
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
    }

    /// Appends all metrics in text format. Blocks for about a millisecond.
    pub fn collect(&self, out: &mut String) {
        let mut families = Families::new(out);
        let mut done = Vec::with_capacity(COLLECTORS.len());
        for (name, collect) in COLLECTORS {
            let started = self.clock.monotonic();
            let result = collect(self, &mut families);
            let took = self.clock.monotonic().saturating_sub(started);
            if let Err(error) = &result {
                tracing::debug!(collector = name, %error, "host collector failed");
            }
            done.push((*name, took.as_secs_f64(), result.is_ok()));
        }
        let help = "node_exporter: Duration of a collector scrape.";
        families.open("node_scrape_collector_duration_seconds", "gauge", help);
        for (name, seconds, _) in &done {
            families.sample(&[("collector", name)], *seconds);
        }
        let help = "node_exporter: Whether a collector succeeded.";
        families.open("node_scrape_collector_success", "gauge", help);
        for (name, _, ok) in &done {
            families.sample(&[("collector", name)], f64::from(u8::from(*ok)));
        }
    }
}

/// An error for a file that does not look as it should.
fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is malformed"))
}
