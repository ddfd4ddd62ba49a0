//! Settings of this crate.

use serde::{Deserialize, Serialize};

use crate::RoutingConfig;
use crate::forward::ForwardConfig;
use crate::ha::HaConfig;
use crate::otlp::OtlpConfig;
use crate::pushgateway::PushgatewayConfig;
use crate::scrape::ScrapeConfig;

/// How writes are received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seconds a sender may take to transmit one body. Longer than any sender's own deadline
    /// (Prometheus: 30 s); ends connections that only hold memory.
    pub body_seconds_max: u64,
    /// Bytes of compressed bodies that may be held at a time, over all tenants. Beyond it writes
    /// get 503 and are repeated by the sender. Bounds memory whatever the number of connections.
    pub bodies_in_flight_bytes_max: usize,
    /// Label `cluster` of series that come without one, so that alerts and documents can say where
    /// something is; empty for none.
    pub cluster: String,
    /// How series of trusted writers are routed.
    pub routing: RoutingConfig,
    /// Pairs of senders.
    pub ha: HaConfig,
    /// How OTLP metrics become series.
    pub otlp: OtlpConfig,
    /// What batch jobs push.
    pub pushgateway: PushgatewayConfig,
    /// Targets of others.
    pub scrape: ScrapeConfig,
    /// Where rows go on to.
    pub forward: ForwardConfig,
    /// The machine's own metrics and Taffrail's.
    pub self_scrape: SelfScrapeConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_seconds_max: 60,
            bodies_in_flight_bytes_max: 256 << 20,
            cluster: String::new(),
            routing: RoutingConfig::default(),
            ha: HaConfig::default(),
            otlp: OtlpConfig::default(),
            pushgateway: PushgatewayConfig::default(),
            scrape: ScrapeConfig::default(),
            forward: ForwardConfig::default(),
            self_scrape: SelfScrapeConfig::default(),
        }
    }
}

impl Config {
    /// What is wrong with the settings, by key.
    pub fn check(&self) -> Result<(), String> {
        if self.self_scrape.interval_seconds == 0 {
            return Err("self_scrape.interval_seconds must be at least 1".to_owned());
        }
        if self.ha.cluster_label.is_empty() || self.ha.replica_label.is_empty() {
            return Err("ha.cluster_label and ha.replica_label must not be empty".to_owned());
        }
        if self.routing.cluster_label.is_empty() || self.routing.namespace_label.is_empty() {
            return Err(
                "routing.cluster_label and routing.namespace_label must not be empty".to_owned()
            );
        }
        if self.ha.failover_seconds == 0 {
            return Err("ha.failover_seconds must be at least 1".to_owned());
        }
        if !(1..=240).contains(&self.pushgateway.interval_seconds) {
            return Err("pushgateway.interval_seconds must be 1 to 240".to_owned());
        }
        self.otlp.check()
    }
}

/// How Taffrail scrapes itself and the host it runs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelfScrapeConfig {
    /// Whether it does. Off where a Prometheus scrapes both already.
    pub enabled: bool,
    /// Seconds between two scrapes. 15 is what dashboards for node_exporter are drawn for.
    pub interval_seconds: u64,
    /// Samples one target may give; beyond it the scrape fails, as with Prometheus' `sample_limit`.
    pub samples_max: usize,
}

impl Default for SelfScrapeConfig {
    fn default() -> Self {
        Self { enabled: true, interval_seconds: 15, samples_max: 50_000 }
    }
}
