//! OAuth 2.0 client credentials: a token is asked for once and used until it is about to end.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::FetchError;
use super::config::{OAuth2, Secret};
use super::connect::Connected;

/// So long before its end a token is not used any more.
const EARLY: Duration = Duration::from_secs(10);

/// Length of a token's answer. Bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A token that is had when it is needed.
#[derive(Debug)]
pub(super) struct Token {
    /// `None` where no token is used.
    connected: Option<Connected>,
    held: Mutex<Option<Held>>,
}

struct Held {
    /// With the word before it.
    header: String,
    until: Option<Instant>,
    /// What it was got for: another secret gets another token.
    secret: String,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Token {
    pub(super) fn new(connected: Connected) -> Self {
        Self { connected: Some(connected), held: Mutex::new(None) }
    }

    pub(super) fn nobody() -> Self {
        Self { connected: None, held: Mutex::new(None) }
    }

    /// The header's value. Whoever comes while a token is asked for waits for it.
    pub(super) async fn get(&self, config: &OAuth2) -> Result<String, FetchError> {
        let secret = config.client_secret.as_ref().map_or_else(|| Ok(String::new()), Secret::read);
        let secret = secret.map_err(FetchError::Credentials)?;
        let mut held = self.held.lock().await;
        if let Some(held) = &*held
            && held.until.is_none_or(|until| Instant::now() + EARLY < until)
            && held.secret == secret
        {
            return Ok(held.header.clone());
        }
        let token = self.ask(config, secret).await?;
        let header = token.header.clone();
        *held = Some(token);
        Ok(header)
    }

    async fn ask(&self, config: &OAuth2, secret: String) -> Result<Held, FetchError> {
        let connected = self.connected.as_ref().ok_or_else(|| failed("no client".to_owned()))?;
        let mut form = vec![("grant_type", "client_credentials")];
        let scopes = config.scopes.join(" ");
        if !scopes.is_empty() {
            form.push(("scope", &scopes));
        }
        for (name, value) in &config.endpoint_params {
            match form.iter_mut().find(|(known, _)| known == name) {
                // Some servers want another one.
                Some(known) if known.0 == "grant_type" => known.1 = value,
                Some(_) => return Err(failed(format!("cannot overwrite parameter {name:?}"))),
                None => form.push((name, value)),
            }
        }
        // In the header first, in the form if that is not understood: servers differ.
        let both = format!("{}:{}", escaped(&config.client_id), escaped(&secret));
        let basic = format!("Basic {}", BASE64_STANDARD.encode(both));
        let mut answer = self.send(connected, config, &form, Some(basic)).await;
        if answer.is_err() {
            form.retain(|(name, _)| !matches!(*name, "client_id" | "client_secret"));
            form.extend([("client_id", config.client_id.as_str()), ("client_secret", &secret)]);
            answer = self.send(connected, config, &form, None).await;
        }
        let (header, until) = answer?;
        Ok(Held { header, until, secret })
    }

    /// The header's value, and until when it holds.
    async fn send(
        &self,
        connected: &Connected,
        config: &OAuth2,
        form: &[(&str, &str)],
        authorization: Option<String>,
    ) -> Result<(String, Option<Instant>), FetchError> {
        let pairs = form.iter().map(|(n, v)| format!("{}={}", escaped(n), escaped(v)));
        let form = pairs.collect::<Vec<_>>().join("&");
        let mut request = connected.form(&config.token_url, form)?;
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let response = request.send().await.map_err(|e| failed(super::causes(&e)))?;
        let status = response.status();
        let body = super::read(response, ANSWER_BYTES_MAX, None).await?;
        let (body, _) = body.map_err(|e| failed(super::causes(&e)))?;
        let answer = serde_json::from_slice(&body);
        if let Some(told) = answer.as_ref().ok().and_then(error_of) {
            return Err(failed(told));
        }
        if !status.is_success() {
            return Err(failed(format!("cannot fetch token: {status}")));
        }
        let answer: Value =
            answer.map_err(|e| failed(format!("cannot read the token's answer: {e}")))?;
        let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
        let token =
            token.ok_or_else(|| failed("server response missing access_token".to_owned()))?;
        let kind = match answer["token_type"].as_str().unwrap_or("") {
            kind if kind.eq_ignore_ascii_case("bearer") || kind.is_empty() => "Bearer",
            kind => kind,
        };
        let seconds = match &answer["expires_in"] {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        let seconds = seconds.filter(|seconds| *seconds > 0);
        let until = seconds.and_then(|s| Instant::now().checked_add(Duration::from_secs(s)));
        Ok((format!("{kind} {token}"), until))
    }
}

fn failed(what: String) -> FetchError {
    FetchError::Credentials(format!("oauth2: {what}"))
}

/// What a server says in the way the protocol has for it (RFC 6749, 5.2).
fn error_of(answer: &Value) -> Option<String> {
    let texts = ["error", "error_description", "error_uri"].map(|name| answer[name].as_str());
    texts[0].filter(|code| !code.is_empty())?;
    let shown = |text: &str| format!("{:?}", text.chars().take(500).collect::<String>());
    Some(texts.into_iter().flatten().map(shown).collect::<Vec<_>>().join(" "))
}

/// A text as it stands in forms and addresses.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte as char);
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
