//! Prometheus' own scripts. How many evaluations of each pass is written down and may only grow:
//! `UPDATE_GOLDEN=1` rewrites the numbers, `SHOW_FAILURES=1` (or a script's name) prints what fails.

use std::fmt::Write;
use std::sync::Arc;

use engine::{Options, Pool};

use crate::run::run;

/// Beside this crate's `Cargo.toml`.
const PASSING: &str = "tests/reference.tsv";

#[tokio::test]
async fn prometheus_scripts_pass_as_far_as_they_did() {
    let Some(folder) = testkit::reference("promql") else { return };
    let pool = Pool::new(2);
    let options = Options { late_names: true, start_timestamps: true, ..Options::default() };
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "test"));
    names.sort();
    let show = std::env::var("SHOW_FAILURES").unwrap_or_default();
    let mut table = String::new();
    let (mut passed_in_all, mut in_all) = (0, 0);
    for path in names {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let outcomes =
            run(&std::fs::read_to_string(&path).unwrap(), &options, &Arc::clone(&pool)).await;
        let passed = outcomes.iter().filter(|o| o.result.is_ok()).count();
        for outcome in &outcomes {
            if let (Err(why), true) =
                (&outcome.result, show == "1" || !show.is_empty() && name.contains(&show))
            {
                let why = why.chars().take(400).collect::<String>();
                println!("{name}:{} {}\n    {why}", outcome.line, outcome.query);
            }
        }
        writeln!(table, "{name}\t{passed}\t{}", outcomes.len()).unwrap();
        passed_in_all += passed;
        in_all += outcomes.len();
    }
    println!("{passed_in_all} of {in_all} evaluations pass");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        testkit::golden::check(PASSING, &table);
    }
    let before = std::fs::read_to_string(testkit::package_dir().join(PASSING)).unwrap();
    for line in before.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let now = table.lines().find_map(|l| l.strip_prefix(&format!("{}\t", fields[0])));
        let now: usize = now.unwrap().split('\t').next().unwrap().parse().unwrap();
        let then: usize = fields[1].parse().unwrap();
        assert!(
            now >= then,
            "{}: {now} pass, {then} passed before; SHOW_FAILURES={0} tells which",
            fields[0]
        );
    }
}
