//! Credentials: what each may see and do.

use std::sync::Arc;

use axum::http::{StatusCode, header};
use tenancy::{AuthenticationMode, Authenticator, TokenFile};
use tower::ServiceExt;

use super::flow::beside_a_slow_one;
use super::{block_on, everybody, example, querier, request};
use crate::Querier;
use crate::http::{ROUTES, router};

/// Three tokens: `whole` reads all of a tenant, `part` some of its series, `keeper` administers it.
fn guarded() -> Arc<Authenticator> {
    let text = r#"
        [[tokens]]
        name = "whole"
        # SHA-256 of `whole`.
        sha256 = "WHOLE"
        grants = [{ tenant = "team-a", access = "read" }]
        [[tokens]]
        name = "part"
        # SHA-256 of `part`.
        sha256 = "PART"
        grants = [{ tenant = "team-a", access = "read", alternatives = [["namespace='shop'"]] }]
        [[tokens]]
        name = "keeper"
        # SHA-256 of `keeper`.
        sha256 = "KEEPER"
        grants = [{ tenant = "team-a", access = "admin" }]
    "#;
    let text = text.replace("WHOLE", SHA256_OF_WHOLE).replace("PART", SHA256_OF_PART);
    let text = text.replace("KEEPER", SHA256_OF_KEEPER);
    let tokens: TokenFile = toml::from_str(&text).expect("a token file");
    let authenticator = everybody();
    let config = tenancy::Config { mode: AuthenticationMode::Token, ..Default::default() };
    authenticator.reload(&config, &tokens).expect("a configuration");
    authenticator
}

const SHA256_OF_WHOLE: &str = "5d5766cf2d78701614200418ee1450690d9af12c84d52545e4802f001ad53099";
const SHA256_OF_PART: &str = "37a680133bd09342f934afb8dd2c7d9e1b624da5f35e3a38adb103e37c055ed1";

const SHA256_OF_KEEPER: &str = "00aa8942525b763cbe72e4a0fbfbb027b909dd8299e9c6c85c28d3d42d2cc28b";

#[track_caller]
fn status_with(token: &str, line: &str) -> StatusCode {
    block_on(status_of(&querier(&Arc::default()), token, line))
}

/// The status of an answer to whoever has a token.
async fn status_of(querier: &Querier, token: &str, line: &str) -> StatusCode {
    let mut request = request(line);
    if !token.is_empty() {
        let value = format!("Bearer {token}").parse().expect("a header");
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let router = router(querier.clone(), guarded());
    router.oneshot(request).await.expect("routers do not fail").status()
}

#[test]
fn no_route_answers_without_a_scope() {
    for route in ROUTES {
        let line = format!("{} {}?query=up&match[]=up", route.method, example(route.path));
        assert_eq!(status_with("", &line), StatusCode::UNAUTHORIZED, "{line}");
        assert_ne!(status_with("whole", &line), StatusCode::UNAUTHORIZED, "{line}");
    }
}

#[test]
fn a_restricted_scope_sees_no_totals() {
    for path in ["/api/v1/metadata", "/api/v1/status/tsdb", "/api/v1/status/queries"] {
        let line = format!("GET {path}");
        assert_eq!(status_with("whole", &line), StatusCode::OK, "{path}");
        assert_eq!(status_with("part", &line), StatusCode::FORBIDDEN, "{path}");
    }
    let end = "DELETE /api/v1/status/queries/1";
    assert_eq!(status_with("whole", end), StatusCode::NOT_FOUND);
    assert_eq!(status_with("part", end), StatusCode::FORBIDDEN);
    assert_eq!(status_with("part", "GET /api/v1/query?query=up"), StatusCode::OK);
}

#[test]
fn readers_do_not_end_the_questions_of_others() {
    let querier = querier(&Arc::default());
    let answer = beside_a_slow_one(&querier, async |shown| {
        let line = format!("DELETE /api/v1/status/queries/{}", shown["data"][0]["id"]);
        for (token, status) in [("whole", 403), ("part", 403), ("keeper", 204)] {
            assert_eq!(status_of(&querier, token, &line).await, status, "{token}");
        }
    });
    assert!(answer.contains("canceled"), "{answer}");
}
