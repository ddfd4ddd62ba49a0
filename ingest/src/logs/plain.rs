//! Answers of doors that tell in plain text what they refused.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::intake::EntryIntake;
use super::told::Told;
use crate::intake::{Refusal, seconds_of};

/// Carries out a write and answers it: with `stored` if there is nothing to tell. `route` is the
/// door's place in [`crate::ROUTES`].
pub(super) async fn answer(
    intake: &EntryIntake,
    route: usize,
    stored: StatusCode,
    write: impl Future<Output = Result<Option<Told>, Refusal>>,
) -> Response {
    let begun = intake.intake.begin();
    let response = match write.await {
        Ok(None) => stored.into_response(),
        Ok(Some(told)) => text(told.status, told.text, told.retry_after),
        Err(refusal) => {
            let (_, status) = refusal.kind();
            text(status, refusal.to_string(), refusal.retry_after(status))
        }
    };
    intake.intake.answered(route, response.status().as_u16(), begun);
    response
}

fn text(status: StatusCode, text: String, wait: Option<Duration>) -> Response {
    let mut response = (status, text + "\n").into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Some(wait) = wait {
        headers.insert(RETRY_AFTER, seconds_of(wait));
    }
    response
}
