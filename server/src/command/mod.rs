//! Commands that talk to a running server.

mod client;
pub(crate) mod tenants;
