//! Labels that were read before: senders name the same streams in every request.
//!
//! Invariant: what is kept is bounded for each tenant and over all; whoever finds no room begins
//! anew, which costs a parse for each stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tenancy::TenantId;

use super::labels::StreamLabels;

/// Texts of one tenant that are kept.
const TEXTS_MAX: usize = 4_096;

/// Longest text that is kept, bytes; labels within usual limits are shorter.
const TEXT_BYTES_MAX: usize = 4_096;

/// What the texts and encodings of all tenants may take, bytes.
const BYTES_MAX: usize = 32 << 20;

/// What one kept text takes besides its bytes: its labels' numbers, places in the table.
const OVERHEAD_BYTES: usize = 160;

/// Known labels of all tenants.
#[derive(Debug, Default)]
pub(crate) struct LabelCache {
    tenants: Mutex<HashMap<TenantId, Arc<TenantLabels>>>,
    bytes: Arc<AtomicUsize>,
}

/// Known labels of one tenant, by the text that names the stream.
#[derive(Debug)]
pub(crate) struct TenantLabels {
    known: Mutex<Known>,
    /// Of all tenants.
    bytes: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Known {
    /// What they were completed with: with another one they are others.
    cluster: Arc<str>,
    texts: HashMap<Box<[u8]>, Arc<StreamLabels>>,
    bytes: usize,
}

impl LabelCache {
    /// The labels of one tenant.
    pub(crate) fn of(&self, tenant: TenantId) -> Arc<TenantLabels> {
        let mut tenants = self.tenants.lock();
        if self.bytes.load(Relaxed) > BYTES_MAX {
            tenants.clear();
            // What requests that are on their way still hold is counted off when they end.
        }
        let new = || {
            let (known, bytes) = (Mutex::default(), Arc::clone(&self.bytes));
            Arc::new(TenantLabels { known, bytes })
        };
        Arc::clone(tenants.entry(tenant).or_insert_with(new))
    }
}

impl TenantLabels {
    /// The labels of a text; `read` reads it if it is not known.
    pub(crate) fn get<E>(
        &self,
        text: &[u8],
        cluster: &Arc<str>,
        read: impl FnOnce() -> Result<StreamLabels, E>,
    ) -> Result<Arc<StreamLabels>, E> {
        {
            let mut known = self.known.lock();
            if known.cluster != *cluster {
                self.empty(&mut known);
                known.cluster = Arc::clone(cluster);
            }
            if let Some(labels) = known.texts.get(text) {
                return Ok(Arc::clone(labels));
            }
        }
        let labels = Arc::new(read()?);
        if text.len() <= TEXT_BYTES_MAX {
            let mut known = self.known.lock();
            if known.texts.len() >= TEXTS_MAX {
                self.empty(&mut known);
            }
            if known.cluster == *cluster {
                let bytes = text.len() + labels.encoded.len() + OVERHEAD_BYTES;
                if known.texts.insert(text.into(), Arc::clone(&labels)).is_none() {
                    known.bytes += bytes;
                    self.bytes.fetch_add(bytes, Relaxed);
                }
            }
        }
        Ok(labels)
    }

    fn empty(&self, known: &mut Known) {
        known.texts = HashMap::new();
        self.bytes.fetch_sub(std::mem::take(&mut known.bytes), Relaxed);
    }
}

impl Drop for TenantLabels {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.known.get_mut().bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for a text of the given cluster; whether it had to be read.
    fn is_read(labels: &TenantLabels, text: &str, cluster: &str) -> bool {
        let mut is_read = false;
        let encoded = format!("{text}{cluster}").into_bytes().into_boxed_slice();
        let read = || {
            is_read = true;
            Ok::<_, ()>(StreamLabels { encoded, ..StreamLabels::default() })
        };
        let labels = labels.get(text.as_bytes(), &cluster.into(), read).expect("labels");
        assert_eq!(*labels.encoded, *format!("{text}{cluster}").as_bytes());
        is_read
    }

    #[test]
    fn texts_are_read_once_for_each_tenant_and_cluster() {
        let cache = LabelCache::default();
        let (a, b) = (cache.of(TenantId(1)), cache.of(TenantId(2)));
        assert!(is_read(&a, "x", "c"));
        assert!(!is_read(&cache.of(TenantId(1)), "x", "c"));
        assert!(is_read(&b, "x", "c"));
        assert!(is_read(&a, "x", "d"), "another cluster makes other labels");
        assert!(is_read(&a, "x", "c"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let cache = LabelCache::default();
        let labels = cache.of(TenantId(1));
        for i in 0..3 * TEXTS_MAX {
            is_read(&labels, &i.to_string(), "c");
            assert!(labels.known.lock().texts.len() <= TEXTS_MAX);
        }
        assert!(is_read(&labels, &"x".repeat(TEXT_BYTES_MAX + 1), "c"));
        assert!(is_read(&labels, &"x".repeat(TEXT_BYTES_MAX + 1), "c"), "long ones are not kept");
        drop(labels);
        for tenant in 0..100 {
            let labels = cache.of(TenantId(tenant));
            (0..1_000)
                .for_each(|i| assert!(is_read(&labels, &format!("{i}{}", "x".repeat(500)), "c")));
            assert!(cache.bytes.load(Relaxed) <= BYTES_MAX + 1_000 * 1_400);
        }
        cache.tenants.lock().clear();
        assert_eq!(cache.bytes.load(Relaxed), 0);
    }
}
