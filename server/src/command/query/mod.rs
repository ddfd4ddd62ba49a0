//! `taffrail query`: a question to a running server from the command line.

mod answer;
mod plot;
mod range;

use std::io::IsTerminal;

use anyhow::{Result, ensure};
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
  taffrail query --range 7d --step 1h --format csv 'sum by (namespace) (container_memory_working_set_bytes)'")]
pub(crate) struct Query {
    /// The expression, in PromQL.
    expression: String,
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

fn ask(client: &Client, path: &str, tenant: Option<&str>) -> Result<Value> {
    let headers: Vec<(&str, &str)> = tenant.map(|t| ("X-Scope-OrgID", t)).into_iter().collect();
    client.whole_answer("GET", path, &headers, None)
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
