//! Foreign libraries and the crates they live in: a heavy library named in one crate can be
//! replaced there, and nobody else pays for it.

use crate::workspace::{Crate, crates};
use crate::{complains, none};

/// Library (a trailing `*` stands for any ending) and the crates that may name it. Tests may use
/// any of them.
const HOMES: &[(&str, &[&str])] = &[
    ("anyhow", &["server", "benches"]),
    ("arrow*", &["storage", "engine"]),
    ("clap", &["server", "benches"]),
    ("datafusion*", &["engine"]),
    ("fst", &["storage"]),
    ("k8s-openapi", &["kubernetes"]),
    ("kube", &["kubernetes"]),
    ("kube-*", &["kubernetes"]),
    ("hickory-resolver", &["ingest"]),
    ("lettre", &["alerting"]),
    ("mimalloc", &["server", "benches"]),
    ("object_store", &["storage", "testkit"]),
    ("parquet", &["storage"]),
    ("pco", &["storage"]),
    ("promql-parser", &["query"]),
    ("prost*", &["ingest", "query"]),
    ("reqwest", &["ingest"]),
    ("rust_decimal", &["metering"]),
    ("serde-saphyr", &["ingest"]),
    ("sqlx*", &["database"]),
    ("tantivy*", &["storage"]),
    ("toml", &["server", "benches"]),
    ("tonic*", &["ingest", "query"]),
    ("tracing-subscriber", &["server", "benches"]),
    ("utoipa*", &["console-api"]),
];

fn complaints(crates: &[Crate]) -> Vec<String> {
    let mut found = Vec::new();
    for one in crates {
        for used in &one.uses {
            let home = HOMES.iter().find(|(library, _)| is(used, library));
            if let Some((_, homes)) = home
                && !homes.contains(&one.name.as_str())
            {
                found.push(format!(
                    "{} names {used}, whose home is {}",
                    one.name,
                    homes.join(", ")
                ));
            }
        }
    }
    found
}

fn is(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[test]
fn libraries_stay_at_home() {
    none(&complaints(&crates()));
}

#[test]
fn a_library_away_from_home_is_seen() {
    let one = |name: &str, uses: &[&str]| Crate {
        name: name.to_owned(),
        uses: uses.iter().map(|u| (*u).to_owned()).collect(),
        tests_use: vec!["parquet".to_owned()],
    };
    let wrong = [
        one("ingest", &["parquet", "prost-types", "kube"]),
        one("storage", &["arrow-array", "anyhow"]),
        one("server", &["storage", "engine", "ingest", "datafusion-common", "clap"]),
    ];
    complains(
        &complaints(&wrong),
        &[
            "ingest names parquet, whose home is storage",
            "ingest names kube, whose home is kubernetes",
            "storage names anyhow, whose home is server, benches",
            "server names datafusion-common, whose home is engine",
        ],
    );
}
