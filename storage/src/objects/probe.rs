//! Whether a store keeps what everything here stands on: a put that is refused if the name is
//! taken.

use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::Error;

/// Puts an object under a name nobody else has, and then once more.
pub(super) async fn probe(objects: &dyn ObjectStore, place: &str, id: u128) -> Result<(), Error> {
    let path = Path::from(format!("probe/{id:032x}"));
    let put = |text: &'static str| {
        objects.put_opts(&path, PutPayload::from_static(text.as_bytes()), PutMode::Create.into())
    };
    let failed = |source| Error::Objects { doing: format!("put object {path} to {place}"), source };
    match put("first").await {
        Ok(_) => {}
        Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
            return Err(unfit(place));
        }
        // A try whose answer was lost may have put it: the second one tells.
        Err(StoreError::AlreadyExists { .. }) => {}
        Err(source) => return Err(failed(source)),
    }
    let second = put("second").await;
    if let Err(error) = objects.delete(&path).await {
        tracing::warn!(%path, %error, "object of a probe could not be removed");
    }
    match second {
        Err(StoreError::AlreadyExists { .. }) => Ok(()),
        Ok(_) | Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
            Err(unfit(place))
        }
        Err(source) => Err(failed(source)),
    }
}

fn unfit(place: &str) -> Error {
    Error::Refused(format!(
        "{place} cannot hold a store: it puts an object although If-None-Match: * forbids it, so two \
         processes could overwrite each other's manifests; use a service that has conditional writes"
    ))
}
