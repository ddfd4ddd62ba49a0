//! Retention: rows go when they are too old or too many, or when their tenant is no more.
//!
//! ```text
//! blocks' tenants ─┐
//! rules of tenants ├─► plan (plain function) ─► whole blocks: one manifest edit, objects later
//! time, if sane ───┘                         └► rows in shared blocks: a tombstone, compaction
//! ```
//!
//! Readers do not wait for it: a scope says how long its tenants' rows are kept, and what is older
//! is not shown. Rows as they came and windows of each length are kept for times of their own. Without rules nothing goes, and what the tenants' directory does not know is kept:
//! only a tenant that somebody deleted leaves its rows behind.

mod clock;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{Resolution, TimeRange};
use tenancy::{Authenticator, TenantId};
use tokio::sync::watch;

use crate::delete::Delete;
use crate::manifest::{BlockMeta, Edit};
use crate::partition::Partition;
use crate::tombstone::Tombstone;
use crate::{Error, Storage};

pub(crate) use clock::ClockGuard;
pub use clock::RetentionTime;
pub use plan::{BlockShares, Cut, GoingBlock, Plan, Rule, Share, SizeLimit, TenantPlan, plan};

/// How often it is looked for what is kept no longer.
const CHECK: Duration = Duration::from_secs(600);

/// The first look after the start: not while everybody comes back.
const FIRST_CHECK: Duration = Duration::from_secs(60);

/// What tenants are allowed to keep.
pub trait TenantRules: std::fmt::Debug + Send + Sync {
    /// For one tenant.
    fn rule_of(&self, tenant: TenantId) -> Rule;
    /// Tenants that were deleted.
    fn deleted(&self) -> Vec<TenantId>;
}

impl TenantRules for Authenticator {
    fn rule_of(&self, tenant: TenantId) -> Rule {
        if self.directory().is_deleted(tenant) {
            return Rule::Gone;
        }
        Rule::Keep(self.limits_of(tenant).retention())
    }

    fn deleted(&self) -> Vec<TenantId> {
        self.directory().deleted().iter().map(|gone| gone.id).collect()
    }
}

impl Storage {
    /// Has rows kept as these rules say. Without rules everything is kept.
    pub fn set_tenant_rules(&self, rules: Arc<dyn TenantRules>) {
        *self.rules.write() = Some(rules);
    }

    /// The time by which rows expire.
    pub fn retention_time(&self) -> RetentionTime {
        let monotonic = self.clock.monotonic().as_secs_f64();
        self.clock_guard.lock().at(self.clock.now_ms(), monotonic)
    }

    pub(crate) fn retention_now_ms(&self) -> i64 {
        self.retention_time().now_ms
    }

    /// Lets go what is kept no longer, until `shutdown` says true.
    pub async fn run_retention(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut pause = FIRST_CHECK;
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = CHECK;
            if let Err(error) = self.retain().await {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "retention failed and will be tried again");
            }
        }
    }

    /// What would go now.
    pub async fn plan_retention(&self) -> Result<Plan, Error> {
        let Some(rules) = self.rules.read().clone() else { return Ok(Plan::default()) };
        let time = self.retention_time();
        let mut blocks = Vec::new();
        for partition in &self.partitions {
            let tombstones = partition.tombstones();
            for stored in partition.all_blocks() {
                let resolution = stored.meta.resolution;
                let tenants = stored.block.tenants().await?;
                let tombstones = tombstones.of_block(&stored.meta);
                let hides = |t: &Tombstone, range: TimeRange| {
                    t.matchers.is_empty()
                        && t.range.start_ms <= range.start_ms
                        && t.range.end_ms >= range.end_ms
                };
                let range_of = |rows: &crate::block::TenantRows| {
                    BlockMeta { range: rows.range, ..stored.meta.clone() }.range()
                };
                let share = |rows: &crate::block::TenantRows| Share {
                    tenant: rows.tenant,
                    range: range_of(rows),
                    bytes: stored.meta.bytes * rows.chunks.len() as u64 / stored.meta.chunks.max(1),
                    series: rows.series.len() as u64,
                    is_hidden: tombstones.of(rows.tenant).iter().any(|t| hides(t, range_of(rows))),
                };
                blocks.push(BlockShares {
                    partition: partition.number,
                    name: stored.meta.name.clone(),
                    resolution,
                    shares: tenants.iter().map(share).collect(),
                });
            }
        }
        Ok(plan(&blocks, |tenant| rules.rule_of(tenant), time.now_ms))
    }

    /// Lets go what is kept no longer, and says what that was.
    pub async fn retain(self: &Arc<Self>) -> Result<Plan, Error> {
        let Some(rules) = self.rules.read().clone() else { return Ok(Plan::default()) };
        if let Some(ahead_ms) = self.retention_time().doubted_ms {
            tracing::error!(
                ahead_seconds = ahead_ms / 1000,
                "the clock is ahead of what was seen to pass; for a day rows expire as if it were not"
            );
        }
        let plan = self.plan_retention().await?;
        for partition in &self.partitions {
            let names: Vec<String> = plan
                .blocks
                .iter()
                .filter(|block| block.partition == partition.number)
                .map(|block| block.name.clone())
                .collect();
            if !names.is_empty() && partition.read_only().is_none() {
                self.let_go(partition, &names).await?;
            }
        }
        // One that writes went on while it was deleted still has rows in a head.
        let mut cuts = plan.cuts.clone();
        let known: BTreeSet<TenantId> = cuts.iter().map(|cut| cut.tenant).collect();
        for tenant in rules.deleted().into_iter().filter(|tenant| !known.contains(tenant)) {
            if self.partitions.iter().any(|p| p.head.read().tenant_series(tenant) > 0) {
                cuts.push(Cut { tenant, only: None, before_ms: i64::MAX });
            }
        }
        for cut in cuts {
            self.cut(cut).await?;
        }
        self.retain_entries(rules.as_ref()).await?;
        Ok(plan)
    }

    /// Whole blocks: gone for readers with one edit, their objects later.
    async fn let_go(&self, partition: &Partition, names: &[String]) -> Result<(), Error> {
        let mut flush = partition.flush.lock().await;
        partition.check_writable()?;
        self.settle(partition, &mut flush).await?;
        // Compaction may have been faster.
        let there = |name: &&String| flush.state.blocks.iter().any(|b| b.name == **name);
        let names: Vec<String> = names.iter().filter(there).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let edit = Edit {
            remove_blocks: names.clone(),
            next_object: flush.state.next_object,
            ..Edit::default()
        };
        partition.commit(&mut flush, edit).await?;
        partition.replace(&names, Vec::new());
        self.changes.note_all();
        drop(flush);
        tracing::info!(
            partition = partition.number,
            blocks = names.len(),
            "blocks are kept no longer"
        );
        self.retire_blocks(partition, &names);
        Ok(())
    }

    /// Rows of one tenant in blocks that stay for others.
    async fn cut(self: &Arc<Self>, cut: Cut) -> Result<(), Error> {
        let end_ms = if cut.before_ms == i64::MAX { i64::MAX } else { cut.before_ms - 1 };
        let resolution = cut.only.map_or("all", Resolution::as_str);
        tracing::info!(tenant = %cut.tenant, resolution, end_ms, "rows of a tenant are kept no longer");
        let range = TimeRange { start_ms: i64::MIN, end_ms };
        let delete = Delete { selectors: vec![Vec::new()], range };
        self.bury(cut.tenant, delete, cut.only).await.map(drop)
    }
}
