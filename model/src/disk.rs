//! Files, as a part: everything that reaches a disk goes through [`Disk`], so that tests can make
//! the Nth call fail, tear a write or lose what was never synced.
//!
//! Paths are relative to the root the disk was made for. All calls block: they belong on the log
//! thread, the flush thread or the blocking pool, never on an async worker.

use std::fmt::Debug;
use std::io;
use std::path::Path;

/// A directory tree on some disk.
pub trait Disk: Debug + Send + Sync {
    /// Opens one file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    /// Moves a file over whatever stands at `to`. Durable only after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; `AlreadyExists` if the name is taken. Durable only after
    /// [`Disk::sync_dir`]. This is what put-if-absent stands on.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes one file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// What lies in one directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes a directory and its parents; fine if they exist. New directories are synced into
    /// their parents before this returns.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Takes an exclusive lock that other processes see; `WouldBlock` if another holds it. Held
    /// until the value is dropped.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Positioned reads and writes only: no cursor is shared.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf`.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Reserves space up to `bytes` and makes the file that long; new bytes read as zero.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Makes the contents (and the length) durable. After an error the file must not be used again.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Fills `buf` or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let read = self.read_at(buf, offset)?;
        if read == buf.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing.
    CreateNew,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The last part of the path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length of a file in bytes; 0 for a directory.
    pub bytes: u64,
}

/// A lock that is held as long as the value lives.
pub trait DiskLock: Debug + Send + Sync {}
