//! SQL over a real store: in heads and blocks, for several tenants and restricted scopes, against
//! what PromQL says, within limits.

mod answers;
mod bounds;
mod entries;
mod ground;
mod refusals;
mod scopes;
