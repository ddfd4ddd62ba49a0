//! Which of many things of different sizes to keep: the least recently used go first.

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::HashMap;

/// Things by key, bounded by the sum of their bytes.
#[derive(Debug)]
pub struct Lru<K, V> {
    bytes_max: u64,
    items: HashMap<K, Item<V>>,
    /// Keys by when they were last used.
    order: BTreeMap<u64, K>,
    uses: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Item<V> {
    value: V,
    bytes: u64,
    used: u64,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// Nothing yet, and never more than `bytes_max`.
    pub fn new(bytes_max: u64) -> Self {
        let (items, order) = Default::default();
        Self { bytes_max, items, order, uses: 0, bytes: 0 }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is there; no use of it.
    pub fn has(&self, key: &K) -> bool {
        self.items.contains_key(key)
    }

    /// What is there, which counts as a use.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let item = self.items.get_mut(key)?;
        self.uses += 1;
        self.order.remove(&item.used);
        item.used = self.uses;
        self.order.insert(item.used, *key);
        Some(&item.value)
    }

    /// Puts something in, or in the place of what was there, and gives what had to go for it: the
    /// thing itself if it is larger than all there may be.
    pub fn put(&mut self, key: K, value: V, bytes: u64) -> Vec<(K, V)> {
        if bytes > self.bytes_max {
            return vec![(key, value)];
        }
        self.remove(&key);
        self.uses += 1;
        let used = self.uses;
        self.items.insert(key, Item { value, bytes, used });
        self.order.insert(used, key);
        self.bytes += bytes;
        let mut gone = Vec::new();
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.pop_oldest() else { break };
            gone.push(oldest);
        }
        gone
    }

    /// Takes out what was not used for longest.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, oldest) = self.order.pop_first()?;
        let item = self.items.remove(&oldest)?;
        self.bytes -= item.bytes;
        Some((oldest, item.value))
    }

    /// Takes something out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let item = self.items.remove(key)?;
        self.order.remove(&item.used);
        self.bytes -= item.bytes;
        Some(item.value)
    }

    /// Drops what `stays` does not want.
    pub fn retain(&mut self, stays: impl Fn(&K) -> bool) {
        let (order, bytes) = (&mut self.order, &mut self.bytes);
        self.items.retain(|key, item| {
            let stays = stays(key);
            if !stays {
                order.remove(&item.used);
                *bytes -= item.bytes;
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_bytes_are_bounded() {
        let mut lru = Lru::new(100);
        for n in 0..4 {
            let gone = lru.put(n, n * 10, 30);
            assert_eq!(gone, if n == 3 { vec![(1, 10)] } else { vec![] });
            assert!(lru.bytes() <= 100);
            assert_eq!(lru.get(&0), Some(&0), "kept alive by use");
        }
        assert!(!lru.has(&1) && lru.has(&3));
        assert_eq!(lru.put(9, 9, 101), [(9, 9)], "larger than all there may be");
        assert_eq!(lru.put(3, 7, 40), [], "replaced");
        assert_eq!((lru.get(&3).copied(), lru.bytes()), (Some(7), 100));
        assert_eq!((lru.remove(&3), lru.remove(&3)), (Some(7), None));
        lru.retain(|key| *key == 0);
        assert_eq!((lru.bytes(), lru.has(&0), lru.has(&2)), (30, true, false));
        assert_eq!((lru.pop_oldest(), lru.pop_oldest(), lru.bytes()), (Some((0, 0)), None, 0));
    }
}
