//! SQL at the port: what a statement comes with, and what its answer comes as. Whoever implements
//! [`crate::Executor`] reads the statement; here it is a text.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::promql::Features;
use crate::{Cancel, Error};

/// A statement and how it is to be answered.
#[derive(Debug, Clone)]
pub struct SqlRequest {
    /// The statement.
    pub text: String,
    /// What stands for `$name` and `$1` in it, without the `$`.
    pub parameters: BTreeMap<String, SqlParameter>,
    /// The form of the answer.
    pub format: SqlFormat,
    /// What `now()` is. Milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How expressions in `promql(…)` are read and evaluated.
    pub promql: PromqlRules,
    /// Wall time the answer may take. The caller also stops waiting by itself.
    pub timeout: Duration,
    /// Set when nobody waits for the answer any more.
    pub cancel: Cancel,
}

/// A value for a placeholder.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlParameter {
    /// `NULL`
    Null,
    /// `TRUE` or `FALSE`
    Boolean(bool),
    /// A number, as it was written.
    Number(String),
    /// A text; where an instant is compared with it, it is read as one.
    Text(String),
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SqlFormat {
    /// An object with columns and rows.
    #[default]
    Json,
    /// RFC 4180, names of columns first.
    Csv,
    /// Arrow's IPC stream.
    Arrow,
}

impl SqlFormat {
    /// By the word that a parameter has for it.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "arrow" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Settings for expressions within statements.
#[derive(Debug, Clone, Copy)]
pub struct PromqlRules {
    /// How long the last sample of a series stands in for a missing one.
    pub lookback_ms: i64,
    /// Steps between the first and the last point.
    pub steps_max: i64,
    /// Bytes of an expression.
    pub expression_bytes_max: usize,
    /// What of the language is switched on.
    pub features: Features,
}

/// An answer on its way: pieces that follow each other in its form.
#[async_trait]
pub trait Pieces: Send {
    /// The next piece; `None` after the last. Whoever drops the rest ends the work.
    async fn next(&mut self) -> Result<Option<Bytes>, Error>;
}
