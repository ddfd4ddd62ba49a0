//! Whose licences we take: everything that is linked must allow use in an Apache-2.0 product.

use std::process::Command;

use serde_json::Value;

use crate::workspace::root;
use crate::{complains, none};

/// Identifiers of SPDX that ask for no more than a notice, or, in the case of MPL, for the
/// publication of changes to the library's own files.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an SPDX expression can be met with allowed licences alone. `/` is an old way to write
/// `OR`. Anything that cannot be read is refused.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest).unwrap_or(false) && rest.is_empty()
}

fn any(words: &mut &[&str]) -> Option<bool> {
    let mut met = all(words)?;
    while take(words, "OR") {
        met |= all(words)?;
    }
    Some(met)
}

fn all(words: &mut &[&str]) -> Option<bool> {
    let mut met = one(words)?;
    while take(words, "AND") {
        met &= one(words)?;
    }
    Some(met)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    if take(words, "(") {
        let met = any(words)?;
        return take(words, ")").then_some(met);
    }
    let (name, rest) = words.split_first()?;
    *words = rest;
    if take(words, "WITH") {
        let (exception, rest) = words.split_first()?;
        *words = rest;
        return Some(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()));
    }
    Some(ALLOWED.contains(name))
}

fn take(words: &mut &[&str], word: &str) -> bool {
    let found = words.first() == Some(&word);
    if found {
        *words = &words[1..];
    }
    found
}

fn complaints(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let refused = packages.iter().filter(|p| !p["license"].as_str().is_some_and(is_allowed));
    refused
        .map(|p| {
            let text = |key: &str| p[key].as_str().unwrap_or("none").to_owned();
            format!("{} {} has licence {}", text("name"), text("version"), text("license"))
        })
        .collect()
}

#[test]
fn all_dependencies_may_be_used() {
    // One platform: others would need sources that were never downloaded.
    let cargo = std::env::var("CARGO").expect("cargo runs this test");
    let arguments =
        ["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform"];
    let output = Command::new(cargo)
        .args(arguments)
        .arg("x86_64-unknown-linux-gnu")
        .current_dir(root())
        .output()
        .expect("start cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    assert!(
        metadata["packages"].as_array().is_some_and(|p| p.len() > 100),
        "most packages are missing"
    );
    none(&complaints(&metadata));
}

#[test]
fn expressions_are_understood() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "MIT AND BSD-3-Clause",
    ] {
        assert!(is_allowed(good), "{good}");
    }
    assert!(is_allowed("GPL-2.0 OR Apache-2.0 WITH LLVM-exception OR AGPL-3.0"));
    for bad in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR GPL-3.0) AND AGPL-3.0",
        "",
        "MIT OR",
        "MIT)",
        "(MIT",
        "MIT MIT",
    ] {
        assert!(!is_allowed(bad), "{bad}");
    }
    assert!(!is_allowed("MIT WITH something"));
    let wrong = r#"{"packages":[{"name":"a","version":"1","license":"MIT"},{"name":"b","version":"2","license":"AGPL-3.0"},
        {"name":"c","version":"3","license":null}]}"#;
    let wrong = serde_json::from_str(wrong).unwrap();
    complains(&complaints(&wrong), &["b 2 has licence AGPL-3.0", "c 3 has licence none"]);
}
