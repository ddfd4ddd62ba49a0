//! Test data that is too large or too foreign for the repository. Tests that need it are skipped
//! loudly where it is missing; with `TAFFRAIL_REFERENCE` set it must be there.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Where `path` lies in the reference data: under `TAFFRAIL_REFERENCE` or else in
/// `shared/reference` beside the workspace or one of its parents. `None`, told on standard error,
/// if it is missing.
///
/// # Panics
/// If `TAFFRAIL_REFERENCE` is set and does not hold it: there, nothing may be skipped.
#[track_caller]
pub fn reference(path: impl AsRef<Path>) -> Option<PathBuf> {
    let path = path.as_ref();
    if let Some(dir) = std::env::var_os("TAFFRAIL_REFERENCE") {
        let found = Path::new(&dir).join(path);
        assert!(
            found.exists(),
            "TAFFRAIL_REFERENCE is set, but {} does not exist",
            found.display()
        );
        return Some(found);
    }
    let root = workspace_root();
    let found = root.ancestors().skip(1).map(|a| a.join("shared/reference").join(path));
    let found = found.into_iter().find(|p| p.exists());
    if found.is_none() {
        skipped(path);
    }
    found
}

/// The directory of the workspace's `Cargo.toml`.
pub fn workspace_root() -> PathBuf {
    let ancestors = package_dir();
    let mut ancestors = ancestors.ancestors();
    let root = ancestors.find(|dir| dir.join("Cargo.lock").exists());
    root.expect("a test runs in a package of the workspace").to_owned()
}

/// The directory of the package whose test runs. Cargo says it when it starts a test: what was
/// known at build time may be another checkout, where build results are shared.
pub fn package_dir() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// Written to the stream itself: what the print macros write is hidden when a test passes.
#[track_caller]
fn skipped(path: &Path) {
    let caller = std::panic::Location::caller();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let text = format!(
        "\nSKIPPED {test} ({caller}): no reference data {}; set TAFFRAIL_REFERENCE\n",
        path.display()
    );
    // A closed standard error is no reason to fail a test.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_data_is_missing() {
        if std::env::var_os("TAFFRAIL_REFERENCE").is_none() {
            assert_eq!(reference("no/such/data"), None);
        }
        assert!(workspace_root().join("Cargo.toml").exists());
    }
}
