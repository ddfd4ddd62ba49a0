//! Who is asking, and what they may read or write.
//!
//! ```text
//! HTTP request ─► authenticate ─► Principal ─► ReadScope / WriteScope ─► storage
//!                     ▲                           ▲
//!                 token file               directory (names ─► TenantId), limits
//! ```
//!
//! Scopes are made here and nowhere else; whoever holds one has passed the check. Never here:
//! rows, queries, wire formats.

mod id;
mod limits;
mod scope;

pub use id::{NameError, TenantId, TenantName};
pub use limits::{LabelsRefused, Limits};
pub use scope::{ReadScope, TenantRead, WriteScope};
