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

use crate::{Authenticator, DeleteScope, Principal, ReadScope, WriteScope};

/// What the request may read. Refuses with Prometheus' JSON envelope.
#[derive(Debug, Clone)]
pub struct Read(pub ReadScope);

/// Where the request may write. Refuses with plain text, which senders put into their logs.
#[derive(Debug, Clone)]
pub struct Write(pub WriteScope);

/// An administrator of the platform. Refuses with Prometheus' JSON envelope.
#[derive(Debug, Clone)]
pub struct Admin(pub Principal);

/// Of which tenant the request may delete rows, and who asks. Refuses with Prometheus' JSON
/// envelope.
#[derive(Debug, Clone)]
pub struct Delete(pub DeleteScope, pub Principal);

impl<S> FromRequestParts<S> for Read
where
    S: Send + Sync,
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let authenticator = Arc::<Authenticator>::from_ref(state);
        authenticator.read_scope(&*parts).map(Self).map_err(|refusal| refusal.into_json())
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
        authenticator.write_scope(&*parts).await.map(Self).map_err(|refusal| refusal.into_text())
    }
}

impl<S> FromRequestParts<S> for Delete
where
    S: Send + Sync,
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let authenticator = Arc::<Authenticator>::from_ref(state);
        let scope = authenticator.delete_scope(&*parts);
        scope.map(|(scope, who)| Self(scope, who)).map_err(|refusal| refusal.into_json())
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
        authenticator.administrator(&*parts).map(Self).map_err(|refusal| refusal.into_json())
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::{HeaderMap, Request, StatusCode};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;
    use crate::{AuthenticationMode, Config, Directory, TokenConfig};

    /// A router with a state of its own.
    #[derive(Clone)]
    struct State {
        authenticator: Arc<Authenticator>,
    }

    impl FromRef<State> for Arc<Authenticator> {
        fn from_ref(state: &State) -> Self {
            Self::clone(&state.authenticator)
        }
    }

    fn router(mode: AuthenticationMode) -> Router {
        let token = TokenConfig {
            name: "n".to_owned(),
            routed: false,
            sha256: "0".repeat(64),
            grants: vec![crate::GrantConfig {
                tenant: "a".to_owned(),
                access: crate::Access::Read,
                alternatives: None,
            }],
        };
        let clock = Arc::new(testkit::ManualClock::new(0));
        let file = crate::TokenFile { tokens: vec![token], certificates: Vec::new() };
        let config = Config { mode, ..Config::default() };
        let authenticator =
            Authenticator::new(&config, &file, Arc::new(Directory::for_test()), clock);
        let state = State { authenticator: Arc::new(authenticator.unwrap()) };
        Router::new()
            .route(
                "/read",
                get(|Read(scope): Read| async move { scope.tenants().len().to_string() }),
            )
            .route("/write", get(|Write(scope): Write| async move { scope.name().to_string() }))
            .route(
                "/admin",
                get(|Admin(principal): Admin| async move { principal.name().to_owned() }),
            )
            .with_state(state)
    }

    async fn ask(
        mode: AuthenticationMode,
        path: &str,
        tenant: &str,
    ) -> (StatusCode, HeaderMap, String) {
        let request =
            Request::get(path).header("X-Scope-OrgID", tenant).body(Body::empty()).unwrap();
        let response = router(mode).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 10_000).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn handlers_get_what_they_name() {
        let none = AuthenticationMode::None;
        for (path, tenant, body) in
            [("/read", "a", "0"), ("/write", "a", "a"), ("/admin", "a", "anonymous")]
        {
            let (status, _, text) = ask(none, path, tenant).await;
            assert_eq!((status, text.as_str()), (StatusCode::OK, body), "{path}");
        }
    }

    #[tokio::test]
    async fn refusals_speak_the_clients_language() {
        let (status, headers, body) = ask(AuthenticationMode::None, "/write", "a|b").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(headers["content-type"].to_str().unwrap().starts_with("text/plain"));
        assert_eq!(body, "a write goes to exactly one tenant, and X-Scope-OrgID names several\n");
        let (_, headers, body) = ask(AuthenticationMode::None, "/read", "a b").await;
        assert_eq!(headers["content-type"], "application/json");
        assert!(
            body.contains(r#""errorType":"bad_data""#) && body.contains(r#""status":"error""#),
            "{body}"
        );
        for path in ["/read", "/write", "/admin"] {
            let (status, headers, _) = ask(AuthenticationMode::Token, path, "a").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            let ways: Vec<_> = headers.get_all("www-authenticate").iter().collect();
            assert_eq!(ways.len(), 2, "{path}: bearer and basic");
        }
    }
}
