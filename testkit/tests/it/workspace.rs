//! What lies in the repository: crates with their dependencies, and source files.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// One crate of ours.
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Packages it links outside of tests: normal and build dependencies, of every platform.
    pub(crate) uses: Vec<String>,
    /// Packages only its tests use.
    pub(crate) tests_use: Vec<String>,
}

/// One source file.
pub(crate) struct Source {
    /// Relative to the root.
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    testkit::workspace_root()
}

/// All members, in the order of the root's `Cargo.toml`.
pub(crate) fn crates() -> Vec<Crate> {
    let manifest = read(&root().join("Cargo.toml"));
    let workspace: Table = manifest.parse().expect("the root's Cargo.toml is TOML");
    let members = workspace["workspace"]["members"].as_array().expect("members is a list");
    members.iter().map(|m| member(m.as_str().expect("a member is a path"))).collect()
}

fn member(folder: &str) -> Crate {
    let manifest: Table = read(&root().join(folder).join("Cargo.toml"))
        .parse()
        .expect("a member's Cargo.toml is TOML");
    of_manifest(&manifest)
}

pub(crate) fn of_manifest(manifest: &Table) -> Crate {
    let name = manifest["package"]["name"].as_str().expect("a package has a name").to_owned();
    let (mut uses, mut tests_use) = (Vec::new(), Vec::new());
    let mut tables = vec![manifest];
    if let Some(Value::Table(targets)) = manifest.get("target") {
        tables.extend(targets.values().filter_map(Value::as_table));
    }
    for table in tables {
        uses.extend(packages(table, "dependencies"));
        uses.extend(packages(table, "build-dependencies"));
        tests_use.extend(packages(table, "dev-dependencies"));
    }
    Crate { name, uses, tests_use }
}

/// The packages a table of dependencies names, whatever they are renamed to.
fn packages(table: &Table, kind: &str) -> Vec<String> {
    let Some(Value::Table(dependencies)) = table.get(kind) else { return Vec::new() };
    let package = |(key, value): (&String, &Value)| {
        let renamed = value.get("package").and_then(Value::as_str);
        renamed.unwrap_or(key).to_owned()
    };
    dependencies.iter().map(package).collect()
}

/// All Rust files of the repository, in order of their paths. Build outputs and the files that
/// tests take as input are left out.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(dir) = open.pop() {
        for path in entries(&dir) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.')
                    && !["target", "fixtures", "node_modules", "data"].contains(&name.as_str())
                {
                    open.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = read(&path);
                let path = path
                    .strip_prefix(root())
                    .expect("found below the root")
                    .to_string_lossy()
                    .into_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let list = fs::read_dir(dir).unwrap_or_else(|e| panic!("list {}: {e}", dir.display()));
    list.map(|entry| entry.expect("read a directory entry").path()).collect()
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}
