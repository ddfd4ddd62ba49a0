//! Extractors: a handler that touches rows names one of these among its arguments, so a route
//! without a check cannot be overlooked in review, and none compiles on a router whose state has
//! no [`Authenticator`].
//!
//! A router's state gives it away by `impl FromRef<MyState> for Arc<Authenticator>`; a router
//! whose state is the `Arc<Authenticator>` itself needs nothing.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::response::Response;

use crate::{Authenticator, Principal, ReadScope, WriteScope};

/// What the request may read. Refuses with Prometheus' JSON envelope.
#[derive(Debug, Clone)]
pub struct Read(pub ReadScope);

/// Where the request may write. Refuses with plain text, which senders put into their logs.
#[derive(Debug, Clone)]
pub struct Write(pub WriteScope);

/// An administrator of the platform. Refuses with Prometheus' JSON envelope.
#[derive(Debug, Clone)]
pub struct Admin(pub Principal);

impl<S> FromRequestParts<S> for Read
where
    S: Send + Sync,
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let authenticator = Arc::<Authenticator>::from_ref(state);
        authenticator.read_scope(&parts.headers).map(Self).map_err(|refusal| refusal.into_json())
    }
}

impl<S> FromRequestParts<S> for Write
where
    S: Send + Sync,
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let authenticator = Arc::<Authenticator>::from_ref(state);
        authenticator
            .write_scope(&parts.headers)
            .await
            .map(Self)
            .map_err(|refusal| refusal.into_text())
    }
}

impl<S> FromRequestParts<S> for Admin
where
    S: Send + Sync,
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let authenticator = Arc::<Authenticator>::from_ref(state);
        authenticator.administrator(&parts.headers).map(Self).map_err(|refusal| refusal.into_json())
    }
}
