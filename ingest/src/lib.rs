//! Every wire protocol in: receiving, taking apart, admission, and scraping of what is near.
//!
//! ```text
//! remote write ─► walk ─┐
//!                       ├─► admission ─► Appender (storage) ─► answer
//! host, /metrics ─► exposition ─► scrape ─┘
//! ```
//!
//! Bodies come from strangers: every size is checked before memory is taken for it, every count
//! has a limit, no input panics. Never here: where rows lie, queries, who a credential belongs to.

mod admit;
mod append;
mod config;
pub mod exposition;
pub mod fuzz;
pub mod host;
mod metrics;
pub mod remote_write;
pub mod scrape;

pub use admit::{Admission, RateRefused};
pub use append::{Appender, Durable};
pub use config::{Config, SelfScrapeConfig};
pub use metrics::{Metrics, RefusedRequest};
