//! The object store of the configuration, with credentials from where it says.

use std::sync::Arc;

use anyhow::{Context, Result};
use ingest::bounded_file;
use storage::FarObjects;
use storage::objects::{Bucket, Config, Kind, RequestCounts, connect};

/// Where the store's objects lie, if not in the data directory.
pub(crate) fn far_objects(config: &Config, take_over: bool) -> Result<Option<FarObjects>> {
    if config.kind == Kind::Local {
        return Ok(None);
    }
    let bucket = config.bucket().map_err(anyhow::Error::msg)?;
    let mut far = at(config, &bucket)?;
    (far.cache_bytes, far.take_over) = (config.cache_bytes, take_over);
    Ok(Some(far))
}

/// Any place that is reached as the configuration says.
pub(crate) fn at(config: &Config, bucket: &Bucket) -> Result<FarObjects> {
    let variable = |name: &str| std::env::var(name).ok();
    let file =
        |path: &str| bounded_file::read_text(path.as_ref()).map_err(|error| error.to_string());
    let credentials = config.credentials(variable, file).map_err(anyhow::Error::msg);
    let credentials = credentials.context("[storage.objects]")?;
    let counts: Arc<RequestCounts> = Arc::default();
    let objects = connect(config, bucket, &credentials, &counts)?;
    let place = bucket.to_string();
    Ok(FarObjects { objects, place, counts, cache_bytes: 0, take_over: false })
}
