//! The log, as a part: one ordered, durable sequence of records for all signals.
//!
//! Locally a sequence of files with group commit (`storage::LocalLog`); later a replicated stream
//! behind the same trait.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

/// A place in the log. Positions grow with every record, are never used twice, and say nothing
/// else: they may have gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// One record: what is written for one partition by one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The partition whose state it changes.
    pub partition: u16,
    /// The tenant (its number), 0 for records of the partition itself.
    pub tenant: u32,
    /// What the payload holds.
    pub kind: RecordKind,
    /// Encoded by whoever owns the kind.
    pub payload: &'a [u8],
}

/// Kinds of records. Numbers are stored: they are never given to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// New series and samples of metrics.
    Samples = 1,
    /// Metadata of metric families.
    Metadata = 2,
    /// Exemplars.
    Exemplars = 3,
    /// Native histograms.
    Histograms = 4,
    /// The head's series were numbered anew.
    Renumbered = 5,
    /// Rows were deleted.
    Tombstone = 6,
    /// Metadata of metric families was deleted.
    Forgotten = 7,
    /// Entries, with the streams that are new.
    Entries = 8,
    /// Batches of entries that were stored lately.
    Batches = 9,
}

impl RecordKind {
    /// From the stored number.
    pub fn from_stored(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Samples),
            2 => Some(Self::Metadata),
            3 => Some(Self::Exemplars),
            4 => Some(Self::Histograms),
            5 => Some(Self::Renumbered),
            6 => Some(Self::Tombstone),
            7 => Some(Self::Forgotten),
            8 => Some(Self::Entries),
            9 => Some(Self::Batches),
            _ => None,
        }
    }
}

/// A durable sequence of records.
pub trait Log: Debug + Send + Sync {
    /// Puts a record at the end and gives its position. It is ordered at once and durable once
    /// [`Log::wait`] returns for that position. Bounded: may block briefly while too much is
    /// waiting to be synced.
    fn append(&self, record: Record<'_>) -> Result<Position, LogError>;

    /// Waits until the record at `position`, and all before it, are durable. After
    /// [`LogError::NoRoom`] it may still become so.
    fn wait(
        &self,
        position: Position,
    ) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + '_>>;

    /// Whether writes can be taken now: fails while the disk is too full or after a failed sync.
    /// Asked before a request is applied, so that `append` itself fails only for good.
    fn ready(&self) -> Result<(), LogError>;

    /// The position the next record will have or exceed: everything before it was appended.
    fn end(&self) -> Position;

    /// Forgets records before `position`; they may stay readable for a while.
    fn trim(&self, before: Position) -> Result<(), LogError>;
}

/// Why the log refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// A write or sync failed earlier; nothing more is accepted until restart.
    #[error("log is read-only since {0}")]
    ReadOnly(String),
    /// Too little free disk; resumes by itself.
    #[error("free disk is below the reserve: {free_bytes} bytes free, {reserve_bytes} reserved")]
    DiskFull {
        /// Bytes free now.
        free_bytes: u64,
        /// Bytes that must stay free.
        reserve_bytes: u64,
    },
    /// What was appended has no room on the disk; it is written, and the log resumes, by itself.
    #[error("no room for the log: {0}; it goes on by itself once there is some")]
    NoRoom(String),
    /// A record larger than the log takes.
    #[error("record of {bytes} bytes is larger than the {limit_bytes} the log takes")]
    TooLarge {
        /// Bytes of the record.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
}
