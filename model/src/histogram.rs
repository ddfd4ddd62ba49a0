//! Native histograms, kept as they came: integer ones with their bucket deltas, float ones with
//! absolute counts. Arithmetic on them belongs to the query engine.

/// One native histogram sample (`prompb.Histogram`), without its timestamp.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// What the sender knows of a counter reset.
    pub reset_hint: ResetHint,
    /// Bucket growth is 2^(2^-schema); −53 means custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Sum of observations.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// The counts.
    pub buckets: Buckets,
    /// Upper bounds of custom buckets (schema −53), else empty.
    pub custom_values: Vec<f64>,
}

/// Counts of a native histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum Buckets {
    /// Counts are integers; buckets are written as differences to the one before.
    Integer {
        /// Number of observations.
        count: u64,
        /// Observations in the zero bucket.
        zero_count: u64,
        /// Positive buckets, each as the difference to the previous.
        positive_deltas: Vec<i64>,
        /// Negative buckets, each as the difference to the previous.
        negative_deltas: Vec<i64>,
    },
    /// Counts are floats and absolute.
    Float {
        /// Number of observations.
        count: f64,
        /// Observations in the zero bucket.
        zero_count: f64,
        /// Positive buckets.
        positive: Vec<f64>,
        /// Negative buckets.
        negative: Vec<f64>,
    },
}

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Gap to the previous span; for the first one the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What is known of a counter reset before this sample; the numbers are those of `prompb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ResetHint {
    /// Nothing; compare with the sample before.
    #[default]
    Unknown = 0,
    /// There was a reset.
    Yes = 1,
    /// There was none.
    No = 2,
    /// A gauge: resets mean nothing.
    Gauge = 3,
}

impl ResetHint {
    /// From the number on the wire; unknown numbers become `Unknown`.
    pub fn from_wire(number: u64) -> Self {
        match number {
            1 => Self::Yes,
            2 => Self::No,
            3 => Self::Gauge,
            _ => Self::Unknown,
        }
    }
}

impl Histogram {
    /// The stale marker of a histogram series is one whose sum is the stale NaN.
    pub fn is_stale(&self) -> bool {
        crate::is_stale(self.sum)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let counts = match &self.buckets {
            Buckets::Integer { positive_deltas, negative_deltas, .. } => {
                positive_deltas.len() + negative_deltas.len()
            }
            Buckets::Float { positive, negative, .. } => positive.len() + negative.len(),
        };
        let spans = self.positive_spans.len() + self.negative_spans.len();
        size_of::<Self>()
            + spans * size_of::<Span>()
            + (counts + self.custom_values.len()) * size_of::<f64>()
    }
}
