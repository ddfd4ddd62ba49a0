//! TLS of the commands that talk to a server: whose certificates count, and what is shown.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

/// How a server behind `https://` is known, and who asks it.
#[derive(Debug, Default, Args)]
pub(crate) struct Trust {
    /// File with the certificates of the authorities that may have signed the server's, PEM [default:
    /// $TAFFRAIL_CA_FILE, or those that this machine trusts].
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// Take any certificate of the server. Whoever stands in between reads and changes everything.
    #[arg(long, global = true, conflicts_with = "ca_file")]
    insecure: bool,
    /// File with a certificate to show, PEM, for servers that ask for one.
    #[arg(long, value_name = "FILE", global = true, requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// File with the key of that certificate, PEM.
    #[arg(long, value_name = "FILE", global = true, requires = "cert_file")]
    key_file: Option<PathBuf>,
}

/// How to speak TLS.
pub(crate) type Tls = Arc<ClientConfig>;

impl Trust {
    /// Reads what the arguments name.
    pub(crate) fn tls(&self) -> Result<Tls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("choose versions of TLS")?;
        let builder = match self.insecure {
            true => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            }
            false => builder.with_root_certificates(self.roots()?),
        };
        let config = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let wrong = || format!("use {} and {}", cert.display(), key.display());
                let read = PrivateKeyDer::from_pem_file(key).map_err(anyhow::Error::from);
                let read = read.with_context(|| format!("read {}", key.display()))?;
                builder.with_client_auth_cert(certificates(cert)?, read).with_context(wrong)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let of_environment =
            || std::env::var_os("TAFFRAIL_CA_FILE").filter(|file| !file.is_empty());
        let named = self.ca_file.clone().or_else(|| of_environment().map(PathBuf::from));
        let mut roots = RootCertStore::empty();
        match named {
            Some(file) => {
                for certificate in certificates(&file)? {
                    let unusable = || format!("use {}", file.display());
                    roots.add(certificate).with_context(unusable)?;
                }
            }
            None => {
                // What cannot be read of the machine's own is not missed as long as something can.
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                ensure!(
                    !roots.is_empty(),
                    "this machine trusts no authority of certificates; name one with --ca-file"
                );
            }
        }
        Ok(roots)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || format!("read {}", file.display());
    let all =
        CertificateDer::pem_file_iter(file).map_err(anyhow::Error::from).with_context(read)?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::from).with_context(read)?;
    ensure!(!all.is_empty(), "{} has no certificate", file.display());
    Ok(all)
}

/// Speaks TLS over a connection to a host. Nothing is said yet; what is wrong shows with the first bytes.
pub(crate) fn secured(
    tls: &Tls,
    host: &str,
    stream: TcpStream,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.with_context(|| format!("{host:?} is no name a certificate can have"))?;
    let session = ClientConnection::new(Arc::clone(tls), name).context("begin TLS")?;
    Ok(StreamOwned::new(session, stream))
}

/// Takes any certificate, as `--insecure` says; signatures still have to be right.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
