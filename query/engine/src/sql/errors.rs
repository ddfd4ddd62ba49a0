//! What DataFusion refuses, in the words and with the status of the API.

use datafusion::sql::sqlparser::parser::ParserError;
use datafusion_common::{DataFusionError, Diagnostic};
use query::{Error, Place};

/// How DataFusion begins to tell of a regular expression that it cannot compile.
const UNUSABLE_PATTERN: &str = "failed to call 'regex_match_dyn";

/// An error of ours on its way through a plan.
pub(super) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// What DataFusion says, as the answer to a statement.
pub(super) fn asked(error: &DataFusionError) -> Error {
    of(error, None)
}

fn of(error: &DataFusionError, place: Option<Place>) -> Error {
    match error {
        DataFusionError::External(source) => match source.downcast_ref::<Error>() {
            Some(own) => again(own),
            None => match source.downcast_ref::<DataFusionError>() {
                Some(inner) => of(inner, place),
                None if source.is::<regex_syntax::Error>() => {
                    let text = format!("a regular expression cannot be read: {source}");
                    Error::Statement { text, place }
                }
                None => Error::internal("answer a statement", source.to_string()),
            },
        },
        DataFusionError::Context(_, inner) => of(inner, place),
        DataFusionError::Shared(inner) => of(inner, place),
        DataFusionError::Diagnostic(diagnostic, inner) => of(inner, begin(diagnostic).or(place)),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => of(first, place),
            None => Error::internal("answer a statement", "no reason was given"),
        },
        DataFusionError::SQL(error, _) => unread(error),
        DataFusionError::Plan(_)
        | DataFusionError::SchemaError(_, _)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_) => statement(error, place),
        DataFusionError::Execution(_)
        | DataFusionError::ArrowError(_, _)
        | DataFusionError::ResourcesExhausted(_) => Error::Execution(error.message().into_owned()),
        // A pattern that takes too much is the statement's fault, whatever DataFusion calls it.
        DataFusionError::Internal(text) if text.starts_with(UNUSABLE_PATTERN) => {
            let reason = text.split_once("' ").map_or(text.as_str(), |(_, reason)| reason);
            let reason = reason.split_once("\nThis issue").map_or(reason, |(reason, _)| reason);
            Error::Execution(reason.trim_end_matches('.').to_owned())
        }
        error => Error::internal("answer a statement", error.message().into_owned()),
    }
}

fn statement(error: &DataFusionError, place: Option<Place>) -> Error {
    let message = error.message();
    let text = message.strip_prefix("Schema error: ").unwrap_or(&message);
    Error::Statement { text: text.trim().to_owned(), place }
}

fn begin(diagnostic: &Diagnostic) -> Option<Place> {
    let start = diagnostic.span?.start;
    (start.line > 0).then_some(Place { line: start.line, column: start.column })
}

/// The parser tells the place in its text.
fn unread(error: &ParserError) -> Error {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            "the statement is nested too deeply; name parts of it with WITH"
        }
    };
    let found = text.rsplit_once(" at Line: ").and_then(|(text, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let place = Place { line: line.parse().ok()?, column: column.trim().parse().ok()? };
        Some((text, place))
    });
    match found {
        Some((text, place)) => {
            Error::Statement { text: text.to_owned(), place: (place.line > 0).then_some(place) }
        }
        None => Error::Statement { text: text.to_owned(), place: None },
    }
}

/// The same error once more: the plan may still hold the first.
fn again(error: &Error) -> Error {
    match error {
        Error::BadData(text) => Error::BadData(text.clone()),
        Error::Statement { text, place } => Error::Statement { text: text.clone(), place: *place },
        Error::Execution(text) => Error::Execution(text.clone()),
        Error::Timeout(text) => Error::Timeout(text.clone()),
        Error::Canceled(text) => Error::Canceled(text.clone()),
        Error::Forbidden(text) => Error::Forbidden(text.clone()),
        Error::NotFound(text) => Error::NotFound(text.clone()),
        Error::NotAcceptable(text) => Error::NotAcceptable(text.clone()),
        Error::TooMany(text) => Error::TooMany(text.clone()),
        Error::Disabled(text) => Error::Disabled(text.clone()),
        Error::Unavailable(text) => Error::Unavailable(text.clone()),
        Error::Internal { doing, source } => Error::internal(doing.clone(), source.to_string()),
    }
}
