//! Scripts: `load`, `eval` and what is expected, in the grammar of Prometheus' promqltest.

use model::Labels;

use crate::literals::{Point, duration_ms, labels_and_rest, points, start_offsets};

/// A command and the line it begins at.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Clear,
    /// Series with their points, one per step; `None` is no sample.
    Load {
        step_ms: i64,
        series: Vec<Loaded>,
        /// Whether native histograms are made of the classic ones, too.
        with_buckets: bool,
    },
    Eval(Box<Eval>),
}

/// One series of a `load`.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) labels: Labels,
    /// One per step; `None` is no sample.
    pub(crate) points: Vec<Option<Point>>,
    /// How far before its sample each start timestamp lies, negative; empty if the script gives none.
    pub(crate) starts_ms: Vec<Option<i64>>,
}

/// An evaluation and what is expected of it.
#[derive(Debug, Default)]
pub(crate) struct Eval {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// 0 for an instant query.
    pub(crate) step_ms: i64,
    pub(crate) query: String,
    pub(crate) series: Vec<(Labels, Vec<Option<Point>>)>,
    /// First instant and step of the matrix that an instant query is to give.
    pub(crate) matrix_ms: Option<(i64, i64)>,
    pub(crate) scalar: Option<f64>,
    pub(crate) string: Option<String>,
    pub(crate) ordered: bool,
    pub(crate) fail: Option<Text>,
    pub(crate) warn: Notes,
    pub(crate) info: Notes,
    /// Something this runner does not know; the evaluation counts as failed.
    pub(crate) unknown: Option<String>,
}

/// What is expected of notes of one kind.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) wanted: Vec<Text>,
    pub(crate) none: bool,
}

/// A text that is expected.
#[derive(Debug)]
pub(crate) enum Text {
    Any,
    Exact(String),
    Regex(String),
}

impl Text {
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == text,
            Self::Regex(pattern) => regex::Regex::new(pattern).unwrap().is_match(text),
        }
    }

    fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(exact) = text.strip_prefix("msg:") {
            return Self::Exact(exact.trim().to_owned());
        }
        match text.strip_prefix("regex:") {
            Some(pattern) => Self::Regex(pattern.trim().to_owned()),
            None => Self::Any,
        }
    }
}

/// The commands of a script.
pub(crate) fn parse(text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut lines = text.lines().map(str::trim).enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut block = Vec::new();
        if line.eq_ignore_ascii_case("clear") {
            commands.push(Command { line: at + 1, kind: Kind::Clear });
            continue;
        }
        while let Some((_, next)) = lines.next_if(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            block.push(next);
        }
        commands.push(Command { line: at + 1, kind: command(line, &block) });
    }
    commands
}

fn command(line: &str, block: &[&str]) -> Kind {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match word.to_ascii_lowercase().as_str() {
        "clear" => Kind::Clear,
        word @ ("load" | "load_with_nhcb") => {
            let (step_ms, with_buckets) = (duration_ms(rest), word != "load");
            Kind::Load { step_ms, series: loaded(block), with_buckets }
        }
        word if word.starts_with("eval") => Kind::Eval(Box::new(eval(word, rest.trim(), block))),
        word => panic!("unknown command {word}"),
    }
}

/// The series of a `load`. A line of start timestamps comes right before the series it is about.
fn loaded(block: &[&str]) -> Vec<Loaded> {
    let mut series = Vec::new();
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    for line in block {
        if let Some((labels, offsets)) = start_line(line) {
            starts = Some((labels, offsets));
            continue;
        }
        let (labels, points) = series_line(line);
        let starts_ms = starts.take().map_or_else(Vec::new, |(of, offsets)| {
            assert!(of == labels, "start timestamps of {of} stand before {labels}");
            assert_eq!(offsets.len(), points.len(), "start timestamps of {labels}");
            offsets
        });
        series.push(Loaded { labels, points, starts_ms });
    }
    series
}

/// `metric{…}@st <offsets>`
fn start_line(line: &str) -> Option<(Labels, Vec<Option<i64>>)> {
    let (series, offsets) = line.split_once("@st")?;
    let (labels, rest) = labels_and_rest(series);
    (rest.is_empty() && offsets.starts_with(char::is_whitespace))
        .then(|| (labels, start_offsets(offsets)))
}

fn series_line(line: &str) -> (Labels, Vec<Option<Point>>) {
    let (labels, rest) = labels_and_rest(line);
    (labels, points(rest))
}

fn eval(word: &str, rest: &str, block: &[&str]) -> Eval {
    let mut eval = Eval::default();
    match word {
        "eval_fail" => eval.fail = Some(Text::Any),
        "eval_warn" => eval.warn.wanted.push(Text::Any),
        "eval_info" => eval.info.wanted.push(Text::Any),
        "eval_ordered" => eval.ordered = true,
        _ => {}
    }
    let mut words = rest.split_whitespace();
    let mut next = || words.next().unwrap();
    if next() == "instant" {
        next();
        eval.start_ms = duration_ms(next());
        eval.end_ms = eval.start_ms;
        eval.query = after_words(rest, 3);
    } else {
        next();
        eval.start_ms = duration_ms(next());
        next();
        eval.end_ms = duration_ms(next());
        next();
        eval.step_ms = duration_ms(next());
        eval.query = after_words(rest, 7);
    }
    block.iter().for_each(|line| expectation(&mut eval, line));
    eval
}

/// The text after so many words.
fn after_words(mut text: &str, words: usize) -> String {
    for _ in 0..words {
        text = text.trim_start();
        text = text.find(char::is_whitespace).map_or("", |at| &text[at..]);
    }
    text.trim().to_owned()
}

fn expectation(eval: &mut Eval, line: &str) {
    if let Some(text) = line.strip_prefix("expected_fail_message") {
        eval.fail = Some(Text::Exact(text.trim().to_owned()));
    } else if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
        eval.fail = Some(Text::Regex(pattern.trim().to_owned()));
    } else if let Some(rest) = line.strip_prefix("expect ") {
        expect(eval, rest.trim());
    } else if let Ok(value) = line.parse::<f64>() {
        eval.scalar = Some(value);
    } else {
        eval.series.push(series_line(line));
    }
}

fn expect(eval: &mut Eval, rest: &str) {
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match word {
        "fail" => eval.fail = Some(Text::parse(rest)),
        "ordered" => eval.ordered = true,
        "warn" => eval.warn.wanted.push(Text::parse(rest)),
        "info" => eval.info.wanted.push(Text::parse(rest)),
        "no_warn" => eval.warn.none = true,
        "no_info" => eval.info.none = true,
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", from, "to", _, "step", step] = *words else {
                panic!("expect range {rest}")
            };
            eval.matrix_ms = Some((duration_ms(from), duration_ms(step)));
        }
        "string" => {
            let expr = query::promql::parse(rest.trim()).unwrap();
            let query::promql::ExprKind::String(text) = expr.kind else {
                panic!("no string: {rest}")
            };
            eval.string = Some(text.to_text().into_owned());
        }
        other => eval.unknown = Some(format!("expect {other}")),
    }
}
