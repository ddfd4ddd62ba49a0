//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Metrics, logs, metering and alerts of a multi-tenant platform, in one process.
///
/// `taffrail serve` needs nothing: it keeps its data in ./data, listens on 127.0.0.1:9550 and at once
/// observes itself and this machine. Open http://127.0.0.1:9550/ to see it.
#[derive(Debug, Parser)]
#[command(name = "taffrail", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
Send to it:   remote_write: [{url: http://127.0.0.1:9550/api/v1/write}]     (prometheus.yml)
Ask it:       curl 'http://127.0.0.1:9550/api/v1/query?query=up'
Grafana:      a Prometheus data source with the URL http://127.0.0.1:9550/prometheus")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server until SIGINT or SIGTERM.
    Serve(Serve),
    /// Ask a running server: an instant or a range, as a table, CSV, JSON or a plot.
    Query(crate::command::query::Query),
    /// Look after the tenants of a running server.
    Tenants(crate::command::tenants::Tenants),
    /// Have a running server back everything up.
    Backup(crate::command::backup::Backup),
    /// Make a store of a backup, or see whether the backup is whole.
    Restore(crate::command::backup::Restore),
    /// Let old backups go, and what no other one needs. Without --yes it says what would go.
    Prune(crate::command::prune::Prune),
    /// Look at configuration without running anything.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look after a data directory while no server uses it.
    #[command(subcommand)]
    Tool(crate::command::tool::Tool),
}

/// `taffrail serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Serve {
    /// Where the configuration is; every key has a default (see `taffrail config default`).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where data is kept, instead of `data_dir` of the configuration [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address and port, instead of `listen` of the configuration [default: 127.0.0.1:9550].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Second of the two consents (the first is `allow_anyone` in the configuration) to serve other machines
    /// although nobody has to say who they are.
    #[arg(long)]
    pub(crate) allow_anyone: bool,
    /// Shut out the data directory that writes to the configured object store, because it is lost: what its
    /// log held alone is given up.
    #[arg(long)]
    pub(crate) take_over: bool,
}

/// `taffrail config …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read a file as `serve` would and say what is wrong with it: our own configuration, or Prometheus' with
    /// the jobs to scrape (.yml, .yaml).
    Check {
        /// The file.
        #[arg(required_unless_present = "config")]
        file: Option<PathBuf>,
        /// The file, said as for `serve`.
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
    },
    /// Print every key with its default, unit and reason.
    Default,
}
