//! Lines of logs, Kubernetes events and audit records in: every protocol they come by.
//!
//! ```text
//! loki, otlp, elasticsearch,     ┐
//! jsonline, syslog, fluent ──────┤
//! kubernetes (events, audits)    ├─► intake: body ─► inflate ─► take apart ─► route ─► fit ─► admission ─► EntryAppender
//!                                └   builder: labels, level, time, fields
//!                                    document: JSON of no fixed form
//! ```
//!
//! A line's bytes are stored as they came, but for what the tenant's limit cuts off. Never here:
//! where entries lie, queries.

mod builder;
mod cache;
mod document;
mod doors;
pub mod elasticsearch;
mod fit;
pub mod fluent;
pub(crate) mod fuzz;
mod intake;
mod json;
pub mod jsonline;
pub mod kubernetes;
mod labels;
mod level;
mod listener;
pub mod loki;
pub mod otlp;
mod plain;
mod route;
mod selector;
pub mod syslog;
#[cfg(test)]
mod testing;
mod time;
mod told;

pub use doors::{LogsConfig, router};
pub use intake::EntryIntake;
pub use listener::Tenant;

/// Method and path of the routes of each door, which stand at the root alone.
pub const ROUTES: &[&[(&str, &str)]] =
    &[loki::ROUTES, otlp::ROUTES, elasticsearch::ROUTES, jsonline::ROUTES, kubernetes::ROUTES];
