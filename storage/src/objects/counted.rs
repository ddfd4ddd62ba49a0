//! Every HTTP request to an object store, tries included: counted by kind, and not too many at a
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use tokio::sync::Semaphore;

/// Reads below this are small: on a service with 30 ms a request most of their time is waiting.
const SMALL_READ_BYTES: u64 = 64 << 10;

/// What requests do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names explain themselves")]
pub enum RequestKind {
    Get,
    Head,
    Put,
    List,
    Delete,
    /// Beginnings and ends of uploads in parts, credentials.
    Other,
}

/// What became of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Done.
    Ok,
    /// There is no such object: 404.
    Missing,
    /// A condition does not hold: 304, 409, 412.
    Conflict,
    /// Not allowed: 401, 403.
    Denied,
    /// Asked to come back later: 429, 503.
    Throttled,
    /// Any other answer.
    Error,
    /// No answer.
    Unanswered,
}

const KINDS: [(RequestKind, &str); 6] = [
    (RequestKind::Get, "get"),
    (RequestKind::Head, "head"),
    (RequestKind::Put, "put"),
    (RequestKind::List, "list"),
    (RequestKind::Delete, "delete"),
    (RequestKind::Other, "other"),
];

const OUTCOMES: [(RequestOutcome, &str); 7] = [
    (RequestOutcome::Ok, "ok"),
    (RequestOutcome::Missing, "missing"),
    (RequestOutcome::Conflict, "conflict"),
    (RequestOutcome::Denied, "denied"),
    (RequestOutcome::Throttled, "throttled"),
    (RequestOutcome::Error, "error"),
    (RequestOutcome::Unanswered, "unanswered"),
];

/// Counters of requests, for as long as the process runs.
#[derive(Debug, Default)]
pub struct RequestCounts {
    requests: [[AtomicU64; OUTCOMES.len()]; KINDS.len()],
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    small_reads: AtomicU64,
    micros: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestTotals {
    /// Kind, outcome and number of requests there were.
    pub requests: Vec<(&'static str, &'static str, u64)>,
    /// Bytes of objects that came.
    pub read_bytes: u64,
    /// Bytes of objects that were sent.
    pub written_bytes: u64,
    /// Reads that gave less than 64 KiB.
    pub small_reads: u64,
    /// Seconds until answers began, added up over all requests.
    pub seconds: f64,
}

impl RequestCounts {
    /// The counters now; pairs of kind and outcome that never were are left out.
    pub fn totals(&self) -> RequestTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut requests = Vec::new();
        for ((_, kind), row) in KINDS.iter().zip(&self.requests) {
            let named =
                OUTCOMES.iter().zip(row).map(|((_, outcome), n)| (*kind, *outcome, read(n)));
            requests.extend(named.filter(|(_, _, n)| *n > 0));
        }
        RequestTotals {
            requests,
            read_bytes: read(&self.read_bytes),
            written_bytes: read(&self.written_bytes),
            small_reads: read(&self.small_reads),
            seconds: read(&self.micros) as f64 / 1e6,
        }
    }

    fn note(&self, kind: RequestKind, outcome: RequestOutcome, micros: u64) {
        self.requests[kind as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Makes clients whose requests are counted.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Arc<RequestCounts>,
    places: Arc<Semaphore>,
}

impl Counted {
    pub(super) fn new(counts: &Arc<RequestCounts>, requests_max: usize) -> Self {
        Self { counts: Arc::clone(counts), places: Arc::new(Semaphore::new(requests_max)) }
    }
}

impl HttpConnector for Counted {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let (counts, places) = (Arc::clone(&self.counts), Arc::clone(&self.places));
        Ok(HttpClient::new(Service { client, counts, places }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    counts: Arc<RequestCounts>,
    /// A request holds a place until its answer begins.
    places: Arc<Semaphore>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let place = self.places.acquire().await;
        let _place = place.map_err(|closed| HttpError::new(HttpErrorKind::Unknown, closed))?;
        let kind = kind_of(&request);
        let sent = request.body().content_length() as u64;
        let started = Instant::now();
        let answered = self.client.execute(request).await;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let outcome = answered
            .as_ref()
            .map_or(RequestOutcome::Unanswered, |answer| outcome_of(answer.status().as_u16()));
        self.counts.note(kind, outcome, micros);
        if kind == RequestKind::Put {
            self.counts.written_bytes.fetch_add(sent, Ordering::Relaxed);
        }
        if let (Ok(answer), RequestKind::Get, RequestOutcome::Ok) = (&answered, kind, outcome) {
            let length = answer.headers().get("content-length");
            let bytes = length.and_then(|l| l.to_str().ok()?.parse().ok()).unwrap_or(0u64);
            self.counts.read_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.counts
                .small_reads
                .fetch_add(u64::from(bytes < SMALL_READ_BYTES), Ordering::Relaxed);
        }
        answered
    }
}

fn kind_of(request: &HttpRequest) -> RequestKind {
    let query = request.uri().query().unwrap_or_default();
    let asks = |name: &str| query.split('&').any(|p| p.split('=').next() == Some(name));
    match request.method().as_str() {
        "GET" if asks("list-type") => RequestKind::List,
        "GET" => RequestKind::Get,
        "HEAD" => RequestKind::Head,
        "PUT" => RequestKind::Put,
        "DELETE" => RequestKind::Delete,
        "POST" if asks("delete") => RequestKind::Delete,
        _ => RequestKind::Other,
    }
}

fn outcome_of(status: u16) -> RequestOutcome {
    match status {
        200..300 => RequestOutcome::Ok,
        404 => RequestOutcome::Missing,
        304 | 409 | 412 => RequestOutcome::Conflict,
        401 | 403 => RequestOutcome::Denied,
        429 | 503 => RequestOutcome::Throttled,
        _ => RequestOutcome::Error,
    }
}
