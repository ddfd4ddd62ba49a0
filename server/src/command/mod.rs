//! Commands: those that talk to a running server, and those that work while none does.

pub(crate) mod backup;
mod client;
pub(crate) mod tenants;
mod text;
pub(crate) mod tool;
