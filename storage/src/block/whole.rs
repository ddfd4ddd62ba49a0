//! The tables of a block as they lie in the store, read whole and checked: for copies.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;

use super::object::{Object, Sum};
use super::read::Block;
use super::{CHUNKS, EXEMPLARS, SERIES, TIMESTAMPS};
use crate::Error;

/// One table.
#[derive(Debug)]
pub(crate) struct WholeTable {
    name: &'static str,
    object: Object,
}

impl Block {
    /// All tables: everything of the block but its index.
    pub(crate) fn tables(&self) -> Vec<WholeTable> {
        let meta = &self.index.meta;
        let always = [
            (CHUNKS, &meta.chunks_object),
            (SERIES, &meta.series_object),
            (TIMESTAMPS, &meta.timestamps_object),
        ];
        let exemplars = meta.exemplars_object.as_ref().map(|sum| (EXEMPLARS, sum));
        let table = |(name, sum): (&'static str, &Sum)| {
            let path = self.prefix().clone().join(name);
            WholeTable { name, object: Object::new(self.objects(), path, sum.clone()) }
        };
        always.into_iter().chain(exemplars).map(table).collect()
    }
}

impl WholeTable {
    /// Its name below the block's.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.object.path
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.object.sum.size
    }

    /// A range of it, checked.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let read = self.object.read(std::slice::from_ref(&range)).await?;
        Ok(read.into_iter().next().unwrap_or_default())
    }
}
