//! The cache all blocks share: indexes, footers, chunk facts and pages, least recently used out
//! first.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::lru::Lru;

/// What a cached item is of: block, kind, row group, page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) block: u64,
    pub(crate) kind: Kind,
    pub(crate) group: u32,
    pub(crate) page: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Index,
    Tenants,
    ChunksFooter,
    TimestampsFooter,
    ExemplarsFooter,
    Facts,
    ChunksPage,
    TimestampsPage,
    /// A timestamp vector, decoded; the page is its row.
    Instants,
    /// Series rows of a tombstone; group and page are the halves of its id.
    Deleted,
    /// Series rows of a pattern; group and page are the halves of its hash.
    Listed,
    /// Of a segment of entries: streams and footer.
    SegmentIndex,
    SegmentBlooms,
    SegmentTermsDirectory,
    /// A page of terms; the page is its number.
    SegmentTerms,
}

/// Parts of blocks in memory, bounded in bytes.
pub struct BlockCache {
    bytes_max: usize,
    state: Mutex<State>,
}

struct State {
    items: Lru<Key, Arc<dyn Any + Send + Sync>>,
    hits: u64,
    misses: u64,
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
        let state = State { items: Lru::new(bytes_max as u64), hits: 0, misses: 0 };
        Arc::new(Self { bytes_max, state: Mutex::new(state) })
    }

    /// What it holds and how often it helped.
    pub fn usage(&self) -> CacheUse {
        let state = self.state.lock();
        let bytes = state.items.bytes() as usize;
        CacheUse { bytes, hits: state.hits, misses: state.misses }
    }

    pub(crate) fn get<T: Any + Send + Sync>(&self, key: Key) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(value) = state.items.get(&key) else {
            state.misses += 1;
            return None;
        };
        state.hits += 1;
        Arc::clone(value).downcast().ok()
    }

    /// An item larger than the whole cache is not kept.
    pub(crate) fn put<T: Any + Send + Sync>(&self, key: Key, value: Arc<T>, bytes: usize) {
        let gone = self.state.lock().items.put(key, value, bytes as u64);
        // Freed outside the lock.
        drop(gone);
    }

    /// Drops everything of a block that is gone.
    pub(crate) fn forget(&self, block: u64) {
        self.state.lock().items.retain(|key| key.block != block);
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
    fn what_does_not_fit_is_not_kept_and_blocks_are_forgotten() {
        let cache = BlockCache::new(100);
        for (block, page, bytes) in [(1, 0, 30), (1, 1, 30), (2, 0, 40), (2, 9, 101)] {
            cache.put(key(block, page), Arc::new(page), bytes);
        }
        assert_eq!(cache.get::<u32>(key(1, 1)).as_deref(), Some(&1));
        assert!(cache.get::<u32>(key(2, 9)).is_none(), "larger than the cache");
        cache.forget(1);
        assert_eq!(cache.usage(), CacheUse { bytes: 40, hits: 1, misses: 1 });
    }
}
