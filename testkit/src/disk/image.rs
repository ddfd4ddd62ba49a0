//! The bytes of one file: sparse pages, shared between copies until one of them is written.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

/// A sector is written whole or not at all; anything larger can be torn. Bytes.
pub(super) const SECTOR_BYTES: u64 = 512;

/// File content. Pages that are not there read as zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
    bytes: u64,
}

/// A change of a file that is not yet durable.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Bytes written at an offset.
    Write { offset: u64, data: Vec<u8> },
    /// The file made longer or shorter.
    Length(u64),
}

impl Image {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, data } => self.write_at(data, *offset),
            Change::Length(bytes) => self.set_length(*bytes),
        }
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let available = self.bytes.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < available {
            let (page, start) = place(offset + done as u64);
            let part = (PAGE_BYTES - start).min(available - done);
            let target = &mut buf[done..done + part];
            match self.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[start..start + part]),
                None => target.fill(0),
            }
            done += part;
        }
        available
    }

    pub(super) fn write_at(&mut self, data: &[u8], offset: u64) {
        let mut done = 0;
        while done < data.len() {
            let (page, start) = place(offset + done as u64);
            let part = (PAGE_BYTES - start).min(data.len() - done);
            let bytes = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(bytes)[start..start + part].copy_from_slice(&data[done..done + part]);
            done += part;
        }
        if !data.is_empty() {
            self.bytes = self.bytes.max(offset + data.len() as u64);
        }
    }

    pub(super) fn set_length(&mut self, bytes: u64) {
        if bytes < self.bytes {
            let (page, start) = place(bytes);
            if let Some(last) = self.pages.get_mut(&page) {
                Arc::make_mut(last)[start..].fill(0);
            }
            drop(self.pages.split_off(&(page + u64::from(start > 0))));
        }
        self.bytes = bytes;
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.bytes as usize];
        self.read_at(&mut all, 0);
        all
    }
}

fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    #[test]
    fn an_image_behaves_like_a_vector() {
        let random = SeededRandom::new(7);
        let (mut image, mut plain) = (Image::default(), Vec::new());
        for step in 0..2_000 {
            let offset = random.below(20_000);
            if random.chance(20) {
                plain.resize(offset as usize, 0);
                image.set_length(offset);
            } else {
                let data = vec![step as u8 | 1; random.below(9_000) as usize + 1];
                plain.resize(plain.len().max(offset as usize + data.len()), 0);
                plain[offset as usize..offset as usize + data.len()].copy_from_slice(&data);
                image.write_at(&data, offset);
            }
            assert_eq!(image.to_vec(), plain, "after step {step}");
        }
    }
}
