//! One HTTP request at a time to a running server: all a command needs.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use super::secured::{Tls, Trust, secured};

/// How long a server may take to accept, and between two pieces of its answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Where a server is and who asks.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Address of the server [default: $TAFFRAIL_URL, or http://127.0.0.1:9550].
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// File that holds the token of an administrator of the platform [default: the token in
    /// $TAFFRAIL_TOKEN, if it is set].
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<std::path::PathBuf>,
    #[command(flatten)]
    trust: Trust,
}

impl Server {
    pub(crate) fn client(&self) -> Result<Client> {
        let url = self.url.clone().or_else(|| std::env::var("TAFFRAIL_URL").ok());
        let url = url.unwrap_or_else(|| "http://127.0.0.1:9550".to_owned());
        let token = match &self.token_file {
            Some(file) => {
                let read = ingest::bounded_file::read_text(file);
                Some(read.with_context(|| format!("read {}", file.display()))?.trim().to_owned())
            }
            None => std::env::var("TAFFRAIL_TOKEN").ok().filter(|token| !token.is_empty()),
        };
        Client::new(&url, token, &self.trust)
    }
}

/// A server and who asks it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Host and port.
    authority: String,
    /// How to speak TLS, if at all.
    tls: Option<Tls>,
    /// What stands before every path.
    prefix: String,
    token: Option<String>,
}

impl Client {
    /// From a URL such as `https://taffrail.example:9550`.
    pub(crate) fn new(url: &str, token: Option<String>, trust: &Trust) -> Result<Self> {
        let (rest, tls, port) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, None, 80),
            (None, Some(rest)) => (rest, Some(trust.tls()?), 443),
            (None, None) => bail!("{url:?} does not start with http:// or https://"),
        };
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(!authority.is_empty(), "{url:?} names no host");
        let prefix = match prefix.trim_end_matches('/') {
            "" => String::new(),
            path => format!("/{path}"),
        };
        if let Some(token) = &token {
            ensure!(
                token.bytes().all(|b| b.is_ascii_graphic()),
                "a token has no blanks or line breaks"
            );
        }
        let with_port = if authority.rsplit(']').next().unwrap_or("").contains(':') {
            authority.to_owned()
        } else {
            format!("{authority}:{port}")
        };
        Ok(Self { authority: with_port, tls, prefix, token })
    }

    /// The data of a successful answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut whole = self.whole_answer(method, path, &[], body)?;
        Ok(whole["data"].take())
    }

    /// The whole of a successful answer.
    pub(crate) fn whole_answer(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value> {
        let answer = self.answer(method, path, headers, body)?;
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    /// The bytes of a successful answer.
    pub(crate) fn answer(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Vec<u8>> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}{}{path}", self.authority, self.prefix);
        let (status, answer) = self
            .exchange(method, path, headers, body)
            .with_context(|| format!("{method} {url}"))?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let read: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        let place = match (read["position"]["line"].as_u64(), read["position"]["column"].as_u64()) {
            (Some(line), Some(column)) => format!(" at line {line}, column {column}"),
            _ => String::new(),
        };
        let text = match read["error"].as_str() {
            Some(text) => format!("{text}{place}"),
            None => String::from_utf8_lossy(&answer[..answer.len().min(500)]).into_owned(),
        };
        bail!("{} (status {status})", text.trim())
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(u16, Vec<u8>)> {
        let mut addresses = self.authority.to_socket_addrs().context("look up the host")?;
        let address = addresses.next().context("the host has no address")?;
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .context("connect; is the server running?")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept-Encoding: identity\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n",
            self.prefix,
            self.authority,
            body.len()
        );
        for (name, value) in headers {
            ensure!(!value.contains(['\r', '\n']), "{name}: a header has no line breaks");
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(token) = &self.token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(&body);
        let answer = match &self.tls {
            None => asked(stream, &request)?,
            Some(tls) => asked(secured(tls, self.host(), stream)?, &request)?,
        };
        parse(&answer).context("the answer is not HTTP")
    }

    /// The host without its port, an address of version 6 without its brackets.
    fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// The whole answer to a request after which the server closes the connection.
fn asked(mut stream: impl Read + Write, request: &str) -> Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).context("send the request")?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        // Some close without saying so by TLS; whether the answer is whole, it says itself.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        read => drop(read.context("read the answer")?),
    }
    Ok(answer)
}

/// Status and body of a whole answer.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]);
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let is_chunked = head.lines().any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("transfer-encoding:") && line.contains("chunked")
    });
    Some((status, if is_chunked { unchunked(body)? } else { body.to_vec() }))
}

fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|w| w == b"\r\n")?;
        let digits = std::str::from_utf8(&body[..line]).ok()?.split(';').next()?;
        let length = usize::from_str_radix(digits.trim(), 16).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(line + 2..)?.get(..length)?);
        body = body.get(line + 2 + length + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, expected: Option<(u16, &str)>) {
        let parsed = parse(answer.as_bytes());
        assert_eq!(parsed, expected.map(|(status, body)| (status, body.as_bytes().to_vec())));
    }

    #[test]
    fn answers_are_taken_apart() {
        check("HTTP/1.1 204 No Content\r\n\r\n", Some((204, "")));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Some((200, "{}")));
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        check(chunked, Some((200, "abc")));
        check(&chunked[..chunked.len() - 12], None);
        check("HTTP/1.1 200 OK\r\n", None);
    }

    #[track_caller]
    fn url(url: &str, expected: Result<(&str, &str), &str>) {
        match (Client::new(url, None, &Trust::default()), expected) {
            (Ok(client), Ok(parts)) => {
                assert_eq!((client.authority.as_str(), client.prefix.as_str()), parts);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{url}: {found:?}"),
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        url("http://127.0.0.1:9550", Ok(("127.0.0.1:9550", "")));
        url("http://taffrail/", Ok(("taffrail:80", "")));
        url("http://[::1]:9550/below/", Ok(("[::1]:9550", "/below")));
        url("http://[::1]", Ok(("[::1]:80", "")));
        url("https://taffrail", Ok(("taffrail:443", "")));
        url("https://[::1]:9550/x", Ok(("[::1]:9550", "/x")));
        url("ftp://taffrail", Err("does not start with http:// or https://"));
        url("http:///x", Err("names no host"));
        for (text, host) in
            [("http://a", "a"), ("http://[::1]:9/", "::1"), ("http://127.0.0.1:9550", "127.0.0.1")]
        {
            let client = Client::new(text, None, &Trust::default()).expect("a client");
            assert_eq!(client.host(), host);
        }
    }
}
