//! TLS from outside: versions, plain clients, client certificates, and certificates that are
//! replaced while connections go on.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use testkit::http::{Connection, Response};

use crate::process::{
    Program, Start, free_address, installed, run, taffrail_started, token_file_of,
};

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Clone)]
struct Pair {
    cert: String,
    key: String,
    der: Vec<u8>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, common_name: &str, names: Vec<SanType>) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        let cert: Certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().to_vec() }
    }

    /// For a server on this machine.
    fn server(&self) -> Pair {
        self.sign("taffrail", vec![SanType::IpAddress([127, 0, 0, 1].into())])
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts one authority.
struct Client<'a> {
    server: &'a Program,
    authority: &'a Authority,
    pair: Option<Pair>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl<'a> Client<'a> {
    fn new(server: &'a Program, authority: &'a Authority) -> Self {
        Self { server, authority, pair: None, versions: rustls::ALL_VERSIONS.to_vec() }
    }

    fn with(self, pair: &Pair) -> Self {
        Self { pair: Some(pair.clone()), ..self }
    }

    fn connect(&self) -> std::io::Result<Connection<Tls>> {
        let mut roots = RootCertStore::empty();
        let pem = self.authority.pem();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain =
                    vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a client certificate")
            }
        };
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let tcp = TcpStream::connect(self.server.address)?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut stream = StreamOwned::new(session, tcp);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Connection::over(stream, self.server.address))
    }

    fn call(
        &self,
        request: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let (method, path) = request.split_once(' ').expect("`METHOD PATH`");
        self.connect()?.call(method, path, headers, body)
    }

    /// The certificate the server shows.
    fn shown(&self) -> Vec<u8> {
        let connection = self.connect().expect("a connection");
        connection.stream().conn.peer_certificates().expect("certificates")[0].to_vec()
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.call("GET /metrics", &[], &[]).expect("an answer").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing")).parse().expect("a number")
    }
}

/// Puts a pair where the server looks for it.
fn put(dir: &Path, pair: &Pair) {
    std::fs::write(dir.join("tls.crt"), &pair.cert).expect("write a certificate");
    std::fs::write(dir.join("tls.key"), &pair.key).expect("write a key");
}

/// A server with TLS; `tls` is the rest of the section, `rest` other sections.
fn start(dir: &Path, top: &str, tls: &str, rest: &str) -> Program {
    let config = format!(
        "{top}\n[tls]\ncert_file = {:?}\nkey_file = {:?}\n{tls}\n{rest}\n\
         [ingest.self_scrape]\nenabled = false\n[storage]\ndisk_reserve_bytes = 0\n",
        dir.join("tls.crt"),
        dir.join("tls.key"),
    );
    taffrail_started(dir, free_address(), &config, Start::Listening)
}

#[test]
fn clients_are_served_over_tls_and_plain_ones_are_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new("root");
    put(dir.path(), &authority.server());
    std::fs::write(dir.path().join("ca.crt"), authority.pem()).expect("write an authority");
    let mut server = start(dir.path(), "", "min_version = \"1.3\"\nhandshake_seconds_max = 1", "");
    let client = Client::new(&server, &authority);
    let mut connection = client.connect().expect("a connection");
    for _ in 0..2 {
        let answer = connection.call("GET", "/-/ready", &[], &[]).expect("an answer");
        assert_eq!(answer.status, 200);
    }
    let old =
        Client { versions: vec![&rustls::version::TLS12], ..Client::new(&server, &authority) };
    assert!(old.connect().is_err(), "min_version");

    let plain = server.call("GET", "/-/ready", &[], &[]);
    assert_eq!(
        (plain.status, plain.text().as_str()),
        (400, "this port speaks HTTPS only: use https:// in place of http\n")
    );

    // Who says nothing is let go, and keeps nobody else out meanwhile.
    let mut silent = TcpStream::connect(server.address).expect("a connection");
    silent.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let begun = Instant::now();
    assert_eq!(client.call("GET /-/ready", &[], &[]).expect("an answer").status, 200);
    assert_eq!(std::io::Read::read(&mut silent, &mut [0]).expect("the end"), 0);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(client.metric("taffrail_tls_handshakes_total{result=\"timed_out\"}"), 1.0);
    assert_eq!(client.metric("taffrail_tls_handshakes_total{result=\"plain_http\"}"), 1.0);

    if let Some(curl) = installed("curl") {
        let url = format!("https://{}/-/ready", server.address);
        let asked = Command::new(curl)
            .args(["-s", "--http2", "-o", "/dev/null", "-w", "%{http_code} %{http_version}"])
            .arg("--cacert")
            .arg(dir.path().join("ca.crt"))
            .arg(url)
            .output()
            .expect("run curl");
        assert_eq!(String::from_utf8_lossy(&asked.stdout), "200 2", "HTTP/2 by ALPN");
    }
    assert!(server.terminate(), "SIGTERM ends it in order");
}

#[test]
fn certificates_are_replaced_while_connections_go_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new("root");
    let (first, second, third) = (authority.server(), authority.server(), authority.server());
    put(dir.path(), &first);
    let server = start(dir.path(), "", "", "");
    let client = Client::new(&server, &authority);
    let mut before = client.connect().expect("a connection");
    let goes_on = |connection: &mut Connection<Tls>| {
        let answer = connection.call("GET", "/-/ready", &[], &[]).expect("an answer");
        assert_eq!(answer.status, 200);
    };
    goes_on(&mut before);
    assert_eq!(client.shown(), first.der);
    assert!(client.metric("taffrail_tls_certificate_expiry_timestamp_seconds") > 1.7e9);

    put(dir.path(), &second);
    assert_eq!(client.call("POST /-/reload", &[], &[]).expect("an answer").status, 200);
    assert_eq!(client.shown(), second.der);
    goes_on(&mut before);

    // A key of another certificate: the pair before goes on, and it is said.
    put(dir.path(), &Pair { key: first.key.clone(), ..third.clone() });
    let refused = client.call("POST /-/reload", &[], &[]).expect("an answer");
    assert_eq!(refused.status, 500);
    assert!(refused.text().contains("do not fit together"), "{}", refused.text());
    assert_eq!(client.shown(), second.der);
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(40), "{what}: {}", server.output());
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let stale = "taffrail_tls_certificate_last_reload_successful";
    until("the files are seen to be wrong", &|| client.metric(stale) == 0.0);
    assert_eq!(client.shown(), second.der);

    // Nobody asks: files that changed are seen.
    put(dir.path(), &third);
    until("the new pair is in service", &|| client.shown() == third.der);
    assert_eq!(client.metric(stale), 1.0);
    goes_on(&mut before);
}

#[test]
fn a_client_certificate_says_who_asks() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (authority, stranger) = (Authority::new("root"), Authority::new("stranger"));
    put(dir.path(), &authority.server());
    let (ca, tokens) = (dir.path().join("ca.crt"), dir.path().join("tokens.toml"));
    std::fs::write(&ca, authority.pem()).expect("write an authority");
    let mut file = token_file_of(&[("platform", r#"{ tenant = "*", access = "admin" }"#)]);
    file += "[[certificates]]\nname = \"collector\"\nuri = \"spiffe://c/collector\"\n\
             grants = [{ tenant = \"a\", access = \"write\" }]\n\
             [[certificates]]\nname = \"by-name\"\ncommon_name = \"reader\"\n\
             grants = [{ tenant = \"a\", access = \"read\" }]\n";
    std::fs::write(&tokens, file).expect("write the token file");
    let top = format!("token_file = {tokens:?}");
    let tls = |auth: &str| format!("client_ca_file = {ca:?}\nclient_auth = {auth:?}");
    let server = start(dir.path(), &top, &tls("request"), "[tenancy]\nmode = \"token\"");
    let collector = authority.sign("x", vec![uri("spiffe://c/collector")]);
    let reader = authority.sign("reader", Vec::new());
    let nobody = authority.sign("nobody", vec![uri("spiffe://c/other")]);
    let false_one = stranger.sign("x", vec![uri("spiffe://c/collector")]);
    let (write, query) = ("POST /api/v1/import/prometheus", "GET /api/v1/query?query=x");
    let platform = [("Authorization", "Bearer platform"), ("X-Scope-OrgID", "a")];
    let wrong = [("Authorization", "Bearer wrong")];
    let ask = |pair: Option<&Pair>, request: &str, headers: &[(&str, &str)]| {
        let client = Client::new(&server, &authority);
        let client = pair.into_iter().fold(client, Client::with);
        client.call(request, headers, b"x{a=\"1\"} 1\n").map_or(0, |answer| answer.status)
    };
    for (who, pair, request, headers, status) in [
        ("the collector", Some(&collector), write, &[][..], 204),
        ("the collector", Some(&collector), query, &[], 403),
        (
            "the collector in another tenant",
            Some(&collector),
            write,
            &[("X-Scope-OrgID", "b")],
            403,
        ),
        ("a reader by its common name", Some(&reader), query, &[], 200),
        ("a reader by its common name", Some(&reader), write, &[], 403),
        ("somebody who is not named", Some(&nobody), query, &[], 401),
        ("nobody", None, query, &[], 401),
        ("a token alone", None, query, &platform, 200),
        ("a token beside a certificate", Some(&collector), query, &platform, 200),
        ("a wrong token beside a certificate", Some(&collector), write, &wrong, 401),
        ("a stranger's certificate", Some(&false_one), write, &[], 0),
    ] {
        assert_eq!(ask(pair, request, headers), status, "{who}: {request}");
    }
    let told = Client::new(&server, &authority).with(&nobody).call(query, &[], &[]);
    let told = told.expect("an answer").text();
    assert!(told.contains("client certificate of CN=nobody stands for nobody here"), "{told}");

    // From now on nobody connects without one.
    let text =
        std::fs::read_to_string(dir.path().join("taffrail.toml")).expect("the configuration");
    let text = text.replace(&tls("request"), &tls("require"));
    std::fs::write(dir.path().join("taffrail.toml"), text).expect("write the configuration");
    assert_eq!(ask(Some(&reader), "POST /-/reload", &platform), 200);
    assert_eq!((ask(None, query, &platform), ask(Some(&reader), query, &[])), (0, 200));
}

#[test]
fn tenants_are_administered_over_tls() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (authority, stranger) = (Authority::new("root"), Authority::new("stranger"));
    put(dir.path(), &authority.server());
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).expect("write a file");
        file.display().to_string()
    };
    let (ca, other) = (file("ca.crt", &authority.pem()), file("other.crt", &stranger.pem()));
    let token = file("platform.token", "platform\n");
    let tokens = token_file_of(&[("platform", r#"{ tenant = "*", access = "admin" }"#)]);
    let top = format!("token_file = {:?}", file("tokens.toml", &tokens));
    let tls = format!("client_ca_file = {ca:?}\nclient_auth = \"require\"");
    let server = start(dir.path(), &top, &tls, "[tenancy]\nmode = \"token\"");
    let pair = authority.sign("admin", Vec::new());
    let (cert, key) = (file("admin.crt", &pair.cert), file("admin.key", &pair.key));
    let url = format!("https://{}", server.address);
    let ask = |arguments: &[&str]| {
        let of_server = ["tenants", "--url", &url, "--token-file", &token];
        let output = run(&[&of_server[..], arguments].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let shown = ["--cert-file", &cert, "--key-file", &key];
    let with = |trust: &[&str], command: &[&str]| ask(&[trust, &shown, command].concat());
    let (is_done, said) = with(&["--ca-file", &ca], &["create", "team-a"]);
    assert!(is_done, "{said}");
    let (is_done, said) = with(&["--insecure"], &["list"]);
    assert!(is_done && said.contains("team-a"), "{said}");
    for (trust, why) in [
        (&["--ca-file", &*other][..], "UnknownIssuer"),
        (&[], "invalid peer certificate"),
        (&["--ca-file", &*key], "has no certificate"),
        (&["--ca-file", "/missing"], "read /missing"),
    ] {
        let (is_done, said) = with(trust, &["list"]);
        assert!(!is_done && said.contains(why), "{trust:?}: {said}");
    }
    let (is_done, said) = ask(&["--ca-file", &ca, "list"]);
    assert!(!is_done && said.contains("CertificateRequired"), "{said}");
}
