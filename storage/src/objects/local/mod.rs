//! The local object store: objects as files of a [`Disk`], for machines that have no S3.
//!
//! ```text
//! put:  temporary file ─► write ─► sync ─► rename or link into place ─► sync the directory ─► return
//! ```
//!
//! Invariants: an object is there whole or not at all; once a put returns, it survives a power
//! cut; of two puts with `PutMode::Create` one fails. Temporary files live in a directory of
//! their own, so they are never listed; what a crash leaves there goes when the store is opened.
//! [`Disk`] tells no times: `last_modified` is always the epoch, and there are no e-tags.

mod files;
#[cfg(test)]
mod tests;
mod upload;

use std::fmt;
use std::ops::Range;
use std::path::Path as DiskPath;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use model::{Disk, DiskFile};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use files::{Files, Place, generic};
use upload::Upload;

/// Bytes read by one call while an object streams out.
const CHUNK_BYTES: u64 = 4 << 20;

/// Objects removed before their directories are synced.
const DELETES_AT_ONCE: usize = 64;

/// Objects as files below one directory.
#[derive(Debug)]
pub struct LocalObjects {
    files: Arc<Files>,
}

impl LocalObjects {
    /// Opens a store in `dir`; temporary files go to a directory beside it, with `.tmp` behind
    /// its name, and those of earlier runs are removed. Blocks.
    pub fn open(disk: Arc<dyn Disk>, dir: &DiskPath) -> Result<Self> {
        Ok(Self { files: Arc::new(Files::open(disk, dir)?) })
    }
}

impl LocalObjects {
    /// The store of a data directory as it is: nothing is made and nothing removed before it is
    /// written to.
    pub fn existing(disk: Arc<dyn Disk>) -> Self {
        Self { files: Arc::new(Files::existing(disk, DiskPath::new("objects"))) }
    }
}

impl fmt::Display for LocalObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local objects in {}", self.files.root().display())
    }
}

/// Runs file calls on the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| generic("run a file call", error))?
}

#[async_trait]
impl ObjectStore for LocalObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let place = match options.mode {
            PutMode::Overwrite => Place::Over,
            PutMode::Create => Place::IfAbsent,
            PutMode::Update(_) => return Err(unsupported("conditional updates")),
        };
        let (files, location) = (Arc::clone(&self.files), location.clone());
        blocking(move || files.put(&location, &payload, place)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (files, location) = (Arc::clone(&self.files), location.clone());
        let temp = blocking(move || files.temporary()).await?;
        Ok(Box::new(Upload::new(Arc::clone(&self.files), location, temp)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.version.is_some() {
            return Err(unsupported("versions"));
        }
        let (files, location) = (Arc::clone(&self.files), location.clone());
        let opened = blocking(move || {
            let (file, meta) = files.open_object(&location)?;
            options.check_preconditions(&meta)?;
            let range = match options.range {
                None => 0..meta.size,
                Some(range) => {
                    range.as_range(meta.size).map_err(|error| generic("get a range", error))?
                }
            };
            let first = range.start..if options.head {
                range.start
            } else {
                range.end.min(range.start + CHUNK_BYTES)
            };
            let bytes = files::read(file.as_ref(), first.clone(), &location)?;
            let rest = first.end..if options.head { first.end } else { range.end };
            Ok((file, meta, range, bytes, rest))
        });
        let (file, meta, range, bytes, rest) = opened.await?;
        let rest = chunks(file, meta.location.clone(), rest);
        let stream = stream::once(futures::future::ready(Ok(bytes))).chain(rest).boxed();
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream),
            meta,
            range,
            attributes: Attributes::default(),
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (files, location, ranges) =
            (Arc::clone(&self.files), location.clone(), ranges.to_vec());
        blocking(move || {
            let (file, meta) = files.open_object(&location)?;
            let within = |range: Range<u64>| range.start.min(meta.size)..range.end.min(meta.size);
            ranges
                .into_iter()
                .map(|range| files::read(file.as_ref(), within(range), &location))
                .collect()
        })
        .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let files = Arc::clone(&self.files);
        let batches = locations.ready_chunks(DELETES_AT_ONCE).then(move |batch| {
            let files = Arc::clone(&files);
            blocking(move || Ok(files.delete(batch)))
        });
        batches.flat_map(|done| stream::iter(done.unwrap_or_else(|error| vec![Err(error)]))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (files, prefix) = (Arc::clone(&self.files), prefix.cloned().unwrap_or_default());
        let found = blocking(move || files.list(&prefix));
        stream::once(found)
            .map_ok(|found| stream::iter(found.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (files, prefix) = (Arc::clone(&self.files), prefix.cloned().unwrap_or_default());
        blocking(move || files.list_level(&prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let place = match options.mode {
            CopyMode::Overwrite => Place::Over,
            CopyMode::Create => Place::IfAbsent,
        };
        let (files, from, to) = (Arc::clone(&self.files), from.clone(), to.clone());
        blocking(move || files.copy(&from, &to, place)).await
    }
}

/// What remains of an object, in pieces read as they are asked for.
fn chunks(
    file: Arc<dyn DiskFile>,
    location: Path,
    rest: Range<u64>,
) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((file, location, rest), |(file, location, rest)| async move {
        if rest.is_empty() {
            return Ok(None);
        }
        blocking(move || {
            let end = rest.end.min(rest.start + CHUNK_BYTES);
            let bytes = files::read(file.as_ref(), rest.start..end, &location)?;
            Ok(Some((bytes, (file, location, end..rest.end))))
        })
        .await
    })
    .boxed()
}

fn unsupported(what: &'static str) -> object_store::Error {
    object_store::Error::NotSupported {
        source: format!("the local object store has no {what}").into(),
    }
}
