//! Copies bytes from one place to another in pieces, and sums them up on the way.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

use super::Progress;
use crate::Error;

/// Bytes put at a time: S3 asks for at least 5 MiB.
const PIECE_BYTES: usize = 8 << 20;

/// An object on its way to a store.
pub(super) struct Writer<'a> {
    to: &'a Arc<dyn ObjectStore>,
    path: Path,
    upload: Option<Box<dyn MultipartUpload>>,
    waiting: BytesMut,
    progress: &'a Progress,
    bytes: u64,
    sum: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(to: &'a Arc<dyn ObjectStore>, path: Path, progress: &'a Progress) -> Self {
        let (upload, waiting) = (None, BytesMut::new());
        Self { to, path, upload, waiting, progress, bytes: 0, sum: 0 }
    }

    fn failed(&self, source: object_store::Error) -> Error {
        Error::Objects { doing: format!("write object {}", self.path), source }
    }

    /// Takes bytes, and sends what fills a piece.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.bytes += bytes.len() as u64;
        self.progress.done_bytes(bytes.len() as u64);
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() > PIECE_BYTES {
            let piece = self.waiting.split_to(PIECE_BYTES).freeze();
            self.send(piece).await?;
        }
        Ok(())
    }

    async fn send(&mut self, piece: Bytes) -> Result<(), Error> {
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => self.to.put_multipart(&self.path).await.map_err(|e| self.failed(e))?,
        };
        let sent = upload.put_part(PutPayload::from_bytes(piece)).await;
        self.upload = Some(upload);
        sent.map_err(|e| self.failed(e))
    }

    /// Length and sum of what was written; it is there from now on.
    pub(super) async fn finish(mut self) -> Result<(u64, u32), Error> {
        let rest = std::mem::take(&mut self.waiting).freeze();
        if self.upload.is_none() {
            let put = self.to.put(&self.path, PutPayload::from_bytes(rest)).await;
            put.map_err(|e| self.failed(e))?;
        } else {
            if !rest.is_empty() {
                self.send(rest).await?;
            }
            if let Some(mut upload) = self.upload.take() {
                upload.complete().await.map_err(|e| self.failed(e))?;
            }
        }
        self.progress.done_object();
        Ok((self.bytes, self.sum))
    }

    /// Gives it up.
    pub(super) async fn abandon(mut self) {
        if let Some(mut upload) = self.upload.take() {
            // What remains is swept by the store, or by the next backup.
            drop(upload.abort().await);
        }
    }
}

/// Bytes of an object as they come.
pub(super) async fn open(
    from: &dyn ObjectStore,
    path: &Path,
) -> Result<BoxStream<'static, Result<Bytes, object_store::Error>>, object_store::Error> {
    Ok(from.get(path).await?.into_stream())
}

/// Reads an object whole.
pub(super) async fn read(from: &dyn ObjectStore, path: &Path) -> Result<Bytes, Error> {
    let read = async { from.get(path).await?.bytes().await };
    read.await.map_err(|source| Error::Objects { doing: format!("read object {path}"), source })
}

/// Hands an object on piece by piece.
pub(super) async fn each_piece(
    from: &dyn ObjectStore,
    path: &Path,
    mut take: impl AsyncFnMut(Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| Error::Objects { doing: format!("read object {path}"), source };
    let mut pieces = open(from, path).await.map_err(failed)?;
    while let Some(piece) = pieces.try_next().await.map_err(failed)? {
        take(piece).await?;
    }
    Ok(())
}
