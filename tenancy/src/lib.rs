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

mod administer;
mod asked;
mod audit;
mod authenticate;
mod config;
mod directory;
mod extract;
mod id;
mod limits;
mod metrics;
mod overrides;
mod principal;
mod rate;
mod refusal;
mod routing;
mod scope;
pub mod selection;

pub use administer::{Act, AdminError, Change};
pub use asked::{Asked, CertificateNames, Peer};
pub use audit::{Actor, AuditEntry, AuditLog, AuditPage};
pub use authenticate::{Authenticator, Prepared};
pub use config::{
    AuthenticationMode, CertificateConfig, Config, ConfigError, TokenConfig, TokenFile,
};
pub use directory::{DeletedTenant, Directory, DirectoryError, Suspension, Tenant, TenantStatus};
pub use extract::{Admin, Delete, Read, Write};
pub use id::{NameError, TenantId, TenantName};
pub use limits::{LabelsRefused, Limits, Retention};
pub use overrides::{LimitsConfig, LimitsError};
pub use principal::{Access, GrantConfig, GrantError, Principal};
pub use rate::{RateExceeded, RateLimiter, TenantRates};
pub use refusal::Refusal;
pub use routing::{
    Closed, OWNERSHIPS_MAX, Ownership, Period, Routes, RoutingError, RoutingFile, RoutingTable,
    SYSTEM, UNASSIGNED, Unassigned, read_stored, write_stored,
};
pub use scope::{DeleteScope, ReadScope, TenantRead, WriteScope};
