//! Programs in Python that tests stand beside: clients and services that others wrote.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// A Python that has some modules: the one that `TAFFRAIL_PYTHON` names, or that of the environment
/// which `.ci/run` keeps, or the system's. `None`, told on standard error, if there is none.
///
/// # Panics
/// If `TAFFRAIL_PYTHON` is set and has not all of them: there, nothing may be skipped.
#[track_caller]
pub fn python(modules: &[&str]) -> Option<PathBuf> {
    let imports = format!("import {}", modules.join(", "));
    let has_all = |python: &PathBuf| {
        let output = Command::new(python).args(["-c", &imports]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if let Some(named) = std::env::var_os("TAFFRAIL_PYTHON").map(PathBuf::from) {
        assert!(has_all(&named), "TAFFRAIL_PYTHON has not all of {modules:?}");
        return Some(named);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let kept = cache.map(|cache| cache.join("taffrail-ci/clients/python/bin/python"));
    let found = kept.into_iter().chain([PathBuf::from("python3")]).find(has_all);
    if found.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let text = format!("\nSKIPPED {test}: no Python has {modules:?}; set TAFFRAIL_PYTHON\n");
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
    found
}
