//! Servers that speak TLS: who they are, who asks them, and what is said when that is not clear.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{ask, client};
use crate::testing::server::{Answer, Server};

/// An authority that signs certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Its own certificate.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name and its key, PEM.
    pub(super) fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        (cert.pem(), key.serialize_pem())
    }

    /// What a server called so needs; it wants certificates of the same authority from its clients.
    pub(super) fn acceptor(&self, name: &str) -> TlsAcceptor {
        let (cert, key) = self.sign(name);
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.0.pem())).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![der(&cert)], key)
            .expect("a certificate and its key");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Files of one test, removed at its end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("taffrail-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("create a directory");
        Self(dir)
    }

    fn put(&self, name: &str, text: &str) -> String {
        let file = self.0.join(name);
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    }

    /// A client's certificate and key, as fields of `tls_config`.
    fn pair(&self, name: &str, (cert, key): &(String, String)) -> String {
        let cert = self.put(&format!("{name}.crt"), cert);
        let key = self.put(&format!("{name}.key"), key);
        format!("cert_file: '{cert}', key_file: '{key}'")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[tokio::test]
async fn servers_and_clients_show_who_they_are() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let server =
        Server::over_tls(authority.acceptor("target.test"), |_| Answer::text("there")).await;
    let files = Files::new("tls");
    let ca = format!("ca_file: '{}'", files.put("ca.pem", &authority.0.pem()));
    let other_ca = format!("ca_file: '{}'", files.put("other.pem", &other.0.pem()));
    let pair = files.pair("client", &authority.sign("client"));
    let other_pair = files.pair("stranger", &other.sign("client"));
    let name = "server_name: target.test";
    for (tls, expected) in [
        (format!("{ca}, {pair}, {name}"), Ok("there")),
        (format!("{ca}, {pair}, {name}, min_version: TLS13"), Ok("there")),
        (format!("{ca}, {pair}, {name}, max_version: TLS12"), Ok("there")),
        (format!("{pair}, insecure_skip_verify: true"), Ok("there")),
        // The certificate is good, and of somebody else.
        (format!("{ca}, {pair}"), Err("certificate not valid for name \"127.0.0.1\"")),
        (format!("{ca}, {pair}, server_name: a.test"), Err("not valid for name \"a.test\"")),
        (format!("{other_ca}, {pair}, {name}"), Err("invalid peer certificate: UnknownIssuer")),
        (format!("{pair}, {name}"), Err("invalid peer certificate: UnknownIssuer")),
        (format!("{ca}, {name}"), Err("CertificateRequired")),
        (format!("{ca}, {other_pair}, {name}"), Err("received fatal alert")),
    ] {
        let url = format!("https://{}/metrics", server.address);
        let found = ask(&client(&format!("tls_config: {{{tls}}}")), &url).await;
        match (found, expected) {
            (Ok(body), Ok(expected)) => assert_eq!(body, expected, "{tls}"),
            (Err(error), Err(expected)) => {
                let text = error.to_string();
                assert!(text.starts_with(&format!("Get {url:?}: ")), "{tls}: {text}");
                assert!(text.contains(expected), "{tls}: {text}");
            }
            (found, expected) => panic!("{tls}: {found:?}, expected {expected:?}"),
        }
    }
    // The header names the target, whatever the certificate says.
    let host = format!("host: {}\r\n", server.address);
    assert!(server.requests().iter().all(|head| head.contains(&host)), "{:?}", server.requests());
}

#[tokio::test]
async fn changed_certificates_are_taken_up() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let server = Server::over_tls(authority.acceptor("localhost"), |_| Answer::text("there")).await;
    let files = Files::new("tls-change");
    let ca = files.put("ca.pem", &authority.0.pem());
    let pair = files.pair("client", &other.sign("client"));
    let asking = client(&format!("tls_config: {{ca_file: '{ca}', {pair}}}"));
    let url = format!("https://localhost:{}/metrics", server.address.port());
    ask(&asking, &url).await.expect_err("of another authority");
    files.pair("client", &authority.sign("client.with.another.length"));
    assert_eq!(ask(&asking, &url).await.as_deref(), Ok("there"));
    std::fs::remove_file(&ca).expect("removed");
    let text = ask(&asking, &url).await.expect_err("no authority").to_string();
    assert!(text.contains("unable to read") && text.contains("ca.pem"), "{text}");
}

#[tokio::test]
async fn proxies_are_told_where_to_connect() {
    let authority = Authority::new("one");
    let server =
        Server::over_tls(authority.acceptor("target.test"), |_| Answer::text("there")).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = proxy.local_addr().expect("an address");
    let target = server.address;
    let seen = tokio::spawn(async move {
        let (mut stream, _) = proxy.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("answered");
        let mut onward = TcpStream::connect(target).await.expect("the target");
        tokio::spawn(
            async move { drop(tokio::io::copy_bidirectional(&mut stream, &mut onward).await) },
        );
        String::from_utf8(head).expect("text")
    });
    let files = Files::new("tls-proxy");
    let ca = files.put("ca.pem", &authority.0.pem());
    let pair = files.pair("client", &authority.sign("client"));
    let asking = client(&format!(
        "tls_config: {{ca_file: '{ca}', {pair}}}\nproxy_url: 'http://{address}'\nproxy_connect_header: {{X-Way: [through]}}\n"
    ));
    // Only the proxy knows where that is.
    assert_eq!(ask(&asking, "https://target.test:443/").await.as_deref(), Ok("there"));
    let head = seen.await.expect("a head").to_ascii_lowercase();
    assert!(head.starts_with("connect target.test:443 http/1.1\r\n"), "{head}");
    assert!(head.contains("x-way: through\r\n"), "{head}");
}
