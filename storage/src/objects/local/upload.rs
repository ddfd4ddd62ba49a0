//! Uploads in parts: each part goes straight to its place in the temporary file, so that no more
//! is held in memory than the caller has under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::files::{Files, Place, Temporary};
use super::{blocking, unsupported};

#[derive(Debug)]
pub(super) struct Upload {
    files: Arc<Files>,
    location: Path,
    /// `None` once completed or aborted.
    temp: Option<Arc<Temporary>>,
    bytes: u64,
    parts: usize,
    /// Parts that lie in the file. While one is missing, the object must not appear.
    written: Arc<AtomicUsize>,
}

impl Upload {
    pub(super) fn new(files: Arc<Files>, location: Path, temp: Temporary) -> Self {
        Self {
            files,
            location,
            temp: Some(Arc::new(temp)),
            bytes: 0,
            parts: 0,
            written: Arc::default(),
        }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.bytes;
        self.bytes += data.content_length() as u64;
        self.parts += 1;
        let (temp, written) = (self.temp.clone(), Arc::clone(&self.written));
        // A part whose future is dropped before it ran is missing as well: failed until written.
        let write = async move {
            let temp = temp.ok_or_else(|| unsupported("parts after the end of an upload"))?;
            blocking(move || {
                for bytes in &data {
                    temp.write(bytes, offset)?;
                    offset += bytes.len() as u64;
                }
                Ok(())
            })
            .await?;
            written.fetch_add(1, Ordering::AcqRel);
            Ok(())
        };
        write.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let temp = self.temp.take().ok_or_else(|| unsupported("second end of an upload"))?;
        let missing_part = || unsupported("object with a missing part");
        if self.written.load(Ordering::Acquire) != self.parts {
            return Err(missing_part());
        }
        let temp = Arc::into_inner(temp).ok_or_else(missing_part)?;
        let (files, location) = (Arc::clone(&self.files), self.location.clone());
        blocking(move || files.place(temp, &location, Place::Over)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.temp = None;
        Ok(())
    }
}
