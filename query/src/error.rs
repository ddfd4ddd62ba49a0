//! Why a question got no answer. Each kind is one `errorType` and one status of Prometheus' API.

/// The source of an internal error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a question got no answer. Texts are shown to whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The question is wrong: a parameter, the syntax, the types.
    #[error("{0}")]
    BadData(String),
    /// A statement is wrong, at a place that is known or not.
    #[error("{text}")]
    Statement {
        /// What is wrong.
        text: String,
        /// Where it begins.
        place: Option<Place>,
    },
    /// The question is right and its evaluation failed: vectors that do not match, a limit.
    #[error("{0}")]
    Execution(String),
    /// It took too long, or waited too long for its turn.
    #[error("{0}")]
    Timeout(String),
    /// Nobody waits for the answer any more.
    #[error("{0}")]
    Canceled(String),
    /// The scope allows a part of what the answer would be made of, and the parts cannot be told
    /// apart.
    #[error("{0}")]
    Forbidden(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// None of the formats the client takes can be produced.
    #[error("{0}")]
    NotAcceptable(String),
    /// The tenant asks for more at a time than it may.
    #[error("{0}")]
    TooMany(String),
    /// Whoever runs this server has not switched it on; asking again does not help.
    #[error("{0}")]
    Disabled(String),
    /// It could be answered later, or by a part that is not there.
    #[error("{0}")]
    Unavailable(String),
    /// Storage failed. The text says what we were doing.
    #[error("{doing}")]
    Internal {
        /// What we were doing.
        doing: String,
        /// What went wrong.
        source: Source,
    },
}

/// A place in a text; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which line.
    pub line: u64,
    /// Which character of it.
    pub column: u64,
}

impl Error {
    /// An internal error: what we were doing and what went wrong.
    pub fn internal(doing: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Internal { doing: doing.into(), source: source.into() }
    }

    /// The word in the field `errorType`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BadData(_) | Self::Statement { .. } => "bad_data",
            Self::Execution(_) => "execution",
            Self::Timeout(_) => "timeout",
            Self::Canceled(_) => "canceled",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::NotAcceptable(_) => "not_acceptable",
            Self::TooMany(_) => "too_many_requests",
            Self::Unavailable(_) | Self::Disabled(_) => "unavailable",
            Self::Internal { .. } => "internal",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadData(_) | Self::Statement { .. } => 400,
            Self::Execution(_) => 422,
            Self::Timeout(_) | Self::Unavailable(_) | Self::Disabled(_) => 503,
            Self::Canceled(_) => 499,
            Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::NotAcceptable(_) => 406,
            Self::TooMany(_) => 429,
            Self::Internal { .. } => 500,
        }
    }

    /// How long a client should wait before it asks again, if that may help. Seconds.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        matches!(self, Self::TooMany(_) | Self::Unavailable(_)).then_some(1)
    }
}
