//! Exposition formats: what targets answer a scrape with, and what batch jobs push.
//!
//! ```text
//! content type ─► Format ─► Exposition ─► Entry, labels(), exemplars() ─► Entry …
//! ```

mod composite;
mod converting;
mod custom;
mod float;
mod metric;
mod openmetrics;
mod openmetrics2;
mod protobuf;
mod queue;
mod text;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use model::{Histogram, MetricKind};

pub use converting::ConvertingParser;
pub use float::open_metrics_float;
pub use openmetrics::OpenMetricsParser;
pub use openmetrics2::OpenMetrics2Parser;
pub use protobuf::ProtobufParser;
pub use text::TextParser;

/// In which forms histograms are handed out that come in several, or could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forms {
    /// Native histograms as native ones; else they are read as classic ones.
    pub native: bool,
    /// Classic ones beside the native ones they came with or became.
    pub classic_too: bool,
    /// Classic histograms become native ones with custom buckets.
    pub convert_classic: bool,
}

impl Forms {
    /// What is native stays native, what is classic stays classic.
    pub const NATIVE: Self = Self { native: true, classic_too: false, convert_classic: false };
}

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
    /// OpenMetrics 0.0.1 and 1.0.
    OpenMetrics,
    /// OpenMetrics 2.0.
    OpenMetrics2,
    /// Length-delimited protobuf.
    Protobuf,
}

impl Format {
    /// The format of a content type; `None` for what Prometheus does not read.
    pub fn of(content_type: &str) -> Option<Self> {
        let mut words = content_type.split(';').map(|word| word.trim().to_ascii_lowercase());
        match words.next().unwrap_or_default().as_str() {
            "text/plain" => Some(Self::Text),
            "application/openmetrics-text" => {
                let is_2 = words.any(|word| word.replace('"', "").starts_with("version=2."));
                Some(if is_2 { Self::OpenMetrics2 } else { Self::OpenMetrics })
            }
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
    OpenMetrics2(OpenMetrics2Parser<'a>),
    Protobuf(ProtobufParser<'a>),
    Converting(ConvertingParser<'a>),
}

impl<'a> Exposition<'a> {
    /// At the start of a body; histograms are handed out as they came.
    pub fn new(format: Format, body: &'a [u8]) -> Self {
        Self::in_forms(format, body, Forms::NATIVE)
    }

    /// At the start of a body.
    pub fn in_forms(format: Format, body: &'a [u8], forms: Forms) -> Self {
        let plain = match format {
            Format::Text => Self::Text(TextParser::new(body)),
            Format::OpenMetrics => Self::OpenMetrics(OpenMetricsParser::new(body)),
            Format::OpenMetrics2 => {
                return Self::OpenMetrics2(OpenMetrics2Parser::new(body, forms));
            }
            Format::Protobuf => return Self::Protobuf(ProtobufParser::new(body, forms)),
        };
        match forms.convert_classic {
            true => Self::Converting(ConvertingParser::new(plain, forms.classic_too)),
            false => plain,
        }
    }

    /// The next entry; after an error the exposition is refused whole.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, TextError> {
        self.next_entry_expecting(&[])
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
            Self::OpenMetrics2(parser) => parser.next_entry_expecting(expected),
            Self::Protobuf(parser) => parser.next_entry(),
            Self::Converting(parser) => parser.next_entry(),
        }
    }

    /// Whether the sample just read is the one that was expected: it has no labels here.
    pub fn is_expected(&self) -> bool {
        match self {
            Self::Text(parser) => parser.is_expected(),
            Self::OpenMetrics(parser) => parser.is_expected(),
            Self::OpenMetrics2(parser) => parser.is_expected(),
            Self::Protobuf(_) | Self::Converting(_) => false,
        }
    }

    /// Labels of the sample or histogram just read, the name first as `__name__`, then as written:
    /// in any order, maybe repeated, maybe empty.
    pub fn labels(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        match self {
            Self::Text(parser) => parser.labels(),
            Self::OpenMetrics(parser) => parser.labels(),
            Self::OpenMetrics2(parser) => parser.labels(),
            Self::Protobuf(parser) => parser.labels(),
            Self::Converting(parser) => parser.labels(),
        }
    }

    /// Since when the sample or histogram just read counts, milliseconds; 0 is unknown.
    pub fn start_ms(&self) -> i64 {
        match self {
            Self::Text(_) | Self::OpenMetrics(_) | Self::Converting(_) => 0,
            Self::OpenMetrics2(parser) => parser.start_ms(),
            Self::Protobuf(parser) => parser.start_ms(),
        }
    }

    /// Exemplars of the sample or histogram just read; a second call gives none.
    pub fn exemplars(&mut self) -> Vec<Exemplar<'a>> {
        match self {
            Self::Text(_) => Vec::new(),
            Self::OpenMetrics(parser) => parser.exemplar().into_iter().collect(),
            Self::OpenMetrics2(parser) => parser.exemplars(),
            Self::Protobuf(parser) => parser.exemplars(),
            Self::Converting(parser) => parser.exemplars(),
        }
    }
}
