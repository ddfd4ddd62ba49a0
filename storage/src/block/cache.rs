//! The cache all blocks share: indexes, footers, chunk facts and pages, least recently used out
//! first.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

/// What a cached item is of: block, kind, row group, page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) block: u64,
    pub(super) kind: Kind,
    pub(super) group: u32,
    pub(super) page: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Index,
    Tenants,
    ChunksFooter,
    TimestampsFooter,
    ExemplarsFooter,
    Facts,
    ChunksPage,
    TimestampsPage,
    /// Series rows of a tombstone; group and page are the halves of its id.
    Deleted,
}

/// Parts of blocks in memory, bounded in bytes.
pub struct BlockCache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    items: HashMap<Key, Item>,
    /// Keys by when they were last used.
    order: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
    hits: u64,
    misses: u64,
}

struct Item {
    value: Arc<dyn Any + Send + Sync>,
    bytes: usize,
    used: u64,
}

/// What the cache has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheUse {
    /// Bytes held now.
    pub bytes: usize,
    /// Look-ups that found their item.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
}

impl BlockCache {
    /// An empty cache that holds at most `bytes_max`.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, state: Mutex::default() })
    }

    /// What it holds and how often it helped.
    pub fn usage(&self) -> CacheUse {
        let state = self.state.lock();
        CacheUse { bytes: state.bytes, hits: state.hits, misses: state.misses }
    }

    pub(super) fn get<T: Any + Send + Sync>(&self, key: Key) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(item) = state.items.get_mut(&key) else {
            state.misses += 1;
            return None;
        };
        state.hits += 1;
        state.uses += 1;
        state.order.remove(&item.used);
        item.used = state.uses;
        state.order.insert(item.used, key);
        Arc::clone(&item.value).downcast().ok()
    }

    /// An item larger than the whole cache is not kept.
    pub(super) fn put<T: Any + Send + Sync>(&self, key: Key, value: Arc<T>, bytes: usize) {
        if bytes > self.bytes_max {
            return;
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        state.uses += 1;
        let used = state.uses;
        if let Some(old) = state.items.insert(key, Item { value, bytes, used }) {
            state.order.remove(&old.used);
            state.bytes -= old.bytes;
        }
        state.order.insert(used, key);
        state.bytes += bytes;
        while state.bytes > self.bytes_max {
            let Some((_, oldest)) = state.order.pop_first() else { break };
            if let Some(item) = state.items.remove(&oldest) {
                state.bytes -= item.bytes;
            }
        }
    }

    /// Drops everything of a block that is gone.
    pub(super) fn forget(&self, block: u64) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let (order, bytes) = (&mut state.order, &mut state.bytes);
        state.items.retain(|key, item| {
            let stays = key.block != block;
            if !stays {
                order.remove(&item.used);
                *bytes -= item.bytes;
            }
            stays
        });
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("bytes_max", &self.bytes_max)
            .field("usage", &self.usage())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(block: u64, page: u32) -> Key {
        Key { block, kind: Kind::ChunksPage, group: 0, page }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_bytes_are_bounded() {
        let cache = BlockCache::new(100);
        for page in 0..4 {
            cache.put(key(1, page), Arc::new(page), 30);
            assert!(cache.usage().bytes <= 100);
            assert_eq!(cache.get::<u32>(key(1, 0)).as_deref(), Some(&0), "kept alive by use");
        }
        assert!(cache.get::<u32>(key(1, 1)).is_none());
        cache.put(key(2, 9), Arc::new(9u32), 101);
        assert!(cache.get::<u32>(key(2, 9)).is_none(), "larger than the cache");
        cache.put(key(1, 3), Arc::new(7u32), 40);
        assert_eq!(cache.get::<u32>(key(1, 3)).as_deref(), Some(&7), "replaced");
        cache.forget(1);
        assert_eq!(cache.usage().bytes, 0);
    }
}
