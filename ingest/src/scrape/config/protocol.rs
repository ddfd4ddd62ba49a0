//! What is asked of targets: formats in order of preference, and how names are to be escaped.

use crate::exposition::Format;

/// A format that targets may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Proto,
    Text004,
    Text100,
    OpenMetrics001,
    OpenMetrics100,
    OpenMetrics200,
}

/// The word in the configuration, and the header's.
const PROTOCOLS: [(Protocol, &str, &str); 6] = [
    (
        Protocol::Proto,
        "PrometheusProto",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ),
    (Protocol::Text004, "PrometheusText0.0.4", "text/plain;version=0.0.4"),
    (Protocol::Text100, "PrometheusText1.0.0", "text/plain;version=1.0.0"),
    (
        Protocol::OpenMetrics001,
        "OpenMetricsText0.0.1",
        "application/openmetrics-text;version=0.0.1",
    ),
    (
        Protocol::OpenMetrics100,
        "OpenMetricsText1.0.0",
        "application/openmetrics-text;version=1.0.0",
    ),
    // Prometheus has no word for it yet.
    (
        Protocol::OpenMetrics200,
        "OpenMetricsText2.0.0",
        "application/openmetrics-text;version=2.0.0",
    ),
];

/// How targets write names that are not of the old alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escaping {
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    pub(super) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "allow-utf-8" => Self::AllowUtf8,
            "underscores" => Self::Underscores,
            "dots" => Self::Dots,
            "values" => Self::Values,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

impl Protocol {
    /// What is asked for by default, in this order.
    pub(crate) const DEFAULT: [Self; 4] =
        [Self::OpenMetrics100, Self::OpenMetrics001, Self::Text100, Self::Text004];

    pub(super) fn of(word: &str) -> Option<Self> {
        PROTOCOLS.iter().find(|(_, known, _)| *known == word).map(|(protocol, ..)| *protocol)
    }

    /// All words, for messages.
    pub(super) fn words() -> String {
        PROTOCOLS.map(|(_, word, _)| word).join(", ")
    }

    /// The format that a body of this protocol is in.
    pub(crate) fn format(self) -> Format {
        match self {
            Self::Proto => Format::Protobuf,
            Self::Text004 | Self::Text100 => Format::Text,
            Self::OpenMetrics001 | Self::OpenMetrics100 => Format::OpenMetrics,
            Self::OpenMetrics200 => Format::OpenMetrics2,
        }
    }

    fn header(self) -> &'static str {
        PROTOCOLS.iter().find(|(one, ..)| *one == self).map_or("", |(_, _, header)| header)
    }

    /// Whether the header says how names are escaped.
    fn has_escaping(self) -> bool {
        matches!(self, Self::Text100 | Self::OpenMetrics100 | Self::OpenMetrics200)
    }
}

/// The header `Accept`: what stands first weighs most.
pub(crate) fn accept(protocols: &[Protocol], escaping: Escaping) -> String {
    // As many weights as there are formats in Prometheus, and one for anything else.
    let mut weight = protocols.len().max(5) + 1;
    let mut words = Vec::with_capacity(protocols.len() + 1);
    for protocol in protocols {
        let escaped = match protocol.has_escaping() {
            true => format!(";escaping={}", escaping.as_str()),
            false => String::new(),
        };
        words.push(format!("{}{escaped};q=0.{weight}", protocol.header()));
        weight -= 1;
    }
    words.push(format!("*/*;q=0.{weight}"));
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_prometheus() {
        assert_eq!(
            accept(&Protocol::DEFAULT, Escaping::AllowUtf8),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        assert_eq!(
            accept(&[Protocol::Text004], Escaping::Underscores),
            "text/plain;version=0.0.4;q=0.6,*/*;q=0.5"
        );
    }
}
