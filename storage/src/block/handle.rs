//! A block as it stays in memory: where it lies. What its index says comes through the cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use parking_lot::Mutex;

use super::INDEX;
use super::cache::{BlockCache, Key, Kind};
use super::index::{Index, TenantRows, checksum_of};
use super::read::Block;
use crate::Error;
use crate::manifest::BlockMeta;
use crate::objects::Fresh;

/// Bytes of an index that are read at first to see its tenants: all but always enough.
const HEAD_BYTES: u64 = 64 << 10;

/// A block that a manifest names.
pub struct BlockHandle {
    pub(super) number: u64,
    pub(super) prefix: Path,
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) cache: Arc<BlockCache>,
    /// What the head of its index must end with, where a manifest says so.
    checksum: Option<u32>,
    /// The index while somebody looks at it: shared even if the cache let go of it or never took
    /// it.
    in_use: Mutex<Weak<Index>>,
    /// Held by who reads the index, so that many who want it read it once. No data is behind it.
    reading: tokio::sync::Mutex<()>,
}

/// Tells blocks apart in the cache.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl BlockHandle {
    /// The block under `prefix`. Reads nothing yet.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: Path, cache: Arc<BlockCache>) -> Arc<Self> {
        Self::with(objects, prefix, cache, None)
    }

    /// The block that a manifest names: no other one is taken for it.
    pub fn named(
        objects: Arc<dyn ObjectStore>,
        meta: &BlockMeta,
        cache: Arc<BlockCache>,
    ) -> Arc<Self> {
        Self::with(objects, Path::from(meta.name.as_str()), cache, meta.index_checksum)
    }

    fn with(
        objects: Arc<dyn ObjectStore>,
        prefix: Path,
        cache: Arc<BlockCache>,
        checksum: Option<u32>,
    ) -> Arc<Self> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (in_use, reading) = (Mutex::default(), tokio::sync::Mutex::default());
        Arc::new(Self { number, prefix, objects, cache, checksum, in_use, reading })
    }

    /// Where its objects lie.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The open block, if its index is in memory now.
    pub fn opened(self: &Arc<Self>) -> Option<Block> {
        self.index().map(|index| Block::new(self, index))
    }

    /// Opens the block: its index comes from memory or is read, checked and decoded. It stays in
    /// memory as long as the result, and in the cache as long as there is room.
    pub async fn open(self: &Arc<Self>) -> Result<Block, Error> {
        if let Some(block) = self.opened() {
            return Ok(block);
        }
        let _reading = self.reading.lock().await;
        // Whoever held it before has read it.
        if let Some(block) = self.opened() {
            return Ok(block);
        }
        let index = match self.read_index(GetOptions::default()).await {
            // It may have been damaged on its way, or on this machine's disk.
            Err(Error::Corrupt { .. }) => self.read_index(Fresh::options(None)).await?,
            read => read?,
        };
        let index = Arc::new(index);
        *self.in_use.lock() = Arc::downgrade(&index);
        self.cache.put(self.key(Kind::Index), Arc::clone(&index), index.resident_bytes());
        Ok(Block::new(self, index))
    }

    /// Its tenants with their rows, by tenant. Reads no more of the index than that.
    pub async fn tenants(&self) -> Result<Arc<Vec<TenantRows>>, Error> {
        let key = self.key(Kind::Tenants);
        if let Some(known) = self.cache.get::<Vec<TenantRows>>(key) {
            return Ok(known);
        }
        let first = GetRange::Bounded(0..HEAD_BYTES);
        let first = GetOptions { range: Some(first), ..GetOptions::default() };
        let head = self.read_object(first).await?;
        let tenants = match Index::read_tenants(&self.what(), &head)? {
            Some(tenants) => {
                self.check(&head)?;
                tenants
            }
            None => {
                let whole = self.read_object(GetOptions::default()).await?;
                let read = Index::read_tenants(&self.what(), &whole)?;
                self.check(&whole)?;
                read.ok_or_else(|| Error::Corrupt {
                    what: self.what(),
                    reason: "it is cut short".to_owned(),
                })?
            }
        };
        let bytes = tenants.capacity() * size_of::<TenantRows>();
        let tenants = Arc::new(tenants);
        self.cache.put(key, Arc::clone(&tenants), bytes);
        Ok(tenants)
    }

    fn index(&self) -> Option<Arc<Index>> {
        let in_use = self.in_use.lock().upgrade();
        // Asked in any case: that keeps it from being the least recently used.
        let cached = self.cache.get(self.key(Kind::Index));
        let index = cached.or(in_use)?;
        *self.in_use.lock() = Arc::downgrade(&index);
        Some(index)
    }

    /// The object of its index.
    pub(crate) fn index_object(&self) -> Path {
        self.prefix.clone().join(INDEX)
    }

    async fn read_index(&self, options: GetOptions) -> Result<Index, Error> {
        let (bytes, what) = (self.read_object(options).await?, self.what());
        let own = bytes.clone();
        let decoded = tokio::task::spawn_blocking(move || Index::read(what, &own)).await;
        let index = decoded.map_err(|e| Error::Internal(format!("decode an index: {e}")))??;
        self.check(&bytes)?;
        Ok(index)
    }

    /// The index as it is stored, or a part of it.
    async fn read_object(&self, options: GetOptions) -> Result<Bytes, Error> {
        let path = self.index_object();
        let read = async { self.objects.get_opts(&path, options).await?.bytes().await };
        read.await.map_err(|source| match source {
            object_store::Error::NotFound { .. } => {
                Error::Corrupt { what: self.what(), reason: "the object is missing".to_owned() }
            }
            source => Error::Objects { doing: format!("read object {path}"), source },
        })
    }

    /// Fails if an index that is sound by itself is not the one that the manifest names.
    fn check(&self, index: &[u8]) -> Result<(), Error> {
        if self.checksum.is_some_and(|own| checksum_of(index) != Some(own)) {
            let reason = "it is not the one that the manifest names";
            return Err(Error::Corrupt { what: self.what(), reason: reason.to_owned() });
        }
        Ok(())
    }

    fn what(&self) -> String {
        format!("object {}", self.index_object())
    }

    fn key(&self, kind: Kind) -> Key {
        Key { block: self.number, kind, group: 0, page: 0 }
    }
}

impl Drop for BlockHandle {
    fn drop(&mut self) {
        self.cache.forget(self.number);
    }
}

impl std::fmt::Debug for BlockHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockHandle").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
