//! Asking others by HTTP, with everything Prometheus' `http_config` offers: scraping, discovery and
//! forwarding stand on it.
//!
//! ```text
//! config ─► Clients (one pool of connections for all that connect alike) ─► Client: credentials, headers ─► Answer
//! ```

mod config;
mod connect;
mod oauth2;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, USER_AGENT,
};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use config::{Credentials, HttpConfig};
pub(crate) use connect::{ClientError, Clients};
pub(crate) use oauth2::escaped;

use crate::intake::{Encoding, InflateError, Inflated, inflate};
use config::Secret;
use connect::Connected;
use oauth2::Token;

/// Who asks.
const AGENT: &str = concat!("Taffrail/", env!("CARGO_PKG_VERSION"));

/// How much is read of an answer to a body. Bytes.
const POSTED_TEXT_BYTES_MAX: usize = 512;

/// A room that a body gets at first if the answer does not say how long it is. Bytes.
const BODY_BYTES_FIRST: usize = 16 << 10;

/// A body up to here is held whoever else holds what: targets are like that. Bytes.
const BODY_BYTES_SHORT: usize = 1 << 20;

/// What longer bodies may hold together beyond that. Bytes; two of the longest there may be.
const LONG_BODIES_BYTES_MAX: usize = 512 << 20;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    /// The address.
    pub(crate) url: &'a str,
    /// Headers besides those of the configuration.
    pub(crate) headers: &'a [(&'static str, String)],
    /// Length of the body from which on the answer is refused, as it comes and decompressed.
    pub(crate) bytes_max: usize,
}

/// What was answered, with status 200.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Empty if there is none.
    pub(crate) content_type: String,
    pub(crate) body: Body,
}

/// A body as it came.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    is_gzip: bool,
    /// Its part of what long bodies may hold.
    _room: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// The body decompressed, if it was compressed: in `room` then.
    pub(crate) fn inflate<'b>(
        &'b self,
        bytes_max: usize,
        room: &'b mut Inflated,
    ) -> Result<&'b [u8], FetchError> {
        let encoding = if self.is_gzip { Encoding::Gzip } else { Encoding::Identity };
        inflate(encoding, &self.bytes, bytes_max, room).map_err(|why| match why {
            InflateError::Grows { limit } => FetchError::TooLarge { limit },
            why => FetchError::Body(why.to_string()),
        })
    }

    /// The body decompressed, in memory of its own.
    pub(crate) fn inflated(&self, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
        let mut room = Inflated::default();
        Ok(self.inflate(bytes_max, &mut room)?.to_vec())
    }
}

/// What was answered to a body, with any status.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// How the answer's body begins, for messages.
    pub(crate) text: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// No connection, or it broke.
    #[error("{verb} {url:?}: {why}")]
    Request {
        /// What was done, as Go says it.
        verb: &'static str,
        /// The address.
        url: String,
        /// What happened.
        why: String,
    },
    /// It took too long.
    #[error("{verb} {url:?}: context deadline exceeded")]
    Timeout {
        /// What was done.
        verb: &'static str,
        /// The address.
        url: String,
    },
    /// Not 200.
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// Too long a body.
    #[error("body size limit exceeded: more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Wrongly compressed.
    #[error("{0}")]
    Body(String),
    /// What says who we are cannot be had.
    #[error("{0}")]
    Credentials(String),
    /// Certificates cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Asks on behalf of one part of the configuration.
#[derive(Debug)]
pub(crate) struct Client {
    config: HttpConfig,
    connected: Connected,
    token: Token,
    /// What is left for long bodies, bytes.
    room: Arc<Semaphore>,
}

impl Client {
    fn new(config: HttpConfig, connected: Connected, token: Token, room: Arc<Semaphore>) -> Self {
        Self { config, connected, token, room }
    }

    /// Asks; the whole body is there within `timeout`, or there is an error.
    pub(crate) async fn get(
        &self,
        question: &Question<'_>,
        timeout: Duration,
    ) -> Result<Answer, FetchError> {
        match tokio::time::timeout(timeout, self.ask(question)).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout { verb: "Get", url: shown(question.url) }),
        }
    }

    /// Sends a body; the answer's head is there within `timeout`, or there is an error. Every status
    /// is an answer.
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
        timeout: Duration,
    ) -> Result<Posted, FetchError> {
        match tokio::time::timeout(timeout, self.send(url, headers, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout { verb: "Post", url: shown(url) }),
        }
    }

    async fn send(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<Posted, FetchError> {
        let headers = self.headers(headers).await?;
        let request = self.connected.request(Method::POST, url, headers)?.body(body);
        let mut response = request.send().await.map_err(|e| FetchError::Request {
            verb: "Post",
            url: shown(url),
            why: causes(&e),
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut text = Vec::new();
        while text.len() < POSTED_TEXT_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => text.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        text.truncate(POSTED_TEXT_BYTES_MAX);
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        Ok(Posted { status, headers, text })
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Answer, FetchError> {
        let failed = |e: &reqwest::Error| FetchError::Request {
            verb: "Get",
            url: shown(question.url),
            why: causes(e),
        };
        let headers = self.headers(question.headers).await?;
        let request = self.connected.request(Method::GET, question.url, headers)?;
        let response = request.send().await.map_err(|e| failed(&e))?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let words = status.canonical_reason().unwrap_or("");
            return Err(FetchError::Status(
                format!("{} {words}", status.as_u16()).trim().to_owned(),
            ));
        }
        let content_type = text_of(response.headers().get(CONTENT_TYPE));
        let encoding = text_of(response.headers().get(CONTENT_ENCODING));
        let body = read(response, question.bytes_max, Some(&self.room)).await?;
        let (bytes, room) = body.map_err(|e| failed(&e))?;
        let is_gzip = encoding == "gzip";
        Ok(Answer { content_type, body: Body { bytes, is_gzip, _room: room } })
    }

    async fn headers(&self, own: &[(&'static str, String)]) -> Result<HeaderMap, FetchError> {
        let wrong = |name: &str| FetchError::Credentials(format!("header {name:?} is not valid"));
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in own {
            let value = HeaderValue::from_str(value).map_err(|_| wrong(name))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        for header in &self.config.headers {
            let name = &header.name;
            let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(name))?;
            for value in &header.values {
                let value = value.read().map_err(FetchError::Credentials)?;
                let value = HeaderValue::from_str(&value).map_err(|_| wrong(name))?;
                headers.append(known.clone(), value);
            }
        }
        if let Some(value) = self.authorization().await? {
            let mut value = HeaderValue::from_str(&value).map_err(|_| wrong("Authorization"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// The header that says who we are. Files are read each time: they are small, and change.
    async fn authorization(&self) -> Result<Option<String>, FetchError> {
        let read = |secret: &Option<Secret>| {
            let text = secret.as_ref().map_or_else(|| Ok(String::new()), Secret::read);
            text.map_err(FetchError::Credentials)
        };
        match &self.config.credentials {
            Credentials::Nobody => Ok(None),
            Credentials::Basic { username, password } => {
                let both = format!("{}:{}", read(username)?, read(password)?);
                Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(both))))
            }
            Credentials::Authorization { kind, credentials } => {
                Ok(Some(format!("{kind} {}", read(credentials)?).trim_end().to_owned()))
            }
            Credentials::OAuth2(config) => self.token.get(config).await.map(Some),
        }
    }
}

/// An address for logs and metrics: a password in it becomes `xxxxx`, as Go shows it.
pub(crate) fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            // It has a host, or it could have no password.
            let _ = parsed.set_password(Some("xxxxx"));
            parsed.into()
        }
        _ => url.to_owned(),
    }
}

fn text_of(value: Option<&HeaderValue>) -> String {
    value.map_or_else(String::new, |v| String::from_utf8_lossy(v.as_bytes()).into_owned())
}

/// A body and its part of the room for long ones.
type Whole = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// The whole body, if it is short enough. What is beyond a short one waits until there is room for it
/// beside those of everybody else.
async fn read(
    mut response: reqwest::Response,
    bytes_max: usize,
    room: Option<&Arc<Semaphore>>,
) -> Result<Result<Whole, reqwest::Error>, FetchError> {
    let too_large = || FetchError::TooLarge { limit: bytes_max };
    let declared = response.content_length().unwrap_or(0);
    if declared > bytes_max as u64 {
        return Err(too_large());
    }
    // What is declared is given room as it comes, not before.
    let mut bytes = Vec::with_capacity((declared as usize).clamp(BODY_BYTES_FIRST, 1 << 20));
    let mut held: Option<OwnedSemaphorePermit> = None;
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > bytes_max => return Err(too_large()),
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(Ok((bytes, held))),
            Err(error) => return Ok(Err(error)),
        };
        let long = (bytes.len() + chunk.len()).saturating_sub(BODY_BYTES_SHORT.max(bytes.len()));
        if let Some(room) = room.filter(|_| long > 0)
            // It is never closed.
            && let Ok(more) = Arc::clone(room).acquire_many_owned(long as u32).await
        {
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// What happened, from the last cause but one on: the library's own words say little.
fn causes(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if words.last() != Some(&text) {
            words.push(text);
        }
        next = cause.source();
    }
    match words.is_empty() {
        true => error.to_string(),
        false => words.join(": "),
    }
}
