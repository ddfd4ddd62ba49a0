//! Why a request was turned away, and how the client is told.

use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::error;

use crate::selection::{SelectionError, TokenError};
use crate::{DirectoryError, Tenant, TenantName, TenantStatus};

/// A request that may not go on. The texts are shown to the client: they never say whether a
/// tenant exists, only what the credential allows.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Refusal {
    #[error(
        "no credentials: send a bearer token, or basic authentication with the token as password"
    )]
    NoCredentials,
    #[error("{0}")]
    Credentials(#[from] TokenError),
    #[error("unknown token")]
    UnknownToken,
    #[error(
        "the client certificate of {subject} stands for nobody here: name it in the token file, or send a token"
    )]
    UnknownCertificate { subject: String },
    #[error("{0}")]
    Selection(#[from] SelectionError),
    #[error("several tenants can be meant: name one in X-Scope-OrgID")]
    NoTenant,
    #[error("a write goes to exactly one tenant, and X-Scope-OrgID names several")]
    SeveralForWrite,
    #[error("{principal} may not read tenant {tenant}")]
    Read { principal: String, tenant: TenantName },
    #[error("{principal} may not read all tenants")]
    ReadAll { principal: String },
    #[error("{principal} may not write to tenant {tenant}")]
    Write { principal: String, tenant: TenantName },
    #[error("{principal} may {verb} nothing")]
    Nothing { principal: String, verb: &'static str },
    #[error("{principal} is not an administrator of the platform")]
    Administer { principal: String },
    #[error("{principal} is not an administrator of tenant {tenant} and may not delete its rows")]
    Delete { principal: String, tenant: TenantName },
    #[error("tenant {tenant} is suspended{}: {}", because(reason), if *reads { "it can be read, but takes no rows" } else { "it can neither be written nor read" })]
    Suspended { tenant: TenantName, reason: String, reads: bool },
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantName),
    #[error("tenant {tenant} was not created: {source}")]
    TooMany { tenant: TenantName, source: DirectoryError },
    #[error("tenant {tenant} could not be created now")]
    Unavailable { tenant: TenantName, source: DirectoryError },
}

/// Label values of `taffrail_tenancy_refused_requests_total`.
pub(crate) const REASONS: [&str; 15] = [
    "no_credentials",
    "malformed_credentials",
    "unknown_token",
    "malformed_header",
    "ambiguous_tenant",
    "read_not_granted",
    "write_not_granted",
    "nothing_granted",
    "not_an_administrator",
    "suspended",
    "too_many_tenants",
    "directory_unavailable",
    "delete_not_granted",
    "no_such_tenant",
    "unknown_certificate",
];

/// Why, if somebody said.
fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoCredentials
            | Self::Credentials(_)
            | Self::UnknownToken
            | Self::UnknownCertificate { .. } => StatusCode::UNAUTHORIZED,
            Self::Selection(_) | Self::NoTenant | Self::SeveralForWrite => StatusCode::BAD_REQUEST,
            Self::Read { .. }
            | Self::ReadAll { .. }
            | Self::Write { .. }
            | Self::Nothing { .. }
            | Self::Administer { .. }
            | Self::Suspended { .. }
            | Self::Delete { .. }
            | Self::TooMany { .. } => StatusCode::FORBIDDEN,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoSuchTenant(_) => StatusCode::NOT_FOUND,
        }
    }

    /// For whoever asks for a suspended tenant.
    pub(crate) fn suspended(tenant: &Tenant) -> Self {
        let (reason, reads) = match &tenant.status {
            TenantStatus::Suspended(how) => (how.reason.clone(), how.reads),
            TenantStatus::Active => (String::new(), true),
        };
        Self::Suspended { tenant: tenant.name.clone(), reason, reads }
    }

    /// The word of the counter by reason: an index into [`REASONS`].
    pub(crate) fn reason(&self) -> usize {
        match self {
            Self::NoCredentials => 0,
            Self::Credentials(_) => 1,
            Self::UnknownToken => 2,
            Self::Selection(_) => 3,
            Self::NoTenant | Self::SeveralForWrite => 4,
            Self::Read { .. } | Self::ReadAll { .. } => 5,
            Self::Write { .. } => 6,
            Self::Nothing { .. } => 7,
            Self::Administer { .. } => 8,
            Self::Suspended { .. } => 9,
            Self::TooMany { .. } => 10,
            Self::Unavailable { .. } => 11,
            Self::Delete { .. } => 12,
            Self::NoSuchTenant(_) => 13,
            Self::UnknownCertificate { .. } => 14,
        }
    }

    /// `errorType` in Prometheus' envelope; Prometheus itself has no word for the first two.
    fn error_type(&self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "unauthorized",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            StatusCode::NOT_FOUND => "not_found",
            _ => "bad_data",
        }
    }

    /// As the senders of rows expect it: the text alone, which they put into their log.
    pub fn into_text(self) -> Response {
        let body = format!("{self}\n");
        self.with(body)
    }

    /// As the clients of query APIs expect it: Prometheus' envelope.
    pub fn into_json(self) -> Response {
        let body =
            json!({ "status": "error", "errorType": self.error_type(), "error": self.to_string() });
        self.with(([(CONTENT_TYPE, "application/json")], body.to_string()))
    }

    fn with(self, body: impl IntoResponse) -> Response {
        if let Self::Unavailable { tenant, source } = &self {
            let cause = std::error::Error::source(source).map(ToString::to_string);
            error!(%tenant, error = %source, cause, "tenant not created");
        }
        let status = self.status();
        let mut response = (status, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let ways = [r#"Bearer realm="taffrail""#, r#"Basic realm="taffrail", charset="UTF-8""#];
            for way in ways {
                response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(way));
            }
        }
        response
    }
}
