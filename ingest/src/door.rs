//! What the routers of all doors have in common.

use std::sync::Arc;

use axum::extract::{FromRef, Query};
use axum::http::Uri;
use tenancy::Authenticator;

/// State of a door's router: the door, and who decides who may write.
pub(crate) struct Routed<D> {
    pub(crate) door: Arc<D>,
    pub(crate) authenticator: Arc<Authenticator>,
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

/// A door's routes with their places among all of them: the number by which answers are counted.
pub(crate) fn numbered(
    of: &'static [(&'static str, &'static str)],
) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let before = crate::ROUTES.iter().take_while(move |door| ***door != *of);
    let first: usize = before.map(|door| door.len()).sum();
    of.iter().enumerate().map(move |(i, (method, path))| (first + i, *method, *path))
}

/// The parameters of an address, decoded; of what cannot be decoded there are none.
pub(crate) fn parameters(uri: &Uri) -> Vec<(String, String)> {
    Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default()
}
