//! Thousands of random questions to the packaged Prometheus and to Taffrail over the same rows:
//! answers are compared almost bit for bit, refusals by their kind.
//!
//! `TAFFRAIL_DIFFERENTIAL_SEED` and `TAFFRAIL_DIFFERENTIAL_QUESTIONS` choose another run; what
//! fails prints the question. The peer is older than the language we speak; what changed since and
//! can be seen here is listed in [`changed::CHANGES`], or kept out of rows and questions with the
//! reason beside it. `docs/promql.md` has all of it.

mod changed;
mod questions;

use model::stale_nan;
use serde_json::Value;
use testkit::http::escaped;
use testkit::remote_write::Series;
use testkit::{SeededRandom, http::Connection};

use crate::process::{Program, installed, taffrail};
use crate::senders::start_prometheus;
use questions::Questions;

/// First instant of the rows. Samples never stand on whole seconds plus 37 ms, and questions
/// always do, so that no window begins or ends on a sample: Prometheus 3 leaves the left end out.
/// Counters either have no holes or stay far from zero: where one near zero begins inside a window,
/// Prometheus 3 extrapolates otherwise.
const START_MS: i64 = 1_750_000_000_000;
const SPAN_MS: i64 = 1_800_000;
const INTERVAL_MS: i64 = 10_000;

/// The first place where two answers differ.
struct Difference {
    theirs: String,
    ours: String,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_questions_have_the_same_answers() {
    let Some(prometheus) = installed("prometheus") else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let taffrail = taffrail(
        &dir.path().join("taffrail"),
        "[ingest.self_scrape]\nenabled = false\n[tenancy.limits.default]\nage_seconds_max = 315360000\n[storage]\ndisk_reserve_bytes = 0\n",
    );
    // The rows lie in the past.
    let flags = ["--storage.tsdb.retention.time=100y", "--web.enable-remote-write-receiver"];
    let prometheus =
        start_prometheus(&prometheus, &dir.path().join("prometheus"), "global: {}\n", &flags);
    write_rows(&[&prometheus, &taffrail]);

    let seed = setting("TAFFRAIL_DIFFERENTIAL_SEED", 20_261_121);
    let count = setting("TAFFRAIL_DIFFERENTIAL_QUESTIONS", 1_500);
    let questions = Questions(SeededRandom::new(seed));
    let mut both = Both::open(&prometheus, &taffrail);
    let mut tally = Tally::default();
    for _ in 0..count {
        let question = questions.question();
        let at_ms = START_MS + 37 + 1000 * questions.0.below(SPAN_MS as u64 / 1000 + 240) as i64;
        let step_s = 1 + questions.0.below(90) as i64;
        let end_ms = at_ms + step_s * 1000 * questions.0.below(40) as i64;
        let second = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let text = escaped(&question);
        let instant = format!("/api/v1/query?query={text}&time={}", second(at_ms));
        tally.count(&question, &both.ask(&instant), &instant);
        let range = format!(
            "/api/v1/query_range?query={text}&start={}&end={}&step={step_s}",
            second(at_ms),
            second(end_ms)
        );
        tally.count(&question, &both.ask(&range), &range);
    }
    println!(
        "seed {seed}: {} answers equal, of them {} empty and {} refusals; left out: {:?}",
        tally.equal, tally.empty, tally.refused, tally.left_out
    );
    assert!(tally.different.is_empty(), "{} differ:\n{}", tally.different.len(), tally.report());
    // A generator that only makes refusals would find nothing.
    let telling = tally.equal - tally.empty - tally.refused;
    assert!(telling * 2 > tally.equal, "only {telling} of {} answers have rows", tally.equal);
}

#[derive(Debug, Default)]
struct Tally {
    equal: usize,
    empty: usize,
    refused: usize,
    /// By what changed since.
    left_out: changed::LeftOut,
    different: Vec<String>,
}

impl Tally {
    fn count(&mut self, question: &str, [theirs, ours]: &[Value; 2], path: &str) {
        match difference(theirs, ours, tolerance_of(question)) {
            None => {
                self.equal += 1;
                self.refused += usize::from(theirs["status"] != "success");
                let rows = theirs["data"]["result"].as_array();
                self.empty += usize::from(rows.is_some_and(Vec::is_empty));
            }
            Some(what) => {
                match changed::CHANGES.iter().find(|change| change.explains(question, &what)) {
                    Some(change) => *self.left_out.entry(change.what).or_default() += 1,
                    None => {
                        let Difference { theirs, ours } = what;
                        self.different.push(format!(
                            "{question}\n  {path}\n  Prometheus {theirs}\n  Taffrail   {ours}"
                        ));
                    }
                }
            }
        }
    }

    fn report(&self) -> String {
        let mut shown: Vec<&str> = self.different.iter().map(String::as_str).collect();
        // The shortest say most.
        shown.sort_by_key(|text| text.len());
        shown.truncate(25);
        shown.join("\n")
    }
}

/// A connection to each.
struct Both([Connection; 2]);

impl Both {
    fn open(prometheus: &Program, taffrail: &Program) -> Self {
        Self([prometheus, taffrail].map(|p| Connection::open(p.address).expect("connect")))
    }

    fn ask(&mut self, path: &str) -> [Value; 2] {
        let [theirs, ours] = &mut self.0;
        [theirs, ours].map(|connection| {
            let answer = connection.call("GET", path, &[], &[]).expect("an answer");
            serde_json::from_slice(&answer.body)
                .unwrap_or_else(|e| panic!("{path}: {e}: {}", answer.text()))
        })
    }
}

/// Where two answers differ first.
fn difference(theirs: &Value, ours: &Value, tolerance: f64) -> Option<Difference> {
    for key in ["status", "errorType"] {
        if theirs[key] != ours[key] {
            return Some(said(theirs, ours));
        }
    }
    let result = |answer: &Value| {
        let mut result = answer["data"]["result"].clone();
        if let (Value::Array(rows), true) = (&mut result, answer["data"]["resultType"] != "scalar")
        {
            rows.sort_by_key(|row| row["metric"].to_string());
        }
        result
    };
    let (theirs, ours) = (result(theirs), result(ours));
    (!alike(&theirs, &ours, tolerance)).then(|| first_difference(&theirs, &ours, tolerance))
}

/// Descends to the rows, and in them to the points, that part.
fn first_difference(theirs: &Value, ours: &Value, tolerance: f64) -> Difference {
    match (theirs, ours) {
        (Value::Array(t), Value::Array(o))
            if t.len() == o.len() && t.iter().any(|v| !v.is_string()) =>
        {
            match t.iter().zip(o).find(|(t, o)| !alike(t, o, tolerance)) {
                Some((t, o)) if t.is_string() => said(t, o),
                Some((t, o)) => first_difference(t, o, tolerance),
                None => said(theirs, ours),
            }
        }
        (Value::Object(t), Value::Object(o)) if t.get("metric") == o.get("metric") => {
            match t
                .iter()
                .find(|(key, value)| o.get(*key).is_some_and(|v| !alike(value, v, tolerance)))
            {
                Some((key, value)) => {
                    let inner = first_difference(value, &ours[key], tolerance);
                    let metric = &theirs["metric"];
                    Difference { theirs: format!("{metric} {}", inner.theirs), ours: inner.ours }
                }
                None => said(theirs, ours),
            }
        }
        _ => said(theirs, ours),
    }
}

fn said(theirs: &Value, ours: &Value) -> Difference {
    // The status comes last in an answer: it must not be cut off.
    let cut = |v: &Value| match v["status"].as_str() {
        Some("success") => "\"success\"".to_owned(),
        _ => v.to_string().chars().take(400).collect::<String>(),
    };
    Difference { theirs: cut(theirs), ours: cut(ours) }
}

/// How far numbers may be apart, relative to their size: the order of additions decides the last
/// digits, and a remainder or a difference of large numbers lifts those up.
fn tolerance_of(question: &str) -> f64 {
    let lifts = [" % ", " - ", "stddev", "stdvar", "deriv", "predict_linear", "sin", "cos", "tan"];
    if lifts.iter().any(|text| question.contains(text)) { 1e-6 } else { 1e-11 }
}

/// Equal but for the last digits of numbers.
fn alike(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b, tolerance))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| alike(v, w, tolerance)))
        }
        (Value::String(a), Value::String(b)) if a != b => {
            match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => (a - b).abs() <= tolerance * a.abs().max(b.abs()),
                _ => false,
            }
        }
        (a, b) => a == b,
    }
}

fn write_rows(to: &[&Program]) {
    for program in to {
        program.write(None, &rows());
    }
}

/// Half an hour of what makes evaluators err: resets, gaps, stale markers, NaN, infinities, huge
/// and tiny values, values that never change, series that begin late and end early.
fn rows() -> Vec<Series> {
    let random = SeededRandom::new(7);
    let mut all = Vec::new();
    for job in ["api", "web", "db"] {
        for instance in ["a", "b", "c"] {
            for mode in ["read", "write", ""] {
                for metric in METRICS {
                    if random.chance(85) {
                        all.push(series(
                            metric,
                            &[("job", job), ("instance", instance), ("mode", mode)],
                            &random,
                        ));
                    }
                }
            }
            all.extend(histogram(job, instance, &random));
        }
    }
    all
}

const METRICS: &[&str] = &[
    "requests_total",
    "errors_total",
    "bytes_total",
    "temperature",
    "queue_length",
    "odd_values",
    "constant",
    "distinct",
];

fn labels(metric: &str, labels: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all = vec![("__name__".to_owned(), metric.to_owned())];
    all.extend(
        labels.iter().filter(|(_, v)| !v.is_empty()).map(|&(k, v)| (k.to_owned(), v.to_owned())),
    );
    all.sort();
    all
}

/// The instants of one series: at a phase of its own; with holes it may begin late and end early.
fn instants(random: &SeededRandom, holes: bool) -> Vec<i64> {
    // Between .100 and .900 of a second, so never where a window begins.
    let phase_ms = 1000 * random.below(10) as i64 + 100 + random.below(800) as i64;
    let begins = if holes && random.chance(20) { random.below(100) as i64 } else { 0 };
    let ends = SPAN_MS / INTERVAL_MS - if random.chance(20) { random.below(100) as i64 } else { 0 };
    let mut hole = 0;
    let mut out = Vec::new();
    for at in begins..ends {
        if holes && hole == 0 && random.chance(2) {
            hole = random.below(40);
        }
        if hole > 0 {
            hole -= 1;
            continue;
        }
        out.push(START_MS + at * INTERVAL_MS + phase_ms);
    }
    out
}

fn series(metric: &str, of: &[(&str, &str)], random: &SeededRandom) -> Series {
    let unique = random.below(1 << 20) as f64 / 1024.0;
    let mut counter =
        if metric == "bytes_total" { 1e13 } else { 1e5 } + random.below(10_000) as f64;
    let begin = counter + 500.0;
    // Only a counter without holes may start again at zero.
    let holes = !["requests_total", "bytes_total"].contains(&metric);
    let value = |counter: &mut f64| match metric {
        "requests_total" | "errors_total" | "bytes_total" => {
            let unit = if metric == "bytes_total" { 1e9 } else { 1.0 };
            *counter += unit * random.below(50) as f64;
            // Not the first: what is near zero there shows how far back a rate is extrapolated.
            if *counter > begin && random.chance(1) {
                *counter = if holes { *counter / 2.0 } else { unit * random.below(20) as f64 };
            }
            *counter
        }
        "temperature" => random.below(4000) as f64 / 100.0 - 10.0,
        "queue_length" => random.below(6) as f64,
        "odd_values" => match random.below(12) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            3 => -0.0,
            4 => 1e100,
            5 => 1e-300,
            6 => stale_nan(),
            n => n as f64 * 1e15 + 0.1,
        },
        "constant" => 42.5,
        _ => unique + random.below(1000) as f64 / 4096.0,
    };
    let samples: Vec<(i64, f64)> =
        instants(random, holes).into_iter().map(|t| (t, value(&mut counter))).collect();
    Series { labels: labels(metric, of), samples, ..Series::default() }
}

fn histogram(job: &str, instance: &str, random: &SeededRandom) -> Vec<Series> {
    let instants = instants(random, false);
    let bounds = ["0.1", "0.5", "1", "2.5", "+Inf"];
    let mut counts = [1e4_f64, 2e4, 3e4, 4e4, 5e4];
    let mut all: Vec<Series> = bounds
        .iter()
        .map(|le| Series {
            labels: labels(
                "latency_seconds_bucket",
                &[("job", job), ("instance", instance), ("le", le)],
            ),
            ..Series::default()
        })
        .collect();
    for at in instants {
        let mut more = 0.0;
        if random.chance(1) {
            counts = [0.0; 5];
        }
        for (count, series) in counts.iter_mut().zip(&mut all) {
            more += random.below(5) as f64;
            *count += more;
            series.samples.push((at, *count));
        }
    }
    all
}
