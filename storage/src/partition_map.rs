//! Which partition a series belongs to.
//!
//! The map has epochs: from a moment on, another number of partitions may hold. Nothing stored
//! depends on the number of cores, and rows never move: a read asks every partition that ever was.

use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt;
use model::{BUCKET_LABEL, Labels, SeriesId, varint};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, path::Path};
use serde::{Deserialize, Serialize};
use tenancy::TenantId;

use crate::Error;

/// Where the map is stored.
const OBJECT: &str = "partitions.json";

/// Version 2 knows of whole histograms, version 3 of entries.
const VERSION: u32 = 3;

/// Partitions of entries are numbered from here on.
pub(crate) const ENTRIES_FIRST: u16 = 0x4000;

/// Partitions of entries where the map was written before there were any.
const ENTRIES_UNSAID: u16 = 4;

/// More partitions than this are a mistake in a configuration.
const PARTITIONS_MAX: u16 = 1_024;

/// The stored map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartitionMap {
    /// Format version of this object.
    version: u32,
    /// What a reader must know to read this right: one bit each, none so far.
    required_features: u64,
    /// In order of time; the last one holds now.
    epochs: Vec<Epoch>,
    /// The same of entries; from version 3 on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entries: Vec<EntryEpoch>,
    /// CRC32C of all numbers above, see [`PartitionMap::sum`].
    checksum: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Epoch {
    /// Writes from here on. Milliseconds.
    from_ms: i64,
    /// How many partitions.
    partitions: u16,
    /// Whether the buckets of one classic histogram go to one partition, so that blocks can keep
    /// them together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    whole_histograms: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryEpoch {
    /// Writes from here on. Milliseconds.
    from_ms: i64,
    /// How many partitions.
    partitions: u16,
}

/// How many partitions a new data directory gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Of metrics.
    pub(crate) metrics: u16,
    /// Of entries.
    pub(crate) entries: u16,
}

impl PartitionMap {
    /// Reads the map, or writes one for a new data directory.
    pub(crate) async fn load(
        objects: &Arc<dyn ObjectStore>,
        partitions: Counts,
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
        // With another number of partitions than before, rows would be looked for elsewhere.
        let manifests = Path::from("manifest");
        let listed = objects.list(Some(&manifests)).next().await.transpose();
        if let Some(manifest) = listed.map_err(failed("look for what belongs to"))? {
            let reason = format!("it is missing, though {} exists", manifest.location);
            return Err(Error::Corrupt { what: OBJECT.to_owned(), reason });
        }
        let map = Self::of(partitions);
        map.put(objects).await?;
        Ok(map)
    }

    /// Writes the map of a new store.
    pub(crate) async fn put(&self, objects: &Arc<dyn ObjectStore>) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(self).expect("a map of numbers is always JSON");
        let create = PutMode::Create.into();
        let put = objects.put_opts(&Path::from(OBJECT), PutPayload::from(json), create).await;
        let doing = || format!("create {OBJECT}");
        put.map(drop).map_err(|source| Error::Objects { doing: doing(), source })
    }

    pub(crate) fn of(counts: Counts) -> Self {
        let partitions = counts.metrics.clamp(1, PARTITIONS_MAX);
        let epochs = vec![Epoch { from_ms: i64::MIN, partitions, whole_histograms: true }];
        let partitions = counts.entries.clamp(1, PARTITIONS_MAX);
        let entries = vec![EntryEpoch { from_ms: i64::MIN, partitions }];
        let map = Self { version: VERSION, required_features: 0, epochs, entries, checksum: 0 };
        Self { checksum: map.sum(), ..map }
    }

    /// The checksum: of version (4 bytes), features (8) and of each epoch its start (8), its
    /// partitions (2) and whether histograms are whole (1), then of each epoch of entries its start
    /// (8) and its partitions (2), little-endian.
    fn sum(&self) -> u32 {
        let mut bytes = self.version.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.required_features.to_le_bytes());
        for epoch in &self.epochs {
            bytes.extend_from_slice(&epoch.from_ms.to_le_bytes());
            bytes.extend_from_slice(&epoch.partitions.to_le_bytes());
            bytes.push(u8::from(epoch.whole_histograms));
        }
        for epoch in &self.entries {
            bytes.extend_from_slice(&epoch.from_ms.to_le_bytes());
            bytes.extend_from_slice(&epoch.partitions.to_le_bytes());
        }
        crc32c::crc32c(&bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |reason: String| Error::Corrupt { what: OBJECT.to_owned(), reason };
        let map: Self = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
        if map.checksum != map.sum() {
            return Err(corrupt("its checksum is wrong".to_owned()));
        }
        let unsupported = |feature| Error::Unsupported { what: OBJECT.to_owned(), feature };
        if !(1..=VERSION).contains(&map.version) {
            return Err(unsupported(format!("format version {}", map.version)));
        }
        if map.required_features != 0 {
            let bit = map.required_features.trailing_zeros();
            return Err(unsupported(format!("feature bit {bit}")));
        }
        if map.epochs.iter().any(|e| e.partitions == 0 || e.partitions > PARTITIONS_MAX)
            || map.epochs.is_empty()
        {
            return Err(corrupt(format!("an epoch must have 1 to {PARTITIONS_MAX} partitions")));
        }
        if map.entries.iter().any(|e| e.partitions == 0 || e.partitions > PARTITIONS_MAX)
            || map.entries.is_empty() != (map.version < 3)
        {
            return Err(corrupt(format!(
                "an epoch of entries must have 1 to {PARTITIONS_MAX} partitions, from version 3 on there is one"
            )));
        }
        Ok(map)
    }

    /// Whether it was written when there were no entries yet: a partition of entries without
    /// manifests has nothing in the log before its first one.
    pub(crate) fn is_older_than_entries(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many partitions of entries there are or were.
    pub(crate) fn entry_partitions(&self) -> u16 {
        self.entries.iter().map(|e| e.partitions).max().unwrap_or(ENTRIES_UNSAID)
    }

    /// The numbers of all partitions of entries.
    pub(crate) fn entry_numbers(&self) -> impl Iterator<Item = u16> + use<> {
        (0..self.entry_partitions()).map(|place| ENTRIES_FIRST + place)
    }

    /// The numbers of all partitions.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        (0..self.partitions()).chain(self.entry_numbers())
    }

    /// Where new entries of a stream go: a place among the partitions of entries.
    pub(crate) fn route_stream(&self, tenant: TenantId, id: SeriesId) -> u16 {
        let partitions = self.entries.last().map_or(ENTRIES_UNSAID, |e| e.partitions);
        route(tenant, (id.0 >> 64) as u64, partitions)
    }

    /// How many partitions there are or were.
    pub(crate) fn partitions(&self) -> u16 {
        self.epochs.iter().map(|e| e.partitions).max().unwrap_or(1)
    }

    /// Whether series may have been elsewhere before.
    pub(crate) fn has_changed(&self) -> bool {
        self.epochs.len() != 1
    }

    /// Where new samples of a series go: its id, and the label fields it is the id of. Fields that
    /// are not in canonical order may be routed wrong; their owner finds out.
    #[inline]
    pub(crate) fn route(&self, tenant: TenantId, id: SeriesId, labels: &[u8]) -> u16 {
        let Some(epoch) = self.epochs.last() else { return 0 };
        let bucket = if epoch.whole_histograms { bucket_field(labels) } else { None };
        let hash = match bucket {
            None => (id.0 >> 64) as u64,
            Some(field) => {
                let before = xxhash_rust::xxh3::xxh3_64(&labels[..field.start]);
                xxhash_rust::xxh3::xxh3_64_with_seed(&labels[field.end..], before)
            }
        };
        route(tenant, hash, epoch.partitions)
    }

    /// Where new samples of the series with these labels go.
    pub(crate) fn route_labels(&self, tenant: TenantId, labels: &Labels) -> u16 {
        let mut encoded = Vec::new();
        labels.encode(&mut encoded);
        self.route(tenant, SeriesId::of_encoded(&encoded), &encoded)
    }

    /// Where the metadata of a metric family goes.
    pub(crate) fn route_family(&self, tenant: TenantId, family: &str) -> u16 {
        let partitions = self.epochs.last().map_or(1, |e| e.partitions);
        route(tenant, xxhash_rust::xxh3::xxh3_64(family.as_bytes()), partitions)
    }
}

/// Where the label that tells buckets apart lies in label fields that are in order of their names.
#[inline]
fn bucket_field(labels: &[u8]) -> Option<Range<usize>> {
    let mut rest = labels;
    while !rest.is_empty() {
        let start = labels.len() - rest.len();
        let field = take_field(&mut rest)?;
        let end = labels.len() - rest.len();
        let name = take_field(&mut &*field)?;
        match name.cmp(BUCKET_LABEL.as_bytes()) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Some(start..end),
            std::cmp::Ordering::Greater => return None,
        }
    }
    None
}

/// The content of a length-delimited field with number 1.
#[inline]
fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (0x0a, mut rest) = bytes.split_first().map(|(tag, rest)| (*tag, rest))? else {
        return None;
    };
    let length = usize::try_from(varint::take(&mut rest)?).ok()?;
    let (field, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(field)
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

    fn map(partitions: u16, whole_histograms: bool) -> PartitionMap {
        let epoch = Epoch { from_ms: i64::MIN, partitions, whole_histograms };
        let map = PartitionMap {
            version: VERSION,
            required_features: 0,
            epochs: vec![epoch],
            entries: vec![EntryEpoch { from_ms: i64::MIN, partitions: 4 }],
            checksum: 0,
        };
        PartitionMap { checksum: map.sum(), ..map }
    }

    #[test]
    fn buckets_of_one_histogram_meet_and_histograms_spread() {
        let route = |map: &PartitionMap, more: &[(&str, &str)]| {
            let all = [("__name__", "x_bucket"), ("a", "1"), ("zone", "b")];
            let labels = Labels::from_pairs(all.iter().chain(more).copied());
            map.route_labels(TenantId(3), &labels)
        };
        let (old, new) = (map(64, false), map(64, true));
        let bounds = ["0.1", "0.25", "1", "2.5", "+Inf"];
        let of = |map: &PartitionMap, method: &str| -> Vec<u16> {
            bounds.iter().map(|le| route(map, &[("le", le), ("method", method)])).collect()
        };
        let mut met: Vec<u16> = Vec::new();
        for method in ["get", "put", "post", "head", "patch", "trace"] {
            let found = of(&new, method);
            assert!(found.iter().all(|p| *p == found[0]), "{method}: {found:?}");
            met.push(found[0]);
            let apart = of(&old, method);
            assert!(apart.iter().any(|p| *p != apart[0]), "{method}: {apart:?}");
        }
        met.dedup();
        assert!(met.len() > 2, "{met:?}");
        // Without the label nothing changed.
        assert_eq!(route(&old, &[]), route(&new, &[]));
        assert_eq!(route(&old, &[("lf", "1")]), route(&new, &[("lf", "1")]));
    }

    #[test]
    fn any_bytes_are_routed() {
        let map = map(8, true);
        let good = Labels::from_pairs([("a", "b"), ("le", "1"), ("z", "c")]);
        let mut bytes = Vec::new();
        good.encode(&mut bytes);
        for end in 0..bytes.len() {
            assert!(map.route(TenantId(1), SeriesId(7), &bytes[..end]) < 8);
            let mut other = bytes.clone();
            other[end] ^= 0x7f;
            assert!(map.route(TenantId(1), SeriesId(7), &other) < 8);
        }
    }

    fn counts(metrics: u16) -> Counts {
        Counts { metrics, entries: 4 }
    }

    #[test]
    fn maps_from_before_there_were_entries_have_four_partitions_of_them() {
        let old = PartitionMap { version: 2, entries: Vec::new(), ..PartitionMap::of(counts(8)) };
        let old = PartitionMap { checksum: old.sum(), ..old };
        let json = serde_json::to_vec(&old).expect("JSON");
        assert!(!String::from_utf8_lossy(&json).contains("entries"));
        let read = PartitionMap::decode(&json).expect("an old map");
        assert!(read.is_older_than_entries());
        assert_eq!(read.entry_numbers().collect::<Vec<_>>(), [16384, 16385, 16386, 16387]);
        assert!(!PartitionMap::of(counts(8)).is_older_than_entries());
        let at = read.route_stream(TenantId(7), SeriesId(0x0123_4567_89ab_cdef << 64));
        assert_eq!(at, 2, "stored rows depend on it");
    }

    #[tokio::test]
    async fn the_map_of_a_directory_stays() {
        let objects: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let first = PartitionMap::load(&objects, counts(8)).await.expect("a new map");
        let again = PartitionMap::load(&objects, counts(4)).await.expect("the same map");
        assert_eq!((first.partitions(), again), (8, first));
    }

    #[tokio::test]
    async fn a_map_that_is_gone_is_not_made_anew() {
        let objects: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        PartitionMap::load(&objects, counts(8)).await.expect("a new map");
        objects.put(&Path::from("manifest/0007/1.json"), "x".into()).await.expect("a put");
        objects.delete(&Path::from(OBJECT)).await.expect("it was there");
        let refused =
            PartitionMap::load(&objects, counts(4)).await.expect_err("rows would be lost");
        assert_eq!(
            refused.to_string(),
            "partitions.json is damaged: it is missing, though manifest/0007/1.json exists"
        );
    }

    #[test]
    fn damage_and_later_versions_are_told_apart() {
        let decode = |map: &PartitionMap| {
            let json = serde_json::to_vec(map).expect("JSON");
            PartitionMap::decode(&json).map_err(|e| e.to_string())
        };
        let sound = PartitionMap::of(counts(8));
        assert_eq!(decode(&sound), Ok(sound.clone()));
        let wrong = PartitionMap { checksum: 1, ..sound.clone() };
        assert_eq!(decode(&wrong), Err("partitions.json is damaged: its checksum is wrong".into()));
        for (version, required_features, feature) in
            [(4, 0, "format version 4"), (3, 1 << 9, "feature bit 9")]
        {
            let later = PartitionMap { version, required_features, ..sound.clone() };
            let later = PartitionMap { checksum: later.sum(), ..later };
            let text = format!("partitions.json needs {feature}, which this version does not know");
            assert_eq!(decode(&later), Err(text));
        }
    }
}
