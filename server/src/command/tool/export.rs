//! `taffrail tool export`: the rows of a tenant for other programs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use model::{Matcher, OsRandom, SystemClock};
use query::http::Selected;
use storage::{Export, ExportFormat, Exported, Storage};
use tenancy::{Directory, Limits, ReadScope, TenantName};

use super::progress::Progress;
use super::{open_data_dir, runtime};

/// `taffrail tool export`.
#[derive(Debug, Args)]
pub(crate) struct ExportRows {
    /// Name of the tenant.
    tenant: String,
    /// The data directory. No server may use it: export from a copy or a backup of one that does.
    #[arg(long, value_name = "DIR", default_value = "./data")]
    data_dir: PathBuf,
    /// File to write; `-` is the standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// How rows are written. OpenMetrics is read by `promtool tsdb create-blocks-from openmetrics`; it
    /// has neither stale markers nor native histograms.
    #[arg(long, value_enum, default_value_t = Format::Openmetrics)]
    format: Format,
    /// Only series that match, for instance '{job="api"}'.
    #[arg(long = "match", value_name = "SELECTOR")]
    selector: Option<String>,
    /// First instant: RFC 3339 or seconds since the Unix epoch.
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// Last instant.
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Openmetrics,
    Parquet,
}

pub(super) fn run(arguments: &ExportRows) -> Result<ExitCode> {
    let export = asked(arguments)?;
    let name = TenantName::new(&arguments.tenant).context("TENANT")?;
    let disk = open_data_dir(&arguments.data_dir)?;
    let done = runtime()?.block_on(async move {
        let clock = Arc::new(SystemClock::default());
        let config = storage::Config { disk_reserve_bytes: 0, ..storage::Config::default() };
        let parts = storage::Parts {
            disk: Arc::clone(&disk),
            objects: None,
            clock: Arc::<SystemClock>::clone(&clock),
            random: Arc::new(OsRandom),
        };
        // Before the output is made: of a directory that is in use nothing is written.
        let storage = Storage::open(config, parts).await?;
        for (partition, reason) in storage.incomplete() {
            tracing::warn!(partition, reason, "rows of this partition may be absent");
        }
        ensure!(Directory::is_stored(&disk), "there is no directory of tenants");
        let directory = Directory::open(&disk, clock).context("open the directory of tenants")?;
        let tenant = directory.find(&name).with_context(|| format!("there is no tenant {name}"))?;
        // Everything that is still stored: how long rows are kept is not known here.
        let kept = Limits {
            metrics_raw_retention_seconds: 0,
            metrics_5m_retention_seconds: 0,
            metrics_1h_retention_seconds: 0,
            ..Limits::default()
        };
        let scope = ReadScope::of_data_directory(&tenant, &kept);
        let mut progress = Progress::new();
        let mut on_progress = |at: &Exported| {
            progress.show(|| {
                format!(
                    "{} of {} names, {} series, {} samples",
                    at.names.0, at.names.1, at.series, at.samples
                )
            });
        };
        let out = output(arguments)?;
        Ok::<_, anyhow::Error>(storage.export(&scope, &export, out, &mut on_progress).await?)
    })?;
    let said = format!(
        "{} series, {} samples, {} native histograms written{}\n",
        done.series,
        done.samples,
        done.histograms,
        left_out(&done)
    );
    // Not where the rows may go.
    drop(std::io::stderr().write_all(said.as_bytes()));
    Ok(ExitCode::SUCCESS)
}

fn left_out(done: &Exported) -> String {
    match (done.stale_left_out, done.histograms_left_out) {
        (0, 0) => String::new(),
        (stale, histograms) => format!(
            "; {stale} stale markers and {histograms} native histograms left out, which OpenMetrics cannot hold"
        ),
    }
}

fn output(arguments: &ExportRows) -> Result<Box<dyn Write + Send>> {
    if arguments.output.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdout()));
    }
    let file = File::create_new(&arguments.output)
        .with_context(|| format!("make {}", arguments.output.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// Selector and times, read as the API reads them.
fn asked(arguments: &ExportRows) -> Result<Export> {
    let all = "{__name__!=\"\"}".to_owned();
    let mut pairs = vec![("match[]".to_owned(), arguments.selector.clone().unwrap_or(all))];
    for (name, value) in [("start", &arguments.start), ("end", &arguments.end)] {
        pairs.extend(value.clone().map(|value| (name.to_owned(), value)));
    }
    let selected = Selected::of_pairs(pairs, &query::Config::default())?;
    let mut selectors: Vec<Vec<Matcher>> = selected.selectors;
    ensure!(selectors.len() == 1, "one selector is taken");
    let format = match arguments.format {
        Format::Openmetrics => ExportFormat::OpenMetrics,
        Format::Parquet => ExportFormat::Parquet,
    };
    Ok(Export { matchers: selectors.remove(0), range: selected.range, format })
}
