//! One object of a block: written through [`Sink`], which sums every stripe of 16 KiB, and read
//! through [`Object`], which checks them. No byte reaches a decoder unchecked.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::Error;
use crate::objects::Fresh;

/// Bytes under one checksum: small enough that a page costs little more to read.
pub(crate) const STRIPE_BYTES: u64 = 16 << 10;

/// Objects up to this size are put in one piece, larger ones in parts of this size (S3 asks for
/// at least 5 MiB).
pub(crate) const PART_BYTES: usize = 8 << 20;

/// Gaps up to this size are read rather than skipped.
const GAP_BYTES_MAX: u64 = 256 << 10;

/// Where Parquet writes: collects bytes until a part is full, and sums stripes.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    buffer: Vec<u8>,
    size: u64,
    stripes: Vec<u32>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let inside = self.size % STRIPE_BYTES;
            if inside == 0 {
                self.stripes.push(0);
            }
            let (now, later) = rest.split_at(rest.len().min((STRIPE_BYTES - inside) as usize));
            if let Some(last) = self.stripes.last_mut() {
                *last = crc32c::crc32c_append(*last, now);
            }
            self.size += now.len() as u64;
            rest = later;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    /// All that was written, and what a reader must know of it.
    pub(crate) fn into_whole(self, tail_start: u64) -> (Vec<u8>, Sum) {
        (self.buffer, Sum { size: self.size, tail_start, stripes: self.stripes.into() })
    }

    /// Whether there is a part to be sent.
    pub(crate) fn has_part(&self) -> bool {
        self.buffer.len() >= PART_BYTES
    }

    fn take_part(&mut self) -> Option<Vec<u8>> {
        if self.buffer.len() < PART_BYTES {
            return None;
        }
        let rest = self.buffer.split_off(PART_BYTES);
        Some(std::mem::replace(&mut self.buffer, rest))
    }
}

/// An object on its way to the store.
#[derive(Debug)]
pub(crate) struct Upload {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self { objects, path, parts: None }
    }

    fn error(&self, source: object_store::Error) -> Error {
        Error::Objects { doing: format!("write object {}", self.path), source }
    }

    /// Sends the parts that are full.
    pub(crate) async fn send_full_parts(&mut self, sink: &mut Sink) -> Result<(), Error> {
        while let Some(part) = sink.take_part() {
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: Vec<u8>) -> Result<(), Error> {
        if self.parts.is_none() {
            let opened = self.objects.put_multipart(&self.path).await.map_err(|e| self.error(e))?;
            self.parts = Some(opened);
        }
        if let Some(parts) = &mut self.parts {
            let sent = parts.put_part(PutPayload::from(part)).await;
            sent.map_err(|e| self.error(e))?;
        }
        Ok(())
    }

    /// Sends the rest and says what a reader must know of the object.
    pub(crate) async fn finish(mut self, mut sink: Sink, tail_start: u64) -> Result<Sum, Error> {
        let rest = std::mem::take(&mut sink.buffer);
        if self.parts.is_none() && rest.len() <= PART_BYTES {
            let put = self.objects.put(&self.path, PutPayload::from(rest)).await;
            put.map_err(|e| self.error(e))?;
        } else {
            let sent = self.send_rest(rest).await;
            if sent.is_err() {
                self.abort().await;
            }
            sent?;
        }
        Ok(Sum { size: sink.size, tail_start, stripes: sink.stripes.into() })
    }

    async fn send_rest(&mut self, rest: Vec<u8>) -> Result<(), Error> {
        for part in rest.chunks(PART_BYTES) {
            self.send(part.to_vec()).await?;
        }
        if let Some(parts) = &mut self.parts {
            let completed = parts.complete().await;
            completed.map_err(|e| self.error(e))?;
        }
        Ok(())
    }

    pub(crate) async fn abort(&mut self) {
        if let Some(parts) = &mut self.parts {
            // What remains of a failed upload is swept with other unnamed objects.
            let _ = parts.abort().await;
        }
    }
}

/// What a reader must know of an object to check it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) size: u64,
    /// Where the Parquet page index and footer begin.
    pub(crate) tail_start: u64,
    pub(crate) stripes: Arc<[u32]>,
}

/// An object that can be read in checked ranges.
#[derive(Debug)]
pub(crate) struct Object {
    objects: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) sum: Sum,
}

impl Object {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, path: Path, sum: Sum) -> Self {
        Self { objects, path, sum }
    }

    pub(crate) fn damaged(&self, reason: impl ToString) -> Error {
        Error::Corrupt { what: format!("object {}", self.path), reason: reason.to_string() }
    }

    /// Reads ranges, each of them checked. Near ranges are read together.
    pub(crate) async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let mut wanted = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.start >= range.end || range.end > self.sum.size {
                return Err(
                    self.damaged(format!("bytes {}..{} lie outside it", range.start, range.end))
                );
            }
            let start = range.start / STRIPE_BYTES * STRIPE_BYTES;
            let end = range.end.next_multiple_of(STRIPE_BYTES).min(self.sum.size);
            wanted.push(start..end);
        }
        let merged = merge(wanted);
        let read = self.objects.get_ranges(&self.path, &merged).await;
        let mut read = read.map_err(|e| self.failed(e))?;
        if read.len() != merged.len() {
            return Err(self.damaged("the store gave another number of ranges"));
        }
        for (range, bytes) in merged.iter().zip(&mut read) {
            if self.check(range, bytes).is_err() {
                // It may have been damaged on its way, or on this machine's disk.
                let options = Fresh::options(Some(range.clone()));
                let again =
                    async { self.objects.get_opts(&self.path, options).await?.bytes().await };
                *bytes = again.await.map_err(|e| self.failed(e))?;
                self.check(range, bytes)?;
            }
        }
        let cut = |range: &Range<u64>| {
            let at = merged.partition_point(|m| m.start <= range.start) - 1;
            let from = (range.start - merged[at].start) as usize;
            read[at].slice(from..from + (range.end - range.start) as usize)
        };
        Ok(ranges.iter().map(cut).collect())
    }

    fn failed(&self, source: object_store::Error) -> Error {
        match source {
            object_store::Error::NotFound { .. } => self.damaged("the object is missing"),
            source => Error::Objects { doing: format!("read object {}", self.path), source },
        }
    }

    fn check(&self, range: &Range<u64>, bytes: &Bytes) -> Result<(), Error> {
        if bytes.len() as u64 != range.end - range.start {
            return Err(self.damaged(format!("bytes {}..{} are cut short", range.start, range.end)));
        }
        let first = (range.start / STRIPE_BYTES) as usize;
        for (i, stripe) in bytes.chunks(STRIPE_BYTES as usize).enumerate() {
            if self.sum.stripes.get(first + i) != Some(&crc32c::crc32c(stripe)) {
                return Err(
                    self.damaged(format!("checksum of stripe {} does not match", first + i))
                );
            }
        }
        Ok(())
    }
}

/// Sorted, overlapping and near ranges joined.
fn merge(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end + GAP_BYTES_MAX => {
                last.end = last.end.max(range.end)
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// A stretch of an object in memory, for the Parquet reader. Other places read as an error.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
    pub(crate) size: u64,
}

impl Length for Stretch {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Stretch {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let from = start.checked_sub(self.start).and_then(|f| usize::try_from(f).ok());
        let from = from.filter(|f| *f <= self.bytes.len());
        let from = from.ok_or_else(|| ParquetError::EOF(format!("offset {start} was not read")))?;
        Ok(bytes::Buf::reader(self.bytes.slice(from..)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let from = start.checked_sub(self.start).and_then(|f| usize::try_from(f).ok());
        let range = from.and_then(|f| Some(f..f.checked_add(length)?));
        let range = range.filter(|r| r.end <= self.bytes.len());
        let range = range
            .ok_or_else(|| ParquetError::EOF(format!("{length} bytes at {start} were not read")))?;
        Ok(self.bytes.slice(range))
    }
}
