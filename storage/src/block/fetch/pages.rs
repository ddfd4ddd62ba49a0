//! Pages of one table: from the cache, or read in one go and decompressed once.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hashbrown::HashMap;

use crate::Error;
use crate::block::cache::{Key, Kind};
use crate::block::facts::{Footer, Page, PagePlace, Table};
use crate::block::read::Samples;

/// Pages of one table.
#[derive(Debug, Default)]
pub(super) struct Pages(HashMap<(u32, u32), LoadedPage>);

#[derive(Debug)]
struct LoadedPage {
    place: PagePlace,
    /// As read; empty if the page came from the cache.
    bytes: Bytes,
    page: OnceLock<Arc<Page>>,
}

impl Pages {
    pub(super) fn want(&mut self, group: u32, place: PagePlace) {
        let new = || LoadedPage { place, bytes: Bytes::new(), page: OnceLock::new() };
        self.0.entry((group, place.page)).or_insert_with(new);
    }

    pub(super) async fn load(
        &mut self,
        block: &Samples,
        table: &Table,
        kind: Kind,
    ) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut ranges = Vec::new();
        for ((group, number), page) in &self.0 {
            match block.cache.get(Key { block: block.number, kind, group: *group, page: *number }) {
                Some(cached) => drop(page.page.set(cached)),
                None => {
                    missing.push((*group, *number));
                    ranges.push(page.place.start..page.place.end);
                }
            }
        }
        if ranges.is_empty() {
            return Ok(());
        }
        for (key, bytes) in missing.into_iter().zip(table.object.read(&ranges).await?) {
            if let Some(page) = self.0.get_mut(&key) {
                page.bytes = bytes;
            }
        }
        Ok(())
    }

    /// Bytes of them, as they lie in the object.
    pub(super) fn bytes(&self) -> u64 {
        self.0.values().map(|page| page.place.end.saturating_sub(page.place.start)).sum()
    }

    /// A page, decompressed once.
    pub(super) fn get(
        &self,
        at: (u32, u32),
        block: &Samples,
        footer: &Footer,
        kind: Kind,
    ) -> Result<(&Arc<Page>, usize), String> {
        let loaded = self.0.get(&at).ok_or("a page was not loaded")?;
        let first_row = loaded.place.first_row;
        if let Some(page) = loaded.page.get() {
            return Ok((page, first_row));
        }
        let page = footer
            .decode_page(loaded.bytes.clone(), at.0 as usize, &loaded.place)
            .map_err(|e| e.to_string())?;
        let page = loaded.page.get_or_init(|| Arc::new(page));
        let key = Key { block: block.number, kind, group: at.0, page: at.1 };
        block.cache.put(key, Arc::clone(page), page.heap_bytes());
        Ok((page, first_row))
    }
}
