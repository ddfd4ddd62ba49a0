//! What of a request says who asks: its headers, and the connection it came over.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::request::Parts;

/// The other end of a connection. The server adds it to every request as an extension.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What its certificate says, if it showed one; its signatures are right.
    pub certificate: Option<Arc<CertificateNames>>,
}

/// Whom a certificate names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The whole subject, for messages.
    pub subject: String,
    /// The common name of the subject.
    pub common_name: Option<String>,
    /// URIs among the alternative names.
    pub uris: Vec<String>,
    /// DNS names among them, in lower case.
    pub dns: Vec<String>,
    /// Mail addresses among them.
    pub emails: Vec<String>,
}

impl CertificateNames {
    /// All names, those that count first in front.
    pub(crate) fn all(&self) -> impl Iterator<Item = CertificateName> {
        let uris = self.uris.iter().cloned().map(CertificateName::Uri);
        let dns = self.dns.iter().cloned().map(CertificateName::Dns);
        let emails = self.emails.iter().cloned().map(CertificateName::Email);
        uris.chain(dns).chain(emails).chain(self.common_name.clone().map(CertificateName::Common))
    }
}

/// One name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum CertificateName {
    Uri(String),
    Dns(String),
    Email(String),
    Common(String),
}

impl CertificateName {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Uri(text) | Self::Dns(text) | Self::Email(text) | Self::Common(text) => text,
        }
    }
}

/// What a request shows of whoever asks.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'r> {
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// Where it came from, if the server knows.
    pub peer: Option<&'r Peer>,
}

impl<'r> From<&'r HeaderMap> for Asked<'r> {
    fn from(headers: &'r HeaderMap) -> Self {
        Self { headers, peer: None }
    }
}

impl<'r> From<&'r Parts> for Asked<'r> {
    fn from(parts: &'r Parts) -> Self {
        Self { headers: &parts.headers, peer: parts.extensions.get() }
    }
}
