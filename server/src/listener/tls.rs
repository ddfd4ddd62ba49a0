//! TLS of the port: certificates from files, read again when they change.
//!
//! Connections keep what they began with; new ones get what was read last. A pair of files that
//! does not fit together leaves the one before in service and is told of: in the log once, in the
//! metrics until it is mended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use ingest::bounded_file;
use parking_lot::{Mutex, RwLock};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::certificate::expiry_seconds;
use super::counters::Counters;
use crate::config::Config;
use crate::look::look_again;
use crate::reload::{Commit, Reload};

/// Largest file that is read, bytes: some thousand certificates.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Settings of TLS. The keys are told in `default.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsConfig {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    pub(crate) client_ca_file: PathBuf,
    pub(crate) client_auth: ClientAuth,
    pub(crate) min_version: Version,
    pub(crate) handshake_seconds_max: u64,
    pub(crate) handshakes_max: usize,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            client_ca_file: PathBuf::new(),
            client_auth: ClientAuth::None,
            min_version: Version::Tls12,
            handshake_seconds_max: 10,
            handshakes_max: 512,
        }
    }
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAuth {
    /// They are not asked.
    None,
    /// They may; what they show must be right.
    Request,
    /// Without one there is no connection.
    Require,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

impl TlsConfig {
    /// Whether the port speaks TLS at all.
    pub(crate) fn is_on(&self) -> bool {
        !self.cert_file.as_os_str().is_empty() || !self.key_file.as_os_str().is_empty()
    }

    /// What can be wrong although it could be read; files are read too.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            (1..=300).contains(&self.handshake_seconds_max),
            "handshake_seconds_max must be 1 to 300, it is {}",
            self.handshake_seconds_max
        );
        ensure!(
            (1..=100_000).contains(&self.handshakes_max),
            "handshakes_max must be 1 to 100000, it is {}",
            self.handshakes_max
        );
        if !self.is_on() {
            ensure!(
                self.client_auth == ClientAuth::None && self.client_ca_file.as_os_str().is_empty(),
                "client_auth and client_ca_file need TLS: set cert_file and key_file"
            );
            return Ok(());
        }
        let files = Files::read(self)?;
        files.server_config(self).map(drop)
    }
}

/// What the files hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Vec<u8>,
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self> {
        let TlsConfig { cert_file, key_file, client_ca_file, .. } = config;
        ensure!(!cert_file.as_os_str().is_empty(), "key_file is set and cert_file is not");
        ensure!(!key_file.as_os_str().is_empty(), "cert_file is set and key_file is not");
        let asks = config.client_auth != ClientAuth::None;
        if asks && client_ca_file.as_os_str().is_empty() {
            bail!(
                "client_auth asks for certificates: set client_ca_file to those of the authorities that sign them"
            );
        }
        Ok(Self {
            cert: read_file("cert_file", cert_file)?,
            key: read_file("key_file", key_file)?,
            client_ca: match asks {
                true => read_file("client_ca_file", client_ca_file)?,
                false => Vec::new(),
            },
        })
    }

    fn server_config(&self, config: &TlsConfig) -> Result<Loaded> {
        let chain = certificates("cert_file", &config.cert_file, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).with_context(|| {
            format!("key_file {} holds no private key in PEM", config.key_file.display())
        })?;
        let expires_seconds = chain.iter().filter_map(|der| expiry_seconds(der)).min();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&SupportedProtocolVersion] = match config.min_version {
            Version::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            Version::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .context("choose the versions of TLS")?;
        let mut server = builder
            .with_client_cert_verifier(self.verifier(config, provider)?)
            .with_single_cert(chain, key)
            .with_context(|| {
                let (cert, key) = (config.cert_file.display(), config.key_file.display());
                format!("cert_file {cert} and key_file {key} do not fit together")
            })?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Loaded { server: Arc::new(server), expires_seconds })
    }

    fn verifier(
        &self,
        config: &TlsConfig,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>> {
        if config.client_auth == ClientAuth::None {
            return Ok(WebPkiClientVerifier::no_client_auth());
        }
        let file = config.client_ca_file.display();
        let mut roots = RootCertStore::empty();
        for der in certificates("client_ca_file", &config.client_ca_file, &self.client_ca)? {
            roots.add(der).with_context(|| {
                format!("a certificate of client_ca_file {file} is not one of an authority")
            })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match config.client_auth {
            ClientAuth::Request => builder.allow_unauthenticated(),
            ClientAuth::None | ClientAuth::Require => builder,
        };
        builder.build().with_context(|| format!("client_ca_file {file} is wrong"))
    }
}

fn read_file(key: &str, file: &Path) -> Result<Vec<u8>> {
    bounded_file::read(file, FILE_BYTES_MAX)
        .with_context(|| format!("read {key} {}", file.display()))
}

fn certificates(key: &str, file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.with_context(|| format!("{key} {} is no PEM file", file.display()))?;
    ensure!(!found.is_empty(), "{key} {} holds no certificate", file.display());
    Ok(found)
}

/// What new connections get.
#[derive(Debug, Clone)]
struct Loaded {
    server: Arc<ServerConfig>,
    /// When the first certificate of the chain ends, seconds since the Unix epoch.
    expires_seconds: Option<i64>,
}

/// What was read.
#[derive(Debug, Clone)]
struct Read {
    config: TlsConfig,
    /// What the files in service held.
    files: Files,
    /// What they held when they last were wrong: not tried again.
    refused: Option<Files>,
}

/// TLS in service.
#[derive(Debug)]
pub(crate) struct Tls {
    loaded: RwLock<Loaded>,
    read: Mutex<Read>,
    counters: Arc<Counters>,
}

impl Tls {
    /// TLS as configured; `None` if the port does without. Blocks.
    pub(crate) fn open(config: &TlsConfig, counters: &Arc<Counters>) -> Result<Option<Arc<Self>>> {
        if !config.is_on() {
            return Ok(None);
        }
        let files = Files::read(config)?;
        let loaded = files.server_config(config)?;
        counters.read_certificate(loaded.expires_seconds);
        Ok(Some(Arc::new(Self {
            loaded: RwLock::new(loaded),
            read: Mutex::new(Read { config: config.clone(), files, refused: None }),
            counters: Arc::clone(counters),
        })))
    }

    /// What a new connection gets.
    pub(crate) fn for_connection(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.read().server)
    }

    fn take_over(&self, config: TlsConfig, files: Files, loaded: Loaded) {
        self.counters.read_certificate(loaded.expires_seconds);
        *self.loaded.write() = loaded;
        *self.read.lock() = Read { config, files, refused: None };
    }

    /// Looks at the files until told to stop.
    pub(crate) async fn watch(self: Arc<Self>, stopping: watch::Receiver<bool>) {
        look_again("certificates", self, Self::look, stopping).await;
    }

    /// Takes over files that changed, if they are right.
    fn look(&self) {
        let Read { config, files: in_service, refused } = self.read.lock().clone();
        let files = match Files::read(&config) {
            Ok(files) if files == in_service => return self.counters.is_in_service(),
            Ok(files) if refused.as_ref() == Some(&files) => return,
            Ok(files) => files,
            Err(error) => return self.refuse(&error),
        };
        match files.server_config(&config) {
            Ok(loaded) => {
                tracing::info!(expires_seconds = loaded.expires_seconds, "took over certificates");
                self.take_over(config, files, loaded);
            }
            Err(error) => {
                self.refuse(&error);
                self.read.lock().refused = Some(files);
            }
        }
    }

    fn refuse(&self, error: &anyhow::Error) {
        if self.counters.refused_certificate() {
            let error = format!("{error:#}");
            tracing::error!(error, "certificates were not taken over, the ones before stay");
        }
    }
}

impl Reload for Arc<Tls> {
    fn keys(&self) -> &'static [&'static str] {
        &[
            "tls.cert_file",
            "tls.key_file",
            "tls.client_ca_file",
            "tls.client_auth",
            "tls.min_version",
        ]
    }

    fn prepare(&self, config: &Config) -> Result<Commit> {
        let config = config.tls.clone();
        ensure!(config.is_on(), "tls.cert_file is empty: TLS is switched off by a restart only");
        let files = Files::read(&config).context("[tls]")?;
        let loaded = files.server_config(&config).context("[tls]")?;
        let this = Self::clone(self);
        Ok(Box::new(move || this.take_over(config, files, loaded)))
    }
}
