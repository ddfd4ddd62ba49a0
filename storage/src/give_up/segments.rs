//! What is lost with a segment of entries, as far as it or its manifest tells.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::LostSegment;
use crate::entries::{STREAMS, SegmentIndex};
use crate::manifest::SegmentMeta;

/// A segment of a known manifest; of whom its entries are, it says itself.
pub(super) async fn known(store: &Arc<dyn ObjectStore>, meta: &SegmentMeta) -> LostSegment {
    let index = index(store, &meta.name).await;
    let own = index.filter(|(_, checksum)| *checksum == meta.index_checksum);
    LostSegment {
        name: meta.name.clone(),
        signal: Some(meta.signal.to_string()),
        streams: Some(meta.streams),
        entries: Some(meta.rows),
        range_ns: Some(meta.range_ns),
        tenants: own.map(|(index, _)| tenants(&index)),
    }
}

/// One that no known manifest names.
pub(super) async fn orphan(store: &Arc<dyn ObjectStore>, name: &str) -> LostSegment {
    let index = index(store, name).await.map(|(index, _)| index);
    LostSegment {
        name: name.to_owned(),
        signal: index.as_ref().map(|i| i.signal.to_string()),
        streams: index.as_ref().map(|i| i.streams.len() as u64),
        entries: index.as_ref().map(|i| i.rows),
        range_ns: index.as_ref().map(|i| (i.first_ns, i.last_ns)),
        tenants: index.as_ref().map(tenants),
    }
}

async fn index(store: &Arc<dyn ObjectStore>, name: &str) -> Option<(SegmentIndex, u32)> {
    let path = Path::from(name).join(STREAMS);
    let bytes = store.get(&path).await.ok()?.bytes().await.ok()?;
    SegmentIndex::inspect(&bytes, name).ok()
}

fn tenants(index: &SegmentIndex) -> Vec<u32> {
    let all: BTreeSet<u32> = index.streams.iter().map(|s| s.stream.tenant.0).collect();
    all.into_iter().collect()
}
