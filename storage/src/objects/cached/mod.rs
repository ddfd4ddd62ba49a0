//! An object store behind a bounded cache on the local disk, for objects that never change.
//!
//! ```text
//! ranges ─► parts of 1 MiB ─► local files ─► reads under way ─► neighbours in one request ─► the store
//!                                                                            └─► local files
//! ```
//!
//! Two ranges with less than 1 MiB between them lie in the same part or in neighbours, so they come
//! with one request; a small object comes whole with whatever is asked of it. Who wants a part that
//! somebody else is reading waits for it. Names that may change (claims, probes) pass through.

mod files;
mod flight;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use model::Disk;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

pub use files::CacheTotals;
use files::{Part, PartFiles};
use flight::{Flight, Flights};

/// Bytes of a part.
pub(super) const PART_BYTES: u64 = 1 << 20;

/// Parts that one request reads at most: more come in parallel.
const RUN_PARTS_MAX: u32 = 8;

/// Requests that one read makes at a time.
const RUNS_AT_ONCE: usize = 16;

/// Objects whose parts are kept: those that never change.
const KINDS: [&str; 3] = ["blocks/", "snapshots/", "manifest/"];

/// Asked for with a read whose last answer was damaged: the cache is passed by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fresh;

impl Fresh {
    /// A read of all of an object, or of a range of it.
    pub(crate) fn options(range: Option<Range<u64>>) -> GetOptions {
        let mut options =
            GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        options.extensions.insert(Self);
        options
    }
}

/// A store behind its cache.
#[derive(Debug)]
pub(crate) struct CachedObjects {
    inner: Arc<dyn ObjectStore>,
    files: Option<Arc<PartFiles>>,
    flights: Flights,
}

impl CachedObjects {
    /// Over what is there from earlier; without files if there may be no bytes of them. Blocks.
    pub(super) fn open(
        inner: Arc<dyn ObjectStore>,
        disk: Arc<dyn Disk>,
        store: u128,
        bytes_max: u64,
        reserve_bytes: u64,
    ) -> Self {
        let files = (bytes_max > 0)
            .then(|| Arc::new(PartFiles::open(disk, store, bytes_max, reserve_bytes)));
        Self { inner, files, flights: Flights::default() }
    }

    /// What the cache has done.
    pub(crate) fn totals(&self) -> CacheTotals {
        self.files.as_ref().map_or_else(CacheTotals::default, |files| files.totals())
    }

    /// Brings all of some objects to the local disk, so that reading them one after the other waits
    /// once. Nothing is said of failures: who needs an object reads it again.
    pub(crate) async fn warm(&self, objects: Vec<Path>) {
        let Some(files) = &self.files else { return };
        let absent = objects.into_iter().filter(|object| !files.has(object, 0));
        let read = |object: Path| async move { drop(self.read(&object, 0..u64::MAX).await) };
        stream::iter(absent).for_each_concurrent(RUNS_AT_ONCE, read).await;
    }

    /// A range of an object, cut off where it ends, and the object's length. Its first part tells
    /// how many there are.
    async fn read(&self, object: &Path, range: Range<u64>) -> Result<(Bytes, u64)> {
        let first = parts_of(range.start..range.start + 1).start;
        let mut parts = self.parts(object, vec![first]).await?;
        let length = parts.get(&first).map_or(0, |part| part.object_bytes);
        let range = range.start..range.end.min(length);
        let rest: Vec<u32> = parts_of(range.clone()).skip(1).collect();
        if !rest.is_empty() {
            parts.extend(self.parts(object, rest).await?);
        }
        Ok((cut(object, &parts, range)?, length))
    }

    /// Parts by number: from files, or read with as few requests as they lie in runs.
    async fn parts(&self, object: &Path, wanted: Vec<u32>) -> Result<BTreeMap<u32, Part>> {
        let (mut found, missing) = self.kept(object, wanted).await?;
        let flights = self.flights.join(object, &missing, RUN_PARTS_MAX, |run| {
            read_run(Arc::clone(&self.inner), self.files.clone(), object.clone(), run)
        });
        let landed = stream::iter(flights).map(Flight::landed).buffered(RUNS_AT_ONCE);
        let landed: Vec<_> = landed.try_collect().await?;
        for (run, parts) in landed {
            found.extend(run.zip(parts.iter().cloned()).filter(|(n, _)| missing.contains(n)));
        }
        Ok(found)
    }

    /// What files have, and what they do not.
    async fn kept(
        &self,
        object: &Path,
        wanted: Vec<u32>,
    ) -> Result<(BTreeMap<u32, Part>, Vec<u32>)> {
        let Some(files) = &self.files else { return Ok((BTreeMap::new(), wanted)) };
        let mut found = BTreeMap::new();
        for number in &wanted {
            found.extend(files.pending(object, *number).map(|part| (*number, part)));
        }
        let wanted: Vec<u32> = wanted.into_iter().filter(|n| !found.contains_key(n)).collect();
        // A part that is not there costs no task.
        if !wanted.iter().any(|part| files.has(object, *part)) {
            files.note_misses(wanted.len());
            return Ok((found, wanted));
        }
        let (files, object) = (Arc::clone(files), object.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let mut missing = Vec::new();
            for number in wanted {
                match files.get(&object, number) {
                    Some(part) => drop(found.insert(number, part)),
                    None => missing.push(number),
                }
            }
            (found, missing)
        });
        looked.await.map_err(|error| generic(format!("read cached parts: {error}")))
    }

    /// Forgets what files have of an object.
    async fn forget(&self, object: &Path, range: Range<u64>) {
        let Some(files) = self.files.clone() else { return };
        let object = object.clone();
        let forget = move || parts_of(range).for_each(|part| files.remove(&object, part));
        drop(tokio::task::spawn_blocking(forget).await);
    }
}

/// Reads neighbouring parts with one request, and has them kept.
async fn read_run(
    inner: Arc<dyn ObjectStore>,
    files: Option<Arc<PartFiles>>,
    object: Path,
    run: Range<u32>,
) -> Result<Vec<Part>> {
    let asked = u64::from(run.start) * PART_BYTES..u64::from(run.end) * PART_BYTES;
    let options = GetOptions { range: Some(asked.clone().into()), ..GetOptions::default() };
    let got = inner.get_opts(&object, options).await?;
    let (object_bytes, given) = (got.meta.size, got.range.clone());
    let bytes = got.bytes().await?;
    if given != (asked.start..asked.end.min(object_bytes))
        || bytes.len() as u64 != given.end - given.start
    {
        return Err(generic(format!("bytes {asked:?} of object {object} came cut short")));
    }
    let parts: Vec<Part> = (0..bytes.len())
        .step_by(PART_BYTES as usize)
        .map(|at| {
            let end = bytes.len().min(at + PART_BYTES as usize);
            Part { bytes: bytes.slice(at..end), object_bytes }
        })
        .collect();
    if let Some(files) = files {
        files.keep(&object, run.zip(parts.iter().cloned()));
    }
    Ok(parts)
}

/// Numbers of the parts that a range touches.
fn parts_of(range: Range<u64>) -> Range<u32> {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    number(range.start / PART_BYTES)..number(range.end.div_ceil(PART_BYTES))
}

/// A range, put together from its parts. A small piece is copied, so that it does not keep much
/// more than itself in memory.
fn cut(object: &Path, parts: &BTreeMap<u32, Part>, range: Range<u64>) -> Result<Bytes> {
    let mut pieces = Vec::new();
    for number in parts_of(range.clone()) {
        let part = parts.get(&number).map(|part| part.bytes.clone()).unwrap_or_default();
        let start = u64::from(number) * PART_BYTES;
        let from = range.start.saturating_sub(start) as usize;
        let to = (range.end - start).min(PART_BYTES) as usize;
        if to > part.len() {
            return Err(generic(format!("object {object} ends before byte {}", range.end)));
        }
        pieces.push(part.slice(from..to));
    }
    if let [piece] = &pieces[..]
        && piece.len() as u64 >= PART_BYTES / 2
    {
        return Ok(piece.clone());
    }
    let mut whole = BytesMut::with_capacity((range.end - range.start) as usize);
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    Ok(whole.freeze())
}

fn generic(what: String) -> Error {
    Error::Generic { store: "cached objects", source: what.into() }
}

fn is_kept(object: &Path) -> bool {
    KINDS.iter().any(|kind| object.as_ref().starts_with(kind))
}

impl fmt::Display for CachedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} behind a cache", self.inner)
    }
}

#[async_trait]
impl ObjectStore for CachedObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        let put = self.inner.put_opts(location, payload, options).await?;
        // What lay there was damaged.
        if self.files.as_ref().is_some_and(|files| files.has(location, 0)) {
            self.forget(location, 0..bytes.max(1)).await;
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_plain = !options.head
            && options.version.is_none()
            && options.if_match.is_none()
            && options.if_none_match.is_none()
            && options.if_modified_since.is_none()
            && options.if_unmodified_since.is_none();
        if !is_plain || !is_kept(location) {
            return self.inner.get_opts(location, options).await;
        }
        if options.extensions.get::<Fresh>().is_some() {
            let got = self.inner.get_opts(location, options).await?;
            self.forget(location, 0..got.meta.size).await;
            return Ok(got);
        }
        let range = match options.range {
            Some(GetRange::Bounded(range)) if range.start < range.end => range,
            None => 0..u64::MAX,
            _ => return self.inner.get_opts(location, options).await,
        };
        let start = range.start;
        let (bytes, size) = self.read(location, range).await?;
        let range = start..start + bytes.len() as u64;
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: Default::default(),
            size,
            e_tag: None,
            version: None,
        };
        let payload = GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if !is_kept(location) {
            return self.inner.get_ranges(location, ranges).await;
        }
        let mut wanted: Vec<u32> = ranges.iter().flat_map(|r| parts_of(r.clone())).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let parts = self.parts(location, wanted).await?;
        ranges.iter().map(|range| cut(location, &parts, range.clone())).collect()
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let files = self.files.clone();
        let deleted = self.inner.delete_stream(locations);
        deleted
            .inspect_ok(move |object| {
                // Parts behind the first go when room is needed.
                if let Some(files) = files.clone().filter(|files| files.has(object, 0)) {
                    let object = object.clone();
                    drop(tokio::task::spawn_blocking(move || files.remove(&object, 0)));
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
