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
    let found = workspace_root().ancestors().skip(1).map(|a| a.join("shared/reference").join(path));
    let found = found.into_iter().find(|p| p.exists());
    if found.is_none() {
        skipped(path);
    }
    found
}

/// The directory of the workspace's `Cargo.toml`.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace")
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
