//! A target that answers what a test wants it to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(body: &str) -> Self {
        Self {
            status: "200 OK",
            content_type: "text/plain; version=0.0.4",
            headers: String::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    pub(crate) fn gzip(body: &str) -> Self {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(body.as_bytes()).expect("compresses");
        let headers = "content-encoding: gzip\r\n".to_owned();
        Self { headers, body: gzip.finish().expect("compresses"), ..Self::text("") }
    }

    pub(crate) fn json(body: &str) -> Self {
        Self { content_type: "application/json", ..Self::text(body) }
    }
}

/// A server on a port of its own; it ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` is told how many requests came before.
    pub(crate) async fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::answering(move |n, _| answer(n)).await
    }

    /// `answer` is told how many requests came before, and the request.
    pub(crate) async fn answering(
        answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::over(answer, |stream| async { Some(stream) }).await
    }

    /// A server that speaks TLS.
    pub(crate) async fn over_tls(
        acceptor: TlsAcceptor,
        answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let secured = move |stream| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(stream).await.ok() }
        };
        Self::over(move |n, _| answer(n), secured).await
    }

    async fn over<S, F>(
        answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
        secured: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Option<S>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
                let (stream, seen) = (secured(stream), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Some(stream) = stream.await else { return };
                    let answer = |request: &str| answer(count.fetch_add(1, Relaxed), request);
                    serve(stream, seen, answer).await;
                });
            }
        });
        Self { address, requests }
    }

    /// The heads of all requests so far, with their bodies.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: Arc<Mutex<Vec<String>>>,
    answer: impl Fn(&str) -> Answer,
) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
        });
        while buffer.len() < head + length.unwrap_or(0) {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let rest = buffer.split_off(head + length.unwrap_or(0));
        let request = String::from_utf8_lossy(&std::mem::replace(&mut buffer, rest)).into_owned();
        let Answer { status, content_type, headers, body } = answer(&request);
        requests.lock().push(request);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
            return;
        }
    }
}
