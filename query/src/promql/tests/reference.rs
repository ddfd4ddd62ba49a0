//! Prometheus' own evaluation scripts: every query in them must be understood.

use std::fs;

use crate::promql::{Features, parse_with};

/// The queries of a script, by line.
fn queries(script: &str) -> Vec<(usize, &str)> {
    let words = |count: usize| {
        move |line: &'_ str| -> usize {
            let mut rest = line;
            for _ in 0..count {
                rest = rest.trim_start();
                rest = &rest[rest.find(char::is_whitespace).unwrap_or(rest.len())..];
            }
            line.len() - rest.trim_start().len()
        }
    };
    let mut found = Vec::new();
    for (at, line) in script.lines().enumerate() {
        let line = line.trim();
        let Some(command) = line.split_whitespace().next().filter(|word| word.starts_with("eval"))
        else {
            continue;
        };
        let after = line[command.len()..].trim_start();
        // `instant at T`, or `range from T to T step T`, before the query.
        let skip = match after.starts_with("instant") {
            true => words(3)(after),
            false => words(7)(after),
        };
        found.push((at + 1, &after[skip..]));
    }
    found
}

#[test]
fn every_reference_query_parses_and_survives_printing() {
    let Some(dir) = testkit::reference("promql") else { return };
    let (mut total, mut failures) = (0, Vec::new());
    let mut files: Vec<_> = fs::read_dir(&dir)
        .expect("list scripts")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "test")) {
        let script = fs::read_to_string(file).expect("read script");
        for (line, query) in queries(&script) {
            total += 1;
            let place = format!("{}:{line}: {query}", file.display());
            match parse_with(query, Features::ALL) {
                Err(error) => failures.push(format!("{place}: {error}")),
                Ok(expr) => {
                    for printed in [expr.to_string(), expr.pretty()] {
                        match parse_with(&printed, Features::ALL) {
                            Err(error) => {
                                failures.push(format!("{place}: printed {printed}: {error}"))
                            }
                            Ok(again) if again.to_string() != expr.to_string() => {
                                failures.push(format!("{place}: printed {printed}, then {again}"));
                            }
                            Ok(_) => {}
                        }
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {total}:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(total, 1386, "as the data's README says");
}
