//! The formats as the documents tell them: a reader that was written from them, in another language,
//! reads the golden data directory and what this build makes of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::golden::copied;
use crate::process::{installed, run};

/// What the reader prints of a directory.
fn read(dir: &Path) -> Option<Value> {
    let python = installed("python3")?;
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats/reader.py");
    let output = Command::new(python).arg(reader).arg(dir.join("data")).output();
    let output = output.expect("run python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// A series as an export writes it.
fn text_of(labels: &Value) -> String {
    let labels = labels.as_object().expect("labels");
    let text = |name: &str| labels[name].as_str().expect("a text").to_owned();
    let others = labels.keys().filter(|name| *name != "__name__");
    let others: Vec<String> = others.map(|name| format!("{name}={:?}", text(name))).collect();
    format!("{}{{{}}}", text("__name__"), others.join(","))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

/// What was exported, as series, value and seconds, lies in blocks to the bit, but for what only the
/// log has.
fn check_blocks<'a>(blocks: impl Iterator<Item = &'a Value>, lines: &[(&str, f64, f64)]) {
    let of_block = |block: &Value| -> Vec<(String, i64, u64)> {
        let series: Vec<&Value> = items(&block["series"]).collect();
        let row = |row: &Value| {
            let series = series[row[0].as_u64().expect("a series row") as usize];
            let bits = u64::from_str_radix(row[2].as_str().expect("bits"), 16).expect("bits");
            (series[0] == 1).then(|| (text_of(&series[1]), row[1].as_i64().unwrap_or(0), bits))
        };
        items(&block["samples"]).filter_map(row).collect()
    };
    let stored: BTreeSet<(String, i64, u64)> = blocks.flat_map(of_block).collect();
    let in_blocks = |line: &&(&str, f64, f64)| {
        let at_ms = (line.2 * 1000.0).round() as i64;
        let same = |bits: u64| {
            let value = f64::from_bits(bits);
            bits == line.1.to_bits() || (value.is_nan() && line.1.is_nan())
        };
        let of_series = (line.0.to_owned(), at_ms, 0)..=(line.0.to_owned(), at_ms, u64::MAX);
        stored.range(of_series).any(|(.., bits)| same(*bits))
    };
    let count = lines.iter().filter(in_blocks).count();
    assert!(count > 500 && count < lines.len(), "{count} of {} in blocks", lines.len());
}

#[test]
fn another_reader_finds_the_same_series_and_samples() {
    let dir = copied();
    let Some(read) = read(dir.path()) else { return };
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let verified = run(&["tool", "verify", &data, "--json"]);
    let verified: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    assert_eq!(read["log_records"], verified["log_records"], "records behind what is covered");
    let partitions = || items(&read["partitions"]);
    let blocks = || partitions().flat_map(|p| items(&p["blocks"]));
    assert_eq!(Some(blocks().count() as u64), verified["blocks"].as_u64());

    let exported = run(&["tool", "export", "golden", "--data-dir", &data]);
    let exported = String::from_utf8(exported.stdout).expect("text");
    let lines: Vec<(&str, f64, f64)> = exported
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut parts = line.rsplitn(3, ' ');
            let (at, value) = (parts.next().expect("an instant"), parts.next().expect("a value"));
            let number = |text: &str| text.parse().expect("a number");
            (parts.next().expect("a series"), number(value), number(at))
        })
        .collect();
    // The numbers of tenants are in the directory of tenants: the first one is 1.
    let of_golden = |series: &&Value| series[0] == 1;
    let named: BTreeSet<String> = blocks()
        .flat_map(|b| items(&b["series"]))
        .filter(of_golden)
        .map(|s| text_of(&s[1]))
        .collect();
    let expected: BTreeSet<String> = lines.iter().map(|line| line.0.to_owned()).collect();
    assert!(expected.is_subset(&named) && expected.len() > 20, "{expected:?} {named:?}");
    let histograms: Vec<_> = named.difference(&expected).collect();
    assert!(histograms.iter().all(|name| name.starts_with("sizes_bytes")), "{histograms:?}");
    let in_heads: BTreeSet<String> = partitions()
        .flat_map(|p| items(&p["head_series"]))
        .filter(of_golden)
        .map(|s| text_of(&s[1]))
        .collect();
    assert_eq!(in_heads, named);

    check_blocks(blocks(), &lines);

    let mut found = 0;
    for sample in partitions().flat_map(|p| items(&p["log_samples"])).filter(of_golden) {
        let bits = u64::from_str_radix(sample[3].as_str().expect("bits"), 16).expect("bits");
        let (series, ms) = (text_of(&sample[1]), sample[2].as_i64().expect("an instant"));
        if bits == model::STALE_NAN_BITS {
            continue;
        }
        let value = f64::from_bits(bits);
        let same = |line: &&(&str, f64, f64)| {
            line.0 == series
                && line.2 == ms as f64 / 1000.0
                && (line.1.to_bits() == bits || (line.1.is_nan() && value.is_nan()))
        };
        assert!(lines.iter().any(|line| same(&line)), "{series} {ms} {value}");
        found += 1;
    }
    assert!(found > 200, "{found} samples in the log");
}
