//! TSBS `cpu-only`: ten metrics of each host every 10 s, with the tags and the ways of asking of the
//! Time Series Benchmark Suite, in PromQL for all systems and in SQL for ours.
//!
//! There a row has ten fields; here each field is a metric, `cpu_usage_user` and so on. Values walk by
//! steps of a normal distribution between 0 and 100, from a seed.

use std::path::Path;

use anyhow::Result;

use crate::load::{self, Load};
use crate::random::SplitMix;
use crate::scenario::{Figure, PORT, Run, fresh, measure_query};
use crate::sender;
use crate::system::{Kind, System, instant};
use crate::wire;
use testkit::http::escaped;

/// Between two readings. Milliseconds.
const INTERVAL_MS: i64 = 10_000;

/// Fields of the measurement `cpu`.
const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

/// Regions and how many data centres each has.
const REGIONS: [(&str, u64); 9] = [
    ("us-east-1", 4),
    ("us-west-1", 2),
    ("us-west-2", 3),
    ("eu-west-1", 3),
    ("eu-central-1", 2),
    ("ap-southeast-1", 2),
    ("ap-southeast-2", 2),
    ("ap-northeast-1", 2),
    ("sa-east-1", 3),
];

/// A series and where its walk is.
struct Walk {
    labels: Vec<u8>,
    value: f64,
}

/// Hosts with their tags, a walk for each field.
fn walks(hosts: u64, random: &mut SplitMix) -> Vec<Walk> {
    let mut walks = Vec::new();
    for host in 0..hosts {
        let (region, centres) = REGIONS[random.below(REGIONS.len() as u64) as usize];
        let mut pick = |of: &[&str]| of[random.below(of.len() as u64) as usize].to_owned();
        let (os, team) = (
            pick(&["Ubuntu15.10", "Ubuntu16.10", "Ubuntu16.04LTS"]),
            pick(&["SF", "NYC", "LON", "CHI"]),
        );
        let (arch, environment) = (pick(&["x64", "x86"]), pick(&["production", "staging", "test"]));
        let (centre, rack, service, version) =
            (random.below(centres), random.below(100), random.below(20), random.below(2));
        for field in FIELDS {
            let letter = char::from(b'a' + centre as u8);
            let labels = wire::labels(&mut [
                ("__name__", format!("cpu_{field}")),
                ("hostname", format!("host_{host}")),
                ("region", region.to_owned()),
                ("datacenter", format!("{region}{letter}")),
                ("rack", rack.to_string()),
                ("os", os.clone()),
                ("arch", arch.clone()),
                ("team", team.clone()),
                ("service", service.to_string()),
                ("service_version", version.to_string()),
                ("service_environment", environment.clone()),
            ]);
            walks.push(Walk { labels, value: random.unit() * 100.0 });
        }
    }
    walks
}

/// A number of the standard normal distribution, by the sum of twelve even ones.
fn normal(random: &mut SplitMix) -> f64 {
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}

/// The load: `hosts` for so many hours from `start_ms` on.
fn load(dir: &Path, hosts: u64, start_ms: i64, hours: u64) -> Result<Load> {
    let mut random = SplitMix::new(123);
    let mut walks = walks(hosts, &mut random);
    let ticks = hours as i64 * 3_600_000 / INTERVAL_MS;
    let series = walks.len() as u64;
    load::ticks(dir, "tsbs", series, start_ms, (ticks, INTERVAL_MS), |at_ms, push| {
        for (i, walk) in walks.iter_mut().enumerate() {
            // As there: a step of deviation 1, cut to the range, told as a whole number.
            walk.value = (walk.value + normal(&mut random)).clamp(0.0, 100.0);
            push(i / FIELDS.len() % load::CONNECTIONS, &walk.labels, at_ms, walk.value.floor())?;
        }
        Ok(())
    })
}

/// One way of asking.
struct Query {
    name: String,
    /// The path of the question in PromQL.
    promql: String,
    /// The statement that asks the same.
    sql: String,
}

/// Some hours before the end of the load.
#[derive(Clone, Copy)]
struct Window {
    end_s: i64,
    hours: i64,
    step_s: i64,
}

impl Window {
    fn promql(self, query: &str) -> String {
        let Self { end_s, hours, step_s } = self;
        // Steps look back, so the first is a step after the start.
        let start_s = end_s - hours * 3_600 + step_s;
        format!(
            "/api/v1/query_range?query={}&start={start_s}&end={end_s}&step={step_s}&nocache=1",
            escaped(query)
        )
    }

    /// The condition on `time`.
    fn sql(self) -> String {
        let (start_s, end_s) = (self.end_s - self.hours * 3_600, self.end_s);
        format!("time > to_timestamp_seconds({start_s}) AND time <= to_timestamp_seconds({end_s})")
    }
}

fn hosts_of(hosts: u64) -> (String, String) {
    let names: Vec<String> = (0..hosts).map(|i| format!("host_{}", i * 7 + 3)).collect();
    let sql = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    (names.join("|"), sql)
}

/// The same statement over several fields.
fn union(fields: &[&str], select: impl Fn(&str) -> String) -> String {
    fields.iter().map(|field| select(field)).collect::<Vec<_>>().join(" UNION ALL ")
}

fn names_of(fields: &[&str]) -> String {
    match fields {
        [field] => format!("__name__=\"cpu_{field}\""),
        fields => format!("__name__=~\"cpu_({})\"", fields.join("|")),
    }
}

/// Highest value of some fields on some hosts, by minute or hour.
fn highest(name: &str, fields: &[&str], hosts: u64, window: Window) -> Query {
    let (pattern, list) = hosts_of(hosts);
    let (step, names) = (window.step_s, names_of(fields));
    let select = |field: &str| {
        format!(
            "SELECT '{field}' AS field, date_bin(INTERVAL '{step} seconds', time) AS bin, max(value) AS highest \
             FROM cpu_{field} WHERE hostname IN ({list}) AND {} GROUP BY bin",
            window.sql()
        )
    };
    Query {
        name: name.to_owned(),
        promql: window.promql(&format!(
            "max by (__name__) (max_over_time({{{names},hostname=~\"{pattern}\"}}[{step}s]))"
        )),
        sql: format!("{} ORDER BY field, bin", union(fields, select)),
    }
}

/// Average of some fields by host and hour.
fn double_groupby(name: &str, fields: &[&str], window: Window) -> Query {
    let names = names_of(fields);
    let select = |field: &str| {
        format!(
            "SELECT '{field}' AS field, date_bin(INTERVAL '1 hour', time) AS bin, hostname, avg(value) AS mean \
             FROM cpu_{field} WHERE {} GROUP BY bin, hostname",
            window.sql()
        )
    };
    Query {
        name: name.to_owned(),
        promql: window
            .promql(&format!("avg by (__name__, hostname) (avg_over_time({{{names}}}[1h]))")),
        sql: union(fields, select),
    }
}

fn queries(end_ms: i64) -> Vec<Query> {
    let end_s = end_ms / 1_000;
    let minutes = |hours| Window { end_s, hours, step_s: 60 };
    let hours = |hours| Window { end_s, hours, step_s: 3_600 };
    let readings = Window { end_s, hours: 12, step_s: 10 };
    let busy = |name: &str, pattern: &str, condition: &str| Query {
        name: name.to_owned(),
        promql: readings.promql(&format!("cpu_usage_user{pattern} > 90")),
        sql: format!(
            "SELECT * FROM cpu_usage_user WHERE value > 90 {condition} AND {}",
            readings.sql()
        ),
    };
    vec![
        highest("single-groupby-1-1-1", &FIELDS[..1], 1, minutes(1)),
        highest("single-groupby-1-1-12", &FIELDS[..1], 1, minutes(12)),
        highest("single-groupby-1-8-1", &FIELDS[..1], 8, minutes(1)),
        highest("single-groupby-5-1-1", &FIELDS[..5], 1, minutes(1)),
        highest("single-groupby-5-8-1", &FIELDS[..5], 8, minutes(1)),
        highest("cpu-max-all-1", &FIELDS, 1, hours(8)),
        highest("cpu-max-all-8", &FIELDS, 8, hours(8)),
        double_groupby("double-groupby-1", &FIELDS[..1], hours(12)),
        double_groupby("double-groupby-5", &FIELDS[..5], hours(12)),
        double_groupby("double-groupby-all", &FIELDS, hours(12)),
        busy("high-cpu-1", "{hostname=\"host_3\"}", "AND hostname = 'host_3'"),
        busy("high-cpu-all", "", ""),
        Query {
            name: "lastpoint".to_owned(),
            promql: instant("cpu_usage_user", end_ms),
            sql: format!(
                "SELECT hostname, last_value(value ORDER BY time) AS newest FROM cpu_usage_user \
                 WHERE time > to_timestamp_seconds({}) GROUP BY hostname",
                end_s - 300
            ),
        },
        Query {
            name: "groupby-orderby-limit".to_owned(),
            promql: Window { end_s, hours: 1, step_s: 60 }
                .promql("max(max_over_time(cpu_usage_user[1m]))"),
            sql: format!(
                "SELECT date_bin(INTERVAL '1 minute', time) AS bin, max(value) AS highest FROM cpu_usage_user \
                 WHERE {} GROUP BY bin ORDER BY bin DESC LIMIT 5",
                minutes(1).sql()
            ),
        },
    ]
}

/// Ingest, size, and each way of asking.
pub(crate) fn measure(
    run: &Run,
    hosts: u64,
    start_ms: i64,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let load = load(&run.dir, hosts, start_ms, run.hours)?;
    for &kind in &run.kinds {
        let mut put = |measure: String, value| {
            figures.push(Figure { measure, kind, value, more_is_better: false });
        };
        let data = fresh(run.dir.join(format!("tsbs-{}", kind.name())))?;
        let (system, _) = System::start(kind, &data, PORT)?;
        let sent =
            sender::send(&load, PORT, &sender::REMOTE_WRITE, &format!("tsbs → {}", kind.name()))?;
        system.settle();
        system.compact()?;
        let bytes = system.stored_bytes() as f64 / sent.samples as f64;
        put("tsbs: bytes per sample".to_owned(), Some(bytes));
        for query in queries(load.end_ms - INTERVAL_MS) {
            let (cpu_ms, wall_ms) = measure_query(&system, &query.promql, run.repeats)?;
            put(format!("tsbs: {}, PromQL, CPU ms", query.name), cpu_ms);
            put(format!("tsbs: {}, PromQL, wall ms", query.name), wall_ms);
            if kind == Kind::Taffrail {
                let path = format!("/api/v1/sql?query={}", escaped(&query.sql));
                let (cpu_ms, wall_ms) = measure_query(&system, &path, run.repeats)?;
                put(format!("tsbs: {}, SQL, CPU ms", query.name), cpu_ms);
                put(format!("tsbs: {}, SQL, wall ms", query.name), wall_ms);
            }
        }
        let data = system.kill()?;
        std::fs::remove_dir_all(data)?;
    }
    Ok(())
}
