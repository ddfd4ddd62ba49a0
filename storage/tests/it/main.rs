//! The store as its users see it: real log, real objects, a disk in memory.

mod placement;
mod store;
