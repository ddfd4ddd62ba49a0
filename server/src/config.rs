//! The configuration file: one section for each crate, read once, checked whole.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ingest::bounded_file;
use ingest::forward::ForwardFile;
use ingest::scrape::{ScrapeFile, Scraper};
use serde::{Deserialize, Serialize};

use crate::cli::Serve;
use crate::listener::TlsConfig;
use crate::{forwarding, logs, scraping, telemetry};

/// Every key with its default, unit and reason: what `taffrail config default` prints.
pub(crate) const DEFAULT: &str = include_str!("default.toml");

/// A whole configuration. The keys are told in `default.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) allow_anyone: bool,
    pub(crate) token_file: PathBuf,
    pub(crate) routing_file: PathBuf,
    pub(crate) shutdown_seconds: u64,
    pub(crate) tls: TlsConfig,
    pub(crate) telemetry: telemetry::Config,
    pub(crate) tenancy: tenancy::Config,
    pub(crate) storage: storage::Config,
    pub(crate) ingest: ingest::Config,
    pub(crate) logs: ingest::logs::LogsConfig,
    pub(crate) query: query::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9550),
            data_dir: PathBuf::from("./data"),
            allow_anyone: false,
            token_file: PathBuf::new(),
            routing_file: PathBuf::new(),
            shutdown_seconds: 20,
            tls: TlsConfig::default(),
            telemetry: telemetry::Config::default(),
            tenancy: tenancy::Config::default(),
            storage: storage::Config::default(),
            ingest: ingest::Config::default(),
            logs: ingest::logs::LogsConfig::default(),
            query: query::Config::default(),
        }
    }
}

impl Config {
    /// Reads and checks a file. Unknown keys are errors that name them.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text =
            bounded_file::read_text(file).with_context(|| format!("read {}", file.display()))?;
        let config: Self =
            toml::from_str(&text).with_context(|| format!("{} is wrong", file.display()))?;
        config.check().with_context(|| format!("{} is wrong", file.display()))?;
        Ok(config)
    }

    /// What `serve` runs with: the file, if there is one, under what the command line says.
    pub(crate) fn of(arguments: &Serve) -> Result<Self> {
        let mut config = match &arguments.config {
            Some(file) => Self::read(file)?,
            None => Self::default(),
        };
        if let Some(listen) = arguments.listen {
            config.listen = listen;
        }
        if let Some(dir) = &arguments.data_dir {
            config.data_dir.clone_from(dir);
        }
        config.check_reach(arguments.allow_anyone)?;
        Ok(config)
    }

    /// Everything that can be wrong although the file can be read.
    fn check(&self) -> Result<()> {
        self.telemetry.check().map_err(anyhow::Error::msg).context("telemetry.level")?;
        self.storage.check().map_err(anyhow::Error::msg).context("[storage]")?;
        ensure!(
            (1..=3600).contains(&self.shutdown_seconds),
            "shutdown_seconds must be 1 to 3600, it is {}",
            self.shutdown_seconds
        );
        self.ingest.check().map_err(anyhow::Error::msg).context("[ingest]")?;
        logs::check(self).context("[logs]")?;
        self.query.check().map_err(anyhow::Error::msg).context("[query]")?;
        self.tls.check().context("[tls]")?;
        Scraper::check(&scraping::read(self)?).context("ingest.scrape.config_file")?;
        forwarding::read(self)?;
        let tokens = self.tokens()?;
        let authenticator = tenancy::Authenticator::check(&self.tenancy, &tokens);
        authenticator.context("[tenancy]")
    }

    /// Without credentials only this machine may reach us, unless that is asked for twice.
    fn check_reach(&self, allow_anyone: bool) -> Result<()> {
        let open = self.tenancy.mode == tenancy::AuthenticationMode::None
            && !self.listen.ip().is_loopback();
        if open && !(self.allow_anyone && allow_anyone) {
            bail!(
                "listen = {} can be reached from other machines while tenancy.mode is \"none\", so anyone could read and write \
                 everything; use mode \"token\", or consent twice: `allow_anyone = true` in the configuration and `--allow-anyone`",
                self.listen
            );
        }
        Ok(())
    }

    /// The token file; an empty one if there is none in the configuration.
    pub(crate) fn tokens(&self) -> Result<tenancy::TokenFile> {
        if self.token_file.as_os_str().is_empty() {
            return Ok(tenancy::TokenFile::default());
        }
        let file = self.token_file.display();
        let text = bounded_file::read_text(&self.token_file)
            .with_context(|| format!("read token_file {file}"))?;
        toml::from_str(&text).with_context(|| format!("token_file {file} is wrong"))
    }
}

/// Checks a file as it would be used: YAML is Prometheus' configuration with the jobs to scrape, the
/// and the destinations to forward to, the rest is our own. Gives what of it is passed over.
pub(crate) fn check_file(file: &Path) -> Result<Vec<String>> {
    let is_yaml = file.extension().is_some_and(|end| end == "yml" || end == "yaml");
    if !is_yaml {
        let config = Config::read(file)?;
        return Ok([scraping::read(&config)?.notes, forwarding::read(&config)?.notes].concat());
    }
    let jobs = ScrapeFile::read(file)?;
    Scraper::check(&jobs).with_context(|| format!("{} is wrong", file.display()))?;
    let destinations = ForwardFile::read(file)?;
    // Here both count.
    let notes = jobs.notes.into_iter().filter(|note| !note.starts_with("remote_write "));
    Ok(notes.chain(destinations.notes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, error: &str) {
        let read =
            toml::from_str::<Config>(text).map_err(anyhow::Error::from).and_then(|c| c.check());
        let found = read.map_or_else(|e| format!("{e:#}"), |()| String::new());
        assert!(
            if error.is_empty() { found.is_empty() } else { found.contains(error) },
            "{found:?}"
        );
    }

    #[test]
    fn wrong_files_are_refused_by_key() {
        check("", "");
        check("listen = \"127.0.0.1:1\"\n[storage]\nflush_seconds = 5\n", "");
        check("lisen = \"127.0.0.1:1\"", "unknown field `lisen`");
        check("[storage]\nflush_minutes = 5", "unknown field `flush_minutes`");
        check("[tenancy.limits.default]\nsamples = 5", "unknown field `samples`");
        check("listen = \"nowhere\"", "listen");
        check("[telemetry]\nlevel = \"a=b=c\"", "telemetry.level");
        check("[storage]\npartitions = 0", "partitions");
        check("[storage.objects]\nkind = \"s3\"", "objects: bucket");
        check("[storage.objects]\nkind = \"s4\"", "unknown variant `s4`");
        check(
            "[storage.objects]\nkind = \"s3\"\nbucket = \"rows\"\nendpoint = \"http://a\"",
            "allow_http",
        );
        check("[storage.objects]\nsecret = \"x\"", "unknown field `secret`");
        check("[tenancy]\nmode = \"token\"", "there are no tokens");
        check("[tenancy]\nmode = \"maybe\"", "unknown variant `maybe`");
        check("[tls]\ncert_file = \"/nowhere\"", "cert_file is set and key_file is not");
        check("[tls]\ncert_file = \"/no\"\nkey_file = \"/no\"", "read cert_file /no");
        check("[tls]\nclient_auth = \"require\"", "need TLS: set cert_file and key_file");
        check("[tls]\nclient_auth = \"maybe\"", "unknown variant `maybe`");
        check("[tls]\nmin_version = \"1.1\"", "unknown variant `1.1`");
        check("[logs.syslog]\nmessage_bytes_max = 5", "logs.syslog.message_bytes_max must be 480");
        check("[logs.fluent]\ntenant = \"a|b\"", "logs.fluent.tenant");
        check("[query]\ncors_origin = \"(\"", "cors_origin");
        check("[query]\nlookback_seconds = 0.0", "lookback_seconds");
    }

    #[test]
    fn only_two_consents_open_the_door() {
        let open =
            Config { listen: "0.0.0.0:9550".parse().expect("an address"), ..Config::default() };
        let consenting = Config { allow_anyone: true, ..open.clone() };
        assert!(open.check_reach(true).is_err());
        assert!(consenting.check_reach(false).is_err());
        assert!(consenting.check_reach(true).is_ok());
        assert!(Config::default().check_reach(false).is_ok());
    }

    /// All keys below a table, with dots.
    fn keys(prefix: &str, table: &toml::Table, out: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => keys(&format!("{prefix}{key}."), inner, out),
                _ => out.push(format!("{prefix}{key}")),
            }
        }
    }

    #[test]
    fn every_key_is_documented_with_its_default() {
        let documented: Config =
            toml::from_str(DEFAULT).expect("the documented defaults are a configuration");
        assert_eq!(documented, Config::default());
        let (mut written, mut all) = (Vec::new(), Vec::new());
        keys("", &DEFAULT.parse().expect("TOML"), &mut written);
        keys(
            "",
            &toml::Table::try_from(Config::default()).expect("a configuration is a table"),
            &mut all,
        );
        written.sort();
        all.sort();
        assert_eq!(written, all);
        let undocumented = DEFAULT.lines().zip(DEFAULT.lines().skip(1)).find(|(before, line)| {
            line.contains(" = ") && !line.starts_with('#') && !before.starts_with('#')
        });
        assert_eq!(undocumented, None, "a key without a comment above it");
    }
}
