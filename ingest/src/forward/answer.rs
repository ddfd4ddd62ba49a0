//! What a receiver's answer means for the request.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use reqwest::StatusCode;

use super::config::Protocol;
use super::retry_after::retry_after;
use crate::http_client::{FetchError, Posted};

/// Say how much of a request a receiver of 2.0 stored; receivers of 1.0 do not have them.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Taken,
    /// The receiver reads 1.0 alone.
    WantsV1(String),
    /// Repeating it would not help.
    Never(String),
    /// It may be taken later; `wait` is what the receiver asks for.
    Later {
        why: String,
        wait: Option<Duration>,
    },
}

/// Judges one attempt that was answered at `now_ms`; notes if the receiver shows that it speaks 2.0.
pub(super) fn judge(
    posted: Result<Posted, FetchError>,
    protocol: Protocol,
    retry_429: bool,
    speaks_v2: &AtomicBool,
    now_ms: i64,
) -> Attempt {
    let answer = match posted {
        Ok(answer) => answer,
        // Nobody there, or credentials that cannot be read: both may be mended.
        Err(error) => return Attempt::Later { why: error.to_string(), wait: None },
    };
    let Posted { status, headers, text } = answer;
    let says_written = WRITTEN.iter().any(|name| headers.contains_key(*name));
    let why = match text.is_empty() {
        true => status.to_string(),
        false => format!("{status}: {text}"),
    };
    if protocol == Protocol::V2 {
        if says_written {
            speaks_v2.store(true, Relaxed);
        }
        // Few receivers that know 1.0 alone say 415: some find the message wrong, some read it as an
        // empty one of 1.0. None of them says how much it has written.
        let may_be_v1 = !says_written && !speaks_v2.load(Relaxed);
        let is_misread = status.is_success() || status == StatusCode::BAD_REQUEST;
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE || (may_be_v1 && is_misread) {
            return Attempt::WantsV1(why);
        }
    }
    if status.is_success() {
        return Attempt::Taken;
    }
    let is_rate = status == StatusCode::TOO_MANY_REQUESTS && retry_429;
    match status.is_server_error() || is_rate {
        true => Attempt::Later { why, wait: retry_after(&headers, now_ms) },
        false => Attempt::Never(why),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[track_caller]
    fn check(status: u16, headers: &[(&'static str, &str)], protocol: Protocol, expected: &str) {
        check_known(status, headers, protocol, &AtomicBool::new(false), expected);
    }

    #[track_caller]
    fn check_known(
        status: u16,
        headers: &[(&'static str, &str)],
        protocol: Protocol,
        speaks_v2: &AtomicBool,
        expected: &str,
    ) {
        let status = StatusCode::from_u16(status).expect("a status");
        let value = |text: &str| text.parse().expect("a value");
        let pairs = headers
            .iter()
            .map(|(name, text)| (reqwest::header::HeaderName::from_static(name), value(text)));
        let answer = Posted { status, headers: pairs.collect(), text: "so".to_owned() };
        let found = match judge(Ok(answer), protocol, true, speaks_v2, 0) {
            Attempt::Taken => "taken".to_owned(),
            Attempt::WantsV1(_) => "wants 1.0".to_owned(),
            Attempt::Never(why) => format!("never, {why}"),
            Attempt::Later { wait, .. } => {
                format!("later {}", wait.map_or(0, |wait| wait.as_secs()))
            }
        };
        assert_eq!(found, expected, "{status} {headers:?} {protocol:?}");
    }

    #[test]
    fn answers_mean_what_the_protocol_says() {
        use Protocol::{V1, V2};
        let written = (WRITTEN[0], "1");
        check(204, &[], V1, "taken");
        check(200, &[written], V2, "taken");
        check(200, &[(WRITTEN[1], "0")], V2, "taken");
        check(204, &[], V2, "wants 1.0");
        check(415, &[], V2, "wants 1.0");
        check(415, &[written], V2, "wants 1.0");
        check(400, &[], V2, "wants 1.0");
        check(400, &[written], V2, "never, 400 Bad Request: so");
        check(415, &[], V1, "never, 415 Unsupported Media Type: so");
        check(400, &[], V1, "never, 400 Bad Request: so");
        check(404, &[], V2, "never, 404 Not Found: so");
        check(302, &[], V2, "never, 302 Found: so");
        check(500, &[], V2, "later 0");
        check(503, &[("retry-after", "7")], V1, "later 7");
        check(429, &[("retry-after", "Thu, 01 Jan 1970 00:00:09 GMT")], V1, "later 9");
        check(429, &[("retry-after", "soon")], V1, "later 0");
    }

    #[test]
    fn who_showed_that_it_speaks_2_0_is_believed() {
        let speaks = AtomicBool::new(false);
        check_known(500, &[(WRITTEN[2], "0")], Protocol::V2, &speaks, "later 0");
        check_known(400, &[], Protocol::V2, &speaks, "never, 400 Bad Request: so");
        check_known(204, &[], Protocol::V2, &speaks, "taken");
    }

    #[test]
    fn rates_and_failures_to_ask() {
        let (speaks, headers) = (AtomicBool::new(false), HeaderMap::new());
        let status = StatusCode::TOO_MANY_REQUESTS;
        let answer = Posted { status, headers, text: String::new() };
        let found = judge(Ok(answer), Protocol::V1, false, &speaks, 0);
        assert_eq!(found, Attempt::Never("429 Too Many Requests".to_owned()));
        let error = FetchError::Credentials("unable to read file x".to_owned());
        let found = judge(Err(error), Protocol::V2, true, &speaks, 0);
        let why = "unable to read file x".to_owned();
        assert_eq!(found, Attempt::Later { why, wait: None });
    }
}
