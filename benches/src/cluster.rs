//! SIM: a day of a Kubernetes cluster as Prometheus would send it, 14,140 series at a time.
//!
//! Twenty nodes with node-exporter, a hundred containers under cAdvisor (which restart, leaving
//! stale markers), kube-state-metrics, an API server pair and thirty application pods with
//! histograms and a Go runtime. All series of a target share their scrape's timestamp. SIM0 is
//! the same without jitter of the scrapes.

use crate::random::SplitMix;
use crate::signal::{STALE, Signal};
use crate::wire;

/// A scrape target: its series and when it is scraped.
#[derive(Debug)]
pub(crate) struct Target {
    /// Milliseconds between scrapes.
    pub(crate) interval_ms: i64,
    /// Where in the interval it is scraped.
    offset_ms: i64,
    series: Vec<Series>,
    /// Containers end and come back under a new name.
    restarts: Option<Restarts>,
    random: SplitMix,
}

#[derive(Debug)]
struct Series {
    labels: Vec<u8>,
    signal: Signal,
    /// Cumulative histogram buckets: this bucket holds at least what the one before it holds.
    cumulative: bool,
}

#[derive(Debug)]
struct Restarts {
    container: usize,
    generation: u32,
}

/// Whether scrapes drift from their grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jitter {
    /// Every scrape exactly on time.
    None,
    /// 55 % on time, 38 % late by 3 to 7 ms, the rest by 8 ms to more than a second.
    Realistic,
}

impl Target {
    /// One scrape at the given tick: calls `emit(labels, timestamp, value)` for each series.
    pub(crate) fn scrape(
        &mut self,
        tick_ms: i64,
        jitter: Jitter,
        mut emit: impl FnMut(&[u8], i64, f64),
    ) {
        let late = match jitter {
            Jitter::None => 0,
            Jitter::Realistic => lateness_ms(&mut self.random),
        };
        let timestamp = tick_ms + self.offset_ms + late;
        if self.restarts.is_some() && self.random.happens(0.0005) {
            for series in &self.series {
                emit(&series.labels, timestamp, f64::from_bits(STALE));
            }
            self.restart();
            return;
        }
        let mut below = 0.0;
        for series in &mut self.series {
            let own = series.signal.next(&mut self.random);
            let value = if series.cumulative { below + own } else { own };
            below = value;
            emit(&series.labels, timestamp, value);
        }
    }

    /// How many series it has.
    pub(crate) fn series(&self) -> usize {
        self.series.len()
    }

    fn restart(&mut self) {
        if let Some(restarts) = &mut self.restarts {
            restarts.generation += 1;
            self.series = container(restarts.container, restarts.generation, &mut self.random);
        }
    }
}

fn lateness_ms(random: &mut SplitMix) -> i64 {
    let share = random.unit();
    if share < 0.55 {
        0
    } else if share < 0.93 {
        3 + random.below(5) as i64
    } else if share < 0.995 {
        8 + random.below(60) as i64
    } else {
        200 + random.below(1000) as i64
    }
}

/// All targets of the cluster.
pub(crate) fn targets(seed: u64) -> Vec<Target> {
    let mut random = SplitMix::new(seed);
    let mut all = Vec::new();
    for i in 0..30 {
        let series = application(i, &mut random);
        all.push(target(15_000, series, &mut random));
    }
    for i in 0..2 {
        let series = api_server(i, &mut random);
        all.push(target(15_000, series, &mut random));
    }
    for i in 0..20 {
        let series = node(i, &mut random);
        all.push(target(30_000, series, &mut random));
    }
    for i in 0..100 {
        let series = container(i, 0, &mut random);
        let restarts = Some(Restarts { container: i, generation: 0 });
        all.push(Target { restarts, ..target(30_000, series, &mut random) });
    }
    let series = kube_state(&mut random);
    all.push(target(30_000, series, &mut random));
    all
}

fn target(interval_ms: i64, series: Vec<Series>, random: &mut SplitMix) -> Target {
    let offset_ms = random.below(interval_ms as u64) as i64;
    Target { interval_ms, offset_ms, series, restarts: None, random: SplitMix::new(random.bits()) }
}

/// Labels every series of one target has.
fn base(job: &str, instance: &str, namespace: &str) -> Vec<(&'static str, String)> {
    vec![
        ("job", job.to_owned()),
        ("instance", instance.to_owned()),
        ("namespace", namespace.to_owned()),
        ("cluster", "production-eu-1".to_owned()),
        ("prometheus", "monitoring/k8s".to_owned()),
        ("endpoint", "http-metrics".to_owned()),
    ]
}

fn series(
    base: &[(&'static str, String)],
    name: &str,
    more: &[(&'static str, &str)],
    signal: Signal,
) -> Series {
    let mut pairs = base.to_vec();
    pairs.push(("__name__", name.to_owned()));
    pairs.extend(more.iter().map(|(n, v)| (*n, (*v).to_owned())));
    Series { labels: wire::labels(&mut pairs), signal, cumulative: false }
}

const BOUNDS: [&str; 12] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];

/// A classic histogram: buckets, sum and count.
fn histogram(
    out: &mut Vec<Series>,
    base: &[(&'static str, String)],
    name: &str,
    more: &[(&'static str, &str)],
    random: &mut SplitMix,
) {
    let busy = random.below(60) + 1;
    for (k, bound) in BOUNDS.iter().enumerate() {
        let mut labels = more.to_vec();
        labels.push(("le", bound));
        // Most observations fall into the lower middle; the upper buckets add nothing of their own.
        let step = if k < 8 { busy >> (k.abs_diff(3)) } else { 0 };
        let signal = Signal::Counter { value: 0, step, idle: 0.2 };
        out.push(Series {
            cumulative: k > 0,
            ..series(base, &format!("{name}_bucket"), &labels, signal)
        });
    }
    let total = Signal::Counter { value: 0, step: busy, idle: 0.2 };
    out.push(series(base, &format!("{name}_count"), more, total));
    out.push(series(
        base,
        &format!("{name}_sum"),
        more,
        Signal::Float { value: random.unit() * 10.0 },
    ));
}

fn application(i: usize, random: &mut SplitMix) -> Vec<Series> {
    let mut base =
        base("shop", &format!("10.1.{}.{}:8080", i / 8, i), ["shop", "pay", "search"][i % 3]);
    base.push(("pod", format!("shop-{:x}-{:05x}", i / 6, random.below(1 << 20))));
    base.push(("service", "shop".to_owned()));
    let mut out = Vec::new();
    for route in ["/", "/cart", "/item", "/pay"] {
        histogram(
            &mut out,
            &base,
            "http_request_duration_seconds",
            &[("route", route), ("method", "GET")],
            random,
        );
    }
    runtime(&mut out, &base, 54, random);
    out
}

/// Go runtime and process metrics, `count` of them.
fn runtime(
    out: &mut Vec<Series>,
    base: &[(&'static str, String)],
    count: usize,
    random: &mut SplitMix,
) {
    let named = [
        ("go_goroutines", Signal::Walk { value: 80, step: 6, grain: 1 }),
        ("go_memstats_alloc_bytes", Signal::Walk { value: 1 << 26, step: 40_000, grain: 8 }),
        ("go_memstats_alloc_bytes_total", Signal::Counter { value: 0, step: 4 << 20, idle: 0.0 }),
        ("go_memstats_mallocs_total", Signal::Counter { value: 0, step: 60_000, idle: 0.0 }),
        ("process_cpu_seconds_total", Signal::Seconds { units: 0, step: 90, scale: 100.0 }),
        ("process_resident_memory_bytes", Signal::Walk { value: 1 << 27, step: 300, grain: 4096 }),
        ("process_open_fds", Signal::Walk { value: 40, step: 2, grain: 1 }),
        (
            "process_start_time_seconds",
            Signal::Constant(1_700_000_000.0 + random.below(1_000_000) as f64 / 100.0),
        ),
        ("go_memstats_gc_cpu_fraction", Signal::Float { value: 0.001 }),
    ];
    out.extend(named.into_iter().map(|(name, signal)| series(base, name, &[], signal)));
    for quantile in ["0", "0.25", "0.5", "0.75", "1"] {
        let signal = Signal::Sparse { value: random.unit() / 1000.0 };
        out.push(series(base, "go_gc_duration_seconds", &[("quantile", quantile)], signal));
    }
    for i in 14..count {
        let signal = match i % 4 {
            0 => Signal::Counter { value: 0, step: 40, idle: 0.5 },
            1 => Signal::Walk { value: 1 << 20, step: 3, grain: 4096 },
            _ => Signal::Constant(random.below(1 << 30) as f64),
        };
        let suffix = if i % 4 == 0 { "_total" } else { "" };
        out.push(series(base, &format!("go_runtime_{i:02}{suffix}"), &[], signal));
    }
}

fn api_server(i: usize, random: &mut SplitMix) -> Vec<Series> {
    let base = base("apiserver", &format!("10.0.0.{}:6443", i + 1), "default");
    let mut out = Vec::new();
    for resource in
        ["pods", "nodes", "configmaps", "secrets", "leases", "events", "services", "endpoints"]
    {
        for verb in ["GET", "LIST", "WATCH", "PATCH"] {
            let more = [("resource", resource), ("verb", verb), ("scope", "cluster")];
            histogram(&mut out, &base, "apiserver_request_duration_seconds", &more, random);
            let signal = Signal::Counter { value: 0, step: 30, idle: 0.4 };
            out.push(series(
                &base,
                "apiserver_request_total",
                &[("resource", resource), ("verb", verb), ("code", "200")],
                signal,
            ));
        }
    }
    let rest = 640 - out.len();
    runtime(&mut out, &base, rest, random);
    out
}

fn node(i: usize, random: &mut SplitMix) -> Vec<Series> {
    let base = base("node-exporter", &format!("node-{i:02}"), "monitoring");
    let mut out = Vec::new();
    for cpu in ["0", "1", "2", "3", "4", "5", "6", "7"] {
        for (mode, step) in [
            ("idle", 2900),
            ("user", 600),
            ("system", 200),
            ("iowait", 30),
            ("irq", 0),
            ("softirq", 8),
            ("nice", 0),
            ("steal", 0),
        ] {
            let signal = Signal::Seconds { units: random.below(1 << 28), step, scale: 100.0 };
            out.push(series(
                &base,
                "node_cpu_seconds_total",
                &[("cpu", cpu), ("mode", mode)],
                signal,
            ));
        }
    }
    network(&mut out, &base, random);
    for k in 0..50 {
        let constant = k % 3 == 0;
        let signal = if constant {
            Signal::Constant((random.below(1 << 22) * 4096) as f64)
        } else {
            Signal::Walk { value: 1 << 31, step: 900, grain: 4096 }
        };
        out.push(series(&base, &format!("node_memory_field_{k:02}_bytes"), &[], signal));
    }
    while out.len() < 250 {
        let k = out.len();
        let signal = match k % 5 {
            0 | 1 => Signal::Constant(random.below(4) as f64),
            2 => Signal::Decimal { units: 10_000, step: 25, scale: 1000.0 },
            _ => Signal::Counter { value: random.below(1 << 30), step: 500, idle: 0.1 },
        };
        let suffix = if k % 5 > 2 { "_total" } else { "" };
        out.push(series(&base, &format!("node_vmstat_field_{k:03}{suffix}"), &[], signal));
    }
    out
}

/// Network, load and temperatures of one node.
fn network(out: &mut Vec<Series>, base: &[(&'static str, String)], random: &mut SplitMix) {
    for device in ["eth0", "cni0", "lo"] {
        for name in ["receive_bytes", "transmit_bytes", "receive_packets", "transmit_packets"] {
            let step = if name.ends_with("bytes") { 4 << 20 } else { 6_000 };
            let signal = Signal::Counter { value: random.bits() >> 30, step, idle: 0.0 };
            out.push(series(
                base,
                &format!("node_network_{name}_total"),
                &[("device", device)],
                signal,
            ));
        }
        for name in [
            "receive_errs_total",
            "transmit_errs_total",
            "receive_drop_total",
            "mtu_bytes",
            "up",
            "speed_bytes",
        ] {
            out.push(series(
                base,
                &format!("node_network_{name}"),
                &[("device", device)],
                Signal::Constant(0.0),
            ));
        }
    }
    for (name, value) in [("load1", 90), ("load5", 80), ("load15", 70)] {
        out.push(series(
            base,
            &format!("node_{name}"),
            &[],
            Signal::Decimal { units: value, step: 9, scale: 100.0 },
        ));
    }
    for sensor in ["temp1", "temp2", "temp3", "temp4"] {
        let signal = Signal::Decimal { units: 500, step: 4, scale: 10.0 };
        out.push(series(
            base,
            "node_hwmon_temp_celsius",
            &[("sensor", sensor), ("chip", "coretemp")],
            signal,
        ));
    }
}

fn container(i: usize, generation: u32, random: &mut SplitMix) -> Vec<Series> {
    let mut base = base(
        "kubelet",
        &format!("node-{:02}", i % 20),
        ["shop", "pay", "search", "data", "kube-system"][i % 5],
    );
    base.push(("container", format!("c{i}")));
    base.push(("pod", format!("app-{i}-{generation}-{:05x}", random.below(1 << 20))));
    base.push(("metrics_path", "/metrics/cadvisor".to_owned()));
    let mut out = Vec::new();
    for cpu in ["user", "system"] {
        let signal = Signal::Seconds { units: 0, step: 6_000_000_000, scale: 1e9 };
        out.push(series(&base, "container_cpu_usage_seconds_total", &[("mode", cpu)], signal));
    }
    for name in ["usage_bytes", "working_set_bytes", "rss", "cache"] {
        let signal = Signal::Walk { value: 1 << 28, step: 60, grain: 4096 };
        out.push(series(&base, &format!("container_memory_{name}"), &[], signal));
    }
    for name in ["receive_bytes", "transmit_bytes", "receive_packets", "transmit_packets"] {
        let signal = Signal::Counter { value: 0, step: 200_000, idle: 0.3 };
        out.push(series(
            &base,
            &format!("container_network_{name}_total"),
            &[("interface", "eth0")],
            signal,
        ));
    }
    for k in 0..10 {
        let constant = k % 3 != 2;
        let signal = if constant {
            Signal::Constant(random.below(1 << 32) as f64)
        } else {
            Signal::Counter { value: 0, step: 90, idle: 0.6 }
        };
        out.push(series(
            &base,
            &format!("container_field_{k}{}", if constant { "" } else { "_total" }),
            &[],
            signal,
        ));
    }
    out
}

fn kube_state(random: &mut SplitMix) -> Vec<Series> {
    let base = base("kube-state-metrics", "10.2.0.9:8080", "monitoring");
    let mut out = Vec::new();
    for k in 0..2560 {
        let (object, field) = (format!("object-{}", k / 16), k % 16);
        let more = [
            ("pod", object.as_str()),
            ("phase", ["Running", "Pending", "Failed", "Unknown"][k % 4]),
        ];
        let signal = match field {
            0 => Signal::Walk { value: 3, step: 1, grain: 1 },
            1 => Signal::Counter { value: 0, step: 1, idle: 0.999 },
            _ => Signal::Constant(random.below(2) as f64),
        };
        let suffix = if field == 1 { "_total" } else { "" };
        out.push(series(&base, &format!("kube_pod_field_{field:02}{suffix}"), &more, signal));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_has_its_documented_size() {
        let targets = targets(1);
        assert_eq!(targets.iter().map(Target::series).sum::<usize>(), 14_140);
        let day_ms = 24 * 3600 * 1000;
        let samples: i64 = targets.iter().map(|t| t.series() as i64 * day_ms / t.interval_ms).sum();
        assert!((53_000_000..55_000_000).contains(&samples), "{samples}");
    }

    #[test]
    fn the_same_seed_gives_the_same_samples() {
        let scrape = |seed| {
            let mut out = Vec::new();
            for target in &mut targets(seed) {
                target
                    .scrape(0, Jitter::Realistic, |l, t, v| out.push((l.to_vec(), t, v.to_bits())));
            }
            out
        };
        assert_eq!(scrape(7), scrape(7));
        assert_ne!(scrape(7), scrape(8));
    }
}
