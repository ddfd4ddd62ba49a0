//! Exposition formats: what targets answer a scrape with, and what batch jobs push.
//!
//! ```text
//! content type ─► Format ─► Exposition ─► Entry, labels(), exemplars() ─► Entry …
//! ```

mod float;
mod openmetrics;
mod protobuf;
mod text;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use model::{Histogram, MetricKind};

pub use float::open_metrics_float;
pub use openmetrics::OpenMetricsParser;
pub use protobuf::{Forms, ProtobufParser};
pub use text::TextParser;

/// One piece of content.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<'a> {
    /// Help text of a family.
    Help {
        /// The family.
        family: Cow<'a, str>,
        /// The text, escapes resolved.
        text: Cow<'a, str>,
    },
    /// Type of a family.
    Type {
        /// The family.
        family: Cow<'a, str>,
        /// The type.
        kind: MetricKind,
    },
    /// Unit of a family.
    Unit {
        /// The family.
        family: Cow<'a, str>,
        /// The unit, maybe empty.
        unit: Cow<'a, str>,
    },
    /// A sample. Its labels are in `labels()` until the next entry is read.
    Sample {
        /// Name and labels as they are written: equal bytes are the same series.
        series: Cow<'a, [u8]>,
        /// The value; every NaN of a text is Prometheus' ordinary one, never a stale marker.
        value: f64,
        /// Milliseconds, if given.
        timestamp_ms: Option<i64>,
    },
    /// A native histogram. Its labels are in `labels()` until the next entry is read.
    Histogram {
        /// As of samples.
        series: Cow<'a, [u8]>,
        /// The histogram, unchecked.
        histogram: Box<Histogram>,
        /// Milliseconds, if given.
        timestamp_ms: Option<i64>,
    },
}

/// An exemplar of a sample or a histogram, unchecked.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar<'a> {
    /// Labels as written: in any order, maybe repeated.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The value.
    pub value: f64,
    /// Milliseconds, if given.
    pub timestamp_ms: Option<i64>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}: {text:?}")]
pub struct TextError {
    /// The line, counted from 1; of protobuf the family.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
    /// The line, shortened.
    pub text: String,
}

/// The formats, by content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text 0.0.4 and 1.0.0.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Length-delimited protobuf.
    Protobuf,
}

impl Format {
    /// The format of a content type; `None` for what Prometheus does not read.
    pub fn of(content_type: &str) -> Option<Self> {
        let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match media.as_str() {
            "text/plain" => Some(Self::Text),
            "application/openmetrics-text" => Some(Self::OpenMetrics),
            "application/vnd.google.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// An exposition being read, whatever its format.
#[derive(Debug)]
#[expect(missing_docs, reason = "the formats are told above")]
pub enum Exposition<'a> {
    Text(TextParser<'a>),
    OpenMetrics(OpenMetricsParser<'a>),
    Protobuf(ProtobufParser<'a>),
}

impl<'a> Exposition<'a> {
    /// At the start of a body.
    pub fn new(format: Format, body: &'a [u8]) -> Self {
        match format {
            Format::Text => Self::Text(TextParser::new(body)),
            Format::OpenMetrics => Self::OpenMetrics(OpenMetricsParser::new(body)),
            Format::Protobuf => Self::Protobuf(ProtobufParser::new(body, Forms::Native)),
        }
    }

    /// The next entry; after an error the exposition is refused whole.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, TextError> {
        match self {
            Self::Text(parser) => parser.next_entry(),
            Self::OpenMetrics(parser) => parser.next_entry(),
            Self::Protobuf(parser) => parser.next_entry(),
        }
    }

    /// As [`next_entry`](Self::next_entry). A sample of the series that was written as `expected` in
    /// an exposition before is recognised by its bytes, and its labels are not looked at.
    pub fn next_entry_expecting(
        &mut self,
        expected: &[u8],
    ) -> Result<Option<Entry<'a>>, TextError> {
        match self {
            Self::Text(parser) => parser.next_entry_expecting(expected),
            Self::OpenMetrics(parser) => parser.next_entry_expecting(expected),
            Self::Protobuf(parser) => parser.next_entry(),
        }
    }

    /// Whether the sample just read is the one that was expected: it has no labels here.
    pub fn is_expected(&self) -> bool {
        match self {
            Self::Text(parser) => parser.is_expected(),
            Self::OpenMetrics(parser) => parser.is_expected(),
            Self::Protobuf(_) => false,
        }
    }

    /// Labels of the sample or histogram just read, the name first as `__name__`, then as written:
    /// in any order, maybe repeated, maybe empty.
    pub fn labels(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        match self {
            Self::Text(parser) => parser.labels(),
            Self::OpenMetrics(parser) => parser.labels(),
            Self::Protobuf(parser) => parser.labels(),
        }
    }

    /// Since when the sample or histogram just read counts, milliseconds; 0 is unknown.
    pub fn start_ms(&self) -> i64 {
        match self {
            Self::Text(_) | Self::OpenMetrics(_) => 0,
            Self::Protobuf(parser) => parser.start_ms(),
        }
    }

    /// Exemplars of the sample or histogram just read; a second call gives none.
    pub fn exemplars(&mut self) -> Vec<Exemplar<'a>> {
        match self {
            Self::Text(_) => Vec::new(),
            Self::OpenMetrics(parser) => parser.exemplar().into_iter().collect(),
            Self::Protobuf(parser) => parser.exemplars(),
        }
    }
}
