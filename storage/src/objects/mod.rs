//! Object stores: where blocks, snapshots and manifests lie.
//!
//! ```text
//! kind "local":  LocalObjects, files of the data directory
//! kind "s3":     FarObjects ─► probe, claim ─► CachedObjects ─► HTTP, every request counted
//! ```
//!
//! Invariants: everything else in this crate sees `dyn ObjectStore`; an object is never changed
//! once a manifest names it; one process writes below one prefix, and a second one that tries is
//! refused, or shuts the first one out for good.

mod cached;
mod claim;
mod config;
mod counted;
mod far;
mod local;
mod probe;
mod s3;

pub use cached::CacheTotals;
pub(crate) use cached::{CachedObjects, Fresh};
pub(crate) use claim::{Binding, Claimed, RESTORING_OBJECT};
pub use config::{Config, CredentialSource, Credentials, Kind, Secret};
pub use counted::{RequestCounts, RequestKind, RequestOutcome, RequestTotals};
pub use far::FarObjects;
pub use local::LocalObjects;
pub use s3::{Bucket, connect};
