//! Every wire protocol in: receiving, taking apart, admission, scraping, and forwarding to others.
//!
//! ```text
//! remote write, OTLP, text import, Influx, Pushgateway ─► intake: body ─► inflate ─► take apart ─┐
//!                                                           admission ─► Appender (storage) ◄───┘
//! host, /metrics ─► exposition ─► scrape ─► Appender
//! Appender ─► forward: queue on disk ─► remote write to others
//! ```
//!
//! Bodies come from strangers: every size is checked before memory is taken for it, every count
//! has a limit, no input panics. Never here: where rows lie, queries, who a credential belongs to.

mod admit;
mod append;
pub mod bounded_file;
mod build;
mod caps;
mod config;
pub mod discovery;
mod door;
pub mod exposition;
mod families;
pub mod forward;
pub mod fuzz;
mod ha;
pub mod host;
mod http_client;
pub mod import;
pub mod influx;
mod intake;
mod label_fields;
pub mod logs;
mod metrics;
mod native;
pub mod otlp;
pub mod pushgateway;
pub mod relabel;
pub mod remote_write;
pub mod scrape;
#[cfg(test)]
mod testing;
mod wire;
mod yaml;

pub use admit::{Admission, EntryRateRefused, RateRefused};
pub use append::{Appender, Durable, EntryAppender};
pub use caps::{Caps, WalkError};
pub use config::{Config, SelfScrapeConfig};
pub use door::routes;
pub use families::KnownFamilies;
pub use ha::HaConfig;
pub use intake::{BodyError, HeaderError, InflateError, Intake, Refusal, RoutingConfig};
pub use metrics::{Metrics, RefusedRequest};
pub use wire::WireError;

/// Method and path of the routes of each door. Their order numbers the counters of answers.
pub const ROUTES: &[&[(&str, &str)]] = &[
    remote_write::ROUTES,
    otlp::ROUTES,
    otlp::OWN_ROUTES,
    import::ROUTES,
    influx::ROUTES,
    pushgateway::ROUTES,
    logs::loki::ROUTES,
    logs::otlp::ROUTES,
    logs::elasticsearch::ROUTES,
    logs::jsonline::ROUTES,
    logs::kubernetes::ROUTES,
];

/// Routes that stand beside the Prometheus API: at the root and below its prefix.
pub const PROMETHEUS_ROUTES: &[&[(&str, &str)]] =
    &[remote_write::ROUTES, otlp::ROUTES, import::ROUTES];

/// Routes that stand at the root alone.
pub const ROOT_ROUTES: &[&[(&str, &str)]] =
    &[otlp::OWN_ROUTES, influx::ROUTES, pushgateway::ROUTES];
