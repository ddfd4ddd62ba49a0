//! Statements in SQL: asked for, and their rows as a table or a plot.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::text::{table, text};
use super::answer::{Answer, Point, Series};

/// Where statements are asked.
pub(super) const PATH: &str = "/api/v1/sql";

/// The body of a question; parameters are written `name=text`.
pub(super) fn body(statement: &str, format: &str, parameters: &[String]) -> Result<Value> {
    let parameter = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--param {text:?} is not written as name=text"))?;
        Ok((name.trim_start_matches('$').to_owned(), Value::from(value)))
    };
    let parameters = parameters.iter().map(parameter).collect::<Result<serde_json::Map<_, _>>>()?;
    Ok(json!({ "query": statement, "format": format, "parameters": parameters }))
}

/// An answer in CSV as columns for people: its numbers are as the server wrote them. What a cell has in
/// several lines, such as a plan, goes below each other.
pub(super) fn table_of(csv: &str) -> String {
    let mut rows = cells(csv).into_iter();
    let header = rows.next().unwrap_or_default();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows = rows.flat_map(|row| {
        let lines: Vec<Vec<String>> =
            row.iter().map(|cell| cell.lines().map(str::to_owned).collect()).collect();
        let height = lines.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let line = |i: usize| -> Vec<String> {
            lines.iter().map(|cell| cell.get(i).cloned().unwrap_or_default()).collect()
        };
        (0..height).map(line).collect::<Vec<_>>()
    });
    table(&header, rows)
}

/// The cells of CSV by RFC 4180, line by line.
fn cells(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut is_quoted, mut rest) = (false, csv.chars().peekable());
    while let Some(character) = rest.next() {
        match (is_quoted, character) {
            (true, '"') if rest.next_if_eq(&'"').is_some() => cell.push('"'),
            (_, '"') => is_quoted = !is_quoted,
            (false, ',') => row.push(std::mem::take(&mut cell)),
            (false, '\r') => {}
            (false, '\n') => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            (_, character) => cell.push(character),
        }
    }
    rows
}

/// Rows with named columns.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

#[derive(Debug)]
struct Column {
    name: String,
    kind: String,
}

impl Rows {
    /// Of the whole JSON of an answer.
    pub(super) fn of(whole: &Value) -> Result<Self> {
        let data = &whole["data"];
        let column = |column: &Value| {
            let (name, kind) = (column["name"].as_str()?, column["type"].as_str()?);
            Some(Column { name: name.to_owned(), kind: kind.to_owned() })
        };
        let columns = data["columns"].as_array().and_then(|all| all.iter().map(column).collect());
        let row = |row: &Value| row.as_array().cloned();
        let rows = data["rows"].as_array().and_then(|all| all.iter().map(row).collect());
        let (Some(columns), Some(rows)): (Option<Vec<Column>>, Option<Vec<Vec<Value>>>) =
            (columns, rows)
        else {
            anyhow::bail!("the answer has no columns and rows; is it cut off?");
        };
        let fits = |row: &Vec<Value>| row.len() == columns.len();
        ensure!(rows.iter().all(fits), "a row of the answer has not as many cells as columns");
        Ok(Self { columns, rows })
    }

    /// As series for a plot: time is the first column of instants, each column of numbers is drawn,
    /// and texts tell series apart.
    pub(super) fn series(&self) -> Result<Answer> {
        let of_kind = |kinds: &'static [&'static str]| {
            let fits = move |(_, column): &(usize, &Column)| kinds.contains(&column.kind.as_str());
            self.columns.iter().enumerate().filter(fits).map(|(place, _)| place)
        };
        let time = of_kind(&["timestamp with time zone", "timestamp", "date"]).next();
        let time = time.context("a plot wants a column of instants, such as time")?;
        let numbers: Vec<usize> =
            of_kind(&["double", "real", "bigint", "unsigned bigint", "integer", "smallint"])
                .collect();
        ensure!(!numbers.is_empty(), "a plot wants a column of numbers, such as value");
        let texts: Vec<usize> = of_kind(&["text", "boolean"]).collect();
        let mut found: Vec<(Names, Vec<Point>)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for row in &self.rows {
            let Some(seconds) = seconds(&row[time]) else { continue };
            for number in numbers.iter().filter(|number| !row[**number].is_null()) {
                let labels = || {
                    let named = ("__name__".to_owned(), self.columns[*number].name.clone());
                    let label =
                        |place: &usize| (self.columns[*place].name.clone(), text(&row[*place]));
                    std::iter::once(named).chain(texts.iter().map(label)).collect::<Vec<_>>()
                };
                let labels = labels();
                let place = *places.entry(labels.clone()).or_insert_with(|| {
                    found.push((labels, Vec::new()));
                    found.len() - 1
                });
                found[place].1.push(Point { seconds, value: text(&row[*number]) });
            }
        }
        let series = found.into_iter().map(|(labels, mut points)| {
            points.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
            Series::new(labels, points)
        });
        Ok(Answer::of_series(series.collect()))
    }
}

/// Labels of a series, and what they say.
type Names = Vec<(String, String)>;

/// An instant as the server writes it; without a zone it is taken for one in UTC.
fn seconds(value: &Value) -> Option<f64> {
    let text = value.as_str()?;
    let whole = match (text.contains('T'), text.ends_with('Z')) {
        (true, true) => text.to_owned(),
        (true, false) => format!("{text}Z"),
        (false, _) => format!("{text}T00:00:00Z"),
    };
    query::http::instant_ms(&whole).map(|ms| ms as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::super::plot;
    use super::*;

    fn rows() -> Rows {
        Rows::of(&json!({"data": {
            "columns": [
                {"name": "time", "type": "timestamp with time zone"},
                {"name": "host", "type": "text"},
                {"name": "value", "type": "double"},
            ],
            "rows": [
                ["1970-01-01T00:00:10.000Z", "a", 2],
                ["1970-01-01T00:00:00.000Z", "a", 1.5],
                ["1970-01-01T00:00:00.000Z", null, "+Inf"],
                ["1970-01-01T00:00:00.000Z", "b", null],
            ],
        }}))
        .expect("rows")
    }

    #[test]
    fn rows_are_a_table() {
        let csv = "time,host,value\r\n1970,a,0.1\r\n1970,,\r\n1971,\"a,\"\"b\"\"\",+Inf\r\n";
        let expected = "time  host   value\n1970  a      0.1\n1970\n1971  a,\"b\"  +Inf\n";
        assert_eq!(table_of(csv), expected);
        assert_eq!(table_of("plan,n\r\n\"a\n  b\",1\r\n"), "plan  n\na     1\n  b\n");
        assert_eq!(table_of("n\r\n"), "n\n");
    }

    #[test]
    fn rows_are_series() {
        let series = rows().series().expect("series").series;
        let names: Vec<String> = series.iter().map(Series::name).collect();
        assert_eq!(names, ["value{host=\"a\"}", "value{host=\"\"}"]);
        let points: Vec<(f64, &str)> =
            series[0].points.iter().map(|p| (p.seconds, p.value.as_str())).collect();
        assert_eq!(points, [(0.0, "1.5"), (10.0, "2")]);
        let no_time =
            json!({"data": {"columns": [{"name": "n", "type": "bigint"}], "rows": [[1]]}});
        let error = Rows::of(&no_time).expect("rows").series().expect_err("no time");
        assert!(error.to_string().contains("a column of instants"), "{error}");
        let picture = plot::of(&rows().series().expect("series"), plot::Size::of_terminal(), false);
        assert!(picture.contains("value{host=\"a\"}"), "{picture}");
    }

    #[test]
    fn parameters_are_texts() {
        let asked = body("SELECT $a", "json", &["$a=b=c".to_owned()]).expect("a body");
        assert_eq!(asked["parameters"], json!({"a": "b=c"}));
        assert!(body("SELECT 1", "json", &["a".to_owned()]).is_err());
        assert!(Rows::of(&Value::Null).is_err());
    }
}
