//! What the walks of the wire formats cost by themselves: the same series as remote write 1.0, 2.0
//! and OTLP, taken apart again and again by one thread. Nothing is compressed or stored.

use std::time::Instant;

use model::{Labels, SeriesId};
use storage::MetricRows;
use tenancy::Limits;
use testkit::remote_write::Series;

/// Series of a request, one sample each, as Prometheus sends by default.
const SERIES: usize = 2_000;

/// Requests of one measurement.
const REQUESTS: usize = 500;

/// Lines of a table: format, bytes of a sample, million samples a second.
pub(crate) fn table(repeats: usize) -> String {
    let labels: Vec<Labels> = (0..SERIES).map(labels).collect();
    let samples = [(1_700_000_000_000, 1.5)];
    let series: Vec<Series> = labels.iter().map(|labels| Series::new(labels, &samples)).collect();
    let bodies = [
        ("remote write 1.0", testkit::remote_write::body(&series, &[])),
        ("remote write 2.0", testkit::remote_write_v2::body(&series, &[])),
        ("OTLP", otlp(&labels, 1_700_000_000_000, 1.5)),
    ];
    let mut out = String::from(
        "| walk | bytes per sample | M samples per CPU s, labels hashed |\n| --- | ---: | ---: |\n",
    );
    for (name, body) in bodies {
        let mut rates: Vec<f64> = (0..repeats.max(1)).map(|_| rate(name, &body)).collect();
        rates.sort_by(f64::total_cmp);
        let (bytes, rate) = (body.len() as f64 / SERIES as f64, rates[rates.len() / 2] / 1e6);
        out.push_str(&format!("| {name} | {bytes:.0} | {rate:.2} |\n"));
    }
    out
}

/// Eleven labels as the targets of a cluster have them.
pub(crate) fn labels(i: usize) -> Labels {
    let pairs = [
        ("__name__", format!("container_cpu_usage_seconds_{}_total", i % 20)),
        ("cluster", "production-1".to_owned()),
        ("container", format!("app-{}", i % 7)),
        ("cpu", "total".to_owned()),
        ("endpoint", "https-metrics".to_owned()),
        ("id", format!("/kubepods/burstable/pod{:08x}", i * 2_654_435_761 % (1 << 32))),
        ("image", format!("registry.example.com/team/app:{}", i % 13)),
        ("instance", format!("10.0.{}.{}:10250", i % 5, i % 250)),
        ("job", "kubelet".to_owned()),
        ("namespace", format!("team-{}", i % 40)),
        ("pod", format!("app-{}-{:05}", i % 7, i)),
    ];
    Labels::from_pairs(pairs)
}

/// Samples a second of one measurement. Wall time: the thread does nothing but this.
fn rate(name: &str, body: &[u8]) -> f64 {
    let limits = Limits::default();
    let caps = ingest::Caps::default();
    let (mut kept, mut check) = (MetricRows::default(), 0u64);
    let started = Instant::now();
    for _ in 0..REQUESTS {
        let mut rows: MetricRows<'_> = kept;
        match name {
            "remote write 1.0" => drop(ingest::remote_write::walk(body, &limits, &caps, &mut rows)),
            "remote write 2.0" => {
                drop(ingest::remote_write::walk_v2(body, &limits, &caps, None, &mut rows));
            }
            _ => ingest::fuzz::otlp_rows(body, &mut rows),
        }
        assert_eq!(rows.samples.len(), SERIES, "{name} gives every sample");
        for series in &rows.series {
            check ^= SeriesId::of_encoded(rows.labels_of(series)).0 as u64;
        }
        kept = emptied(rows);
    }
    let seconds = started.elapsed().as_secs_f64();
    assert_ne!(check, 1, "the hashes are used");
    (SERIES * REQUESTS) as f64 / seconds
}

/// The same buffers for the next request, as the intake does it.
fn emptied(rows: MetricRows<'_>) -> MetricRows<'static> {
    let MetricRows { mut spill, mut series, mut samples, .. } = rows;
    spill.clear();
    series.clear();
    samples.clear();
    MetricRows { spill, series, samples, ..MetricRows::default() }
}

/// `ExportMetricsServiceRequest` with a metric for each name and the other labels as attributes.
pub(crate) fn otlp(labels: &[Labels], at_ms: i64, value: f64) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        model::varint::put(&mut out, bytes.len() as u64);
        out.extend_from_slice(bytes);
        out
    };
    let mut metrics: std::collections::BTreeMap<&str, Vec<u8>> = Default::default();
    for one in labels {
        let mut point = vec![0x19];
        point.extend((at_ms as u64 * 1_000_000).to_le_bytes());
        point.push(0x21);
        point.extend(value.to_le_bytes());
        for (name, value) in one.iter().filter(|(name, _)| *name != "__name__") {
            let value = field(2, &field(1, value.as_bytes()));
            point.extend(field(7, &[field(1, name.as_bytes()), value].concat()));
        }
        metrics.entry(one.metric_name()).or_default().extend(field(1, &point));
    }
    let metrics = metrics.iter().flat_map(|(name, points)| {
        field(2, &[field(1, name.as_bytes()), field(5, points)].concat())
    });
    field(1, &field(2, &metrics.collect::<Vec<u8>>()))
}
