//! `taffrail tool` from outside, on copies of the golden data directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::golden::copied;
use crate::process::{installed, run, taffrail};

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// All files below a directory whose path ends so.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("write it back");
}

fn inspected(path: &Path) -> Value {
    let path = path.to_string_lossy().into_owned();
    let output = run(&["tool", "inspect", &path, "--json"]);
    assert!(output.status.success(), "{path}: {}", text(&output));
    let shown = run(&["tool", "inspect", &path]);
    assert!(shown.status.success() && text(&shown).contains(&path), "{}", text(&shown));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn every_kind_of_file_is_inspected() {
    let dir = copied();
    let data = dir.path().join("data");
    for segment in files(&data.join("log"), ".log") {
        let sheet = inspected(&segment);
        assert_eq!((&sheet["kind"], &sheet["version"]), (&"log segment".into(), &1.into()));
        assert_eq!(sheet["unsound_records"], 0, "{sheet:#}");
    }
    let last = inspected(files(&data.join("log"), ".log").last().expect("a segment"));
    assert!(last["records_count"].as_u64() > Some(0), "{last:#}");
    for manifest in files(&data.join("objects/manifest"), ".json") {
        let sheet = inspected(&manifest);
        let name = manifest.file_stem().expect("a name").to_string_lossy().into_owned();
        assert_eq!(sheet["number"].as_u64(), name.parse().ok(), "{sheet:#}");
    }
    for snapshot in files(&data.join("objects/snapshots"), "") {
        assert!(inspected(&snapshot)["series"].as_u64().is_some());
    }
    let indexes = files(&data.join("objects/blocks"), "index.bin");
    assert!(indexes.len() > 3, "{indexes:?}");
    for index in indexes {
        let (of_file, of_dir) =
            (inspected(&index), inspected(index.parent().expect("a directory")));
        assert_eq!(of_file["sections"], of_dir["sections"]);
        let tenants = of_dir["tenants"].as_array().expect("a list");
        let series: u64 = tenants.iter().filter_map(|t| t["series"].as_u64()).sum();
        assert_eq!(of_dir["series"].as_u64(), Some(series));
    }
    let output = run(&["tool", "inspect", &data.join("tenants/directory.log").to_string_lossy()]);
    assert!(!output.status.success() && text(&output).contains("like no file of a store"));
}

#[test]
fn damage_is_found_given_up_and_gone() {
    let dir = copied();
    let data = dir.path().join("data");
    let data_text = data.to_string_lossy().into_owned();
    let chunks = files(&data.join("objects/blocks"), "chunks.parquet").remove(0);
    flip(&chunks);
    let object = chunks.strip_prefix(&data).expect("below it").to_string_lossy().into_owned();
    let output = run(&["tool", "verify", &data_text]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains(&format!("DAMAGE  {object}: ")), "{}", text(&output));
    assert!(text(&output).contains("taffrail tool quarantine"), "{}", text(&output));

    let quarantine = |extra: &[&str]| {
        let mut arguments = vec!["tool", "quarantine", &object, "--data-dir", &data_text];
        arguments.extend(extra);
        run(&arguments)
    };
    let preview = quarantine(&[]);
    assert!(preview.status.success(), "{}", text(&preview));
    assert!(text(&preview).contains("nothing was changed; say --yes"), "{}", text(&preview));
    assert_eq!(run(&["tool", "verify", &data_text]).status.code(), Some(3), "a preview");
    let done = quarantine(&["--yes"]);
    assert!(done.status.success() && text(&done).contains("samples of"), "{}", text(&done));
    let again = quarantine(&["--yes"]);
    assert!(
        !again.status.success() && text(&again).contains("nothing to give up"),
        "{}",
        text(&again)
    );
    let output = run(&["tool", "verify", &data_text]);
    assert!(output.status.success(), "{}", text(&output));
    let mut server = taffrail(dir.path(), "[ingest.self_scrape]\nenabled = false\n");
    let answer = server.json("/api/v1/labels", Some("golden"));
    assert_eq!(answer["status"], "success", "{answer}");
    assert!(server.terminate());
}

#[test]
fn a_directory_in_use_is_left_alone_and_the_process_named() {
    let dir = copied();
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let server = taffrail(dir.path(), "[ingest.self_scrape]\nenabled = false\n");
    let pid = server.pid().to_string();
    for arguments in [
        &["tool", "verify", &data][..],
        &["tool", "export", "golden", "--data-dir", &data],
        &["tool", "quarantine", "manifest/0000", "--data-dir", &data, "--yes"],
        &["tool", "wal", "quarantine", "--data-dir", &data],
        &["serve", "--data-dir", &data, "--listen", "127.0.0.1:0"],
    ] {
        let output = run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = text(&output);
        assert!(said.contains("another process has open") && said.contains(&pid), "{said}");
    }
    let output = run(&["tool", "verify", &dir.path().join("absent").to_string_lossy()]);
    assert!(text(&output).contains("is no data directory"), "{}", text(&output));
    assert!(!dir.path().join("absent").exists(), "a tool makes no directory");
}

#[test]
fn without_its_tenants_a_store_is_not_opened() {
    let dir = copied();
    let data = dir.path().join("data");
    fs::remove_file(data.join("tenants/directory.log")).expect("a file");
    let data = data.to_string_lossy().into_owned();
    let output = run(&["serve", "--data-dir", &data, "--listen", "127.0.0.1:0"]);
    assert!(!output.status.success());
    assert!(text(&output).contains("tenants/directory.log is missing"), "{}", text(&output));
    let output = run(&["tool", "export", "golden", "--data-dir", &data]);
    assert!(text(&output).contains("there is no directory of tenants"), "{}", text(&output));
}

/// Lines of an export, by series.
fn exported(dir: &Path, extra: &[&str]) -> String {
    let data = dir.join("data").to_string_lossy().into_owned();
    let mut arguments = vec!["tool", "export", "golden", "--data-dir", &data];
    arguments.extend(extra);
    let output = run(&arguments);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn an_export_is_what_promtool_makes_blocks_of() {
    let dir = copied();
    let all = exported(dir.path(), &[]);
    assert!(all.ends_with("# EOF\n"));
    let lines = all.lines().filter(|line| !line.starts_with('#')).count();
    let some = exported(dir.path(), &["--match", r#"requests_total{instance="a:1"}"#]);
    assert!(
        some.lines().all(|l| l == "# EOF" || l.starts_with(r#"requests_total{instance="a:1""#))
    );
    assert_eq!(some.lines().count(), 6 * 12 + 1);
    let first: f64 =
        some.lines().next().and_then(|l| l.rsplit(' ').next()?.parse().ok()).expect("an instant");
    let part = exported(
        dir.path(),
        &[
            "--match",
            "requests_total",
            "--start",
            &first.to_string(),
            "--end",
            &(first + 30.0).to_string(),
        ],
    );
    assert_eq!(part.lines().count(), 2 * 3 + 1, "{part}");
    let bad = run(&[
        "tool",
        "export",
        "nobody",
        "--data-dir",
        &dir.path().join("data").to_string_lossy(),
    ]);
    assert!(text(&bad).contains("there is no tenant nobody"), "{}", text(&bad));

    let Some(promtool) = installed("promtool") else { return };
    let (file, blocks) = (dir.path().join("all.txt"), dir.path().join("blocks"));
    fs::write(&file, &all).expect("write the export");
    let made = Command::new(&promtool)
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&file, &blocks])
        .output()
        .expect("run promtool");
    assert!(made.status.success(), "{}", text(&made));
    // Without one it does not open a directory.
    fs::create_dir(blocks.join("wal")).expect("make a directory");
    let dumped = Command::new(&promtool).args(["tsdb", "dump"]).arg(&blocks).output();
    let dumped = dumped.expect("run promtool");
    assert!(dumped.status.success(), "{}", text(&dumped));
    let dumped = String::from_utf8(dumped.stdout).expect("text");
    assert_eq!(dumped.lines().filter(|l| l.starts_with('{')).count(), lines, "every sample");
}

#[test]
fn an_export_to_parquet_is_a_file_that_is_never_overwritten() {
    let dir = copied();
    let file = dir.path().join("rows.parquet").to_string_lossy().into_owned();
    exported(dir.path(), &["--format", "parquet", "--output", &file]);
    let bytes = fs::read(&file).expect("the file");
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let again = run(&["tool", "export", "golden", "--data-dir", &data, "-o", &file]);
    assert!(!again.status.success(), "it is there already");
}
