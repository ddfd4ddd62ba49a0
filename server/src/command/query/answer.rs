//! An answer of the query API taken apart, as a table and as CSV.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::super::text::{table, text};

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// Names and values in the answer's order, the metric's name among them.
    labels: Vec<(String, String)>,
    pub(super) points: Vec<Point>,
}

/// A value at an instant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) seconds: f64,
    /// As the server wrote it: nothing is lost to another way of writing numbers. A native
    /// histogram is its JSON.
    pub(super) value: String,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) series: Vec<Series>,
    /// Whether each series has as many points as it likes.
    is_range: bool,
}

impl Series {
    pub(super) fn new(labels: Vec<(String, String)>, points: Vec<Point>) -> Self {
        Self { labels, points }
    }

    /// As the text formats write it.
    pub(super) fn name(&self) -> String {
        let mut name = String::new();
        let mut labels = Vec::new();
        for (key, value) in &self.labels {
            match key.as_str() {
                "__name__" => name.clone_from(value),
                _ => labels.push(format!("{key}={value:?}")),
            }
        }
        match labels.is_empty() && !name.is_empty() {
            true => name,
            false => format!("{name}{{{}}}", labels.join(",")),
        }
    }
}

impl Answer {
    /// Of series over a range.
    pub(super) fn of_series(series: Vec<Series>) -> Self {
        Self { series, is_range: true }
    }

    /// Of the whole JSON of an answer.
    pub(super) fn of(whole: &Value) -> Result<Self> {
        let (kind, result) = (&whole["data"]["resultType"], &whole["data"]["result"]);
        let one = |points: &Value| {
            let points = vec![point(points)?];
            Some(vec![Series { labels: Vec::new(), points }])
        };
        let many = || result.as_array()?.iter().map(series).collect::<Option<Vec<_>>>();
        let series = match kind.as_str().unwrap_or_default() {
            "scalar" | "string" => one(result),
            "vector" | "matrix" => many(),
            other => bail!("the answer has the type {other:?}, which this version does not know"),
        };
        let series = series.context("the answer is not shaped as its type says")?;
        Ok(Self { series, is_range: kind == "matrix" })
    }

    /// Columns for people: one line a series, or one a sample where there are many.
    pub(super) fn table(&self) -> String {
        if self.series.is_empty() {
            return "no series\n".to_owned();
        }
        let rows = self.series.iter().flat_map(|series| {
            let name = series.name();
            series.points.iter().map(move |point| {
                let mut row = vec![name.clone()];
                row.extend(self.is_range.then(|| instant(point.seconds)));
                row.push(point.value.clone());
                row
            })
        });
        let header: &[&str] =
            if self.is_range { &["series", "time", "value"] } else { &["series", "value"] };
        table(header, rows)
    }

    /// RFC 4180: a column for each label that any series has, the instant and the value.
    pub(super) fn csv(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.series.iter().flat_map(|series| &series.labels) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let mut out = String::new();
        let header = names.iter().copied().chain(["time", "value"]);
        line(&mut out, header);
        for series in &self.series {
            for point in &series.points {
                let label = |name: &&str| {
                    let found = series.labels.iter().find(|(n, _)| n == name);
                    found.map_or("", |(_, value)| value.as_str())
                };
                let at = instant(point.seconds);
                let cells = names.iter().map(label).chain([at.as_str(), point.value.as_str()]);
                line(&mut out, cells);
            }
        }
        out
    }
}

fn line<'a>(out: &mut String, cells: impl Iterator<Item = &'a str>) {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            out.push(',');
        }
        match cell.contains([',', '"', '\n', '\r']) {
            true => out.push_str(&format!("\"{}\"", cell.replace('"', "\"\""))),
            false => out.push_str(cell),
        }
    }
    out.push_str("\r\n");
}

pub(super) fn instant(seconds: f64) -> String {
    query::http::rfc3339_text((seconds * 1_000.0).round() as i64)
}

fn series(value: &Value) -> Option<Series> {
    let labels = value["metric"].as_object()?;
    let labels = labels.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let mut points = Vec::new();
    for (one, many) in [("value", "values"), ("histogram", "histograms")] {
        if value.get(one).is_some() {
            points.push(point(&value[one])?);
        }
        for value in value[many].as_array().into_iter().flatten() {
            points.push(point(value)?);
        }
    }
    // Floats and histograms of one series come apart.
    points.sort_by(|a: &Point, b| a.seconds.total_cmp(&b.seconds));
    Some(Series { labels, points })
}

fn point(value: &Value) -> Option<Point> {
    Some(Point { seconds: value[0].as_f64()?, value: text(value.get(1)?) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(data: Value, table: &str, csv: &str) {
        let answer = Answer::of(&json!({ "data": data })).expect("an answer");
        assert_eq!(answer.table(), table);
        assert_eq!(answer.csv().replace("\r\n", "\n"), csv);
    }

    #[test]
    fn every_type_is_shown() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a,\"b\""}, "value": [1.5, "1"]},
            {"metric": {"zone": "z"}, "histogram": [1.5, {"count": "3"}]},
            {"metric": {}, "value": [1.5, "+Inf"]},
        ]});
        check(
            vector,
            "series             value\nup{job=\"a,\\\"b\\\"\"}  1\n{zone=\"z\"}         {\"count\":\"3\"}\n\
             {}                 +Inf\n",
            "__name__,job,zone,time,value\nup,\"a,\"\"b\"\"\",,1970-01-01T00:00:01.500Z,1\n\
             ,,z,1970-01-01T00:00:01.500Z,\"{\"\"count\"\":\"\"3\"\"}\"\n,,,1970-01-01T00:00:01.500Z,+Inf\n",
        );
        check(
            json!({"resultType": "scalar", "result": [0, "2"]}),
            "series  value\n{}      2\n",
            "time,value\n1970-01-01T00:00:00.000Z,2\n",
        );
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {"__name__": "m"}, "values": [[0, "1"], [2, "3"]], "histograms": [[1, {}]]},
        ]});
        check(
            matrix,
            "series  time                      value\nm       1970-01-01T00:00:00.000Z  1\n\
             m       1970-01-01T00:00:01.000Z  {}\nm       1970-01-01T00:00:02.000Z  3\n",
            "__name__,time,value\nm,1970-01-01T00:00:00.000Z,1\nm,1970-01-01T00:00:01.000Z,{}\n\
             m,1970-01-01T00:00:02.000Z,3\n",
        );
        check(json!({"resultType": "vector", "result": []}), "no series\n", "time,value\n");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for (data, part) in [
            (json!({"resultType": "streams", "result": []}), "\"streams\""),
            (json!({"resultType": "vector", "result": [{"metric": 1}]}), "not shaped"),
            (Value::Null, "\"\""),
        ] {
            let error = Answer::of(&json!({ "data": data })).expect_err("no answer");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
