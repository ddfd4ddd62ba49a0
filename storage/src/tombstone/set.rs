//! All tombstones of a partition, and those of them that concern one block.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Labels, Position};
use tenancy::{ReadScope, TenantId};

use super::{Ranges, Tombstone, ranges_of};
use crate::manifest::BlockMeta;

/// The tombstones of a partition. Cheap to copy; changed by making another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// By tenant, in order of positions.
    by_tenant: BTreeMap<TenantId, Arc<[Arc<Tombstone>]>>,
}

impl Tombstones {
    /// From a list in any order.
    pub fn new(all: impl IntoIterator<Item = Arc<Tombstone>>) -> Self {
        let mut sorted: Vec<_> = all.into_iter().collect();
        sorted.sort_by_key(|t| t.position);
        sorted.into_iter().fold(Self::default(), |set, one| set.with(one))
    }

    /// With one more, and without those that it makes superfluous. A tombstone that is there
    /// already stays as it is.
    #[must_use]
    pub fn with(mut self, new: Arc<Tombstone>) -> Self {
        let known = self.of(new.tenant);
        if known.iter().any(|t| t.id == new.id) {
            return self;
        }
        let mut kept: Vec<_> = known.iter().filter(|t| !new.supersedes(t)).cloned().collect();
        let at = kept.partition_point(|t| t.position <= new.position);
        let tenant = new.tenant;
        kept.insert(at, new);
        self.by_tenant.insert(tenant, kept.into());
        self
    }

    /// Without those of these ids.
    #[must_use]
    pub fn without(mut self, ids: &[u64]) -> Self {
        self.by_tenant.retain(|_, list| {
            if list.iter().any(|t| ids.contains(&t.id)) {
                *list = list.iter().filter(|t| !ids.contains(&t.id)).cloned().collect();
            }
            !list.is_empty()
        });
        self
    }

    /// Those of one tenant, in order of positions.
    pub fn of(&self, tenant: TenantId) -> &[Arc<Tombstone>] {
        self.by_tenant.get(&tenant).map_or(&[], |list| list)
    }

    /// All, by tenant and position.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tombstone>> {
        self.by_tenant.values().flat_map(|list| list.iter())
    }

    /// Whether it is one of them.
    pub fn has(&self, tombstone: &Tombstone) -> bool {
        self.of(tombstone.tenant).iter().any(|t| t.id == tombstone.id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_tenant.values().map(|list| list.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_tenant.is_empty()
    }

    /// Those that may hide rows of a block.
    pub fn of_block(&self, block: &BlockMeta) -> BlockTombstones {
        BlockTombstones::of_lists(block, self.by_tenant.values())
    }

    /// Those that may hide rows of a block which a scope may read.
    pub(crate) fn of_block_in(&self, block: &BlockMeta, scope: &ReadScope) -> BlockTombstones {
        if self.is_empty() {
            return BlockTombstones::default();
        }
        let lists = scope.tenants().iter().filter_map(|tenant| self.by_tenant.get(&tenant.id));
        BlockTombstones::of_lists(block, lists)
    }

    /// What a block made from `inputs` says in [`BlockMeta::deleted_to`] if all that these
    /// tombstones hide in each of them was left out.
    pub fn deleted_to<'a>(&self, inputs: impl Iterator<Item = &'a BlockMeta>) -> Position {
        let newest = self.iter().map(|t| Position(t.position.0.saturating_add(1))).max();
        inputs.map(BlockMeta::deleted_to).chain(newest).max().unwrap_or_default()
    }
}

/// The tombstones that may hide rows of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockTombstones {
    by_tenant: BTreeMap<TenantId, Vec<Arc<Tombstone>>>,
}

impl BlockTombstones {
    fn of_lists<'a>(
        block: &BlockMeta,
        lists: impl Iterator<Item = &'a Arc<[Arc<Tombstone>]>>,
    ) -> Self {
        let mut by_tenant: BTreeMap<TenantId, Vec<Arc<Tombstone>>> = BTreeMap::new();
        for one in lists.flat_map(|list| list.iter()).filter(|t| t.concerns(block)) {
            by_tenant.entry(one.tenant).or_default().push(Arc::clone(one));
        }
        Self { by_tenant }
    }

    /// Whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.by_tenant.is_empty()
    }

    /// Those of one tenant.
    pub fn of(&self, tenant: TenantId) -> &[Arc<Tombstone>] {
        self.by_tenant.get(&tenant).map_or(&[], Vec::as_slice)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tombstone>> {
        self.by_tenant.values().flatten()
    }

    /// When the oldest of them was asked for, milliseconds since the Unix epoch.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.iter().map(|t| t.created_ms).min()
    }

    /// What is deleted of one series in this block.
    pub fn hidden(&self, tenant: TenantId, labels: &Labels) -> Ranges {
        ranges_of(self.of(tenant).iter().filter(|t| t.matches(labels)))
    }
}
