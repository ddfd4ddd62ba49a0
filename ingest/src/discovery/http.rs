//! HTTP discovery: an address that answers with a list of groups in JSON, asked again and again.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::{Group, Provider, Running, Updates, file, whole};
use crate::http_client::{Client, FetchError, Question};

/// Length of an answer. Bytes.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// The label that says which address a target came from.
const URL: &str = "__meta_url";

/// An address to ask.
#[derive(Debug)]
pub(crate) struct Http {
    url: String,
    refresh: Duration,
    client: Client,
}

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// There is no answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An answer of another kind.
    #[error("unsupported content type {0:?}")]
    ContentType(String),
    /// It is not a list of groups.
    #[error(transparent)]
    Wrong(#[from] crate::yaml::YamlError),
    /// Not text.
    #[error("the answer is not UTF-8")]
    NotText,
}

impl Http {
    pub(crate) fn new(url: String, refresh: Duration, client: Client) -> Self {
        Self { url, refresh, client }
    }

    async fn ask(&self) -> Result<Vec<Group>, HttpError> {
        // As Prometheus does, so that one server can serve both.
        let headers = [
            ("accept", "application/json".to_owned()),
            ("x-prometheus-refresh-interval-seconds", self.refresh.as_secs_f64().to_string()),
        ];
        let question = Question { url: &self.url, headers: &headers, bytes_max: ANSWER_BYTES_MAX };
        let timeout = self.refresh.min(Duration::from_secs(60));
        let answer = self.client.get(&question, timeout).await?;
        let media = answer.content_type.split(';').next().unwrap_or("").trim();
        if !media.eq_ignore_ascii_case("application/json") {
            return Err(HttpError::ContentType(answer.content_type));
        }
        let body = answer.body.inflated(ANSWER_BYTES_MAX)?;
        let text = std::str::from_utf8(&body).map_err(|_| HttpError::NotText)?;
        let mut groups = file::groups(text, |i| format!("{}:{i}", self.url))?;
        for group in &mut groups {
            group.labels.push((URL.to_owned(), self.url.clone()));
        }
        Ok(groups)
    }
}

impl Provider for Http {
    fn run(self: Arc<Self>, updates: Updates) -> Running {
        Box::pin(async move {
            let mut known = Vec::new();
            loop {
                match self.ask().await {
                    Ok(groups) => {
                        if updates.send(whole(groups, &mut known)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        warn!(url = self.url, error, "ask for targets");
                    }
                }
                tokio::time::sleep(self.refresh).await;
                if updates.is_closed() {
                    return;
                }
            }
        })
    }
}
