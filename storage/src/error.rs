//! What can go wrong, by what the caller should do about it.

use std::io;

use model::{LogError, Stopped};

/// Storage's errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing can be written now; trying again later may help. 503.
    #[error("storage does not accept writes")]
    Unavailable(#[source] LogError),
    /// One partition no longer accepts writes; the others do. 503.
    #[error("partition {partition} is read-only until restart: {reason}")]
    PartitionReadOnly {
        /// The partition.
        partition: u16,
        /// What happened.
        reason: String,
    },
    /// Flushing does not keep up, or fails: a partition takes no more until it has. 503.
    #[error(
        "partition {partition} has {samples} samples that are not flushed yet, the limit is {limit}; try again later"
    )]
    Backlog {
        /// The partition.
        partition: u16,
        /// Samples and histograms in memory.
        samples: u64,
        /// How many it takes.
        limit: u64,
    },
    /// Flushing does not keep up, or fails: too much log is kept for a partition. 503.
    #[error(
        "partition {partition} needs {bytes} bytes of log that are not flushed yet, the limit is {limit}; try again later"
    )]
    LogBacklog {
        /// The partition.
        partition: u16,
        /// Bytes of log since its last flush.
        bytes: u64,
        /// How many it may need.
        limit: u64,
    },
    /// Flushing does not keep up, or fails: a partition takes no more entries until it has. 503.
    #[error(
        "partition {partition} has {bytes} bytes of entries that are not flushed yet, the limit is {limit}; try again later"
    )]
    EntriesBacklog {
        /// The partition.
        partition: u16,
        /// Bytes of lines and fields in memory.
        bytes: u64,
        /// How many it takes.
        limit: u64,
    },
    /// Another process writes to the same data directory: this one must stop.
    #[error(
        "manifest {number} of partition {partition} was written by another process, which owns the data directory"
    )]
    OwnedElsewhere {
        /// The partition.
        partition: u16,
        /// The number that was taken.
        number: u64,
    },
    /// Whether an edit of a manifest was stored is not known yet; it will be found out before
    /// anything else happens to the partition. What the edit names must stay.
    #[error("whether manifest {number} of partition {partition} was stored is not known yet")]
    Unsettled {
        /// The partition.
        partition: u16,
        /// Its number.
        number: u64,
        /// What the store said.
        source: object_store::Error,
    },
    /// What is asked for does not fit what is there, and a person must decide. A start ends.
    #[error("{0}")]
    Refused(String),
    /// A file or object is damaged. The rest stays readable.
    #[error("{what} is damaged: {reason}")]
    Corrupt {
        /// The file or object.
        what: String,
        /// What was found.
        reason: String,
    },
    /// A format this build does not know.
    #[error("{what} needs {feature}, which this version does not know")]
    Unsupported {
        /// The file or object.
        what: String,
        /// The version or feature it asks for.
        feature: String,
    },
    /// The disk failed.
    #[error("{doing}")]
    Disk {
        /// What we were doing, with the path.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The object store failed.
    #[error("{doing}")]
    Objects {
        /// What we were doing, with the object's path.
        doing: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// A question asks for more than its limits allow. 422.
    #[error("{0}")]
    Limit(String),
    /// More tails at a time than the tenant, or the process, allows. 429.
    #[error("{0}")]
    TooManyTails(String),
    /// Nobody waits any more, or it takes too long. 499, 503, 422.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The scope does not allow this kind of answer. 403.
    #[error("{0} is not available to a restricted scope")]
    Restricted(&'static str),
    /// A task of our own ended unexpectedly.
    #[error("{0}")]
    Internal(String),
}

/// An error and its sources in one line.
pub fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
