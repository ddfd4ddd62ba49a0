//! Endpoints about the server: versions, flags, configuration, statistics.

use std::fmt::Write;

use serde::Serialize;

use super::Question;
use super::documents::Single;
use super::json::{push_counts, push_integer_field, push_string_map};
use super::listings::restricted;
use super::reply::Reply;
use super::times::rfc3339_text;
use crate::promql::{FUNCTIONS, Function};
use crate::{Config, Error, Statistics};

/// The level of Prometheus' API that is answered. Clients choose by it what they may ask: Grafana,
/// for instance, filters label values only from 2.24 on.
const API_VERSION: &str = "3.14.0";

/// `status/buildinfo`. There is no `features`: with it Grafana would take us for Mimir.
pub(super) fn build_info(question: &Question<'_>) -> Reply {
    let about = question.querier.about();
    let pairs = [
        ("application", format!("Taffrail {}", about.version)),
        ("version", API_VERSION.to_owned()),
        ("revision", about.revision.clone()),
        ("branch", String::new()),
        ("buildUser", String::new()),
        ("buildDate", about.built.clone()),
        ("goVersion", String::new()),
    ];
    Reply::document(Single::new(|out| push_string_map(out, &pairs)))
}

/// `status/runtimeinfo`: what of it has a meaning outside Go.
pub(super) fn runtime_info(question: &Question<'_>) -> Reply {
    let started = rfc3339_text(question.querier.about().started_ms);
    let reloads = question.querier.reloads();
    let (taken_over, failed) = (rfc3339_text(reloads.taken_over_ms()), reloads.failed_ms());
    let now = rfc3339_text(question.querier.clock().now_ms());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Reply::document(Single::new(|out| {
        let times = [("startTime", started), ("serverTime", now), ("lastConfigTime", taken_over)];
        push_string_map(out, &times);
        out.pop();
        out.extend_from_slice(b",\"reloadConfigSuccess\":");
        out.extend_from_slice(if failed.is_none() { b"true," } else { b"false," });
        push_integer_field(out, "GOMAXPROCS", i64::try_from(threads).unwrap_or(i64::MAX));
        out.push(b'}');
    }))
}

/// The switches of Prometheus that `experimental_promql` stands for.
const EXPERIMENTAL: &str =
    "promql-experimental-functions,promql-extended-range-selectors,promql-binop-fill-modifiers";

fn switches(config: &Config) -> String {
    let experimental = config.experimental_promql.then_some(EXPERIMENTAL);
    let late_names = config.delayed_name_removal.then_some("promql-delayed-name-removal");
    let starts = config.start_timestamps.then_some("use-start-timestamps");
    let search = config.search_api.then_some("search-api");
    [experimental, late_names, starts, search].into_iter().flatten().collect::<Vec<_>>().join(",")
}

/// `status/flags`: the settings that have a flag in Prometheus.
pub(super) fn flags(question: &Question<'_>) -> Reply {
    let limits = question.scope.limits();
    let lookback_ms = u64::try_from(question.querier.config().lookback_ms()).unwrap_or(0);
    let timeout_ms = (limits.query_seconds_max * 1e3) as u64;
    let pairs = [
        ("enable-feature", switches(&question.querier.config())),
        ("query.lookback-delta", go_duration(lookback_ms)),
        ("query.max-concurrency", limits.queries_concurrent_max.to_string()),
        ("query.max-samples", limits.query_samples_max.to_string()),
        ("query.timeout", go_duration(timeout_ms)),
        ("web.cors.origin", question.querier.config().cors_origin.clone()),
        ("web.enable-admin-api", "false".to_owned()),
        ("web.enable-remote-write-receiver", "true".to_owned()),
    ];
    Reply::document(Single::new(|out| push_string_map(out, &pairs)))
}

/// A duration as Prometheus writes one: `5m`, `1h30m`, `1s500ms`; years, weeks and days only
/// where nothing is left over.
fn go_duration(mut ms: u64) -> String {
    const UNITS: [(u64, &str, bool); 7] = [
        (31_536_000_000, "y", true),
        (604_800_000, "w", true),
        (86_400_000, "d", true),
        (3_600_000, "h", false),
        (60_000, "m", false),
        (1_000, "s", false),
        (1, "ms", false),
    ];
    let mut text = String::new();
    for (unit_ms, name, alone) in UNITS {
        if ms < unit_ms || (alone && !ms.is_multiple_of(unit_ms)) {
            continue;
        }
        let _ = write!(text, "{}{name}", ms / unit_ms);
        ms %= unit_ms;
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `status/config`: what applies to whoever asks. The file itself names other tenants.
pub(super) fn config(question: &Question<'_>) -> Reply {
    let mut yaml = String::new();
    push_yaml(&mut yaml, "query", &*question.querier.config());
    push_yaml(&mut yaml, "limits", &**question.scope.limits());
    Reply::document(Single::new(|out| push_string_map(out, &[("yaml", yaml)])))
}

/// A flat structure as a mapping. JSON's scalars are YAML.
fn push_yaml(yaml: &mut String, name: &str, settings: &impl Serialize) {
    let Ok(serde_json::Value::Object(settings)) = serde_json::to_value(settings) else { return };
    let _ = writeln!(yaml, "{name}:");
    for (key, value) in settings {
        let _ = writeln!(yaml, "  {key}: {value}");
    }
}

/// `status/walreplay`: the log is read back before anything is served, so there is nothing left.
pub(super) fn wal_replay() -> Reply {
    Reply::document(Single::new(|out| {
        out.extend_from_slice(b"{\"min\":0,\"max\":0,\"current\":0}");
    }))
}

/// `features`: what there is, by the groups and names Prometheus uses.
pub(super) fn features(question: &Question<'_>) -> Reply {
    let config = question.querier.config();
    let on = config.features();
    let api = [
        ("admin", true),
        ("exclude_alerts", true),
        ("label_values_match", true),
        ("lifecycle", false),
        ("otlp_write_receiver", true),
        ("query_stats", true),
        ("query_warnings", true),
        ("remote_write_receiver", true),
        ("search", config.search_api),
        ("time_range_labels", true),
        ("time_range_series", true),
    ];
    let promql = [
        ("anchored", on.extended_selectors),
        ("at_modifier", true),
        ("bool", true),
        ("by", true),
        ("duration_expr", on.duration_expressions),
        ("experimental_functions", on.experimental_functions),
        ("fill", on.fill_modifiers),
        ("group_left", true),
        ("group_right", true),
        ("ignoring", true),
        ("negative_offset", true),
        ("offset", true),
        ("on", true),
        ("per_query_lookback_delta", true),
        ("per_step_stats", true),
        ("smoothed", on.extended_selectors),
        ("subqueries", true),
        ("without", true),
    ];
    let callable = |f: &Function| (f.name, on.experimental_functions || !f.experimental);
    let functions: Vec<(&str, bool)> = FUNCTIONS.iter().map(callable).collect();
    Reply::document(Single::new(|out| {
        for (i, (group, names)) in
            [("api", &api[..]), ("promql", &promql), ("promql_functions", &functions)]
                .into_iter()
                .enumerate()
        {
            out.push(if i == 0 { b'{' } else { b',' });
            super::json::push_string(out, group);
            out.push(b':');
            push_switches(out, names);
        }
        out.push(b'}');
    }))
}

fn push_switches(out: &mut Vec<u8>, names: &[(&str, bool)]) {
    out.push(b'{');
    for (i, (name, on)) in names.iter().enumerate() {
        super::json::comma(out, i);
        super::json::push_string(out, name);
        out.extend_from_slice(if *on { b":true" } else { b":false" });
    }
    out.push(b'}');
}

/// Most entries of each list of statistics.
const TSDB_LIMIT_MAX: i64 = 10_000;

/// `status/tsdb`
pub(super) async fn tsdb(question: Question<'_>) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, .. } = question;
    let refused = "limit must be a positive number";
    let limit = params.number("limit", refused)?.unwrap_or(10);
    if limit < 1 {
        return Err(Error::BadData(refused.to_owned()));
    }
    if limit > TSDB_LIMIT_MAX {
        return Err(Error::BadData(format!("limit must not exceed {TSDB_LIMIT_MAX}")));
    }
    if scope.is_restricted() {
        return Err(restricted("statistics"));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let deadline = querier.deadline(&scope, None)?;
    let found = querier
        .run(&scope, deadline, asked, async |cancel| {
            querier.executor().statistics(&scope, limit, &cancel).await
        })
        .await?;
    Ok(Reply::document(Single::new(|out| push_statistics(out, &found.answer, limit))))
}

fn push_statistics(out: &mut Vec<u8>, statistics: &Statistics, limit: usize) {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // An empty head has the range that holds nothing, as in Prometheus.
    let (oldest, newest) =
        statistics.range.map_or((i64::MAX, i64::MIN), |r| (r.start_ms, r.end_ms));
    let head = [
        ("numSeries", number(statistics.series)),
        ("numLabelPairs", number(statistics.label_pairs)),
        ("chunkCount", number(statistics.chunks)),
        ("minTime", oldest),
        ("maxTime", newest),
    ];
    out.extend_from_slice(b"{\"headStats\":{");
    for (i, (name, value)) in head.into_iter().enumerate() {
        super::json::comma(out, i);
        push_integer_field(out, name, value);
    }
    out.push(b'}');
    let lists = [
        ("seriesCountByMetricName", &statistics.series_by_metric),
        ("labelValueCountByLabelName", &statistics.values_by_label),
        ("memoryInBytesByLabelName", &statistics.bytes_by_label),
        ("seriesCountByLabelValuePair", &statistics.series_by_pair),
    ];
    for (name, counts) in lists {
        out.push(b',');
        super::json::push_string(out, name);
        out.push(b':');
        push_counts(out, &counts[..counts.len().min(limit)]);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_written_as_prometheus_does() {
        for (ms, text) in [
            (0, "0s"),
            (300_000, "5m"),
            (120_000, "2m"),
            (90_061_001, "25h1m1s1ms"),
            (1_209_600_000, "2w"),
            (86_400_000, "1d"),
            (1_500, "1s500ms"),
        ] {
            assert_eq!(super::go_duration(ms), text);
        }
    }
}
