//! The collectors on a made-up machine, and beside the real node_exporter on this one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use model::SystemClock;
use testkit::ManualClock;

use super::{FilesystemUsage, Host, Root};
use crate::exposition::{Entry, TextParser};

fn made_up_usage(path: &Path) -> io::Result<FilesystemUsage> {
    if path.ends_with("broken") {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let size_bytes = path.as_os_str().len() as f64; // something that tells file systems apart
    Ok(FilesystemUsage {
        size_bytes: size_bytes.min(1.0) * 1e12,
        free_bytes: 5e11,
        available_bytes: 4e11,
        files: 1e6,
        files_free: 9e5,
    })
}

fn collect(root: &str) -> (Host, String) {
    let root = Root { path: testkit::package_dir().join(root) };
    let host = Host::with_usage(root, Arc::new(ManualClock::new(1_700_000_123_456)), made_up_usage);
    let mut text = String::new();
    host.collect(&mut text);
    (host, text)
}

#[test]
fn a_made_up_machine() {
    let (host, text) = collect("testdata/host");
    assert_eq!(host.name(), "node-1");
    testkit::golden::check("testdata/host.prom", &text);
    assert!(
        !text.contains("_success{collector")
            || !text.contains("\"} 0\nnode_scrape_collector_success"),
        "all succeed"
    );
    families(&text);
}

#[test]
fn a_machine_without_anything() {
    let (host, text) = collect("testdata/no-such-machine");
    assert_eq!(host.name(), "localhost");
    let samples: Vec<String> = families(&text).into_values().flat_map(|f| f.series).collect();
    let alive = |s: &&String| !s.starts_with("node_scrape_collector");
    assert_eq!(samples.iter().filter(alive).collect::<Vec<_>>(), ["node_time_seconds"]);
}

#[derive(Default, PartialEq, Debug)]
struct Family {
    kind: String,
    help: String,
    series: BTreeSet<String>,
}

/// An exposition by families. Fails if a sample has no TYPE or its family comes in two parts.
#[track_caller]
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut parser = TextParser::new(text.as_bytes());
    while let Some(entry) = parser.next_entry().expect("valid") {
        match entry {
            Entry::Unit { .. } | Entry::Histogram { .. } => unreachable!("not in the text format"),
            Entry::Help { family, text } => {
                let old = families.insert(
                    family.to_string(),
                    Family { help: text.into_owned(), ..Family::default() },
                );
                assert_eq!(old, None, "family in two parts");
            }
            Entry::Type { family, kind } => {
                families.get_mut(&*family).expect("HELP comes first").kind =
                    kind.as_str().to_owned();
            }
            Entry::Sample { .. } => {
                let name = parser.labels()[0].1.to_string();
                let labels: BTreeMap<_, _> = parser.labels()[1..].iter().cloned().collect();
                let labels: String = labels.iter().map(|(n, v)| format!(",{n}={v:?}")).collect();
                if let Some(family) = families.get_mut(&name) {
                    assert!(
                        family.series.insert(format!("{name}{labels}")),
                        "{name}{labels} twice"
                    );
                }
            }
        }
    }
    families
}

/// A running node_exporter, ended when dropped.
struct NodeExporter {
    child: Child,
    address: String,
}

impl Drop for NodeExporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node_exporter() -> io::Result<NodeExporter> {
    let mut child = Command::new("prometheus-node-exporter")
        .arg("--web.listen-address=127.0.0.1:0")
        // Debian's package leaves out more than node_exporter does by itself.
        .arg("--collector.netdev.device-exclude=^$")
        .arg(r"--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")
        .arg("--collector.filesystem.mount-points-exclude=^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let log = BufReader::new(child.stderr.take().expect("piped"));
    let mut address = String::new();
    let mut lines = log.lines();
    for line in lines.by_ref() {
        if let Some((_, found)) = line?.split_once("address=127.0.0.1:") {
            address = format!("127.0.0.1:{found}");
            break;
        }
    }
    // The pipe must be read on, or the exporter stops at a full one.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(NodeExporter { child, address })
}

/// Families of collectors that exist here but in part.
const NOT_COVERED: &[&str] = &[
    "node_arp",
    "node_cooling",
    "node_cpu_frequency",
    "node_cpu_scaling",
    "node_cpu_info",
    "node_cpu_core",
    "node_cpu_package",
    "node_dmi",
    "node_edac",
    "node_exporter",
    "node_hwmon",
    "node_md",
    "node_nf_",
    "node_nfs",
    "node_power",
    "node_rapl",
    "node_schedstat",
    "node_scrape",
    "node_selinux",
    "node_softnet",
    "node_systemd",
    "node_textfile",
    "node_thermal",
    "node_time_clocksource",
    "node_time_zone",
    "node_timex",
    "node_udp",
    "node_xfs",
    "node_zfs",
    "node_bonding",
    "node_btrfs",
    "node_fibrechannel",
    "node_infiniband",
    "node_ipvs",
    "node_nvme",
    "node_tape",
    "node_os_support",
];

#[test]
fn beside_the_real_node_exporter() {
    let exporter = match node_exporter() {
        Ok(exporter) => exporter,
        Err(error) => {
            let forced = std::env::var_os("TAFFRAIL_REQUIRE_PROGRAMS").is_some();
            assert!(!forced, "start prometheus-node-exporter: {error}");
            eprintln!("SKIPPED: prometheus-node-exporter does not start: {error}");
            return;
        }
    };
    let address = exporter.address.parse().expect("an address");
    let mut client = testkit::http::Connection::open(address).expect("connect");
    let theirs = client.call("GET", "/metrics", &[], &[]).expect("their metrics").text();
    let mut ours = String::new();
    Host::new(Root::default(), Arc::new(SystemClock::default())).collect(&mut ours);
    let (ours, theirs) = (families(&ours), families(&theirs));
    let mut wrong = Vec::new();
    for (name, their) in theirs.iter().filter(|(name, _)| name.starts_with("node_")) {
        if NOT_COVERED.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        match ours.get(name) {
            None => wrong.push(format!("{name} is missing")),
            Some(our) if our != their => {
                wrong.push(format!("{name}\n  ours   {our:?}\n  theirs {their:?}"))
            }
            Some(_) => {}
        }
    }
    // Newer versions of node_exporter have these as well.
    let newer = ["node_netstat_TcpExt_TCPOFOQueue", "node_netstat_TcpExt_TCPRcvQDrop"];
    for name in
        ours.keys().filter(|name| !theirs.contains_key(*name) && !newer.contains(&name.as_str()))
    {
        wrong.push(format!("{name} is not theirs"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ours.len() > 150, "{} families", ours.len());
}
