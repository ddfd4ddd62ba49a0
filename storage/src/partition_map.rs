//! Which partition a series belongs to.
//!
//! The map has epochs: from a moment on, another number of partitions may hold. Nothing stored
//! depends on the number of cores, and rows never move: a read asks every partition that ever was.

use std::sync::Arc;

use model::SeriesId;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, path::Path};
use serde::{Deserialize, Serialize};
use tenancy::TenantId;

use crate::Error;

/// Where the map is stored.
const OBJECT: &str = "partitions.json";

/// More partitions than this are a mistake in a configuration.
const PARTITIONS_MAX: u16 = 1_024;

/// The stored map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartitionMap {
    /// Format version of this object.
    version: u32,
    /// In order of time; the last one holds now.
    epochs: Vec<Epoch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Epoch {
    /// Writes from here on. Milliseconds.
    from_ms: i64,
    /// How many partitions.
    partitions: u16,
}

impl PartitionMap {
    /// Reads the map, or writes one for a new data directory.
    pub(crate) async fn load(
        objects: &Arc<dyn ObjectStore>,
        partitions: u16,
    ) -> Result<Self, Error> {
        let path = Path::from(OBJECT);
        let failed = |doing: &str| {
            let doing = format!("{doing} {OBJECT}");
            move |source| Error::Objects { doing, source }
        };
        match objects.get(&path).await {
            Ok(found) => return Self::decode(&found.bytes().await.map_err(failed("read"))?),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(source) => return Err(failed("read")(source)),
        }
        let partitions = partitions.clamp(1, PARTITIONS_MAX);
        let map = Self { version: 1, epochs: vec![Epoch { from_ms: i64::MIN, partitions }] };
        let json = serde_json::to_vec_pretty(&map).expect("a map of numbers is always JSON");
        let create = PutMode::Create.into();
        objects.put_opts(&path, PutPayload::from(json), create).await.map_err(failed("create"))?;
        Ok(map)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |reason: String| Error::Corrupt { what: OBJECT.to_owned(), reason };
        let map: Self = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
        if map.version != 1 {
            let feature = format!("version {}", map.version);
            return Err(Error::Unsupported { what: OBJECT.to_owned(), feature });
        }
        if map.epochs.iter().any(|e| e.partitions == 0 || e.partitions > PARTITIONS_MAX)
            || map.epochs.is_empty()
        {
            return Err(corrupt(format!("an epoch must have 1 to {PARTITIONS_MAX} partitions")));
        }
        Ok(map)
    }

    /// How many partitions there are or were.
    pub(crate) fn partitions(&self) -> u16 {
        self.epochs.iter().map(|e| e.partitions).max().unwrap_or(1)
    }

    /// Where new samples of a series go.
    #[inline]
    pub(crate) fn route(&self, tenant: TenantId, id: SeriesId) -> u16 {
        let partitions = self.epochs.last().map_or(1, |e| e.partitions);
        route(tenant, (id.0 >> 64) as u64, partitions)
    }

    /// Where the metadata of a metric family goes.
    pub(crate) fn route_family(&self, tenant: TenantId, family: &str) -> u16 {
        let partitions = self.epochs.last().map_or(1, |e| e.partitions);
        route(tenant, xxhash_rust::xxh3::xxh3_64(family.as_bytes()), partitions)
    }
}

/// Stored for ever: the tenant is spread by a multiplication with 2^64/φ, so that equal label sets
/// of many tenants do not meet in one partition; the upper half of the product is uniform.
fn route(tenant: TenantId, hash: u64, partitions: u16) -> u16 {
    let mixed = (hash ^ u64::from(tenant.0).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((u128::from(mixed) * u128::from(partitions)) >> 64) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_spread_evenly_and_stay() {
        let mut counts = [0u32; 8];
        for i in 0..80_000u128 {
            let id = SeriesId::of_encoded(&i.to_le_bytes());
            counts[usize::from(route(TenantId(1), (id.0 >> 64) as u64, 8))] += 1;
        }
        assert!(counts.iter().all(|&n| (9_500..10_500).contains(&n)), "{counts:?}");
        assert_eq!(route(TenantId(7), 0x0123_4567_89ab_cdef, 8), 5, "stored rows depend on it");
    }

    #[tokio::test]
    async fn the_map_of_a_directory_stays() {
        let objects: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let first = PartitionMap::load(&objects, 8).await.expect("a new map");
        let again = PartitionMap::load(&objects, 4).await.expect("the same map");
        assert_eq!((first.partitions(), again), (8, first));
    }
}
