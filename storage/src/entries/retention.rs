//! Segments → nothing: whole ones, once none of their entries is kept any more. Entries that are
//! kept no longer are hidden from questions at once, wherever they lie.

use model::Signal;
use object_store::path::Path;
use tenancy::{Retention, TenantId};

use super::partition::EntryPartition;
use super::segment::{OBJECT_NAMES, SegmentHandle};
use crate::manifest::Edit;
use crate::retention::{Rule, TenantRules};
use crate::{Error, Storage};

const NS_PER_MS: i64 = 1_000_000;

impl Storage {
    /// Lets go segments of which everything is over.
    pub(crate) async fn retain_entries(&self, rules: &dyn TenantRules) -> Result<(), Error> {
        let now_ms = self.retention_now_ms();
        for partition in &self.entries.partitions {
            if partition.read_only().is_some() {
                continue;
            }
            let mut over = Vec::new();
            for segment in partition.segments().iter() {
                if is_over(segment, rules, now_ms).await? {
                    over.push(segment.meta.name.clone());
                }
            }
            if !over.is_empty() {
                self.let_segments_go(partition, &over).await?;
            }
            self.drop_spent_deletions(partition).await?;
        }
        Ok(())
    }

    /// Gone for readers with one edit, their objects later.
    async fn let_segments_go(
        &self,
        partition: &EntryPartition,
        names: &[String],
    ) -> Result<(), Error> {
        let mut flush = partition.flush.lock().await;
        partition.check_writable()?;
        self.settle_entries(partition, &mut flush).await?;
        let there = |name: &&String| flush.state.segments.iter().any(|s| s.name == **name);
        let names: Vec<String> = names.iter().filter(there).cloned().collect();
        let next_object = flush.state.next_object;
        let edit = Edit { remove_segments: names.clone(), next_object, ..Edit::default() };
        partition.commit(&mut flush, edit).await?;
        partition.replace(&names, Vec::new());
        drop(flush);
        let (partition_number, segments) = (partition.number, names.len());
        tracing::info!(partition = partition_number, segments, "segments are kept no longer");
        self.retire_segments(partition, &names);
        Ok(())
    }

    /// Has the objects of segments removed that no manifest names any more, once all questions
    /// that may be reading them have ended.
    pub(crate) fn retire_segments(&self, partition: &EntryPartition, names: &[String]) {
        let objects = |name: &String| {
            let prefix = Path::from(name.as_str());
            OBJECT_NAMES.map(|object| prefix.clone().join(object))
        };
        self.retire_entries(partition, names.iter().flat_map(objects));
    }
}

/// Whether none of a segment's entries is kept any more.
async fn is_over(
    segment: &SegmentHandle,
    rules: &dyn TenantRules,
    now_ms: i64,
) -> Result<bool, Error> {
    let signal = segment.meta.signal;
    let open = segment.open().await?;
    let is_kept = |tenant: TenantId, last_ns: i64| match oldest_ns(rules, tenant, signal, now_ms) {
        None => false,
        Some(oldest_ns) => last_ns >= oldest_ns,
    };
    let streams = &open.index.streams;
    Ok(!streams.iter().any(|s| is_kept(s.stream.tenant, s.counts.last_ns)))
}

/// What is older is not kept; `None`: nothing of the tenant is.
pub(super) fn oldest_ns(
    rules: &dyn TenantRules,
    tenant: TenantId,
    signal: Signal,
    now_ms: i64,
) -> Option<i64> {
    let kept = match rules.rule_of(tenant) {
        Rule::Keep(kept) => kept,
        Rule::Gone => return None,
    };
    let oldest_ms = Retention::oldest_ms(kept.entries_seconds(signal), now_ms);
    Some(oldest_ms.saturating_mul(NS_PER_MS))
}
