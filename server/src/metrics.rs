//! What the process says about itself at `/metrics`: every crate's counters, the store's figures
//! and the process's own, in Prometheus' text format.

use std::fmt::Write;
use std::sync::Arc;

use ingest::forward::Forwarder;
use model::Clock;
use storage::entries::EntryTotals;
use storage::objects::{CacheTotals, RequestTotals};
use storage::{CompactionTotals, Storage};
use tenancy::Authenticator;

use crate::admin::Routing;
use crate::listener;

/// Everything that counts something.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) storage: Arc<Storage>,
    pub(crate) ingest: Arc<ingest::Metrics>,
    pub(crate) query: Arc<query::Metrics>,
    pub(crate) engine: Arc<engine::StorageExecutor>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reloads: Arc<query::Reloads>,
    pub(crate) connections: Arc<listener::Counters>,
    pub(crate) routing: Arc<Routing>,
    pub(crate) forwarder: Arc<Forwarder>,
    /// Milliseconds since the Unix epoch.
    pub(crate) started_ms: i64,
}

impl query::OwnMetrics for Metrics {
    fn write(&self, out: &mut String) {
        Self::write(self, out);
    }
}

impl Metrics {
    /// Appends the whole exposition.
    pub(crate) fn write(&self, out: &mut String) {
        self.ingest.write(out);
        self.query.write(out);
        write_result_cache(out, &self.engine.result_cache());
        self.authenticator.write_metrics(out);
        self.write_storage(out);
        self.write_reload(out);
        self.connections.write(out);
        self.routing.write_metrics(out);
        self.forwarder.write_metrics(out);
        write_process(out, self.started_ms);
        let version = env!("CARGO_PKG_VERSION");
        let _ = write!(
            out,
            "# HELP taffrail_build_info Which build this is.\n# TYPE taffrail_build_info gauge\ntaffrail_build_info{{version=\"{version}\"}} 1\n"
        );
    }

    /// Seconds since the start.
    pub(crate) fn uptime_seconds(&self) -> f64 {
        (self.clock.now_ms() - self.started_ms) as f64 / 1e3
    }

    /// The names that Prometheus has, with our prefix.
    fn write_reload(&self, out: &mut String) {
        let successful = self.reloads.failed_ms().is_none();
        let at_seconds = self.reloads.taken_over_ms() as f64 / 1e3;
        line(
            out,
            "taffrail_config_last_reload_successful",
            "gauge",
            "Whether the last configuration reload attempt was successful.",
            f64::from(successful),
        );
        line(
            out,
            "taffrail_config_last_reload_success_timestamp_seconds",
            "gauge",
            "Timestamp of the last successful configuration reload.",
            at_seconds,
        );
    }

    fn write_storage(&self, out: &mut String) {
        let t = self.storage.totals();
        let gauges: [(&str, &str, u64); 14] = [
            ("active_series", "Series in the heads.", t.active_series),
            ("head_samples", "Samples and histograms not yet in blocks.", t.head_samples),
            ("head_bytes", "Memory of samples not yet in blocks.", t.head_bytes),
            ("blocks", "Blocks.", t.blocks),
            ("block_bytes", "Bytes of all blocks.", t.block_bytes),
            ("block_samples", "Samples and histograms in blocks.", t.block_samples),
            ("log_bytes", "Bytes of the log.", t.log_bytes),
            ("log_segments", "Segment files of the log.", t.log_segments),
            (
                "disk_free_bytes",
                "Free bytes of the disk below the data directory.",
                t.disk_free_bytes,
            ),
            ("read_only_partitions", "Partitions that take no writes.", t.read_only_partitions),
            (
                "incomplete_partitions",
                "Partitions whose answers may lack acknowledged rows: what holds them cannot be read.",
                t.incomplete_partitions,
            ),
            (
                "lost_blocks",
                "Blocks that are not whole; questions about their time fail.",
                t.lost_blocks,
            ),
            ("cache_bytes", "Bytes in the cache of block indexes and pages.", t.cache_bytes),
            ("log_ready", "Whether writes are taken.", u64::from(self.storage.ready().is_ok())),
        ];
        for (name, help, value) in gauges {
            line(out, &format!("taffrail_storage_{name}"), "gauge", help, value as f64);
        }
        line(
            out,
            "taffrail_storage_log_syncs_total",
            "counter",
            "Syncs of the log.",
            t.log_syncs as f64,
        );
        write_entries(out, &self.storage.entry_totals());
        write_compaction(out, &self.storage.compaction());
        if let Some((requests, cache)) = self.storage.object_store() {
            write_object_store(out, &requests, &cache);
        }
    }
}

fn write_result_cache(out: &mut String, c: &engine::ResultCacheUse) {
    let name = "taffrail_query_result_cache_lookups_total";
    let help = "Range queries that could be kept, by how much of them was.";
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
    for (found, lookups) in [("all", c.hits), ("part", c.partial), ("nothing", c.misses)] {
        let _ = writeln!(out, "{name}{{found=\"{found}\"}} {lookups}");
    }
    let help = "Memory of answers to range queries that are kept.";
    line(out, "taffrail_query_result_cache_bytes", "gauge", help, c.bytes as f64);
}

fn write_entries(out: &mut String, t: &EntryTotals) {
    let gauges = [
        ("streams_active", "Streams that had entries within the last hour.", t.active_streams),
        ("head", "Entries not yet in segments.", t.head_entries),
        ("head_raw_bytes", "Bytes of lines and fields not yet in segments.", t.head_bytes),
        ("head_memory_bytes", "Memory of entries not yet in segments.", t.head_memory_bytes),
        ("segments", "Segments.", t.segments),
        ("segment_rows", "Entries in segments.", t.segment_entries),
        ("segment_raw_bytes", "Bytes of lines and fields in segments.", t.segment_raw_bytes),
        ("segment_bytes", "Bytes of all segments' objects.", t.segment_bytes),
    ];
    for (name, help, value) in gauges {
        line(out, &format!("taffrail_storage_entries_{name}"), "gauge", help, value as f64);
    }
}

fn write_compaction(out: &mut String, c: &CompactionTotals) {
    let name = "taffrail_storage_compactions_total";
    let _ = write!(
        out,
        "# HELP {name} Merges of blocks and of segments of entries, by what they gave.\n# TYPE {name} counter\n"
    );
    for (result, merges) in ["window", "day"].into_iter().zip(c.merges) {
        let _ = writeln!(out, "{name}{{result=\"{result}\"}} {merges}");
    }
    for (result, merges) in ["row", "hour", "day"].into_iter().zip(c.entry_merges) {
        let _ = writeln!(out, "{name}{{result=\"entries_{result}\"}} {merges}");
    }
    let counters = [
        ("failures", "Merges that failed.", c.failures as f64),
        ("downsamplings", "Days of which windows of one length were made.", c.downsamplings as f64),
        ("in_bytes", "Bytes of blocks that were merged.", c.bytes_in as f64),
        ("out_bytes", "Bytes of blocks that merges gave.", c.bytes_out as f64),
        ("samples", "Samples and histograms that merges wrote.", c.samples as f64),
        ("segment_in_bytes", "Bytes of segments that were merged.", c.segment_bytes_in as f64),
        ("segment_out_bytes", "Bytes of segments that merges gave.", c.segment_bytes_out as f64),
        ("entries", "Entries that merges wrote.", c.entries as f64),
        ("work_seconds", "Seconds of work, pauses left out.", c.work_seconds),
        ("wall_seconds", "Seconds that merges took.", c.wall_seconds),
    ];
    for (name, help, value) in counters {
        line(out, &format!("taffrail_storage_compaction_{name}_total"), "counter", help, value);
    }
    let gauges = [
        ("backlog_blocks", "Blocks that are due to be merged.", c.backlog_blocks),
        ("backlog_bytes", "Bytes of the blocks that are due to be merged.", c.backlog_bytes),
        ("backlog_segments", "Segments that are due to be merged.", c.backlog_segments),
        (
            "backlog_segment_bytes",
            "Bytes of the segments that are due to be merged.",
            c.backlog_segment_bytes,
        ),
        (
            "removed_objects",
            "Objects that no manifest names any more and that wait to be removed.",
            c.removed_waiting,
        ),
    ];
    for (name, help, value) in gauges {
        line(out, &format!("taffrail_storage_compaction_{name}"), "gauge", help, value as f64);
    }
}

fn write_object_store(out: &mut String, r: &RequestTotals, cache: &CacheTotals) {
    let name = "taffrail_object_store_requests_total";
    let _ = write!(
        out,
        "# HELP {name} Requests to the object store, each try counted.\n# TYPE {name} counter\n"
    );
    for (kind, outcome, requests) in &r.requests {
        let _ = writeln!(out, "{name}{{kind=\"{kind}\",outcome=\"{outcome}\"}} {requests}");
    }
    let counters = [
        ("read_bytes", "Bytes of objects that came.", r.read_bytes as f64),
        ("written_bytes", "Bytes of objects that were sent.", r.written_bytes as f64),
        ("small_reads", "Reads that gave less than 64 KiB.", r.small_reads as f64),
        ("request_seconds", "Seconds until answers began, over all requests.", r.seconds),
        ("cache_hits", "Parts of objects found on the local disk.", cache.hits as f64),
        ("cache_misses", "Parts of objects not found there.", cache.misses as f64),
        ("cache_damaged", "Cached parts that were not what they should be.", cache.damaged as f64),
        ("cache_failed_writes", "Parts that could not be kept.", cache.failed_writes as f64),
    ];
    for (name, help, value) in counters {
        line(out, &format!("taffrail_object_store_{name}_total"), "counter", help, value);
    }
    let help = "Bytes of local disk that parts of objects take.";
    line(out, "taffrail_object_store_cache_bytes", "gauge", help, cache.bytes as f64);
}

fn line(out: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

/// The names every Prometheus client library uses.
fn write_process(out: &mut String, started_ms: i64) {
    line(
        out,
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        started_ms as f64 / 1e3,
    );
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(") ")
        .next()
        .unwrap_or("")
        .split(' ')
        .map(|f| f.parse().unwrap_or(0.0))
        .collect();
    // proc(5): fields 14 and 15 are user and system ticks of 10 ms, 20 threads, 23 and 24 memory.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    line(
        out,
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        (field(14) + field(15)) / 100.0,
    );
    line(out, "process_threads", "gauge", "Number of threads.", field(20));
    line(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", field(23));
    line(
        out,
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size in bytes.",
        field(24) * 4096.0,
    );
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count());
    line(out, "process_open_fds", "gauge", "Number of open file descriptors.", files as f64);
}
