//! Connections: everything that connects in the same way shares one pool of them. Certificates that
//! lie in files are read again when the files change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Identity, Method, NoProxy, Proxy, RequestBuilder, Url, redirect, tls};
use tokio::sync::Semaphore;

use super::config::{HttpConfig, ProxyConfig, Secret, TlsConfig, TlsVersion};
use super::oauth2::Token;
use super::{Client, LONG_BODIES_BYTES_MAX};

/// Redirects that are followed, as Go does.
const REDIRECTS_MAX: usize = 10;

/// How long a connection that nobody uses stays open: longer than any usual scrape interval.
const IDLE: Duration = Duration::from_secs(300);

/// Hosts that may be asked under one other name (`server_name`) before the pools are made anew.
const HOSTS_MAX: usize = 4_096;

/// Why nobody can be asked this way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientError {
    /// Certificates, keys or proxies that cannot be used.
    #[error("{0}")]
    Wrong(String),
}

/// How to connect; what is equal shares connections.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    tls: TlsConfig,
    proxy: ProxyConfig,
    follow_redirects: bool,
    enable_http2: bool,
}

/// All pools of connections in use.
#[derive(Debug)]
pub(crate) struct Clients {
    pools: Mutex<Vec<Weak<Pool>>>,
    room: Arc<Semaphore>,
}

impl Default for Clients {
    fn default() -> Self {
        Self::with_room(LONG_BODIES_BYTES_MAX)
    }
}

impl Clients {
    /// Clients whose long bodies may hold so many bytes together.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self { pools: Mutex::default(), room: Arc::new(Semaphore::new(bytes)) }
    }

    /// A client for a part of the configuration.
    pub(crate) fn client(&self, config: HttpConfig) -> Result<Client, ClientError> {
        let connected = self.connected(Way {
            tls: config.tls.clone(),
            proxy: config.proxy.clone(),
            follow_redirects: config.follow_redirects,
            enable_http2: config.enable_http2,
        })?;
        let token = match &config.credentials {
            super::Credentials::OAuth2(oauth2) => Token::new(self.connected(Way {
                tls: oauth2.tls.clone(),
                proxy: oauth2.proxy.clone(),
                follow_redirects: config.follow_redirects,
                enable_http2: config.enable_http2,
            })?),
            _ => Token::nobody(),
        };
        Ok(Client::new(config, connected, token, Arc::clone(&self.room)))
    }

    fn connected(&self, way: Way) -> Result<Connected, ClientError> {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        let known = pools.iter().filter_map(Weak::upgrade).find(|pool| pool.way == way);
        if let Some(pool) = known {
            return Ok(Connected { pool });
        }
        let pool = Arc::new(Pool::new(way)?);
        pools.push(Arc::downgrade(&pool));
        Ok(Connected { pool })
    }
}

/// A way of connecting, and its connections.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    way: Way,
    /// Files whose content is part of the way.
    files: Vec<PathBuf>,
    built: Mutex<Built>,
}

#[derive(Debug)]
struct Built {
    /// The files as they were.
    stamps: Vec<Stamp>,
    client: reqwest::Client,
    /// By host, where targets are to be asked under another name.
    renamed: HashMap<String, reqwest::Client>,
}

/// How a file is known to be the same.
type Stamp = Option<(SystemTime, u64)>;

impl Pool {
    fn new(way: Way) -> Result<Self, ClientError> {
        let of = |secret: &Option<Secret>| match secret {
            Some(Secret::File(file)) => Some(file.clone()),
            _ => None,
        };
        let files: Vec<PathBuf> =
            [&way.tls.ca, &way.tls.cert, &way.tls.key].into_iter().filter_map(of).collect();
        let client = build(&way, None)?;
        let built = Built { stamps: stamps(&files), client, renamed: HashMap::new() };
        Ok(Self { way, files, built: Mutex::new(built) })
    }

    /// The client for a host, with certificates as they are now.
    fn client(&self, host: &str) -> Result<reqwest::Client, ClientError> {
        let stamps = stamps(&self.files);
        let mut built = self.built.lock();
        if built.stamps != stamps {
            let client = build(&self.way, None)?;
            *built = Built { stamps, client, renamed: HashMap::new() };
        }
        if self.way.tls.server_name.is_empty() {
            return Ok(built.client.clone());
        }
        if let Some(client) = built.renamed.get(host) {
            return Ok(client.clone());
        }
        let client = build(&self.way, Some(host))?;
        if built.renamed.len() >= HOSTS_MAX {
            built.renamed.clear();
        }
        built.renamed.insert(host.to_owned(), client.clone());
        Ok(client)
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    files.iter().map(stamp).collect()
}

impl Connected {
    /// A request. Where TLS is to be spoken under another name, the address gets that name, the
    /// header keeps the target's, and the name stands for the target's host.
    pub(super) fn request(
        &self,
        method: Method,
        url: &str,
        mut headers: HeaderMap,
    ) -> Result<RequestBuilder, ClientError> {
        let wrong = |what: &str| ClientError::Wrong(format!("{url:?} {what}"));
        let mut url_parsed = Url::parse(url).map_err(|_| wrong("is not an address"))?;
        let server_name = &self.pool.way.tls.server_name;
        if server_name.is_empty() || url_parsed.scheme() != "https" {
            let client = self.pool.client("")?;
            return Ok(client.request(method, url_parsed).headers(headers));
        }
        let host = url_parsed.host_str().unwrap_or("").to_owned();
        let port = url_parsed.port().map_or_else(String::new, |port| format!(":{port}"));
        let value = HeaderValue::from_str(&format!("{host}{port}"));
        headers.insert(HOST, value.map_err(|_| wrong("has no host"))?);
        url_parsed.set_host(Some(server_name)).map_err(|_| wrong("cannot get server_name"))?;
        Ok(self.pool.client(&host)?.request(method, url_parsed).headers(headers))
    }

    /// A form to be sent.
    pub(super) fn form(&self, url: &str, form: String) -> Result<RequestBuilder, ClientError> {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        Ok(self.request(Method::POST, url, headers)?.body(form))
    }
}

/// Finds one host, whatever name is asked for.
#[derive(Debug)]
struct Always {
    host: String,
    name: String,
}

impl Resolve for Always {
    fn resolve(&self, asked: Name) -> Resolving {
        let is_renamed = asked.as_str().eq_ignore_ascii_case(&self.name);
        let host = if is_renamed { self.host.clone() } else { asked.as_str().to_owned() };
        Box::pin(async move {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn build(way: &Way, renamed: Option<&str>) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .redirect(match way.follow_redirects {
            true => redirect::Policy::limited(REDIRECTS_MAX),
            false => redirect::Policy::none(),
        })
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        .referer(false)
        .use_rustls_tls();
    if !way.enable_http2 {
        builder = builder.http1_only();
    }
    if let Some(host) = renamed {
        let (host, name) = (host.to_owned(), way.tls.server_name.clone());
        builder = builder.dns_resolver(Arc::new(Always { host, name }));
    }
    builder = proxied(tls_of(builder, &way.tls)?, &way.proxy)?;
    let unusable = |e: reqwest::Error| {
        let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), |c| c.to_string());
        ClientError::Wrong(format!("tls_config: {cause}"))
    };
    builder.build().map_err(unusable)
}

fn tls_of(
    mut builder: reqwest::ClientBuilder,
    config: &TlsConfig,
) -> Result<reqwest::ClientBuilder, ClientError> {
    let read = |secret: &Secret| secret.read().map_err(ClientError::Wrong);
    let wrong = |what: &str, e: reqwest::Error| {
        let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), |c| c.to_string());
        ClientError::Wrong(format!("{what}: {cause}"))
    };
    if let Some(ca) = &config.ca {
        let all = Certificate::from_pem_bundle(read(ca)?.as_bytes());
        let all = all.map_err(|e| wrong("unable to use specified CA cert", e))?;
        if all.is_empty() {
            return Err(ClientError::Wrong(
                "unable to use specified CA cert: there is none".into(),
            ));
        }
        builder = builder.tls_built_in_root_certs(false);
        builder = all.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    if let (Some(cert), Some(key)) = (&config.cert, &config.key) {
        let pem = format!("{}\n{}\n", read(cert)?, read(key)?);
        let identity = Identity::from_pem(pem.as_bytes());
        let identity = identity.map_err(|e| wrong("unable to use specified client cert", e))?;
        builder = builder.identity(identity);
    }
    let version = |version| match version {
        TlsVersion::Tls12 => tls::Version::TLS_1_2,
        TlsVersion::Tls13 => tls::Version::TLS_1_3,
    };
    if let Some(min) = config.min_version {
        builder = builder.min_tls_version(version(min));
    }
    if let Some(max) = config.max_version {
        builder = builder.max_tls_version(version(max));
    }
    Ok(builder.danger_accept_invalid_certs(config.insecure_skip_verify))
}

fn proxied(
    builder: reqwest::ClientBuilder,
    config: &ProxyConfig,
) -> Result<reqwest::ClientBuilder, ClientError> {
    if config.from_environment {
        return Ok(builder);
    }
    // Without this the environment counts although nobody asked for it.
    let builder = builder.no_proxy();
    if config.url.is_empty() {
        return Ok(builder);
    }
    let wrong = |what: &str| ClientError::Wrong(format!("proxy {:?}: {what}", config.url));
    let mut headers = HeaderMap::new();
    for (name, values) in &config.connect_headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("wrong header"))?;
        for value in values {
            let value = HeaderValue::from_str(value).map_err(|_| wrong("wrong header"))?;
            headers.append(name.clone(), value);
        }
    }
    let proxy = Proxy::all(&config.url).map_err(|e| wrong(&e.to_string()))?;
    let proxy = proxy.no_proxy(NoProxy::from_string(&config.no_proxy)).headers(headers);
    Ok(builder.proxy(proxy))
}
