//! A store that is not on this machine, made ready for use: probed, claimed, behind a cache.

use std::sync::Arc;

use model::{Disk, Random};
use object_store::ObjectStore;

use super::cached::CachedObjects;
use super::claim::{self, Claimed};
use super::counted::RequestCounts;
use super::probe::probe;
use crate::Error;

/// Where blocks, snapshots and manifests lie if not in the data directory.
#[derive(Debug, Clone)]
pub struct FarObjects {
    /// The store; all its names are ours.
    pub objects: Arc<dyn ObjectStore>,
    /// What it is called in messages.
    pub place: String,
    /// Counters of its requests.
    pub counts: Arc<RequestCounts>,
    /// Bytes of local disk for parts of objects that were read; 0 for none.
    pub cache_bytes: u64,
    /// Whether to shut out another data directory that writes to the store.
    pub take_over: bool,
}

/// A store that may be used.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) objects: Arc<CachedObjects>,
    pub(crate) claimed: Claimed,
}

impl FarObjects {
    /// Without cache, without consent.
    pub fn new(objects: Arc<dyn ObjectStore>) -> Self {
        let (place, counts) = (objects.to_string(), Arc::default());
        Self { objects, place, counts, cache_bytes: 0, take_over: false }
    }

    /// The store without a claim, for a tool that only reads it. It must be the one that the data
    /// directory belongs to.
    pub(crate) async fn of_data_directory(
        &self,
        disk: &Arc<dyn Disk>,
    ) -> Result<Arc<dyn ObjectStore>, Error> {
        claim::check_belongs(self.objects.as_ref(), disk, &self.place).await?;
        Ok(Arc::clone(&self.objects))
    }

    /// Sees whether the store is fit, and claims it for this data directory.
    pub(crate) async fn open(
        &self,
        disk: &Arc<dyn Disk>,
        random: &dyn Random,
        reserve_bytes: u64,
        now_ms: i64,
    ) -> Result<Opened, Error> {
        let id = || u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        let ids = (id(), id());
        probe(self.objects.as_ref(), &self.place, id()).await?;
        let claimed =
            claim::claim(self.objects.as_ref(), disk, &self.place, self.take_over, ids, now_ms)
                .await?;
        let (objects, disk) = (Arc::clone(&self.objects), Arc::clone(disk));
        let (store, bytes) = (claimed.store, self.cache_bytes);
        let cached = tokio::task::spawn_blocking(move || {
            CachedObjects::open(objects, disk, store, bytes, reserve_bytes)
        });
        let objects =
            cached.await.map_err(|e| Error::Internal(format!("open the cache of objects: {e}")))?;
        Ok(Opened { objects: Arc::new(objects), claimed })
    }
}
