//! A moving window on one file: large reads, small looks.

use std::io;

use model::DiskFile;

use super::format::{ALIGNMENT, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES};

/// Bytes read at a time: large enough for full speed from a disk, small beside the head.
const READ_BYTES: usize = 1 << 20;

/// Compared with at a time when looking for something other than zeros.
static ZEROS: [u8; 4096] = [0; 4096];

/// Reads one segment by positions in the log.
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    start: u64,
    /// Position after the last byte of the file.
    end: u64,
    buffer: Vec<u8>,
    /// What of the file the buffer holds.
    at: u64,
    filled: usize,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, start: u64) -> io::Result<Self> {
        let end = start.saturating_add(file.bytes()?);
        Ok(Self { file, start, end, buffer: Vec::new(), at: start, filled: 0 })
    }

    /// Position after the last byte of the file.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The bytes from `position` on: `bytes` of them, fewer at the end of the file.
    pub(super) fn get(&mut self, position: u64, bytes: usize) -> io::Result<&[u8]> {
        let wanted = (self.end.saturating_sub(position)).min(bytes as u64) as usize;
        let held = position >= self.at && position + wanted as u64 <= self.at + self.filled as u64;
        if !held {
            let usual = READ_BYTES.min((self.end - self.start) as usize);
            if self.buffer.len() > usual && wanted <= usual {
                // One huge record does not keep its memory for the rest of the log.
                self.buffer = Vec::new();
            }
            if self.buffer.len() < wanted.max(usual) {
                self.buffer.resize(wanted.max(usual), 0);
            }
            self.filled = self.file.read_at(&mut self.buffer, position - self.start)?;
            self.at = position;
        }
        let from = (position - self.at) as usize;
        Ok(&self.buffer[from.min(self.filled)..(from + wanted).min(self.filled)])
    }

    /// The record header at a position, if a sound one stands there.
    pub(super) fn header(&mut self, position: u64) -> io::Result<Option<RecordHeader>> {
        let bytes = self.get(position, RECORD_HEADER_BYTES)?;
        Ok(bytes.first_chunk().and_then(|bytes| RecordHeader::decode(bytes, position)))
    }

    /// The first sound record header at or after a position, before `limit`.
    pub(super) fn next_header(
        &mut self,
        from: u64,
        limit: u64,
    ) -> io::Result<Option<RecordHeader>> {
        let limit = limit.min(self.end);
        let mut position = from.next_multiple_of(ALIGNMENT);
        while position + RECORD_HEADER_BYTES as u64 <= limit {
            let bytes = self.get(position, ZEROS.len())?;
            if bytes.len() < RECORD_HEADER_BYTES {
                return Ok(None);
            }
            if bytes.len() == ZEROS.len() && bytes == ZEROS {
                // A header may begin in the last of these zeros.
                position += (ZEROS.len() - RECORD_HEADER_BYTES) as u64;
                continue;
            }
            let steps = bytes.windows(RECORD_HEADER_BYTES).step_by(ALIGNMENT as usize);
            for candidate in steps {
                let found =
                    candidate.first_chunk().and_then(|bytes| RecordHeader::decode(bytes, position));
                if found.is_some() && position < limit {
                    return Ok(found);
                }
                position += ALIGNMENT;
            }
        }
        Ok(None)
    }

    /// The highest `durable` of any sound record at or after a position: what lies before that
    /// was synced once, whatever it looks like now.
    pub(super) fn proven(&mut self, from: u64) -> io::Result<u64> {
        let (mut position, mut proven) = (from.max(self.start + SEGMENT_HEADER_BYTES), 0);
        while let Some(header) = self.next_header(position, self.end)? {
            proven = proven.max(header.durable);
            position = header.position + header.record_bytes();
        }
        Ok(proven)
    }

    /// Position after the last byte that is not zero, at or after `from`; `from` if all are.
    pub(super) fn content_end(&mut self, from: u64) -> io::Result<u64> {
        let (mut position, mut content) = (from, from);
        while position < self.end {
            let bytes = self.get(position, ZEROS.len())?;
            if bytes.is_empty() {
                break;
            }
            if bytes != &ZEROS[..bytes.len()] {
                let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                content = position + last as u64 + 1;
            }
            position += bytes.len() as u64;
        }
        Ok(content)
    }
}
