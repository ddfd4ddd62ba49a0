//! What of a request says who asks: its headers, and the connection it came over.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use axum::http::request::Parts;

/// The other end of a connection. The server adds it to every request as an extension.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
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
