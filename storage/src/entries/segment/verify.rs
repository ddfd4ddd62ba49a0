//! All of a segment read and checked, and compared with what its manifest says: for verification
//! and for copies.

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::read::{Columns, Open, SegmentHandle};
use super::terms::Builder;
use super::{ENTRIES, STREAMS, bloom};
use crate::Error;
use crate::block::object::{Object, PART_BYTES};
use crate::entries::page::{Fields, Page};
use crate::entries::streams::StreamCounts;
use crate::entries::tokens;

/// An object of a segment, as it lies in the store.
pub(crate) enum Whole {
    /// The one that names the others, read and checked.
    Streams(Path, Bytes),
    /// Another, to be read piece by piece.
    Other(Object),
}

/// What tokens are compared with.
enum Checked {
    Blooms(std::sync::Arc<Bytes>),
    /// What the index should be, built anew.
    Terms(Box<Builder>),
}

impl SegmentHandle {
    /// All objects, for copies; that which names the others comes first.
    pub(crate) async fn whole(&self) -> Result<Vec<Whole>, Error> {
        let open = self.open().await?;
        let path = self.path(STREAMS);
        let read = async { self.objects.get(&path).await?.bytes().await };
        let doing = format!("read object {path}");
        let streams = read.await.map_err(|source| Error::Objects { doing, source })?;
        let object = |name: &str, of: &Object| {
            let sum = of.sum.clone();
            Whole::Other(Object::new(std::sync::Arc::clone(&self.objects), self.path(name), sum))
        };
        let tokens = object(open.index.tokens_object(), &open.tokens);
        let others = [object(ENTRIES, &open.entries), tokens];
        Ok([Whole::Streams(path, streams)].into_iter().chain(others).collect())
    }

    /// Reads everything. `done` is told the bytes of each piece that was read.
    pub(crate) async fn verify(&self, done: &mut (dyn FnMut(u64) + Send)) -> Result<(), Error> {
        let open = self.open().await?;
        self.check_meta(&open)?;
        for object in [&open.entries, &open.tokens] {
            let mut at = 0;
            while at < object.sum.size {
                let end = (at + PART_BYTES as u64).min(object.sum.size);
                object.read(std::slice::from_ref(&(at..end))).await?;
                done(end - at);
                at = end;
            }
        }
        let mut tokens = match open.index.block_rows {
            None => Checked::Blooms(self.blooms(&open).await?),
            Some(_) => Checked::Terms(Box::new(Builder::new())),
        };
        let mut counts = vec![StreamCounts::default(); open.index.streams.len()];
        let mut last = None;
        for group in 0..open.index.groups.len() {
            let stretch = open.fetch(group).await?;
            let page = open.decode(group, &stretch, Columns::ALL)?;
            self.check_group(&open, group, &page, &mut last)?;
            self.check_tokens(&open, group, &page, &mut tokens)?;
            for i in 0..page.rows() {
                let row = page.row(i);
                counts[row.stream as usize].add(row.at_ns, row.line.len() + row.fields.len());
            }
        }
        if let Checked::Terms(terms) = tokens {
            let sum = &open.tokens.sum;
            let object = open.tokens.read(std::slice::from_ref(&(0..sum.size))).await?;
            let object = object.into_iter().next().unwrap_or_default();
            if let Some(reason) = terms.differs(&object, sum.tail_start)? {
                return Err(open.tokens.damaged(reason));
            }
        }
        let wrong = open.index.streams.iter().zip(&counts).find(|(s, found)| s.counts != **found);
        match wrong {
            None => Ok(()),
            Some((stream, _)) => Err(self.damaged(format!(
                "the counts of stream {} of tenant {} are not those of its rows",
                stream.stream.labels, stream.stream.tenant
            ))),
        }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Corrupt { what: format!("segment {}", self.meta.name), reason }
    }

    /// What manifest and table of streams both say.
    fn check_meta(&self, open: &Open) -> Result<(), Error> {
        let (index, meta) = (&open.index, &self.meta);
        let is_same = index.signal == meta.signal
            && (index.first_ns, index.last_ns) == meta.range_ns
            && index.streams.len() as u64 == meta.streams
            && (index.rows, index.raw_bytes) == (meta.rows, meta.raw_bytes);
        if is_same {
            return Ok(());
        }
        Err(self.damaged("its table of streams is not what the manifest says of it".to_owned()))
    }

    /// The bloom of a group has all its tokens; of terms what it has is noted.
    fn check_tokens(
        &self,
        open: &Open,
        group: usize,
        page: &Page,
        tokens: &mut Checked,
    ) -> Result<(), Error> {
        let known = &open.index.groups[group];
        match tokens {
            Checked::Blooms(blooms) => {
                let end = known.bloom_at.saturating_add(known.bloom_bytes);
                let filter = blooms.get(known.bloom_at as usize..end as usize).unwrap_or_default();
                for row in (0..page.rows()).map(|i| page.row(i)) {
                    let values = Fields(row.fields);
                    let values = values.flat_map(|(_, value)| tokens::hashes(value.as_bytes()));
                    let mut all = tokens::hashes(row.line).chain(values);
                    if all.any(|token| !bloom::may_have(filter, token)) {
                        let reason = format!("the bloom of group {group} lacks a token");
                        return Err(self.damaged(reason));
                    }
                }
            }
            Checked::Terms(terms) => {
                let of_block = open.index.block_rows.map_or(usize::MAX, |rows| rows as usize);
                for i in 0..page.rows() {
                    if i > 0 && i.is_multiple_of(of_block) {
                        terms.end_block()?;
                    }
                    terms.add_row(&page.row(i), open.index.signal);
                }
                terms.end_block()?;
            }
        }
        Ok(())
    }

    /// Order and times of a group. `last` is stream and instant of the row before it.
    fn check_group(
        &self,
        open: &Open,
        group: usize,
        page: &Page,
        last: &mut Option<(u32, i64)>,
    ) -> Result<(), Error> {
        let known = &open.index.groups[group];
        if page.range() != Some((known.first_ns, known.last_ns)) {
            return Err(self.damaged(format!("group {group} is of another time than it says")));
        }
        for i in 0..page.rows() {
            let row = page.row(i);
            let key = (row.stream, row.at_ns);
            if last.is_some_and(|last| last > key) {
                return Err(self.damaged(format!("row {i} of group {group} is not in order")));
            }
            *last = Some(key);
        }
        Ok(())
    }
}
