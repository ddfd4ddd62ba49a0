//! Settings of OTLP; the names are those of Prometheus' section `otlp` where it has them.

use serde::{Deserialize, Serialize};

use super::TranslationStrategy;

/// How OTLP metrics become series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// How metric and attribute names are translated.
    pub translation_strategy: TranslationStrategy,
    /// Resource attributes that become labels of every series of the resource.
    pub promote_resource_attributes: Vec<String>,
    /// Whether all resource attributes become labels, but those that are ignored.
    pub promote_all_resource_attributes: bool,
    /// Resource attributes that do not become labels when all do.
    pub ignore_resource_attributes: Vec<String>,
    /// Whether `target_info` also has the attributes that `job` and `instance` are made of.
    pub keep_identifying_resource_attributes: bool,
    /// Whether name, version and attributes of the scope become labels `otel_scope_…`.
    pub promote_scope_metadata: bool,
    /// Whether histograms with explicit bounds become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether `key` is put before label names that begin with one underscore.
    pub label_name_underscore_sanitization: bool,
    /// Whether several underscores in a row stay in label names.
    pub label_name_preserve_multiple_underscores: bool,
    /// Whether each resource with more than an identity tells it as `target_info`.
    pub target_info: bool,
    /// Whether points of delta temporality are added up; else they are refused.
    pub delta_to_cumulative: bool,
    /// Delta streams of one tenant that are added up at a time; eight buckets count as one.
    pub delta_streams_max: usize,
    /// Seconds without a point after which a delta stream is forgotten.
    pub delta_stale_seconds: u64,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            translation_strategy: TranslationStrategy::default(),
            promote_resource_attributes: Vec::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: Vec::new(),
            keep_identifying_resource_attributes: false,
            promote_scope_metadata: false,
            convert_histograms_to_nhcb: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
            target_info: true,
            delta_to_cumulative: true,
            delta_streams_max: 100_000,
            delta_stale_seconds: 300,
        }
    }
}

impl OtlpConfig {
    /// Whether a resource attribute becomes a label.
    pub(super) fn promotes(&self, key: &str) -> bool {
        match self.promote_all_resource_attributes {
            true => !self.ignore_resource_attributes.iter().any(|k| k == key),
            false => self.promote_resource_attributes.iter().any(|k| k == key),
        }
    }

    /// What is wrong with the settings.
    pub fn check(&self) -> Result<(), String> {
        if self.promote_all_resource_attributes && !self.promote_resource_attributes.is_empty() {
            return Err("otlp.promote_resource_attributes has no effect with \
                        otlp.promote_all_resource_attributes; use one of them"
                .to_owned());
        }
        if !self.promote_all_resource_attributes && !self.ignore_resource_attributes.is_empty() {
            return Err(
                "otlp.ignore_resource_attributes needs otlp.promote_all_resource_attributes"
                    .to_owned(),
            );
        }
        if self.delta_stale_seconds == 0 {
            return Err("otlp.delta_stale_seconds must be at least 1".to_owned());
        }
        Ok(())
    }
}
