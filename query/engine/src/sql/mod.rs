//! SQL over the same rows, within the same scopes and limits, on the same pool.
//!
//! ```text
//! text ─► statement ─► plan: catalog of the scope, promql(…) evaluated ─► polled on the pool
//!                       └─ push_down: WHERE ─► matchers, time                   │
//!                                         scan ─► rows of Arrow arrays ◄────────┘
//!                                           └─► encode ─► pieces of JSON, CSV, Arrow
//! ```
//!
//! A statement reads and does nothing else. What it can name is made for it alone, so nothing of
//! another scope can be named. Never here: files, URLs, settings that a statement could change.

mod catalog;
mod columns;
mod encode;
mod entries;
mod errors;
mod feed;
mod information;
mod memory;
mod physical;
mod promql;
mod push_down;
mod reader;
mod rows;
mod scan;
mod session;
mod statement;
mod types;

pub(crate) use reader::{Reader, ReaderParts};
pub(crate) use session::Sessions;
