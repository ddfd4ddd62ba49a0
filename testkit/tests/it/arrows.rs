//! Which crate may use which.

use crate::workspace::{Crate, crates};
use crate::{complains, none};

/// Bottom first. A crate may use only crates on lines above its own; neighbours on one line do not
/// use each other. Crates that do not exist yet have their place already.
const LINES: &[&[&str]] = &[
    &["model"],
    &["tenancy"],
    &["testkit"],
    &["query", "storage", "database"],
    &["engine", "ingest", "alerting", "metering"],
    &["kubernetes", "console-api", "benches"],
    &["server"],
];

/// Linked by tests, whatever their line, and by tools that are not shipped.
const FOR_TESTS_ONLY: &str = "testkit";
const NOT_SHIPPED: &str = "benches";

fn line_of(name: &str) -> Option<usize> {
    LINES.iter().position(|line| line.contains(&name))
}

fn complaints(crates: &[Crate]) -> Vec<String> {
    let mut found = Vec::new();
    for one in crates {
        let Some(line) = line_of(&one.name) else {
            found.push(format!("{} has no line in testkit/tests/it/arrows.rs", one.name));
            continue;
        };
        for used in &one.uses {
            if used == FOR_TESTS_ONLY && one.name != NOT_SHIPPED {
                found.push(format!("{} links {used} outside of tests", one.name));
            } else if line_of(used).is_some_and(|below| below >= line) {
                found.push(format!("{} uses {used}, which is not on a lower line", one.name));
            }
        }
        for used in &one.tests_use {
            let allowed = used == FOR_TESTS_ONLY || *used == one.name;
            if !allowed && line_of(used).is_some_and(|below| below > line) {
                found.push(format!("tests of {} use {used}, which is on a higher line", one.name));
            }
        }
    }
    found
}

#[test]
fn crates_use_lower_lines_only() {
    none(&complaints(&crates()));
}

#[test]
fn a_wrong_arrow_is_seen() {
    let one = |name: &str, uses: &[&str], tests_use: &[&str]| Crate {
        name: name.to_owned(),
        uses: uses.iter().map(|u| (*u).to_owned()).collect(),
        tests_use: tests_use.iter().map(|u| (*u).to_owned()).collect(),
    };
    let wrong = [
        one("storage", &["model", "query"], &["testkit"]),
        one("engine", &["query", "storage", "serde"], &[]),
        one("tenancy", &["model", "server"], &["testkit", "ingest"]),
        one("ingest", &["storage", "testkit"], &["storage"]),
        one("helpers", &[], &[]),
        one("benches", &["testkit"], &[]),
    ];
    complains(
        &complaints(&wrong),
        &[
            "storage uses query, which is not on a lower line",
            "tenancy uses server, which is not on a lower line",
            "tests of tenancy use ingest, which is on a higher line",
            "ingest links testkit outside of tests",
            "helpers has no line in testkit/tests/it/arrows.rs",
        ],
    );
}

#[test]
fn dependencies_are_read_from_every_table() {
    let manifest = r#"
        package.name = "x"
        [dependencies]
        a.workspace = true
        renamed = { package = "b" }
        [target.'cfg(unix)'.dependencies]
        c = "1"
        [build-dependencies]
        d = "1"
        [target.'cfg(unix)'.dev-dependencies]
        e = "1"
    "#;
    let read = crate::workspace::of_manifest(&manifest.parse().unwrap());
    assert_eq!(
        (read.uses.join(" "), read.tests_use.join(" ")),
        ("a b d c".to_owned(), "e".to_owned())
    );
}
