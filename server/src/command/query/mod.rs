//! `taffrail query`: a question to a running server from the command line.

mod answer;
mod plot;
mod range;
mod sql;

use std::io::IsTerminal;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use model::{Clock, SystemClock};
use serde_json::Value;

use super::client::{Client, Server};
use super::escaped;
use answer::Answer;
use range::Times;

/// What is asked, when, and how the answer is shown.
#[derive(Debug, Args)]
#[command(after_help = "\
Instants are seconds since 1970, RFC 3339, or a duration ago such as 90m.
  taffrail query 'up'
  taffrail query --range 1h 'rate(node_cpu_seconds_total{mode=\"user\"}[5m])'
  taffrail query --range 7d --step 1h --format csv 'sum by (namespace) (container_memory_working_set_bytes)'
  taffrail query --sql 'SELECT host, max(value) FROM up WHERE time > now() - INTERVAL \'1 hour\' GROUP BY host'")]
pub(crate) struct Query {
    /// The expression, in PromQL; with --sql a statement.
    expression: String,
    /// Ask in SQL: a table for each metric, a column for each label, time and value.
    #[arg(long)]
    sql: bool,
    /// What stands for $NAME in a statement.
    #[arg(long = "param", value_name = "NAME=TEXT", requires = "sql")]
    parameters: Vec<String>,
    #[command(flatten)]
    times: Times,
    /// How the answer is shown [default: plot for a range in a terminal, else table].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Whose data, for callers who may read more than one tenant's: names with | between them.
    #[arg(long, value_name = "NAMES")]
    tenant: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns for people.
    Table,
    /// RFC 4180, one line a sample.
    Csv,
    /// The server's answer as it came.
    Json,
    /// A picture of text.
    Plot,
}

/// Asks, and gives what to print.
pub(crate) fn run(arguments: &Query) -> Result<String> {
    if arguments.sql {
        return run_sql(arguments);
    }
    let client = arguments.server.client()?;
    let clock = SystemClock::default();
    let path = arguments.times.path(&escaped(&arguments.expression), clock.now_ms())?;
    let whole = ask(&client, &path, arguments.tenant.as_deref())?;
    let in_terminal = std::io::stdout().is_terminal();
    let format = arguments.format.unwrap_or(match arguments.times.is_range() && in_terminal {
        true => Format::Plot,
        false => Format::Table,
    });
    if format == Format::Json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&whole)?));
    }
    let answer = Answer::of(&whole)?;
    let shown = match format {
        Format::Csv => answer.csv(),
        Format::Plot => {
            ensure!(
                arguments.times.is_range(),
                "a plot wants a range: say --range 1h, or --start and --end"
            );
            plot::of(&answer, plot::Size::of_terminal(), in_terminal)
        }
        Format::Table | Format::Json => answer.table(),
    };
    note(&whole);
    Ok(shown)
}

fn run_sql(arguments: &Query) -> Result<String> {
    ensure!(
        !arguments.times.are_given(),
        "a statement says itself about which times it asks: WHERE time > now() - INTERVAL '1 hour'"
    );
    let client = arguments.server.client()?;
    let format = arguments.format.unwrap_or(Format::Table);
    let form = if matches!(format, Format::Csv | Format::Table) { "csv" } else { "json" };
    let body = sql::body(&arguments.expression, form, &arguments.parameters)?;
    let headers = headers(arguments.tenant.as_deref());
    let answer = String::from_utf8(client.answer("POST", sql::PATH, &headers, Some(&body))?)?;
    Ok(match format {
        Format::Csv => answer,
        Format::Table => sql::table_of(&answer),
        Format::Json => format!("{answer}\n"),
        Format::Plot => {
            let whole: Value = serde_json::from_str(&answer).context("the answer is cut off")?;
            note(&whole);
            let in_terminal = std::io::stdout().is_terminal();
            let rows = sql::Rows::of(&whole)?;
            plot::of(&rows.series()?, plot::Size::of_terminal(), in_terminal)
        }
    })
}

fn headers(tenant: Option<&str>) -> Vec<(&str, &str)> {
    tenant.map(|t| ("X-Scope-OrgID", t)).into_iter().collect()
}

fn ask(client: &Client, path: &str, tenant: Option<&str>) -> Result<Value> {
    client.whole_answer("GET", path, &headers(tenant), None)
}

/// Warnings and infos go where they do not end up in a file with the answer.
#[expect(clippy::print_stderr, reason = "a command-line tool says what is beside the answer")]
fn note(whole: &Value) {
    for (key, word) in [("warnings", "warning"), ("infos", "info")] {
        for text in whole[key].as_array().into_iter().flatten() {
            eprintln!("{word}: {}", super::text::text(text));
        }
    }
}
