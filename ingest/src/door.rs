//! What the routers of all doors have in common.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Query, Request, State};
use axum::http::Uri;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use tenancy::{Authenticator, Write, WriteScope};

/// State of a door's router: the door, and who decides who may write.
struct Routed<D> {
    door: Arc<D>,
    authenticator: Arc<Authenticator>,
}

impl<D> Clone for Routed<D> {
    fn clone(&self) -> Self {
        Self { door: Arc::clone(&self.door), authenticator: Arc::clone(&self.authenticator) }
    }
}

impl<D> FromRef<Routed<D>> for Arc<Authenticator> {
    fn from_ref(state: &Routed<D>) -> Self {
        Self::clone(&state.authenticator)
    }
}

/// Method and path of every route of every door.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    crate::ROUTES.iter().flat_map(|door| door.iter().copied())
}

/// A door's routes. Each asks for a write scope before a byte of the body is read; `handle` is told
/// the route's place among those of all doors, by which answers are counted.
pub(crate) fn router<D, H, F>(
    of: &'static [(&'static str, &'static str)],
    door: Arc<D>,
    authenticator: Arc<Authenticator>,
    handle: H,
) -> Router
where
    D: Send + Sync + 'static,
    H: Fn(Arc<D>, usize, WriteScope, Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let before = crate::ROUTES.iter().take_while(|door| ***door != *of);
    let first: usize = before.map(|door| door.len()).sum();
    let routes = of.iter().enumerate().fold(Router::new(), |router, (i, (method, path))| {
        let handle = handle.clone();
        let handler =
            move |State(state): State<Routed<D>>, Write(scope): Write, request: Request| {
                handle(state.door, first + i, scope, request)
            };
        let method = match *method {
            "GET" => MethodFilter::GET,
            "PUT" => MethodFilter::PUT,
            "DELETE" => MethodFilter::DELETE,
            _ => MethodFilter::POST,
        };
        router.route(path, on(method, handler))
    });
    routes.with_state(Routed { door, authenticator })
}

/// The parameters of an address, decoded; of what cannot be decoded there are none.
pub(crate) fn parameters(uri: &Uri) -> Vec<(String, String)> {
    Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default()
}
