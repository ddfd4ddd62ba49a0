//! What is stored and how: blocks by level and day, partitions, tenants, compaction, retention.
//! For the storage page; a question about ten thousand tenants gives some of them, sorted.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::TenantOverview;
use storage::manifest::BlockMeta;
use tenancy::{Admin, Read, ReadScope};

use super::{Failure, success};
use crate::routes::Parts;

const DAY_MS: i64 = 24 * 3_600_000;

/// Levels of blocks: fresh, two hours, days.
const LEVELS: usize = 3;

/// Tenants and blocks in one answer at most.
const ROWS_MAX: usize = 1_000;

/// Days in one answer at most: the newest.
const DAYS_MAX: usize = 400;

/// Which tenants and blocks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    /// Only tenants whose name has this in it.
    search: String,
    /// `bytes`, `samples`, `series`, `blocks` or `name`.
    sort: Option<String>,
    /// How many tenants.
    limit: Option<usize>,
    /// Only blocks of this partition.
    partition: Option<u16>,
    /// Only blocks of this level.
    level: Option<u8>,
    /// How many blocks, the newest first.
    blocks: Option<usize>,
}

pub(super) async fn stored(
    State(parts): State<Parts>,
    Admin(_): Admin,
    Read(scope): Read,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    check(&asked)?;
    let plan = parts.storage.plan_retention().await?;
    let runtime = tokio::runtime::Handle::current();
    // Walks all series and all blocks: not on a thread that moves bytes.
    let gathered = tokio::task::spawn_blocking(move || {
        let by_tenant = runtime.block_on(parts.storage.overview(&scope));
        let blocks = parts.storage.blocks();
        json!({
            "now_ms": parts.storage.retention_time().now_ms,
            "totals": totals(&parts),
            "compaction": compaction(&parts),
            "retention": {
                "blocks_going": plan.blocks.len(),
                "bytes_going": plan.blocks.iter().map(|b| b.bytes).sum::<u64>(),
                "tenants_going": plan.tenants.values().filter(|t| t.bytes_going > 0).count(),
            },
            "problems": problems(&parts),
            "levels": levels(&blocks),
            "days": days(&blocks),
            "partitions": partitions(&parts, &blocks),
            "tenants": tenants(&parts, &scope, &by_tenant, &asked),
            "blocks": newest(&blocks, &asked),
        })
    });
    Ok(success(gathered.await.map_err(|e| Failure::unavailable(&e))?))
}

fn check(asked: &Asked) -> Result<(), Failure> {
    const SORTS: [&str; 5] = ["bytes", "samples", "series", "blocks", "name"];
    match &asked.sort {
        Some(sort) if !SORTS.contains(&sort.as_str()) => {
            Err(Failure::bad(format!("sort is {sort:?}, it must be one of {}", SORTS.join(", "))))
        }
        _ => Ok(()),
    }
}

fn totals(parts: &Parts) -> Value {
    let t = parts.storage.totals();
    json!({
        "active_series": t.active_series,
        "head_samples": t.head_samples,
        "head_bytes": t.head_bytes,
        "blocks": t.blocks,
        "block_bytes": t.block_bytes,
        "block_samples": t.block_samples,
        "log_bytes": t.log_bytes,
        "log_segments": t.log_segments,
        "disk_free_bytes": t.disk_free_bytes,
        "cache_bytes": t.cache_bytes,
    })
}

fn compaction(parts: &Parts) -> Value {
    let c = parts.storage.compaction();
    json!({
        "window_merges": c.merges[0],
        "day_merges": c.merges[1],
        "downsamplings": c.downsamplings,
        "failures": c.failures,
        "bytes_in": c.bytes_in,
        "bytes_out": c.bytes_out,
        "samples": c.samples,
        "work_seconds": c.work_seconds,
        "backlog_blocks": c.backlog_blocks,
        "backlog_bytes": c.backlog_bytes,
        "entry_merges": {"rows": c.entry_merges[0], "hours": c.entry_merges[1], "days": c.entry_merges[2]},
        "segment_bytes_in": c.segment_bytes_in,
        "segment_bytes_out": c.segment_bytes_out,
        "entries": c.entries,
        "backlog_segments": c.backlog_segments,
        "backlog_segment_bytes": c.backlog_segment_bytes,
        "removed_waiting": c.removed_waiting,
    })
}

/// What is wrong, a line each.
fn problems(parts: &Parts) -> Vec<String> {
    let storage = &parts.storage;
    let of = |(partition, text): (u16, String)| format!("partition {partition}: {text}");
    let lost = storage.lost_blocks().into_iter();
    let lost = lost.map(|(_, name, why)| format!("block {name} cannot be read: {why}"));
    let mut all: Vec<String> = storage.incomplete().into_iter().map(of).collect();
    all.extend(
        storage
            .read_only()
            .into_iter()
            .map(of)
            .filter(|text| !all.contains(text))
            .collect::<Vec<_>>(),
    );
    all.extend(lost);
    all.extend(storage.mended().into_iter().map(of));
    all
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    blocks: u64,
    bytes: u64,
    samples: u64,
}

impl Sum {
    fn add(&mut self, block: &BlockMeta) {
        self.blocks += 1;
        self.bytes += block.bytes;
        self.samples += block.samples + block.histograms;
    }
}

fn levels(blocks: &[(u16, BlockMeta)]) -> Vec<Value> {
    let mut sums = [Sum::default(); LEVELS];
    for (_, block) in blocks {
        sums[usize::from(block.level).min(LEVELS - 1)].add(block);
    }
    let row = |(level, sum): (usize, &Sum)| json!({ "level": level, "blocks": sum.blocks, "bytes": sum.bytes, "samples": sum.samples });
    sums.iter().enumerate().map(row).collect()
}

/// Bytes of each day's blocks by level, by the day in which a block begins.
fn days(blocks: &[(u16, BlockMeta)]) -> Vec<Value> {
    let mut days: BTreeMap<i64, [u64; LEVELS]> = BTreeMap::new();
    for (_, block) in blocks.iter().filter(|(_, b)| b.range.start_ms <= b.range.end_ms) {
        let day = block.range.start_ms.saturating_sub(block.range.start_ms.rem_euclid(DAY_MS));
        days.entry(day).or_default()[usize::from(block.level).min(LEVELS - 1)] += block.bytes;
    }
    let from = days.len().saturating_sub(DAYS_MAX);
    days.iter().skip(from).map(|(day, bytes)| json!({ "day_ms": day, "bytes": bytes })).collect()
}

fn partitions(parts: &Parts, blocks: &[(u16, BlockMeta)]) -> Vec<Value> {
    let mut sums: BTreeMap<u16, Sum> = BTreeMap::new();
    blocks.iter().for_each(|(partition, block)| sums.entry(*partition).or_default().add(block));
    let states = parts.storage.partitions();
    let row = |state: &storage::PartitionOverview| {
        let sum = sums.get(&state.number).copied().unwrap_or_default();
        json!({
            "partition": state.number,
            "blocks": sum.blocks,
            "bytes": sum.bytes,
            "samples": sum.samples,
            "head_series": state.head_series,
            "head_samples": state.head_samples,
            "log_bytes": state.log_bytes,
            "manifest": state.manifest,
            "tombstones": state.tombstones,
            "read_only": state.read_only,
        })
    };
    states.iter().map(row).collect()
}

fn tenants(
    parts: &Parts,
    scope: &ReadScope,
    by_tenant: &BTreeMap<tenancy::TenantId, TenantOverview>,
    asked: &Asked,
) -> Value {
    let matching = scope.tenants().iter().filter(|t| t.name.as_str().contains(&asked.search));
    let mut rows: Vec<(&str, tenancy::TenantId, TenantOverview)> = matching
        .map(|t| (t.name.as_str(), t.id, by_tenant.get(&t.id).copied().unwrap_or_default()))
        .collect();
    match asked.sort.as_deref().unwrap_or("bytes") {
        "name" => rows.sort_by_key(|(name, ..)| *name),
        "samples" => rows.sort_by_key(|(.., t)| u64::MAX - t.block_samples - t.head_samples),
        "series" => rows.sort_by_key(|(.., t)| u64::MAX - t.active_series),
        "blocks" => rows.sort_by_key(|(.., t)| u64::MAX - t.blocks),
        _ => rows.sort_by_key(|(.., t)| u64::MAX - t.block_bytes),
    }
    let limit = asked.limit.unwrap_or(50).min(ROWS_MAX);
    let row = |(name, id, t): &(&str, tenancy::TenantId, TenantOverview)| {
        let limits = parts.authenticator.limits_of(*id);
        json!({
            "id": id.0,
            "name": name,
            "active_series": t.active_series,
            "head_samples": t.head_samples,
            "blocks": t.blocks,
            "block_samples": t.block_samples,
            "block_bytes": t.block_bytes,
            "newest_ms": t.newest_ms,
            "retention_seconds": limits.metrics_raw_retention_seconds,
            "bytes_max": limits.metrics_bytes_max,
            "deletes_pending": parts.storage.deletes_pending(*id),
        })
    };
    json!({
        "all": scope.tenants().len(),
        "matching": rows.len(),
        "rows": rows.iter().take(limit).map(row).collect::<Vec<_>>(),
    })
}

fn newest(blocks: &[(u16, BlockMeta)], asked: &Asked) -> Value {
    let is_wanted = |(partition, block): &&(u16, BlockMeta)| {
        asked.partition.is_none_or(|p| p == *partition)
            && asked.level.is_none_or(|level| level == block.level)
    };
    let mut wanted: Vec<&(u16, BlockMeta)> = blocks.iter().filter(is_wanted).collect();
    wanted.sort_by_key(|(_, block)| std::cmp::Reverse(block.created_ms));
    let limit = asked.blocks.unwrap_or(100).min(ROWS_MAX);
    let row = |(partition, b): &&(u16, BlockMeta)| {
        json!({
            "partition": partition,
            "name": b.name,
            "level": b.level,
            "first_ms": b.range.start_ms,
            "last_ms": b.range.end_ms,
            "series": b.series,
            "samples": b.samples,
            "histograms": b.histograms,
            "bytes": b.bytes,
            "created_ms": b.created_ms,
        })
    };
    json!({
        "matching": wanted.len(),
        "rows": wanted.iter().take(limit).map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(level: u8, start_ms: i64, bytes: u64) -> (u16, BlockMeta) {
        let range = model::TimeRange { start_ms, end_ms: start_ms + 10 };
        (0, BlockMeta { level, range, bytes, samples: bytes * 2, ..BlockMeta::default() })
    }

    #[test]
    fn blocks_are_summed_by_day_and_level() {
        let blocks =
            [block(0, 5, 1), block(2, DAY_MS - 1, 10), block(2, DAY_MS, 100), block(1, -1, 7)];
        let expected = json!([
            { "day_ms": -DAY_MS, "bytes": [0, 7, 0] },
            { "day_ms": 0, "bytes": [1, 0, 10] },
            { "day_ms": DAY_MS, "bytes": [0, 0, 100] },
        ]);
        assert_eq!(json!(days(&blocks)), expected);
        assert_eq!(
            levels(&blocks)[2],
            json!({ "level": 2, "blocks": 2, "bytes": 110, "samples": 220 })
        );
    }

    #[test]
    fn blocks_are_filtered_and_the_rest_counted() {
        let blocks = [block(0, 0, 1), block(2, 0, 2), block(2, 0, 3)];
        let asked = Asked { level: Some(2), blocks: Some(1), ..Asked::default() };
        let found = newest(&blocks, &asked);
        assert_eq!(
            (found["matching"].as_u64(), found["rows"].as_array().map(Vec::len)),
            (Some(2), Some(1))
        );
    }
}
