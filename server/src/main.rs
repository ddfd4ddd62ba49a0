//! The one binary `taffrail`: reads configuration, puts the crates together, runs and stops them.
//!
//! ```text
//! cli ─► config ─► assemble ─► routes ─► serve until a signal ─► flush, close
//! ```

#![expect(clippy::print_stdout, reason = "a command-line tool prints")]

mod admin;
mod allocator;
mod assemble;
mod backups;
mod cli;
mod command;
mod config;
mod far;
mod forwarding;
mod listener;
mod logs;
mod look;
mod metrics;
mod own_scrape;
mod pages;
mod pushed;
mod reload;
mod routes;
mod scraping;
mod status;
mod telemetry;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Command, ConfigCommand};
use config::Config;

/// Stack of a thread. Expressions are evaluated by recursion as deep as the parser allows
/// (`query::promql::DEPTH_MAX`); an unoptimised build takes up to some 40 KB a level. Untouched
/// pages cost nothing.
const STACK_BYTES: usize = 32 << 20;

fn main() -> ExitCode {
    allocator::set_up();
    match run(Cli::parse()) {
        Ok(status) => status,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a command that failed")]
fn report(error: &anyhow::Error) {
    eprintln!("taffrail: {error:#}");
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Serve(arguments) => {
            let config = Config::of(&arguments)?;
            config.telemetry.start();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .thread_stack_size(STACK_BYTES)
                .build();
            runtime.context("start the runtime")?.block_on(assemble::serve(arguments, config))?;
        }
        Command::Backup(arguments) => print!("{}", command::backup::back_up(&arguments)?),
        Command::Restore(arguments) => print!("{}", command::backup::run_restore(&arguments)?),
        Command::Query(arguments) => print!("{}", command::query::run(&arguments)?),
        Command::Prune(arguments) => print!("{}", command::prune::run(&arguments)?),
        Command::Tenants(arguments) => print!("{}", command::tenants::run(&arguments)?),
        Command::Config(ConfigCommand::Check { file, config }) => {
            let file = file.or(config).context("no file is named")?;
            config::check_file(&file)?.iter().for_each(|note| println!("{note}"));
            println!("{} is a valid configuration", file.display());
        }
        Command::Config(ConfigCommand::Default) => print!("{}", config::DEFAULT),
        Command::Tool(tool) => return command::tool::run(&tool),
    }
    Ok(ExitCode::SUCCESS)
}
